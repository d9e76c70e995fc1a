//! Processes that own latches: when one ends, by whatever means, what it held is released (L-21).

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use latchway_control::Failure;
use latchway_keying::{Alerts, Holder};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::gateway::operator::{Answer, Gateway};

/// Processes that own latches, watched by one thread until this is dropped; what is left then is released.
#[derive(Debug)]
pub struct Processes {
    watch: Arc<Watch>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread shares with whoever makes latches.
#[derive(Debug)]
struct Watch {
    owners: Mutex<HashMap<u32, Owner>>,
    /// Says that there are others to watch, or that it is over.
    changed: EventFd,
    ending: AtomicBool,
}

/// One process. Dropped, what it held is released.
#[derive(Debug)]
struct Owner {
    /// Readable once the process has ended, whoever has its number by then.
    process: Arc<OwnedFd>,
    alerts: Alerts,
}

/// Processes that may own latches at a time.
pub const MAX_PROCESSES: usize = 256;

impl Processes {
    /// Begins to watch, nobody yet.
    ///
    /// # Errors
    /// The system gave no descriptor or no thread.
    pub fn start(gateway: Arc<dyn Gateway>) -> io::Result<Self> {
        let changed = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let watch = Watch { owners: Mutex::default(), changed, ending: AtomicBool::new(false) };
        let watch = Arc::new(watch);
        let watched = Arc::clone(&watch);
        let thread = thread::Builder::new().name("owners".into()).spawn(move || watched.run(&*gateway))?;
        Ok(Self { watch, thread: Some(thread) })
    }

    /// Whom the latches of a process are held by; `hold` makes a holder where it has none yet.
    ///
    /// # Errors
    /// A [`Failure`]: there is no such process, or too many own latches, or `hold` gave none.
    pub fn holder(&self, pid: u32, hold: impl FnOnce() -> Answer<Alerts>) -> Answer<Holder> {
        let process = Arc::new(open(pid)?);
        if has_ended(&process) {
            return Err(Failure::not_found(format!("process {pid} has ended"), "name one that runs"));
        }
        let mut owners = self.watch.lock();
        // One of the same number that has ended makes room for this one.
        if let Some(owner) = owners.get(&pid).filter(|owner| !has_ended(&owner.process)) {
            // Nobody reads what a process is told, and it must not pile up.
            drop(owner.alerts.take());
            return Ok(owner.alerts.holder());
        }
        if owners.len() >= MAX_PROCESSES && !owners.contains_key(&pid) {
            let hint = "let one of them end, or own the latch by a connection to control.sock";
            return Err(Failure::full(format!("{MAX_PROCESSES} processes own latches already"), hint));
        }
        let alerts = hold()?;
        let holder = alerts.holder();
        owners.insert(pid, Owner { process, alerts });
        drop(owners);
        self.watch.wake();
        Ok(holder)
    }

    /// The process that holds latches as this holder.
    pub fn process(&self, holder: Holder) -> Option<u32> {
        let owners = self.watch.lock();
        owners.iter().find(|(_, owner)| owner.alerts.holder() == holder).map(|(pid, _)| *pid)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.watch.ending.store(true, Ordering::Release);
        self.watch.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Watch {
    fn run(&self, gateway: &dyn Gateway) {
        while !self.ending.load(Ordering::Acquire) {
            let watched: Vec<_> =
                self.lock().iter().map(|(pid, owner)| (*pid, Arc::clone(&owner.process))).collect();
            self.wait_for_any(&watched);
            // Noted before the next list is made, so that no change is missed.
            let _ = self.changed.read();
            for (pid, process) in watched.iter().filter(|(_, process)| has_ended(process)) {
                if let Some(owner) = self.forget(*pid, process) {
                    gateway.let_go(owner.alerts.holder());
                }
            }
        }
    }

    /// Forgets a process, if its number is not another's by now.
    fn forget(&self, pid: u32, process: &Arc<OwnedFd>) -> Option<Owner> {
        let mut owners = self.lock();
        owners
            .get(&pid)
            .is_some_and(|owner| Arc::ptr_eq(&owner.process, process))
            .then(|| owners.remove(&pid))?
    }

    /// Waits until one of them ends, or there are others to watch.
    fn wait_for_any(&self, watched: &[(u32, Arc<OwnedFd>)]) {
        let all = watched.iter().map(|(_, process)| process.as_fd()).chain([self.changed.as_fd()]);
        let mut all: Vec<_> = all.map(|one| PollFd::new(one, PollFlags::POLLIN)).collect();
        // A signal ends the wait early, which only makes for another look.
        let _ = poll(&mut all, PollTimeout::NONE);
    }

    fn wake(&self) {
        // A counter that cannot be raised was raised often enough.
        let _ = self.changed.write(1);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Owner>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A descriptor of a process, which stays with it whatever becomes of its number.
fn open(pid: u32) -> Answer<OwnedFd> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(number) = number.filter(|_| pid != std::process::id()) else {
        let hint = "name the process that the connection belongs to, as the gateway's /proc shows it";
        return Err(Failure::bad_call(format!("{pid} is no process that could own a latch"), hint));
    };
    pidfd_open(number, PidfdFlags::empty()).map_err(|error| match error {
        rustix::io::Errno::SRCH => {
            let hint = "name one that runs, by its number as the gateway's /proc shows it";
            Failure::not_found(format!("there is no process {pid}"), hint)
        }
        rustix::io::Errno::INVAL => {
            Failure::bad_call(format!("{pid} is a thread of a process"), "name the process: its first thread")
        }
        error => Failure::failed(format!("process {pid} cannot be watched: {error}"), "try again"),
    })
}

fn has_ended(process: &OwnedFd) -> bool {
    let mut one = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut one, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
