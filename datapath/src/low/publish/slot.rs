//! The place where the newest snapshot stands: one pointer, replaced by the publisher, read under an epoch pin.

#![expect(unsafe_code, reason = "an epoch-protected pointer is dereferenced here, and only here")]

use crossbeam_epoch::{Atomic, Owned, pin};

use super::Snapshot;
use crate::low::sync::Ordering;

/// Never empty from `new` to `drop`.
#[derive(Debug)]
pub(super) struct Slot<T: Send + Sync + 'static>(Atomic<Snapshot<T>>);

impl<T: Send + Sync + 'static> Slot<T> {
    pub(super) fn new(first: Snapshot<T>) -> Slot<T> {
        Slot(Atomic::new(first))
    }

    pub(super) fn load(&self) -> Snapshot<T> {
        let guard = pin();
        let current = self.0.load(Ordering::Acquire, &guard);
        // SAFETY: the pointer is never null (`new` sets it, `replace` swaps in another, only `drop` takes it away), was
        // published with release ordering, and what `replace` took out while we are pinned is destroyed after `guard`.
        unsafe { current.deref() }.clone()
    }

    pub(super) fn replace(&self, next: Snapshot<T>) {
        let guard = pin();
        let old = self.0.swap(Owned::new(next), Ordering::AcqRel, &guard);
        // SAFETY: `old` came out of the slot by this swap, so no later load finds it and nobody else destroys it. A
        // snapshot is Send and 'static, so any thread may run its destructor at any time.
        unsafe { guard.defer_destroy(old) };
    }
}

impl<T: Send + Sync + 'static> Drop for Slot<T> {
    fn drop(&mut self) {
        let last = std::mem::replace(&mut self.0, Atomic::null());
        // SAFETY: `&mut self` means that no other thread can load from this slot, and the pointer in it is owned by it.
        drop(unsafe { last.try_into_owned() });
    }
}

/// Lets the epoch advance far enough to destroy what was replaced: two steps, and one to collect.
pub(super) fn reclaim() {
    for _ in 0..3 {
        pin().flush();
    }
}
