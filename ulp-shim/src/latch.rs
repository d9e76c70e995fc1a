//! The check of an inbound tag against a latch: latching-04 section 2.2, RFC 5660 section 2.4.

use latchway_datapath::drop::DropReason;
use latchway_datapath::latching::LatchState;
use latchway_tagging::{ClassId, InboundTag, StateVersion};

/// What an inbound tag is checked against. It names a class and no SA, so that it outlives SAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Latch {
    pub(crate) state: LatchState,
    /// Never changes once ESTABLISHED (L-37). No SA has the class 0 of a latch that demands none.
    pub(crate) class: ClassId,
    /// The version of the last change (C-31).
    pub(crate) changed_at: StateVersion,
}

impl Latch {
    /// Accepts a tag iff the latch is ESTABLISHED, the classes are equal, so that peer (L-2) and quality (L-3) are, and the
    /// tag is no older than the latch's last change (L-27, L-98, R-12, C-31).
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
}
