//! What became of the connections of broken latches, for as long as somebody may ask.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use latchway_datapath::latching::LatchId;

/// The last dispositions, by latch.
#[derive(Debug, Default)]
pub struct Dispositions {
    by_latch: HashMap<LatchId, Disposition>,
    /// Each latch once, the one noted first in front.
    order: VecDeque<LatchId>,
}

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Its socket was destroyed: the application saw ECONNABORTED.
    Destroyed,
    /// No socket of this host was connected, so that resets were sent to where it may be (L-103).
    Reset,
    /// There was nothing to end, or nobody to tell.
    Nobody,
    /// Its terms are to wait until the conflict has passed.
    Waits,
    /// Its socket could not be destroyed: what the kernel says. Its packets are dropped all the same.
    Failed(String),
}

/// How many are remembered: a latch of the number of such a one is long another's.
const REMEMBERED: usize = 1024;

impl Dispositions {
    /// Remembers what became of the connection of a latch.
    pub fn note(&mut self, latch: LatchId, disposition: Disposition) {
        if self.by_latch.insert(latch, disposition).is_some() {
            return;
        }
        self.order.push_back(latch);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_latch.remove(&oldest);
        }
    }

    /// What became of the connection of a latch, if it is remembered.
    pub fn of(&self, latch: LatchId) -> Option<&Disposition> {
        self.by_latch.get(&latch)
    }
}

impl fmt::Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Destroyed => f.write_str("the connection was reset"),
            Self::Reset => f.write_str("no socket was connected here; resets were sent"),
            Self::Nobody => f.write_str("no socket was connected any more"),
            Self::Waits => f.write_str("the connection waits until the conflict has passed"),
            Self::Failed(error) => write!(f, "the connection could not be reset: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_dispositions_are_remembered_each_by_its_latch_and_bounded() {
        let mut dispositions = Dispositions::default();
        let latch = |index| LatchId::from_raw((7 << 32) | index as u64);
        for index in 0..=REMEMBERED {
            dispositions.note(latch(index), Disposition::Destroyed);
            dispositions.note(latch(index), Disposition::Failed(index.to_string()));
        }
        assert_eq!(dispositions.of(latch(0)), None);
        for index in 1..=REMEMBERED {
            assert_eq!(dispositions.of(latch(index)), Some(&Disposition::Failed(index.to_string())));
        }
        // Another latch in the same place.
        assert_eq!(dispositions.of(LatchId::from_raw((8 << 32) | 5)), None);
        assert_eq!((dispositions.by_latch.len(), dispositions.order.len()), (REMEMBERED, REMEMBERED));
    }
}
