//! The one connection that a process keeps to its gateway.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::line::Line;

/// The connection that a process keeps, made on first use. One thread at a time calls on it; a child that was forked makes
/// one of its own.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    state: Mutex<State>,
    returned: Condvar,
}

/// A connection and where it leads.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) line: Line,
    pub(crate) path: PathBuf,
    /// Which connection of this process it is: what belongs to one is void with it.
    pub(crate) number: u64,
}

#[derive(Debug, Default)]
struct State {
    process: u32,
    taken: bool,
    standing: Option<Standing>,
    made: u64,
}

/// The right to call on the connection. When it ends, the next thread has it.
#[derive(Debug)]
pub(crate) struct Turn<'k> {
    kept: &'k Kept,
    process: u32,
    pub(crate) standing: Option<Standing>,
    made: u64,
}

impl Kept {
    /// Waits for the connection, which other threads may be calling on.
    ///
    /// # Errors
    /// They took too long.
    pub(crate) fn turn(&self, deadline: Deadline) -> Result<Turn<'_>> {
        let mut state = self.state(deadline)?;
        loop {
            if state.process != std::process::id() {
                // What the parent's threads were doing does not go on here.
                let made = state.made;
                *state = State { process: std::process::id(), made, ..State::default() };
            }
            if !state.taken {
                state.taken = true;
                let (standing, made, process) = (state.standing.take(), state.made, state.process);
                return Ok(Turn { kept: self, process, standing, made });
            }
            let left = deadline.left()?.unwrap_or(Duration::MAX);
            let woken = self.returned.wait_timeout(state, left);
            state = woken.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
    }

    /// The state, which is locked for moments only. A lock that a thread of the parent held when this process was forked is
    /// never given back: that fails, and does not wait for ever.
    fn state(&self, deadline: Deadline) -> Result<MutexGuard<'_, State>> {
        let begun = Instant::now();
        loop {
            match self.state.try_lock() {
                Ok(state) => return Ok(state),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if begun.elapsed() < SPIN => std::thread::yield_now(),
                Err(TryLockError::WouldBlock) => std::thread::sleep(SPIN),
            }
            deadline.left().map_err(|_| Error::timed_out())?;
        }
    }
}

impl Turn<'_> {
    /// Keeps a new connection.
    pub(crate) fn keep(&mut self, line: Line, path: PathBuf) -> &mut Standing {
        self.made = self.made.wrapping_add(1);
        self.standing.insert(Standing { line, path, number: self.made })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Ok(mut state) = self.kept.state(Deadline::after(RETURN)) else { return };
        if state.process == self.process {
            state.taken = false;
            state.standing = self.standing.take();
            state.made = self.made;
        }
        drop(state);
        self.kept.returned.notify_one();
    }
}

/// How long a lock is tried for without sleeping, and how long the sleep is then.
const SPIN: Duration = Duration::from_millis(1);
/// How long the lock is tried for to give the connection back.
const RETURN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(50))
    }

    #[test]
    fn one_thread_at_a_time_has_the_connection_and_others_wait_no_longer_than_they_may() {
        let kept = Kept::default();
        let turn = kept.turn(soon()).unwrap();
        assert_eq!(kept.turn(soon()).unwrap_err().kind(), ErrorKind::TimedOut);
        drop(turn);
        kept.turn(soon()).unwrap();
    }

    /// N-7: a child begins anew, whatever its parent's threads were doing at the fork; and gives nothing back to a state
    /// that is not its own.
    #[test]
    fn n7_a_child_does_not_wait_for_threads_of_its_parent() {
        let kept = Kept::default();
        let parents = kept.turn(soon()).unwrap();
        kept.state.lock().unwrap().process = std::process::id().wrapping_add(1);
        let child = kept.turn(soon()).unwrap();
        assert!(child.standing.is_none());
        let stale = Turn { process: parents.process.wrapping_add(1), standing: None, kept: &kept, made: 9 };
        drop(stale);
        assert!(kept.state.lock().unwrap().taken);
        drop(child);
        assert_eq!(kept.state.lock().unwrap().made, 0);
    }

    /// A lock that nobody will ever give back is tried until the end, and no longer.
    #[test]
    fn n7_a_lock_that_is_lost_is_waited_for_until_the_deadline_only() {
        let kept = Kept::default();
        let _lost = kept.state.lock().unwrap();
        assert_eq!(kept.turn(soon()).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
