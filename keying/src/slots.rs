//! Slots of the SAD, with generations: a reference to an SA never comes to mean another (L-64's idea, for SAs).

use latchway_datapath::time::Time;
use latchway_tagging::{SaIndex, SaRef};

use crate::resting::Resting;

/// Gives out slots, and takes them back for later.
#[derive(Debug)]
pub(crate) struct Slots {
    /// Slots never given out begin here.
    next: u32,
    limit: u32,
    /// What each free slot was last, rested.
    free: Vec<SaRef>,
    resting: Resting<Leaving>,
}

/// A slot whose SA is gone since a publication.
#[derive(Debug)]
struct Leaving {
    sa: SaRef,
    publication: u64,
}

impl Slots {
    /// Slots from 0 up to `limit`.
    pub(crate) const fn new(limit: u32) -> Self {
        Self { next: 0, limit, free: Vec::new(), resting: Resting::new() }
    }

    /// A slot for a new SA, under a generation it never had; `None` where all are taken or at rest.
    pub(crate) fn take(&mut self) -> Option<SaRef> {
        if let Some(last) = self.free.pop() {
            return Some(SaRef { index: last.index, generation: last.generation.checked_add(1)? });
        }
        if self.next >= self.limit {
            return None;
        }
        let index = SaIndex::new(self.next);
        self.next += 1;
        Some(SaRef { index, generation: 1 })
    }

    /// Takes back the slot of an SA that is gone since `publication`, to rest until a moment.
    pub(crate) fn rest(&mut self, sa: SaRef, publication: u64, until: Time) {
        self.resting.push(until, Leaving { sa, publication });
    }

    /// Takes back the slot of an SA that was never published.
    pub(crate) fn give_back(&mut self, sa: SaRef) {
        if sa.generation < u32::MAX {
            self.free.push(sa);
        }
    }

    /// Frees the slots that rested long enough and whose SA no worker can still be using.
    pub(crate) fn wake(&mut self, now: Time, settled: impl Fn(u64) -> bool) {
        while let Some(leaving) = self.resting.pop(now, |leaving| settled(leaving.publication)) {
            // A slot that had its last generation is never used again.
            if leaving.sa.generation < u32::MAX {
                self.free.push(leaving.sa);
            }
        }
    }

    /// How many can be taken now.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.limit.saturating_sub(self.next) as usize
    }

    /// How many slots rest.
    pub(crate) fn resting(&self) -> usize {
        self.resting.len()
    }

    /// How many slots were ever given out.
    pub(crate) const fn ever_used(&self) -> u32 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    #[test]
    fn a_slot_comes_back_rested_settled_and_under_another_generation() {
        let mut slots = Slots::new(1);
        let first = slots.take().unwrap();
        assert_eq!(slots.take(), None, "the limit holds");
        slots.rest(first, 7, at(100));
        slots.wake(at(99), |_| true);
        assert_eq!(slots.take(), None, "still resting");
        slots.wake(at(100), |publication| publication < 7);
        assert_eq!(slots.take(), None, "a worker may still use it");
        slots.wake(at(100), |_| true);
        let second = slots.take().unwrap();
        assert_eq!((second.index, second.generation), (first.index, first.generation + 1));
    }

    #[test]
    fn a_slot_is_abandoned_with_its_last_generation() {
        let mut slots = Slots::new(2);
        slots.take().unwrap();
        slots.rest(SaRef { index: SaIndex::new(0), generation: u32::MAX }, 1, at(0));
        slots.wake(at(0), |_| true);
        assert_eq!(slots.take().unwrap().index, SaIndex::new(1));
    }
}
