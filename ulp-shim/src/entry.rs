//! What the head of a slot says of its entry: the kind, the latch's state, how far the connection is.

use crate::latch::{BreakReason, LatchState};
use crate::progress::Progress;

/// One entry of the flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) progress: Progress,
    /// Why the latch is no longer ESTABLISHED.
    pub(crate) reason: Option<BreakReason>,
    /// Whether the event of its break is queued.
    pub(crate) announced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Policy wants no latch; the entry only caches.
    Unlatched,
    Latched(LatchState),
}

impl Entry {
    pub(crate) const UNLATCHED: Self =
        Self { kind: Kind::Unlatched, progress: Progress::Untracked, reason: None, announced: false };

    pub(crate) const fn latched(state: LatchState, progress: Progress) -> Self {
        Self { kind: Kind::Latched(state), progress, reason: None, announced: false }
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
        kind | (self.progress as u32) << 3 | reason << 7 | (self.announced as u32) << 10
    }

    /// What [`pack`](Self::pack) packed.
    #[inline]
    pub(crate) fn unpack(detail: u32) -> Self {
        let kind = match detail & 7 {
            0 => Kind::Unlatched,
            1 => Kind::Latched(LatchState::Listener),
            2 => Kind::Latched(LatchState::Larval),
            3 => Kind::Latched(LatchState::Established),
            4 => Kind::Latched(LatchState::Broken),
            _ => Kind::Latched(LatchState::Closed),
        };
        let reason = match (detail >> 7) & 7 {
            0 => None,
            1 => Some(BreakReason::OtherPeer),
            2 => Some(BreakReason::Conflict),
            3 => Some(BreakReason::Administrative),
            _ => Some(BreakReason::ConnectionEnded),
        };
        let progress = Progress::from_bits(detail >> 3);
        Self { kind, progress, reason, announced: detail >> 10 & 1 == 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_survives_its_packing() {
        let kinds = LatchState::ALL.map(Kind::Latched).into_iter().chain([Kind::Unlatched]);
        let reasons = [BreakReason::OtherPeer, BreakReason::Conflict, BreakReason::Administrative]
            .into_iter()
            .chain([BreakReason::ConnectionEnded])
            .map(Some)
            .chain([None]);
        for kind in kinds {
            for progress in Progress::ALL {
                for reason in reasons.clone() {
                    for announced in [false, true] {
                        let entry = Entry { kind, progress, reason, announced };
                        assert_eq!(Entry::unpack(entry.pack()), entry);
                    }
                }
            }
        }
    }
}
