//! The slot's twin for the loom models: the same release and acquire on one pointer, without epochs.
//!
//! It stands in for crossbeam-epoch, whose own collector would multiply the interleavings beyond what can be explored.
//! What was replaced is kept until the slot goes, so a load may return it, as under a pin.

use loom::sync::atomic::AtomicUsize;

use super::Snapshot;
use crate::low::sync::Ordering;

/// The pointer is an index into everything there ever was. The list's own lock is a std one on purpose: it orders
/// nothing in the model.
#[derive(Debug)]
pub(super) struct Slot<T: Send + Sync + 'static> {
    newest: AtomicUsize,
    all: std::sync::Mutex<Vec<Snapshot<T>>>,
}

impl<T: Send + Sync + 'static> Slot<T> {
    pub(super) fn new(first: Snapshot<T>) -> Slot<T> {
        Slot { newest: AtomicUsize::new(0), all: std::sync::Mutex::new(vec![first]) }
    }

    pub(super) fn load(&self) -> Snapshot<T> {
        let at = self.newest.load(Ordering::Acquire);
        self.all
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .get(at)
            .cloned()
            .unwrap_or_else(|| unreachable!("the index was stored after the push"))
    }

    pub(super) fn replace(&self, next: Snapshot<T>) {
        let at = {
            let mut all = self.all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            all.push(next);
            all.len() - 1
        };
        self.newest.swap(at, Ordering::AcqRel);
    }
}

/// Nothing to do: nothing is ever freed early.
pub(super) fn reclaim() {}
