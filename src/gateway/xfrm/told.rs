//! What happens to states and policies, for whoever watches, without waiting for anybody.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use latchway_control::XfrmEvent;

/// Those who watch.
#[derive(Debug, Default)]
pub struct Told(Mutex<Vec<Sender<XfrmEvent>>>);

/// One who watches. Dropped, it is told nothing more.
#[derive(Debug)]
pub struct Watching(Receiver<XfrmEvent>);

/// What one who watches hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An event.
    Event(Box<XfrmEvent>),
    /// Nothing happened for as long as was waited.
    Quiet,
    /// It was too slow, and hears nothing more: what follows is lost.
    Lost,
}

impl Told {
    /// Begins to watch.
    pub fn watch(&self) -> Watching {
        let (sender, receiver) = bounded(ROOM);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Watching(receiver)
    }

    /// Tells everybody. Whoever is too slow is told no more.
    pub fn publish(&self, event: XfrmEvent) {
        let hears = |sender: &Sender<XfrmEvent>| match sender.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(hears);
    }
}

impl Watching {
    /// What comes next, after a while at most.
    pub fn next(&self, patience: Duration) -> Heard {
        match self.0.recv_timeout(patience) {
            Ok(event) => Heard::Event(Box::new(event)),
            Err(RecvTimeoutError::Timeout) => Heard::Quiet,
            Err(RecvTimeoutError::Disconnected) => Heard::Lost,
        }
    }
}

/// How many events may wait for one who watches.
const ROOM: usize = 1024;
