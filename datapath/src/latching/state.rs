//! The states of a latch, the transitions between them, and why one ends: latching-04 section 2 (L-16 to L-20).

use std::fmt;

use latchway_tagging::{ClassId, SaRef};

/// Names one latch for as long as it exists; afterwards it names nothing (L-64).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// Why a latch is no longer what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakReason {
    /// A packet came under an SA of another peer (L-100, L-109).
    OtherPeer,
    /// A conflicting SA is to be installed (L-74).
    Conflict,
    /// Policy is about to say otherwise (L-75, L-76).
    Policy,
    /// The peer is known to be gone.
    PeerGone,
    /// The PAD no longer allows the peer.
    Withdrawn,
    /// An administrator closed it.
    Administrative,
    /// The connection ended by itself.
    ConnectionEnded,
    /// Its owner released it, or is gone (L-21, L-64).
    Released,
    /// It was LARVAL for too long (C-20).
    TimedOut,
    /// What is known of its peer is lost.
    IdentityLost,
}

/// Whom a latch met when it broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Offender {
    /// The class that is not the latch's.
    pub class: ClassId,
    /// The SA of the packet, where a packet broke the latch and not a decision.
    pub sa: Option<SaRef>,
}

impl LatchState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Listener, Self::Larval, Self::Established, Self::Broken, Self::Closed];

    /// Whether a latch may go from this state to `next`. From BROKEN there is a way back (C-26).
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
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::OtherPeer,
        Self::Conflict,
        Self::Policy,
        Self::PeerGone,
        Self::Withdrawn,
        Self::Administrative,
        Self::ConnectionEnded,
        Self::Released,
        Self::TimedOut,
        Self::IdentityLost,
    ];

    /// The stable name, as status output and events show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OtherPeer => "other-peer",
            Self::Conflict => "conflict",
            Self::Policy => "policy",
            Self::PeerGone => "peer-gone",
            Self::Withdrawn => "withdrawn",
            Self::Administrative => "administrative",
            Self::ConnectionEnded => "connection-ended",
            Self::Released => "released",
            Self::TimedOut => "timed-out",
            Self::IdentityLost => "identity-lost",
        }
    }

    /// Whether the cause can go away again, so that the latch may come back into force.
    #[must_use]
    pub const fn can_pass(self) -> bool {
        matches!(self, Self::OtherPeer | Self::Conflict | Self::Policy)
    }
}

impl LatchId {
    /// The handle of the latch that is the `generation`th in a slot of the Latch Database.
    #[must_use]
    pub const fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    /// The slot.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Which of the slot's latches it names.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_handle_survives_being_a_number() {
        let id = LatchId::new(7, u32::MAX);
        assert_eq!(LatchId::from_raw(id.raw()), id);
    }
}
