//! The two clocks of published state: one stamps tags, the other invalidates caches.

use crate::sync::{AtomicU64, Ordering};

/// Counts every published change of SAD, SPD or latch, and is stamped into tags (L-89, method 1). A latch accepts
/// tags no older than its own last change (C-31).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StateVersion(u64);

impl StateVersion {
    /// The version with this number, as a latch stores it in an atomic word.
    #[inline]
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The number, for storage in an atomic word.
    #[inline]
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }
}

/// Identifies one published SAD and SPD. It alone invalidates caches; changes of latches do not move it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SnapshotId(u64);

impl SnapshotId {
    /// The snapshot with this number.
    #[inline]
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The number, for storage in an atomic word.
    #[inline]
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }
}

/// The one counter of [`StateVersion`]s, shared by the key manager, the workers and the Latch Database.
#[derive(Debug, Default)]
pub struct StateClock(AtomicU64);

impl StateClock {
    /// A clock that has counted no change.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The version now. A worker reads it before it looks anything up, so that a tag is never newer than the state
    /// it was made under (L-88).
    #[inline]
    #[must_use]
    pub fn now(&self) -> StateVersion {
        StateVersion(self.0.load(Ordering::Acquire))
    }

    /// Counts one change and returns the new version. Called before the change becomes visible (L-89).
    pub fn advance(&self) -> StateVersion {
        StateVersion(self.0.fetch_add(1, Ordering::AcqRel) + 1)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn l_89_the_state_version_increases_with_every_change() {
        let clock = StateClock::new();
        let before = clock.now();
        let during = clock.advance();
        assert!(before < during);
        assert_eq!(clock.now(), during);
        assert!(during < clock.advance());
    }
}
