//! How a worker is told to end, and how it shows that it lives.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::event::{EventfdFlags, eventfd};

use crate::drop::Counter;

/// Ends a worker from another thread.
#[derive(Clone, Debug)]
pub struct Stop(Arc<Order>);

#[derive(Debug)]
struct Order {
    state: AtomicU8,
    wake: OwnedFd,
}

/// A worker's sign of life, for a watchdog in another thread.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat(Arc<Counter>);

/// What a worker was told, and what it says to that: any of these bits.
const TURN_AWAY: u8 = 1;
const TURNS_AWAY: u8 = 2;
const STOP: u8 = 4;

impl Stop {
    /// A fresh one.
    ///
    /// # Errors
    /// Where the system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(Order { state: AtomicU8::new(0), wake })))
    }

    /// Tells the worker to let nothing pass any more, once what had arrived by then has: what inner hosts send is dropped,
    /// and answered where it is of a latched connection that is over; what comes for them is not even received. Injections
    /// go on, so that every latched connection can be reset before the gateway ends (L-40).
    pub fn turn_away(&self) {
        self.0.state.fetch_or(TURN_AWAY, Ordering::AcqRel);
    }

    /// Whether the worker lets nothing pass any more.
    #[must_use]
    pub fn turns_away(&self) -> bool {
        self.0.state.load(Ordering::Acquire) & TURNS_AWAY != 0
    }

    /// Tells the worker to end after the batch in hand.
    ///
    /// # Errors
    /// Where the worker cannot be woken; it ends all the same, when it next wakes.
    pub fn stop(&self) -> io::Result<()> {
        self.0.state.fetch_or(STOP, Ordering::AcqRel);
        rustix::io::write(&self.0.wake, &1u64.to_ne_bytes())?;
        Ok(())
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.0.state.load(Ordering::Acquire) & STOP != 0
    }

    /// Whether the worker was told to turn away, and has not begun to.
    pub(super) fn is_to_turn_away(&self) -> bool {
        self.0.state.load(Ordering::Acquire) & (TURN_AWAY | TURNS_AWAY) == TURN_AWAY
    }

    /// Says that nothing passes any more.
    pub(super) fn turned_away(&self) {
        self.0.state.fetch_or(TURNS_AWAY, Ordering::AcqRel);
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }
}

impl Heartbeat {
    /// Turns of the worker's loop so far. A worker that lives takes one at least every [`NAP`](super::NAP), traffic or not.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.0.get()
    }

    pub(super) fn beat(&self) {
        self.0.add(1);
    }
}
