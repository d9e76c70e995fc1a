//! The clock that datagrams are stamped by, beside one that nobody sets.

use nix::time::{ClockId, clock_gettime};

/// Both clocks at one moment, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clocks {
    /// Since 1970-01-01T00:00Z, as stamps have it.
    pub(crate) now: u64,
    /// Of the clock that is never set.
    steady: u64,
}

impl Clocks {
    pub(crate) fn look() -> Self {
        let mut closest = (u64::MAX, Self { now: 0, steady: 0 });
        for _ in 0..ATTEMPTS {
            let (before, now) = (read(ClockId::CLOCK_MONOTONIC), read(ClockId::CLOCK_REALTIME));
            let between = read(ClockId::CLOCK_MONOTONIC).saturating_sub(before);
            if between < closest.0 {
                closest = (between, Self { now, steady: before });
            }
            if between < CLOSE {
                break;
            }
        }
        closest.1
    }

    /// How long ago another look was.
    pub(crate) const fn nanoseconds_since(&self, earlier: &Self) -> u64 {
        self.steady.saturating_sub(earlier.steady)
    }

    /// Whether the clock of the stamps was set between two looks. What was learnt before says nothing of stamps behind it.
    pub(crate) const fn was_set_since(&self, earlier: &Self) -> bool {
        let (ahead, before) = (self.now.wrapping_sub(self.steady), earlier.now.wrapping_sub(earlier.steady));
        (ahead.wrapping_sub(before) as i64).unsigned_abs() > NOISE
    }
}

fn read(clock: ClockId) -> u64 {
    // By the C library: what rustix does instead does not run under valgrind.
    let Ok(time) = clock_gettime(clock) else { return 0 };
    let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec()).unwrap_or_default())
}

/// By which two looks may differ although nobody set the clock: less than stamps are kept away from the beginning of a latch.
const NOISE: u64 = 500_000;
/// How often both are read at most, in case of something between, and by which they are close enough.
const ATTEMPTS: usize = 5;
const CLOSE: u64 = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// a clock that was set, whichever way, is seen to have been.
    #[test]
    fn q49_a_clock_that_was_set_is_told_from_one_that_ran() {
        let noon = Clocks { now: 1_000_000_000_000, steady: 5_000_000_000 };
        let later = |now: u64, steady: u64| Clocks { now: noon.now + now, steady: noon.steady + steady };
        assert!(!later(70_000_000, 70_000_100).was_set_since(&noon));
        assert_eq!(later(0, 70).nanoseconds_since(&noon), 70);
        assert!(later(0, 70_000_000).was_set_since(&noon), "back");
        assert!(later(140_000_000, 70_000_000).was_set_since(&noon), "forward");
        assert!(Clocks { now: 7, ..noon }.was_set_since(&noon), "back to 1970");
        let look = Clocks::look();
        assert!(look.now > 1_600_000_000_000_000_000);
    }
}
