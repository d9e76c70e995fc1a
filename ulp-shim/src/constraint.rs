//! What a listener demands of those who connect, by a number that every worker can check in one step.

/// Names a set of constraints that the key manager interned (L-46, L-54). Which classes satisfy it is a bit of
/// [`ClassPeers`](crate::ClassPeers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConstraintId(u8);

impl ConstraintId {
    /// How many there can be.
    pub const COUNT: u8 = 63;

    /// The constraint with this number, from 1 to 63.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number >= 1 && number <= Self::COUNT { Some(Self(number)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Its bit in the set of constraints that a class satisfies.
    #[must_use]
    pub const fn bit(self) -> u64 {
        1 << self.0
    }
}
