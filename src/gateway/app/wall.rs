//! The clock that the kernel stamps datagrams with, beside the one that latches are dated by (Q-49, N-6).
//!
//! Both run alike, and the one is set now and then. Stamps of before it was set are worth nothing: by the new time they may
//! seem to be of any moment. So it is looked at once a second, too.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use latchway_datapath::time::Time;

/// Both clocks of a gateway.
#[derive(Debug)]
pub struct Wall {
    started: Instant,
    seen: Mutex<Seen>,
}

/// What was seen of both. Nanoseconds, of the one since the start, of the other since 1970-01-01T00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// By how much the one that is set is ahead.
    ahead: u64,
    /// Stamps up to here may be of before it was set.
    doubtful: u64,
}

/// A moment, by which stamps are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When it was, as stamps have it.
    pub now: u64,
    seen: Seen,
}

impl Wall {
    /// The clocks of a gateway that started then.
    pub fn new(started: Instant) -> Self {
        let (since, now) = read(started);
        Self { started, seen: Mutex::new(Seen { ahead: now.saturating_sub(since), doubtful: 0 }) }
    }

    /// Looks at both.
    pub fn look(&self) -> Reading {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, now) = read(self.started);
        seen.note(since, now);
        Reading { now, seen: *seen }
    }
}

impl Seen {
    /// Whatever was stamped before the clock was set had at most the time that it would have now.
    fn note(&mut self, since: u64, now: u64) {
        let ahead = now.saturating_sub(since);
        if ahead.abs_diff(self.ahead) > NOISE {
            self.doubtful = self.doubtful.max(now).max(since.saturating_add(self.ahead));
            self.ahead = ahead;
        }
    }
}

impl Reading {
    /// The first stamp that is surely of after this moment.
    pub fn since(&self, moment: Time) -> u64 {
        let stamp = moment.as_nanos().saturating_add(self.seen.ahead).saturating_add(MARGIN);
        stamp.max(self.seen.doubtful)
    }
}

/// Both clocks, as close to one another as can be had.
fn read(started: Instant) -> (u64, u64) {
    let mut closest = (Duration::MAX, (0, 0));
    for _ in 0..ATTEMPTS {
        let before = started.elapsed();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let between = started.elapsed().saturating_sub(before);
        if between < closest.0 {
            closest = (between, (nanoseconds(before), nanoseconds(now)));
        }
    }
    closest.1
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How often both are read at a time, in case of something between.
const ATTEMPTS: usize = 3;

/// By how much two looks may differ without its having been set.
const NOISE: u64 = 200_000;

/// By how much both readings, and the kernel's of its stamps, may be apart.
const MARGIN: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// stamps of before the clock was set are of no moment after that, whichever way it was set.
    #[test]
    fn q_49_no_stamp_of_before_the_clock_was_set_counts() {
        let noon = 1000 * SECOND;
        let mut seen = Seen { ahead: noon, doubtful: 0 };
        let since = |seen: Seen, moment| Reading { now: 0, seen }.since(Time::from_nanos(moment));
        seen.note(SECOND, noon + SECOND + NOISE);
        assert_eq!(since(seen, SECOND), noon + SECOND + MARGIN, "it was not set");

        // Back by ten seconds, some time since: what was stamped before had up to the old time.
        seen.note(2 * SECOND, noon - 8 * SECOND);
        assert_eq!(since(seen, 3 * SECOND), noon + 2 * SECOND);
        assert_eq!(since(seen, 20 * SECOND), noon + 10 * SECOND + MARGIN, "later latches are not doubtful");
        seen.note(30 * SECOND, noon + 20 * SECOND);
        assert_eq!(since(seen, 3 * SECOND), noon + 2 * SECOND);

        // Forward again.
        seen.note(31 * SECOND, noon + 31 * SECOND);
        assert_eq!(since(seen, 20 * SECOND), noon + 31 * SECOND);
    }

    #[test]
    fn a_later_look_is_of_a_later_moment() {
        let wall = Wall::new(Instant::now());
        let first = wall.look();
        let later = wall.look();
        assert!(later.now >= first.now);
    }
}
