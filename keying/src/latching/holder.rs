//! Who a latch belongs to (L-21), and how much such a one may ask for (L-35).

use std::fmt;

/// Whoever holds latches, for as long as the process lives: ids are not reused. All that it holds goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(u64);

/// On whose authority something is asked for (latching-04 section 2, R8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// An application like any other.
    Application,
    /// One that is privileged: it may ask for bypass where policy lets such a one do so (L-112).
    Operator,
}

impl Holder {
    /// The holder with this number, as status output showed it.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The number.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
