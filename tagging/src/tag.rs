//! The tags of draft-ietf-btns-connection-latching-04 section 2.2: what IPsec tells the upper layer about a packet,
//! and what the upper layer asks of IPsec.

use crate::{ClassId, SaRef, StateVersion};

/// Which SA protected an inbound packet (L-91). An unprotected packet has no tag.
///
/// A tag is data and proves nothing by itself: the proof of authenticity is the type that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboundTag {
    /// The congruence class of the SA, copied at the moment of decapsulation.
    pub class: ClassId,
    /// The SA's index in the SAD, with its generation.
    pub sa: SaRef,
    /// The state the packet was opened under (L-88, L-89).
    pub version: StateVersion,
}

/// What the upper layer asks of IPsec for one outbound packet or batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OutboundTag {
    /// Tag kind 1: what protection the packet must leave under (L-93, L-99).
    pub demand: Demand,
    /// Tag kind 2: the upper layer wants to know which SA was used, if any (L-94, L-95).
    pub feedback: bool,
    /// The SA that served the flow last; taken if it is still current, looked up anew if not.
    pub hint: Option<SaRef>,
}

/// What protection the upper layer demands of one outbound packet or batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Demand {
    /// What policy says.
    #[default]
    Policy,
    /// The latched parameters: IPsec finds an SA of this class, or drops (L-93, L-99).
    Class(ClassId),
    /// None, whatever policy says: a privileged application was granted that (L-112).
    Bypass,
}

impl Demand {
    /// The class, if one is demanded.
    #[inline]
    #[must_use]
    pub const fn class(self) -> Option<ClassId> {
        match self {
            Self::Class(class) => Some(class),
            Self::Policy | Self::Bypass => None,
        }
    }
}

/// The answer to tag kind 2 (L-94): how the packet left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// Protected by this SA; the flow may record the class (L-96).
    Protected {
        /// The congruence class of the SA.
        class: ClassId,
        /// The SA's index in the SAD, with its generation.
        sa: SaRef,
        /// The state the SA was chosen under.
        version: StateVersion,
    },
    /// Not protected: the connection is unlatched (L-96).
    NotProtected,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copyable<T: Copy>() -> bool {
        !std::mem::needs_drop::<T>()
    }

    #[test]
    fn tags_are_copied_and_own_no_heap() {
        assert!(copyable::<InboundTag>());
        assert!(copyable::<OutboundTag>());
        assert!(copyable::<Feedback>());
        assert!(size_of::<InboundTag>() <= 24);
    }
}
