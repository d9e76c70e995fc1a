//! Hard lifetimes of SAs (RFC 4301 section 4.4.2.1): by octets, by packets, by time.
//!
//! Inbound, only what was authenticated is charged: a forged packet can spend nothing.

use crate::time::Time;

/// When an SA ends. `None` is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Limits {
    /// After this many octets that the cipher was applied to.
    pub octets: Option<u64>,
    /// After this many packets.
    pub packets: Option<u64>,
    /// At this moment.
    pub expires_at: Option<Time>,
}

/// What an SA has used of its limits.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    limits: Limits,
    octets: u64,
    packets: u64,
    over: bool,
}

/// The hard limit is reached; nothing more passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardExpired;

impl Lifetime {
    /// A lifetime of which nothing is used.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits, octets: 0, packets: 0, over: false }
    }

    /// Charges `packets` of `octets` in all, or nothing: what would pass the limit ends the SA instead.
    ///
    /// # Errors
    /// [`HardExpired`], from the first time on, for good.
    #[inline]
    pub fn charge(&mut self, packets: u64, octets: u64, now: Time) -> Result<(), HardExpired> {
        let (packets, octets) = (self.packets.saturating_add(packets), self.octets.saturating_add(octets));
        let over = self.over
            || self.limits.packets.is_some_and(|limit| packets > limit)
            || self.limits.octets.is_some_and(|limit| octets > limit)
            || self.is_past(now);
        if over {
            self.over = true;
            return Err(HardExpired);
        }
        self.packets = packets;
        self.octets = octets;
        Ok(())
    }

    /// Whether the SA's time is over, packets or not.
    #[inline]
    #[must_use]
    pub fn is_past(&self, now: Time) -> bool {
        self.limits.expires_at.is_some_and(|moment| now >= moment)
    }

    /// The moment at which the SA's time is over, if it has one.
    #[must_use]
    pub const fn expires_at(&self) -> Option<Time> {
        self.limits.expires_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4301_4_4_2_1_each_limit_ends_the_sa_for_good_and_not_one_packet_late() {
        let now = Time::from_nanos(100);
        let limits = Limits { packets: Some(2), ..Limits::default() };
        let mut by_packets = Lifetime::new(limits);
        assert_eq!(by_packets.charge(2, 10, now), Ok(()));
        assert_eq!(by_packets.charge(1, 1, now), Err(HardExpired));
        assert_eq!(by_packets.charge(0, 0, now), Err(HardExpired));

        let mut by_octets = Lifetime::new(Limits { octets: Some(100), ..Limits::default() });
        assert_eq!(by_octets.charge(1, 100, now), Ok(()));
        assert_eq!(by_octets.charge(1, 1, now), Err(HardExpired));

        let mut by_time = Lifetime::new(Limits { expires_at: Some(now), ..Limits::default() });
        assert_eq!(by_time.charge(1, 1, Time::from_nanos(99)), Ok(()));
        assert_eq!(by_time.charge(1, 1, now), Err(HardExpired));
    }

    #[test]
    fn t36_counts_do_not_wrap_into_a_new_life() {
        let mut lifetime = Lifetime::new(Limits { octets: Some(u64::MAX - 1), ..Limits::default() });
        assert_eq!(lifetime.charge(1, u64::MAX - 1, Time::default()), Ok(()));
        assert_eq!(lifetime.charge(1, u64::MAX, Time::default()), Err(HardExpired));
    }
}
