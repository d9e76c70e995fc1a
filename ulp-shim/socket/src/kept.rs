//! The one connection that a process keeps to its gateway.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{getegid, geteuid};

use crate::deadline::Deadline;
use crate::error::Result;
use crate::line::Line;

/// The connection that a process keeps, made on first use. One thread at a time calls on it; a child that was forked makes
/// one of its own.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    first: Life,
}

/// A connection and where it leads.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) line: Line,
    pub(crate) path: PathBuf,
}

/// What one process keeps. A child has one of its own and never looks at its parent's, whose locks may be held by threads
/// that it does not have (N-7).
#[derive(Debug)]
struct Life {
    process: u32,
    state: Mutex<State>,
    returned: Condvar,
    childs: OnceLock<Box<Self>>,
}

#[derive(Debug, Default)]
struct State {
    /// Whom the connection was made as: the gateway knows it by that.
    user: Option<User>,
    taken: bool,
    standing: Option<Standing>,
}

/// What the system tells a gateway of whoever connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct User {
    user: u32,
    group: u32,
}

/// The right to call on the connection. When it ends, the next thread has it.
#[derive(Debug)]
pub(crate) struct Turn<'k> {
    life: &'k Life,
    user: User,
    pub(crate) standing: Option<Standing>,
}

impl Kept {
    /// Waits for the connection, which other threads may be calling on.
    ///
    /// # Errors
    /// They took too long.
    pub(crate) fn turn(&self, deadline: Deadline) -> Result<Turn<'_>> {
        self.life(std::process::id()).turn(User::now(), deadline)
    }

    /// Closes what the parent kept, in a child that was forked: it may be about to give up rights that the gateway gave to
    /// the parent's connection.
    pub(crate) fn let_go_of_the_parents(&self) {
        self.life(std::process::id());
    }

    /// What this process keeps: the last one of the row, where it is this one's.
    fn life(&self, process: u32) -> &Life {
        let mut life = &self.first;
        loop {
            life = match life.childs.get() {
                Some(childs) => childs,
                None if life.process == process => return life,
                None => {
                    life.close();
                    life.childs.get_or_init(|| Box::new(Life::of(process)))
                }
            };
        }
    }
}

impl Life {
    fn of(process: u32) -> Self {
        Self { process, state: Mutex::default(), returned: Condvar::new(), childs: OnceLock::new() }
    }

    fn turn(&self, user: User, deadline: Deadline) -> Result<Turn<'_>> {
        let mut state = self.state();
        loop {
            if state.user != Some(user) {
                // Who has other rights now is not to be taken for who had those. Whoever has the turn lets the line go.
                *state = State { user: Some(user), ..State::default() };
            }
            if !state.taken {
                state.taken = true;
                return Ok(Turn { life: self, user, standing: state.standing.take() });
            }
            let left = deadline.left()?.unwrap_or(Duration::MAX);
            let woken = self.returned.wait_timeout(state, left);
            state = woken.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
    }

    /// The state, which is locked for moments only.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connection, where nobody has it.
    fn close(&self) {
        if let Ok(mut state) = self.state.try_lock() {
            state.standing = None;
        }
    }
}

impl Default for Life {
    fn default() -> Self {
        Self::of(std::process::id())
    }
}

impl User {
    fn now() -> Self {
        Self { user: geteuid().as_raw(), group: getegid().as_raw() }
    }
}

impl Turn<'_> {
    /// Keeps a new connection.
    pub(crate) fn keep(&mut self, line: Line, path: PathBuf) {
        self.standing = Some(Standing { line, path });
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.life.state();
        if state.user == Some(self.user) {
            state.taken = false;
            state.standing = self.standing.take();
        }
        drop(state);
        self.life.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::line::Trust;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    const USER: User = User { user: 0, group: 0 };

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(50))
    }

    /// A gateway that takes connections, and one of them.
    fn listening(name: &str) -> (PathBuf, UnixListener) {
        let path = std::env::temp_dir().join(format!("latchway-kept-{name}-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        (path, listener)
    }

    fn line(path: &Path) -> Line {
        Line::open(path, Trust::Anyone, Deadline::after(Duration::from_secs(5))).unwrap()
    }

    #[test]
    fn one_thread_at_a_time_has_the_connection_and_others_wait_no_longer_than_they_may() {
        let kept = Kept::default();
        let turn = kept.turn(soon()).unwrap();
        assert_eq!(kept.turn(soon()).unwrap_err().kind(), ErrorKind::TimedOut);
        drop(turn);
        kept.turn(soon()).unwrap();
    }

    /// N-7: a child begins anew, whatever its parent's threads were doing at the fork, their locks included; and so does
    /// its own child.
    #[test]
    fn n7_a_child_does_not_wait_for_threads_of_its_parent() {
        let kept = Kept::default();
        let _parents = kept.turn(soon()).unwrap();
        let _lost = kept.first.state.lock().unwrap();
        for child in [1, 2] {
            let child = kept.life(child).turn(USER, soon()).unwrap();
            assert!(child.standing.is_none());
            std::mem::forget(child);
        }
    }

    /// N-7: a child that drops its rights does not keep what was its parent's.
    #[test]
    fn n7_a_child_closes_the_connection_of_its_parent() {
        let (path, listener) = listening("child");
        let kept = Kept::default();
        kept.turn(soon()).unwrap().keep(line(&path), path.clone());
        let (mut theirs, _) = listener.accept().unwrap();
        let child = kept.life(1).turn(USER, soon()).unwrap();
        assert_eq!(std::io::Read::read(&mut theirs, &mut [0]).unwrap(), 0);
        assert!(child.standing.is_none());
        std::fs::remove_file(path).unwrap();
    }

    /// T40: what was asked for by root is nothing for whom root became.
    #[test]
    fn t40_whoever_becomes_another_user_has_another_connection() {
        let (path, listener) = listening("user");
        let kept = Kept::default();
        let life = &kept.first;
        let other = User { user: 65_534, ..USER };
        life.turn(USER, soon()).unwrap().keep(line(&path), path.clone());
        let (mut theirs, _) = listener.accept().unwrap();
        assert!(life.turn(USER, soon()).unwrap().standing.is_some());
        assert!(life.turn(other, soon()).unwrap().standing.is_none());
        assert_eq!(std::io::Read::read(&mut theirs, &mut [0]).unwrap(), 0, "closed");
        let mut before = life.turn(USER, soon()).unwrap();
        before.keep(line(&path), path.clone());
        let meanwhile = life.turn(other, soon()).unwrap();
        drop(before);
        drop(meanwhile);
        assert!(life.turn(other, soon()).unwrap().standing.is_none(), "nor is one that is given back later");
        std::fs::remove_file(path).unwrap();
    }
}
