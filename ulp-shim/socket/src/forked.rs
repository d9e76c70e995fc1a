//! What a process keeps for itself, and a child that is forked begins anew (N-7).

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Something behind a lock. A child never waits for its parent's, which may be held by a thread that it does not have.
#[derive(Debug)]
pub(crate) struct Forked<T> {
    process: u32,
    kept: Mutex<T>,
    childs: OnceLock<Box<Self>>,
}

impl<T: Default> Forked<T> {
    /// What this process keeps.
    pub(crate) fn of_process(&self) -> MutexGuard<'_, T> {
        self.of(std::process::id()).lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, process: u32) -> &Mutex<T> {
        let mut life = self;
        loop {
            life = match life.childs.get() {
                Some(childs) => childs,
                None if life.process == process => return &life.kept,
                None => life.childs.get_or_init(|| Box::new(Self::new(process))),
            };
        }
    }

    fn new(process: u32) -> Self {
        Self { process, kept: Mutex::default(), childs: OnceLock::new() }
    }
}

impl<T: Default> Default for Forked<T> {
    fn default() -> Self {
        Self::new(std::process::id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// N-7: whatever threads of the parent were doing.
    #[test]
    fn n7_a_child_does_not_wait_for_its_parents_lock() {
        let kept = Forked::<Vec<u8>>::default();
        let mut parents = kept.of_process();
        parents.push(1);
        for child in [1, 2] {
            assert!(kept.of(child).try_lock().unwrap().is_empty());
        }
    }
}
