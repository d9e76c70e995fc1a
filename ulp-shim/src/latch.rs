//! A latch: its states, the transitions between them, and the check of an inbound tag against it.
//!
//! draft-ietf-btns-connection-latching-04 section 2 (L-16 to L-20), RFC 5660 section 2.

use std::fmt;

use latchway_datapath::drop::DropReason;
use latchway_tagging::{ClassId, InboundTag, StateVersion};

/// Names one latch for as long as it exists; afterwards it names nothing (L-64).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LatchId {
    index: u32,
    generation: u32,
}

/// The states of latching-04 section 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LatchState {
    /// Waits for connections; latches of connections are born from it (L-16).
    Listener,
    /// Being established: nothing passes (L-17, L-22, L-23).
    Larval,
    /// In force (L-18).
    Established,
    /// A conflict suspends it: nothing passes (L-19, R-12).
    Broken,
    /// Ended: what is late is still refused (L-20).
    Closed,
}

/// Why a latch left ESTABLISHED.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakReason {
    /// A packet came under an SA of another peer (L-100, L-109).
    OtherPeer,
    /// A conflicting SA or policy is to be installed (L-74).
    Conflict,
    /// An administrator closed it.
    Administrative,
    /// The connection ended by itself.
    ConnectionEnded,
}

/// What an inbound tag is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Latch {
    pub(crate) state: LatchState,
    /// Never changes once ESTABLISHED (L-37).
    pub(crate) class: ClassId,
    /// The version of the last change (C-31).
    pub(crate) changed_at: StateVersion,
}

impl LatchState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Listener, Self::Larval, Self::Established, Self::Broken, Self::Closed];

    /// Whether a latch may go from this state to `next`.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        use LatchState::{Broken, Closed, Established, Larval, Listener};
        matches!(
            (self, next),
            (Larval, Established)
                | (Established, Broken)
                | (Broken, Established)
                | (Listener | Larval | Established | Broken, Closed)
        )
    }

    /// Whether a latch may come into being in this state.
    #[must_use]
    pub const fn may_be_born(self) -> bool {
        !matches!(self, Self::Closed)
    }

    /// The stable name, as status output and events show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Larval => "larval",
            Self::Established => "established",
            Self::Broken => "broken",
            Self::Closed => "closed",
        }
    }
}

impl BreakReason {
    /// The stable name, as status output and events show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OtherPeer => "other-peer",
            Self::Conflict => "conflict",
            Self::Administrative => "administrative",
            Self::ConnectionEnded => "connection-ended",
        }
    }
}

impl LatchId {
    pub(crate) const fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    pub(crate) const fn index(self) -> u32 {
        self.index
    }

    /// Both halves in one number, as control messages carry it.
    #[must_use]
    pub const fn raw(self) -> u64 {
        ((self.generation as u64) << 32) | self.index as u64
    }

    /// The handle that [`raw`](Self::raw) described. A made-up one names nothing.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self { index: raw as u32, generation: (raw >> 32) as u32 }
    }
}

impl fmt::Display for LatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

impl Latch {
    /// Accepts a tag iff the latch is ESTABLISHED, the classes are equal and the tag is no older than the latch's
    /// last change (L-27, L-98, R-12, C-31).
    #[inline]
    pub(crate) fn check(&self, tag: &InboundTag) -> Result<(), DropReason> {
        match self.state {
            LatchState::Established if tag.class != self.class => Err(DropReason::LatchMismatch),
            LatchState::Established if tag.version < self.changed_at => Err(DropReason::StaleVersion),
            LatchState::Established => Ok(()),
            LatchState::Listener | LatchState::Larval => Err(DropReason::LatchLarval),
            LatchState::Broken | LatchState::Closed => Err(DropReason::LatchBroken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latchway_tagging::{SaIndex, SaRef};

    /// All 25 pairs, rows from, columns to, in the order of [`LatchState::ALL`].
    const LEGAL: [[bool; 5]; 5] = [
        [false, false, false, false, true],
        [false, false, true, false, true],
        [false, false, false, true, true],
        [false, false, true, false, true],
        [false, false, false, false, false],
    ];

    #[test]
    fn l_16_to_l_20_exactly_the_legal_ones_of_the_25_transitions_are_allowed() {
        for (from, row) in LatchState::ALL.iter().zip(LEGAL) {
            for (to, legal) in LatchState::ALL.iter().zip(row) {
                assert_eq!(from.may_become(*to), legal, "{} -> {}", from.name(), to.name());
            }
        }
        let born: Vec<_> = LatchState::ALL.iter().filter(|state| state.may_be_born()).collect();
        assert_eq!(born.len(), 4);
        assert!(!born.contains(&&LatchState::Closed));
    }

    #[test]
    fn l_27_r_12_c_31_a_tag_passes_iff_established_same_class_and_not_older() {
        let tag = |class, version| InboundTag {
            class: ClassId::from_raw(class),
            sa: SaRef { index: SaIndex::new(0), generation: 1 },
            version: StateVersion::from_raw(version),
        };
        for state in LatchState::ALL {
            let latch = Latch { state, class: ClassId::from_raw(7), changed_at: StateVersion::from_raw(10) };
            for (class, version) in [(7, 9), (7, 10), (7, 11), (8, 9), (8, 11)] {
                let passes = state == LatchState::Established && class == 7 && version >= 10;
                assert_eq!(latch.check(&tag(class, version)).is_ok(), passes, "{state:?} {class} {version}");
            }
        }
        let latch = Latch {
            state: LatchState::Established,
            class: ClassId::from_raw(7),
            changed_at: StateVersion::from_raw(10),
        };
        assert_eq!(latch.check(&tag(7, 9)), Err(DropReason::StaleVersion));
        assert_eq!(latch.check(&tag(8, 11)), Err(DropReason::LatchMismatch));
    }

    #[test]
    fn a_handle_survives_being_a_number() {
        let id = LatchId::new(7, u32::MAX);
        assert_eq!(LatchId::from_raw(id.raw()), id);
    }
}
