//! The end, whichever way it comes: success, failure, Ctrl-C. Gateways are ended, and their folder is removed.
//!
//! Against SIGKILL nothing can be done here; gateways end with their standard input then, and the folder is removed
//! by the next demo.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::failure::{Failure, refused};

/// What has to be ended and removed.
#[derive(Clone, Debug)]
pub struct Shutdown {
    folder: Arc<Folder>,
    children: Arc<Mutex<Vec<Child>>>,
    begun: Arc<AtomicBool>,
    held: Arc<AtomicBool>,
}

/// The folder of the control sockets, locked while this process lives, however it ends.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Shutdown {
    /// Makes the folder, removes what killed demos left, and listens for signals.
    pub fn prepare() -> Result<Self, Failure> {
        let parent = env::temp_dir();
        remove_stale(&parent);
        let shutdown = Self {
            folder: Arc::new(Folder::make(&parent)?),
            children: Arc::default(),
            begun: Arc::default(),
            held: Arc::default(),
        };
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(refused("listening for signals"))?;
        let listener = shutdown.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                if let Some(signal) = signals.forever().next() {
                    listener.end_by(signal);
                }
            })
            .map_err(refused("starting a thread for signals"))?;
        Ok(shutdown)
    }

    /// Where control sockets belong: a folder for this user alone.
    pub fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// Starts a program that is ended with everything else. It leads a process group of its own, so that a Ctrl-C at
    /// the terminal reaches the demo alone, which ends its gateways in order.
    pub fn start<T>(&self, command: &mut Command, set_up: impl FnOnce(&mut Child) -> T) -> io::Result<T> {
        // Held over the start, so that no program is started behind the back of a shutdown.
        let mut children = self.children();
        let mut child = command.process_group(0).spawn()?;
        let result = set_up(&mut child);
        children.push(child);
        Ok(result)
    }

    /// Ends every program and removes the folder.
    pub fn end(&self) {
        let mut children = self.children();
        end_all(&mut children);
        children.clear();
        match fs::remove_dir_all(&self.folder.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                eprintln!("latchway demo: removing {}: {error}", self.folder.path.display());
            }
            _ => {}
        }
    }

    /// If a signal has begun the end, leaves the rest to it: what fails meanwhile is its doing.
    pub fn wait_if_begun(&self) {
        while self.begun.load(Ordering::SeqCst) {
            thread::park();
        }
    }

    /// Waits for a signal, which is the wanted end then.
    pub fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
        loop {
            thread::park();
        }
    }

    /// Ends everything because of a signal, and the process too: with the status shells give it, or 0 if it was
    /// waited for.
    fn end_by(&self, signal: i32) {
        self.begun.store(true, Ordering::SeqCst);
        self.end();
        if self.held.load(Ordering::SeqCst) {
            process::exit(0);
        }
        eprintln!("latchway demo: ended by signal {signal}; everything it made is gone");
        process::exit(128 + signal);
    }

    fn children(&self) -> MutexGuard<'_, Vec<Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks by closing standard input, then by SIGTERM, then does not ask.
fn end_all(children: &mut [Child]) {
    for child in children.iter_mut() {
        drop(child.stdin.take());
    }
    if all_ended(children) {
        return;
    }
    for child in children.iter() {
        // Not reaped before `all_ended` says so, hence still this process and no other of the same number. One that
        // has ended meanwhile is what was wanted.
        let _ = i32::try_from(child.id()).map(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM));
    }
    if all_ended(children) {
        return;
    }
    for child in children {
        if let Err(error) = child.kill().and_then(|()| child.wait()) {
            eprintln!("latchway demo: ending process {}: {error}", child.id());
        }
    }
}

/// Waits until every child has ended, but not for long.
fn all_ended(children: &mut [Child]) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if children.iter_mut().all(|child| matches!(child.try_wait(), Ok(Some(_)))) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

impl Folder {
    /// Makes and locks a folder. Between the two, another demo may take it for one whose demo is no more: then another
    /// is made.
    fn make(parent: &Path) -> Result<Self, Failure> {
        let mut failure = Failure::Own("no folder".to_owned());
        for _ in 0..ATTEMPTS {
            match Self::try_make(parent)? {
                Ok(folder) => return Ok(folder),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The outer error is final, the inner one may be another demo's doing.
    fn try_make(parent: &Path) -> Result<Result<Self, Failure>, Failure> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| Failure::Own(format!("no random octets: {error}")))?;
        let path = parent.join(format!("{PREFIX}{}-{}", process::id(), hex::encode(random)));
        let attempt = format!("making the folder {}", path.display());
        DirBuilder::new().mode(0o700).create(&path).map_err(refused(&attempt))?;
        let locked = lock(&path).and_then(|lock| fs::metadata(&path).map(|_| lock));
        Ok(locked.map(|lock| Self { path, _lock: lock }).map_err(refused(&attempt)))
    }
}

fn lock(folder: &Path) -> io::Result<Flock<File>> {
    Flock::lock(File::open(folder)?, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}

/// Removes folders of this user that no demo holds any more.
fn remove_stale(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let named = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        let ours = entry.metadata().is_ok_and(|data| data.is_dir() && data.uid() == geteuid().as_raw());
        if !named || !ours {
            continue;
        }
        if let Ok(_lock) = lock(&entry.path()) {
            // Another demo may be removing it at the same time.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// What every such folder is called, before the number of its process.
const PREFIX: &str = "latchway-demo-";

/// How many folders are made in vain before that is an error.
const ATTEMPTS: usize = 8;

/// How long a gateway may take to end before it is asked less kindly.
const PATIENCE: Duration = Duration::from_secs(3);
