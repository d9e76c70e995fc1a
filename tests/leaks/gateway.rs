//! A gateway as a process, with its configuration in a folder of its own.

use std::fs::{self, DirBuilder, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use latchway_netns::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::eventually;

const PROGRAM: &str = env!("CARGO_BIN_EXE_latchway");

/// A gateway that runs, or ran.
pub struct Gateway {
    /// The namespace that it is started in.
    place: Namespace,
    folder: PathBuf,
    child: Option<Child>,
}

impl Gateway {
    /// A gateway that is not started yet, with an empty folder for what it needs.
    pub fn new(place: &Namespace, folder: PathBuf) -> Self {
        DirBuilder::new().mode(0o700).create(&folder).unwrap();
        Self { place: place.clone(), folder, child: None }
    }

    /// Writes a file of its folder, which nobody else may read.
    pub fn write(&self, name: &str, text: &str) {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(self.folder.join(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Reads a file of its folder.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap()
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts it where it must fail, and gives its complaint.
    pub fn refused(&self) -> String {
        let output = self.place.run(|| self.command().output()).unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "it must not start: {text}");
        assert!(!text.contains("panicked"), "{text}");
        text
    }

    /// Starts it, and waits until it stands.
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let spawn = || self.command().stdout(Stdio::piped()).stderr(log).spawn();
        let mut child = self.place.run(spawn).unwrap().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.child = Some(child);
        assert_eq!(line, "ready\n", "{}", self.log());
    }

    /// The process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().unwrap().id().try_into().unwrap())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits until it has ended, by itself or by a signal.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let mut status = None;
        eventually("the gateway ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Ends it by a signal.
    pub fn end_by(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.ended()
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// What a verb shows, as JSON.
    pub fn shown(&self, verb: &[&str]) -> Value {
        let output = self.asked(verb);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Asks it by a verb.
    pub fn asked(&self, verb: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.args(verb).arg("--json").arg("--control").arg(self.folder.join("control.sock"));
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// How many packets were dropped for a reason, in a direction.
    pub fn drops(&self, direction: &str, reason: &str) -> u64 {
        let drops = self.shown(&["drops"]);
        let rows = drops.get("drops").and_then(Value::as_array).unwrap();
        let is = |row: &&Value| row.get("reason").and_then(Value::as_str) == Some(reason);
        let towards = |row: &&Value| row.get("direction").and_then(Value::as_str) == Some(direction);
        let packets = |row: &Value| row.get("packets").and_then(Value::as_u64).unwrap();
        rows.iter().filter(is).filter(towards).map(packets).sum()
    }

    /// All that it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--config"]).arg(self.folder.join("gateway.toml")).stdin(Stdio::null());
        command
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let drops = self.asked(&["drops"]).stdout;
            eprintln!("{}:\n{}{}", self.folder.display(), self.log(), String::from_utf8_lossy(&drops));
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Makes a record of numbers in a folder.
pub fn enrol(folder: &Path) {
    let output = Command::new(PROGRAM).arg("enrol").arg(folder).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// A folder of one scenario, gone with it.
pub struct Folder(PathBuf);

impl Folder {
    /// An empty one.
    pub fn make() -> Self {
        let mut random = [0; 8];
        File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
        let name = format!("latchway-leaks-{:016x}", u64::from_ne_bytes(random));
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A place in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
