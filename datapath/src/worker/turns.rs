//! When a worker began its turns, for whoever must know that what it judged before is written.
//!
//! What a worker judges in a turn it writes in that turn. So what it wrote behind the beginning of a turn, it judged by what
//! was there at that beginning, or came later (L-27).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::Time;

/// The beginnings of the last turns of a worker, a millisecond apart or closer where turns are long. The worker alone writes them.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Ring>);

#[derive(Debug)]
struct Ring {
    /// In nanoseconds; those never written are 0.
    begun: Box<[AtomicU64]>,
    /// How many places were begun so far.
    count: AtomicU64,
}

impl Turns {
    /// The first turn on record that began later than this. It did begin then: another, before it, may be on record no more.
    #[must_use]
    pub fn after(&self, moment: Time) -> Option<Time> {
        let begun = self.0.begun.iter().map(|place| place.load(Ordering::Relaxed));
        begun.filter(|&begun| begun > moment.as_nanos()).min().map(Time::from_nanos)
    }

    /// Records that a turn begins. For the worker.
    pub fn begin(&self, now: Time) {
        let count = self.0.count.load(Ordering::Relaxed);
        let now = now.as_nanos();
        // One that is close to the last but one takes the place of the last, so that no time is too busy for the record.
        let is_close = now.saturating_sub(self.read(count.wrapping_sub(2))) < APART;
        let place = if is_close && count >= 2 { count - 1 } else { count };
        if let Some(place) = self.place(place) {
            place.store(now, Ordering::Relaxed);
        }
        self.0.count.store(count.max(place + 1), Ordering::Relaxed);
    }

    fn read(&self, number: u64) -> u64 {
        self.place(number).map_or(0, |place| place.load(Ordering::Relaxed))
    }

    fn place(&self, number: u64) -> Option<&AtomicU64> {
        self.0.begun.get((number % RECORDED as u64) as usize)
    }
}

impl Default for Turns {
    fn default() -> Self {
        let begun = (0..RECORDED).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Ring { begun, count: AtomicU64::new(0) }))
    }
}

/// Beginnings on record: four seconds, or more.
const RECORDED: usize = 8192;

/// In nanoseconds: closer than this no three are recorded.
const APART: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(turns: impl IntoIterator<Item = u64>) -> Turns {
        let record = Turns::default();
        turns.into_iter().for_each(|nanos| record.begin(Time::from_nanos(nanos)));
        record
    }

    fn after(turns: &Turns, moment: u64) -> Option<u64> {
        turns.after(Time::from_nanos(moment)).map(Time::as_nanos)
    }

    #[test]
    fn the_turn_after_one_is_found_and_none_that_did_not_begin_yet() {
        let idle = recorded([10, 60_000, 50_000_000, 50_040_000, 100_000_000]);
        assert_eq!(after(&idle, 0), Some(10));
        assert_eq!(after(&idle, 10), Some(60_000));
        assert_eq!(after(&idle, 50_000_000), Some(50_040_000));
        assert_eq!(after(&idle, 100_000_000), None);
        assert_eq!(after(&Turns::default(), 0), None);
    }

    #[test]
    fn a_busy_worker_leaves_a_record_of_seconds_and_says_a_turn_later_than_asked_for() {
        const TURN: u64 = 20_000;
        let begun = |number: u64| number * TURN;
        let busy = recorded((1..500_000).map(begun));
        let last = begun(499_999);
        assert_eq!(after(&busy, last - 1), Some(last));
        for moment in (last - 4_000_000_000..last - 2 * APART).step_by(77_777_777) {
            let turn = after(&busy, moment).unwrap();
            assert!(turn > moment && turn <= moment + 2 * APART, "{moment} {turn}");
            assert_eq!(turn % TURN, 0, "it is one that began");
        }
        assert!(after(&busy, 0).unwrap() > 0, "what is not on record any more is said to be later");
    }
}
