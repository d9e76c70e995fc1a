//! How often the gateway speaks for itself: a bucket that time fills (RFC 4443 section 2.4f, RFC 1812 section 4.3.2.8).

use std::time::Duration;

use crate::time::Time;

/// One message for each interval, and so much saved up for bursts.
#[derive(Debug)]
pub(crate) struct Limit {
    interval: Duration,
    saved: Duration,
    credit: Duration,
    counted: Time,
}

const INTERVAL: Duration = Duration::from_millis(1);
const SAVED: Duration = Duration::from_millis(50);

impl Limit {
    /// As often as ICMP messages and the like may be sent.
    pub(crate) const fn full() -> Self {
        Self::every(INTERVAL, SAVED)
    }

    /// One for each interval, with so much saved up.
    pub(crate) const fn every(interval: Duration, saved: Duration) -> Self {
        Self { interval, saved, credit: saved, counted: Time::from_nanos(0) }
    }

    /// Whether a message may be sent now, which is then spent.
    pub(crate) fn allows(&mut self, now: Time) -> bool {
        self.credit = (self.credit + now.since(self.counted)).min(self.saved);
        self.counted = now;
        match self.credit.checked_sub(self.interval) {
            Some(left) => self.credit = left,
            None => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4443_2_4f_messages_are_limited_and_time_allows_more() {
        let (mut limit, now) = (Limit::full(), Time::from_nanos(1_000_000_000));
        let mut allowed = |now| (0..1000).filter(|_| limit.allows(now)).count();
        assert_eq!(allowed(now), 50, "a burst");
        assert_eq!(allowed(now), 0);
        assert_eq!(allowed(now + Duration::from_millis(7)), 7);
        assert_eq!(allowed(now + Duration::from_secs(3600)), 50, "and no more is saved up");
    }
}
