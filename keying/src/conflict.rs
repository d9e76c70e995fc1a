//! The conflict predicate (latching-04 section 2.1, L-72).

use latchway_tagging::ClassId;

/// What an SA is in view of a latch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Stands for its peer, its type and its quality of protection.
    pub(crate) class: ClassId,
    /// Whether its selectors admit the latch's connection.
    pub(crate) covers: bool,
}

/// Whether two SAs conflict in view of a latch: the selectors of both admit its connection, and peer, type or quality
/// differ. A latch itself stands for the SAs that it was born of.
pub(crate) fn conflict(one: Claim, other: Claim) -> bool {
    one.covers && other.covers && one.class != other.class
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l_72_a_truth_table_of_selectors_and_parameters() {
        let claim = |class, covers| Claim { class: ClassId::from_raw(class), covers };
        for (one, other, expected) in [
            (claim(1, true), claim(2, true), true),
            // Equal parameters.
            (claim(1, true), claim(1, true), false),
            // Selectors that do not cover the connection: of either, or of both.
            (claim(1, true), claim(2, false), false),
            (claim(1, false), claim(2, false), false),
            (claim(1, false), claim(1, true), false),
            (claim(1, false), claim(1, false), false),
        ] {
            assert_eq!(conflict(one, other), expected, "{one:?} and {other:?}");
            assert_eq!(conflict(other, one), expected, "it is symmetric");
        }
    }
}
