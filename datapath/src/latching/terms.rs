//! The terms on which a connection is latched: what counts as a conflict, and what follows from one.

/// What a rule, or whoever asked for a latch, wants of it. A latch keeps the terms it was born with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct LatchTerms {
    /// What counts as a conflict.
    pub model: Model,
    /// What becomes of the connection, and of the newcomer, in a conflict.
    pub on_conflict: OnConflict,
    /// What becomes of the latch when policy changes.
    pub on_policy_change: OnPolicyChange,
    /// What becomes of a connection that cannot be latched.
    pub unlatchable: Unlatchable,
    /// Whether a UDP flow that is idle for too long stays latched for as long as a socket has its 5-tuple.
    pub sticky: bool,
}

/// What counts as a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Model {
    /// Latching-04 2.1: every SA that admits a latched flow under another class, from its proposal on, and no latch is
    /// born under such SAs (L-45, L-70, L-71).
    #[default]
    Strict,
    /// Latching-04 2.2: only packets. SAs may overlap, and tags tell them apart.
    Tag,
}

/// What becomes of a latched connection when another peer claims its 5-tuple (latching-04 2.4), by an SA in the strict
/// model (L-107), by a packet in either (L-108). A peer of lesser standing
/// is always refused (L-70).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum OnConflict {
    /// It ends, and whoever holds it is told (L-109).
    #[default]
    Terminate,
    /// It stands, and the newcomer's packets are dropped; its SA serves other flows (L-110).
    DropNewcomer,
    /// It stands, and the newcomer's SA is refused (L-110).
    RejectNewcomer,
    /// It is suspended until the conflict is gone (L-110, R-9).
    Wait,
}

/// What becomes of a latch when a change of policy would alter or bypass its protection (L-76).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum OnPolicyChange {
    /// It breaks before the change takes effect (C-24).
    #[default]
    Break,
    /// It stands, as if a PROTECT entry for its 5-tuple were the first of the SPD (L-77).
    Preserve,
}

/// What becomes of a connection that should be latched and cannot be (L-81, L-83).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Unlatchable {
    /// It does not come about.
    #[default]
    Refuse,
    /// It passes without a latch, as an unlatched rule would have it.
    Pass,
}

impl LatchTerms {
    /// How many bits [`bits`](Self::bits) takes.
    pub const BITS: u32 = 6;

    /// The terms as a number, for storage in an atomic word.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.model as u32
            | (self.on_conflict as u32) << 1
            | (self.on_policy_change as u32) << 3
            | (self.unlatchable as u32) << 4
            | (self.sticky as u32) << 5
    }

    /// The terms that [`bits`](Self::bits) described.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self {
            model: if bits & 1 == 0 { Model::Strict } else { Model::Tag },
            on_conflict: match bits >> 1 & 3 {
                0 => OnConflict::Terminate,
                1 => OnConflict::DropNewcomer,
                2 => OnConflict::RejectNewcomer,
                _ => OnConflict::Wait,
            },
            on_policy_change: if bits >> 3 & 1 == 0 {
                OnPolicyChange::Break
            } else {
                OnPolicyChange::Preserve
            },
            unlatchable: if bits >> 4 & 1 == 0 { Unlatchable::Refuse } else { Unlatchable::Pass },
            sticky: bits >> 5 & 1 == 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_17_all_terms_survive_being_a_number_and_the_default_is_the_strictest() {
        for bits in 0..1 << LatchTerms::BITS {
            assert_eq!(LatchTerms::from_bits(bits).bits(), bits);
        }
        let default = LatchTerms::from_bits(0);
        assert_eq!(default, LatchTerms::default());
        assert_eq!((default.model, default.on_conflict), (Model::Strict, OnConflict::Terminate), "L-109");
        assert_eq!(default.on_policy_change, OnPolicyChange::Break, "C-24");
    }
}
