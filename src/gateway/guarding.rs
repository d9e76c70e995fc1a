//! Keeps the guards up while the gateway runs, and changes them when its configuration changes.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use ipnet::IpNet;
use latchway_guard::{Change, GuardError, Lack, Missing, Monitor, Prefixes};

/// Looks after the guards until dropped.
pub struct Guarding {
    wishes: Option<Sender<Wish>>,
    thread: Option<JoinHandle<()>>,
}

/// What the guards are to be from now on.
enum Wish {
    Extend(Prefixes, Sender<Result<(), GuardError>>),
    Withdraw(Vec<IpNet>, Sender<Result<(), GuardError>>),
}

/// Hears what becomes of the guards.
pub trait Listener: Send + Sync {
    /// A guard fell, or stands again.
    fn changed(&self, change: &Change);

    /// A guard that fell cannot be put up again.
    fn failed(&self, error: &GuardError);
}

/// How long a wish waits at most while nothing happens to the guards.
const STEP: Duration = Duration::from_millis(100);

impl Guarding {
    /// Starts to look after the guards. Those that fall are put up again, a TUN that was deleted aside.
    ///
    /// # Errors
    /// Where the system has no thread left.
    pub fn start(mut monitor: Monitor, listener: Arc<dyn Listener>) -> std::io::Result<Self> {
        let (wishes, wished) = unbounded();
        let look_after = move || {
            while fulfil(&mut monitor, &wished) {
                match monitor.wait(STEP) {
                    Ok(changes) => {
                        changes.iter().for_each(|change| listener.changed(change));
                        restore(&mut monitor, &changes, &*listener);
                    }
                    Err(error) => {
                        listener.failed(&error);
                        thread::sleep(STEP);
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("guards".into()).spawn(look_after)?;
        Ok(Self { wishes: Some(wishes), thread: Some(thread) })
    }

    /// Guards these prefixes from here on.
    ///
    /// # Errors
    /// What could not be put up; the rest is.
    pub fn extend(&self, prefixes: Prefixes) -> Result<(), GuardError> {
        self.wish(|reply| Wish::Extend(prefixes, reply))
    }

    /// Takes down what leads to these prefixes, as far as they are not guarded any more.
    ///
    /// # Errors
    /// What could not be taken down.
    pub fn withdraw(&self, routes: Vec<IpNet>) -> Result<(), GuardError> {
        self.wish(|reply| Wish::Withdraw(routes, reply))
    }

    fn wish(&self, wish: impl FnOnce(Sender<Result<(), GuardError>>) -> Wish) -> Result<(), GuardError> {
        let (reply, answer) = bounded(1);
        let asked = self.wishes.as_ref().is_some_and(|wishes| wishes.send(wish(reply)).is_ok());
        let gone =
            || GuardError::Invalid("nobody looks after the guards any more: restart the gateway".into());
        if asked { answer.recv().unwrap_or_else(|_| Err(gone())) } else { Err(gone()) }
    }
}

impl Drop for Guarding {
    fn drop(&mut self) {
        self.wishes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Does what is wished. Returns whether anybody may still wish for something.
fn fulfil(monitor: &mut Monitor, wished: &Receiver<Wish>) -> bool {
    loop {
        // A failed send is an asker that went away.
        let _ = match wished.try_recv() {
            Ok(Wish::Extend(prefixes, reply)) => reply.send(monitor.extend(&prefixes)),
            Ok(Wish::Withdraw(routes, reply)) => reply.send(monitor.withdraw(&routes)),
            Err(TryRecvError::Empty) => return true,
            Err(TryRecvError::Disconnected) => return false,
        };
    }
}

/// Puts up what fell. A TUN that somebody set down stays down for as long as they want, with what discards in its place.
fn restore(monitor: &mut Monitor, changes: &[Change], listener: &dyn Listener) {
    if changes.is_empty() {
        return;
    }
    let is_tun = |lack: &Lack| matches!(lack, Lack::Inner(Missing::Tun | Missing::Up));
    let restored = if monitor.lacking().iter().any(is_tun) { monitor.hold() } else { monitor.restore() };
    match restored {
        Ok(changes) => changes.iter().for_each(|change| listener.changed(change)),
        Err(error) => listener.failed(&error),
    }
}
