//! Lifetimes of SAs (RFC 4301 section 4.4.2.1): soft and hard, by octets, by packets, by time since the SA was added and
//! since it carried its first packet.
//!
//! The soft limit says that a successor is wanted and stops nothing; the hard one ends the SA. Inbound, only what was
//! authenticated is charged: a forged packet can spend nothing. Time is [`Time`], which is monotonic, so setting the
//! wall clock neither ends an SA early nor lets it live longer (T36).

use std::time::Duration;

use crate::time::Time;

/// How much of each kind an SA may use. `None` is without bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Octets that the cipher is applied to.
    pub octets: Option<u64>,
    /// Packets.
    pub packets: Option<u64>,
    /// Time since the SA was added.
    pub time: Option<Duration>,
    /// Time since it carried its first packet, which is none while it did not.
    pub since_first_use: Option<Duration>,
}

/// When a successor of an SA is wanted, and when the SA ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Limits {
    soft: Bounds,
    hard: Bounds,
}

/// Why bounds are no limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// The successor would be wanted when it is too late to make one.
    #[error(
        "the soft limit by {0} does not lie below the hard one; lower it, so that a successor can be made in time"
    )]
    SoftNotBelowHard(&'static str),
    /// An SA of which nothing may be used.
    #[error("a limit of no {0} leaves nothing to use; raise it, or leave it out")]
    Zero(&'static str),
}

/// What an SA has used of its limits.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    soft: Mark,
    hard: Mark,
    octets: u64,
    packets: u64,
    soft_reached: bool,
    over: bool,
}

/// The hard limit is reached; nothing more passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardExpired;

/// Bounds of an SA that was added at a certain moment; those that there are not lie at the end of their space.
#[derive(Clone, Copy, Debug)]
struct Mark {
    octets: u64,
    packets: u64,
    moment: Time,
    since_first_use: Option<Duration>,
}

impl Limits {
    /// Both limits.
    ///
    /// # Errors
    /// [`LimitsError`] where a soft bound does not lie below its hard one, or a bound is zero.
    pub fn new(soft: Bounds, hard: Bounds) -> Result<Self, LimitsError> {
        let nanos =
            |time: Option<Duration>| time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let kinds = [
            ("octets", soft.octets, hard.octets),
            ("packets", soft.packets, hard.packets),
            ("time", nanos(soft.time), nanos(hard.time)),
            ("time since first use", nanos(soft.since_first_use), nanos(hard.since_first_use)),
        ];
        for (kind, soft, hard) in kinds {
            if soft == Some(0) || hard == Some(0) {
                return Err(LimitsError::Zero(kind));
            }
            if soft.zip(hard).is_some_and(|(soft, hard)| soft >= hard) {
                return Err(LimitsError::SoftNotBelowHard(kind));
            }
        }
        Ok(Self { soft, hard })
    }

    /// From where on a successor is wanted.
    #[must_use]
    pub const fn soft(&self) -> &Bounds {
        &self.soft
    }

    /// Where the SA ends.
    #[must_use]
    pub const fn hard(&self) -> &Bounds {
        &self.hard
    }
}

impl Lifetime {
    /// The lifetime of an SA that was added at `added`, of which nothing is used.
    #[must_use]
    pub fn new(limits: &Limits, added: Time) -> Self {
        let (soft, hard) = (Mark::new(&limits.soft, added), Mark::new(&limits.hard, added));
        Self { soft, hard, octets: 0, packets: 0, soft_reached: false, over: false }
    }

    /// Measures by `limits` from here on; what was used stays used, and its soft limit can be reached anew.
    pub fn revise(&mut self, limits: &Limits, added: Time, first_used: Option<Time>) {
        let revised = Self::new(limits, added);
        *self = Self { octets: self.octets, packets: self.packets, over: self.over, ..revised };
        if let Some(moment) = first_used {
            self.begin(moment);
        }
    }

    /// Charges `packets` of `octets` in all, or nothing: what would pass the hard limit ends the SA instead. Returns
    /// whether the SA is to be looked at: since this reached the soft limit, or was its first use and set a moment at
    /// which time reaches a limit. Either is so once.
    ///
    /// # Errors
    /// [`HardExpired`], from the first time on, for good.
    #[inline]
    pub fn charge(&mut self, packets: u64, octets: u64, now: Time) -> Result<bool, HardExpired> {
        let (packets, octets) = (self.packets.saturating_add(packets), self.octets.saturating_add(octets));
        if self.over || packets > self.hard.packets || octets > self.hard.octets || self.is_past(now) {
            self.over = true;
            return Err(HardExpired);
        }
        let begins = self.packets == 0 && self.begin(now);
        self.packets = packets;
        self.octets = octets;
        let before = self.soft_reached;
        Ok(self.reach_soft(now) && !before || begins)
    }

    /// Notes the first use. Returns whether there is a limit by the time since then.
    #[cold]
    fn begin(&mut self, now: Time) -> bool {
        let begins = self.soft.begin(now);
        self.hard.begin(now) || begins
    }

    /// Whether the soft limit is reached: once it is, it stays so.
    #[inline]
    pub fn reach_soft(&mut self, now: Time) -> bool {
        self.soft_reached |=
            self.packets >= self.soft.packets || self.octets >= self.soft.octets || now >= self.soft.moment;
        self.soft_reached
    }

    /// Whether the SA's time is over, packets or not.
    #[inline]
    #[must_use]
    pub fn is_past(&self, now: Time) -> bool {
        now >= self.hard.moment
    }

    /// The next moment at which time alone reaches a limit, if it ever does.
    #[must_use]
    pub fn next_moment(&self) -> Option<Time> {
        let next = if self.soft_reached { self.hard.moment } else { self.soft.moment.min(self.hard.moment) };
        (next < NEVER).then_some(next)
    }
}

impl Mark {
    fn new(bounds: &Bounds, added: Time) -> Self {
        Self {
            octets: bounds.octets.unwrap_or(u64::MAX),
            packets: bounds.packets.unwrap_or(u64::MAX),
            moment: bounds.time.map_or(NEVER, |time| added + time),
            since_first_use: bounds.since_first_use,
        }
    }

    /// Whichever of both times is over first is the limit.
    fn begin(&mut self, now: Time) -> bool {
        let Some(time) = self.since_first_use else { return false };
        self.moment = self.moment.min(now + time);
        true
    }
}

/// Five centuries after the start.
const NEVER: Time = Time::from_nanos(u64::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_nanos(1000);

    fn bounds(octets: Option<u64>, packets: Option<u64>, nanos: Option<u64>) -> Bounds {
        Bounds { octets, packets, time: nanos.map(Duration::from_nanos), ..Bounds::default() }
    }

    fn used_for(nanos: u64) -> Bounds {
        Bounds { since_first_use: Some(Duration::from_nanos(nanos)), ..Bounds::default() }
    }

    fn lifetime(soft: Bounds, hard: Bounds) -> Lifetime {
        Lifetime::new(&Limits::new(soft, hard).unwrap(), START)
    }

    fn at(nanos: u64) -> Time {
        START + Duration::from_nanos(nanos)
    }

    #[test]
    fn rfc_4301_4_4_2_1_each_hard_limit_ends_the_sa_for_good_and_not_one_packet_late() {
        let mut by_packets = lifetime(Bounds::default(), bounds(None, Some(2), None));
        assert_eq!(by_packets.charge(2, 10, START), Ok(false));
        assert_eq!(by_packets.charge(1, 1, START), Err(HardExpired));
        assert_eq!(by_packets.charge(0, 0, START), Err(HardExpired));

        let mut by_octets = lifetime(Bounds::default(), bounds(Some(100), None, None));
        assert_eq!(by_octets.charge(1, 100, START), Ok(false));
        assert_eq!(by_octets.charge(1, 1, START), Err(HardExpired));

        let mut by_time = lifetime(Bounds::default(), bounds(None, None, Some(100)));
        assert_eq!(by_time.next_moment(), Some(at(100)));
        assert_eq!(by_time.charge(1, 1, at(99)), Ok(false));
        assert_eq!(by_time.charge(1, 1, at(100)), Err(HardExpired));
    }

    #[test]
    fn t36_each_soft_limit_is_reached_once_and_stops_nothing() {
        let mut by_packets = lifetime(bounds(None, Some(2), None), bounds(None, Some(4), None));
        assert_eq!(by_packets.charge(1, 1, START), Ok(false));
        assert_eq!(by_packets.charge(1, 1, START), Ok(true));
        assert_eq!(by_packets.charge(2, 1, START), Ok(false), "told once");
        assert_eq!(by_packets.charge(1, 1, START), Err(HardExpired));

        let mut by_octets = lifetime(bounds(Some(10), None, None), Bounds::default());
        assert_eq!(by_octets.charge(1, 9, START), Ok(false));
        assert_eq!(by_octets.charge(1, 100, START), Ok(true));
        assert_eq!(by_octets.charge(1, 1_000_000, START), Ok(false));

        let mut by_time = lifetime(bounds(None, None, Some(10)), bounds(None, None, Some(20)));
        assert_eq!(by_time.next_moment(), Some(at(10)));
        assert!(!by_time.reach_soft(at(9)));
        assert!(by_time.reach_soft(at(10)));
        assert_eq!(by_time.charge(1, 1, at(11)), Ok(false), "told once");
        assert_eq!(by_time.next_moment(), Some(at(20)));
    }

    /// RFC 4301 4.4.2.1: time counts from the first packet, and not before there is one.
    #[test]
    fn t36_time_since_first_use_begins_with_the_first_packet_and_each_limit_fires_once() {
        let mut lifetime = lifetime(used_for(10), used_for(20));
        assert_eq!(lifetime.next_moment(), None, "unused, it lasts");
        assert!(!lifetime.reach_soft(at(1000)) && !lifetime.is_past(at(1000)));
        assert_eq!(lifetime.charge(1, 1, at(1000)), Ok(true), "now there is a moment to wait for");
        assert_eq!(lifetime.next_moment(), Some(at(1010)));
        assert_eq!(lifetime.charge(1, 1, at(1009)), Ok(false), "the second use changes nothing");
        assert_eq!(lifetime.charge(1, 1, at(1010)), Ok(true), "soft");
        assert_eq!(lifetime.charge(1, 1, at(1011)), Ok(false), "told once");
        assert_eq!(lifetime.next_moment(), Some(at(1020)));
        assert_eq!(lifetime.charge(1, 1, at(1019)), Ok(false));
        assert_eq!(lifetime.charge(1, 1, at(1020)), Err(HardExpired));
    }

    #[test]
    fn t36_of_two_times_the_one_that_is_over_first_ends_the_sa() {
        let both = |added, used| Bounds { time: Some(Duration::from_nanos(added)), ..used_for(used) };
        let mut early = lifetime(Bounds::default(), both(100, 20));
        assert_eq!(early.next_moment(), Some(at(100)));
        assert_eq!(early.charge(1, 1, at(10)), Ok(true));
        assert_eq!(early.next_moment(), Some(at(30)));
        let mut late = lifetime(Bounds::default(), both(100, 20));
        assert_eq!(late.charge(1, 1, at(90)), Ok(true));
        assert_eq!(late.next_moment(), Some(at(100)), "use does not lengthen a life");
    }

    #[test]
    fn t36_counts_do_not_wrap_into_a_new_life() {
        let mut lifetime = lifetime(Bounds::default(), bounds(Some(u64::MAX - 1), None, None));
        assert_eq!(lifetime.charge(1, u64::MAX - 1, Time::default()), Ok(false));
        assert_eq!(lifetime.charge(1, u64::MAX, Time::default()), Err(HardExpired));
    }

    #[test]
    fn t36_a_soft_limit_lies_below_its_hard_one_and_none_is_zero() {
        const KINDS: [&str; 4] = ["octets", "packets", "time", "time since first use"];
        let kinds = |n: u64| {
            let (octets, packets) = (bounds(Some(n), None, None), bounds(None, Some(n), None));
            [octets, packets, bounds(None, None, Some(n)), used_for(n)]
        };
        for ((less, more), kind) in kinds(5).into_iter().zip(kinds(6)).zip(KINDS) {
            assert!(Limits::new(less, more).is_ok());
            assert_eq!(Limits::new(more, more), Err(LimitsError::SoftNotBelowHard(kind)));
            assert_eq!(Limits::new(more, less), Err(LimitsError::SoftNotBelowHard(kind)));
            assert!(Limits::new(more, Bounds::default()).is_ok(), "soft alone");
        }
        for (zero, kind) in kinds(0).into_iter().zip(KINDS) {
            assert_eq!(Limits::new(zero, Bounds::default()), Err(LimitsError::Zero(kind)));
            assert_eq!(Limits::new(Bounds::default(), zero), Err(LimitsError::Zero(kind)));
        }
        assert!(
            Limits::new(bounds(Some(9), None, None), bounds(None, Some(5), None)).is_ok(),
            "unlike kinds"
        );
    }
}
