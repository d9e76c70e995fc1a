//! What the head of a slot says of its entry: the kind, the latch's state and terms, how far the connection is.

use latchway_datapath::latching::{BreakReason, LatchState, LatchTerms};

use crate::progress::Progress;

/// One entry of the flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) holds: Holds,
    pub(crate) progress: Progress,
    /// Why the latch is no longer what it was.
    pub(crate) reason: Option<BreakReason>,
    /// The terms that the latch was born with.
    pub(crate) terms: LatchTerms,
    /// Whether the event of its break is queued.
    pub(crate) announced: bool,
    /// Whether someone asked for it, so that it lasts until its owner releases it (L-21).
    pub(crate) owned: bool,
    /// Whether it was asked if the connection lives yet.
    pub(crate) asked: bool,
    /// Whether the flow should have been latched and could not be, which its terms let pass (L-83).
    pub(crate) passed: bool,
    /// Whether its connection began under what somebody required, of its socket or by a listener's latch, so that it was not
    /// only inferred from packets (L-43, L-105).
    pub(crate) required: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Policy wants no latch; the entry only caches.
    Unlatched,
    Latched(LatchState),
}

/// What a latch holds its connection to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Nothing (yet): a listener, or LARVAL.
    Nothing,
    /// The class in the slot, which never changes from then on (L-37).
    Class,
    /// That it stays unprotected, whatever policy says (L-112).
    Bypass,
}

impl Entry {
    pub(crate) const UNLATCHED: Self = Self {
        kind: Kind::Unlatched,
        holds: Holds::Nothing,
        progress: Progress::Untracked,
        reason: None,
        terms: LatchTerms::from_bits(0),
        announced: false,
        owned: false,
        asked: false,
        passed: false,
        required: false,
    };

    /// A latch in force, to a class.
    pub(crate) const fn established(progress: Progress, terms: LatchTerms) -> Self {
        let kind = Kind::Latched(LatchState::Established);
        Self { kind, holds: Holds::Class, progress, terms, ..Self::UNLATCHED }
    }

    /// A latch without a class.
    pub(crate) const fn of_state(state: LatchState, progress: Progress, terms: LatchTerms) -> Self {
        Self { kind: Kind::Latched(state), progress, terms, ..Self::UNLATCHED }
    }

    pub(crate) const fn is_half_open(&self) -> bool {
        matches!(self.kind, Kind::Latched(_)) && self.progress.is_half_open()
    }

    /// The 30 bits of the head.
    #[inline]
    pub(crate) const fn pack(self) -> u32 {
        let kind = match self.kind {
            Kind::Unlatched => 0,
            Kind::Latched(state) => state as u32 + 1,
        };
        let reason = match self.reason {
            None => 0,
            Some(reason) => reason as u32 + 1,
        };
        kind | (self.holds as u32) << HOLDS
            | (self.progress as u32) << PROGRESS
            | reason << REASON
            | self.terms.bits() << TERMS
            | (self.announced as u32) << ANNOUNCED
            | (self.owned as u32) << OWNED
            | (self.asked as u32) << ASKED
            | (self.passed as u32) << PASSED
            | (self.required as u32) << REQUIRED
    }

    /// What [`pack`](Self::pack) packed.
    #[inline]
    pub(crate) fn unpack(detail: u32) -> Self {
        let flag = |at: u32| detail >> at & 1 == 1;
        let kind = match detail & 7 {
            0 => Kind::Unlatched,
            1 => Kind::Latched(LatchState::Listener),
            2 => Kind::Latched(LatchState::Larval),
            3 => Kind::Latched(LatchState::Established),
            4 => Kind::Latched(LatchState::Broken),
            _ => Kind::Latched(LatchState::Closed),
        };
        let holds = match detail >> HOLDS & 3 {
            0 => Holds::Nothing,
            1 => Holds::Class,
            _ => Holds::Bypass,
        };
        let reason = (detail >> REASON & 15).checked_sub(1);
        Self {
            kind,
            holds,
            progress: Progress::from_bits(detail >> PROGRESS),
            reason: reason.and_then(|reason| BreakReason::ALL.get(reason as usize).copied()),
            terms: LatchTerms::from_bits(detail >> TERMS),
            announced: flag(ANNOUNCED),
            owned: flag(OWNED),
            asked: flag(ASKED),
            passed: flag(PASSED),
            required: flag(REQUIRED),
        }
    }
}

const HOLDS: u32 = 3;
const PROGRESS: u32 = HOLDS + 2;
const REASON: u32 = PROGRESS + 4;
const TERMS: u32 = REASON + 4;
const ANNOUNCED: u32 = TERMS + LatchTerms::BITS;
const OWNED: u32 = ANNOUNCED + 1;
const ASKED: u32 = OWNED + 1;
const PASSED: u32 = ASKED + 1;
const REQUIRED: u32 = PASSED + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_survives_its_packing_in_30_bits() {
        let kinds = LatchState::ALL.map(Kind::Latched).into_iter().chain([Kind::Unlatched]);
        let reasons: Vec<_> = BreakReason::ALL.into_iter().map(Some).chain([None]).collect();
        let same = |entry: Entry| {
            assert!(entry.pack() < 1 << 30);
            assert_eq!(Entry::unpack(entry.pack()), entry);
        };
        for kind in kinds {
            for holds in [Holds::Nothing, Holds::Class, Holds::Bypass] {
                for progress in Progress::ALL {
                    for &reason in &reasons {
                        same(Entry { kind, holds, progress, reason, ..Entry::UNLATCHED });
                    }
                }
            }
        }
        for bits in 0..1 << (LatchTerms::BITS + 5) {
            let flag = |at: u32| bits >> at & 1 == 1;
            let terms = LatchTerms::from_bits(bits >> 5);
            let (announced, owned, asked) = (flag(0), flag(1), flag(2));
            let (passed, required) = (flag(3), flag(4));
            same(Entry { terms, announced, owned, asked, passed, required, ..Entry::UNLATCHED });
        }
    }
}
