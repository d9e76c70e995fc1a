//! What two ranges of addresses have in common.
//!
//! A range answers questions but shows no ends, so where neither range covers the other the ends are found by
//! bisection: some hundred comparisons, once per proposal, and never for prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use latchway_datapath::selector::AddressRange;

/// The addresses that lie in both ranges.
pub(crate) fn intersection(one: &AddressRange, other: &AddressRange) -> Option<AddressRange> {
    if !one.overlaps(other) {
        None
    } else if one.covers(other) {
        Some(*other)
    } else if other.covers(one) {
        Some(*one)
    } else {
        // The first address of both is the least up to which both were touched; the last is the least up to which
        // one of them is covered whole.
        let family = Family::of(one);
        let first = family.least(|up_to| up_to.overlaps(one) && up_to.overlaps(other));
        let last = family.least(|up_to| up_to.covers(one) || up_to.covers(other));
        AddressRange::new(first, last).ok()
    }
}

/// An address family.
#[derive(Clone, Copy)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// The family of a range.
    pub(crate) const fn of(range: &AddressRange) -> Self {
        if AddressRange::ANY_V4.covers(range) { Self::V4 } else { Self::V6 }
    }

    /// The least address such that `reached` holds of the range from the family's first address to it. `reached` holds
    /// of a range whenever it holds of a part of it.
    fn least(self, reached: impl Fn(&AddressRange) -> bool) -> IpAddr {
        let (mut low, mut high) = (0, self.last());
        while low < high {
            let middle = low + (high - low) / 2;
            let up_to = AddressRange::new(self.address(0), self.address(middle));
            if up_to.is_ok_and(|up_to| reached(&up_to)) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        self.address(low)
    }

    const fn last(self) -> u128 {
        match self {
            Self::V4 => u32::MAX as u128,
            Self::V6 => u128::MAX,
        }
    }

    fn address(self, number: u128) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            // No IPv6 range begins or ends among the mapped addresses, so the address before them stands for each.
            Self::V6 if number >> 32 == MAPPED => Ipv6Addr::from_bits((MAPPED << 32) - 1).into(),
            Self::V6 => Ipv6Addr::from_bits(number).into(),
        }
    }
}

/// The upper 96 bits of IPv4-mapped addresses (RFC 4291 section 2.5.5.2).
const MAPPED: u128 = 0xffff;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::range;

    #[test]
    fn l_73_the_common_part_of_two_ranges_is_exact() {
        let any = ("0.0.0.0", "255.255.255.255");
        for (one, other, common) in [
            (("10.0.0.0", "10.0.0.9"), ("10.0.0.5", "10.0.0.20"), Some(("10.0.0.5", "10.0.0.9"))),
            (("10.0.0.0", "10.0.0.9"), ("10.0.0.9", "10.0.0.20"), Some(("10.0.0.9", "10.0.0.9"))),
            (("10.0.0.0", "10.0.0.9"), ("10.0.0.10", "10.0.0.20"), None),
            (("10.0.0.0", "10.0.0.9"), any, Some(("10.0.0.0", "10.0.0.9"))),
            (("0.0.0.0", "9.9.9.9"), ("8.8.8.8", "255.255.255.255"), Some(("8.8.8.8", "9.9.9.9"))),
            (("fd00::", "fd00::ff"), ("fd00::80", "fd01::"), Some(("fd00::80", "fd00::ff"))),
            (("::1", "2001:db8::"), ("::", "::2"), Some(("::1", "::2"))),
            (("::1", "2001:db8::"), ("::2", "ff00::"), Some(("::2", "2001:db8::"))),
            (("::", "ffff::"), any, None),
        ] {
            let (one, other) = (range(one.0, one.1), range(other.0, other.1));
            let common = common.map(|(first, last)| range(first, last));
            assert_eq!(intersection(&one, &other), common, "{one} {other}");
            assert_eq!(intersection(&other, &one), common, "{other} {one}");
        }
    }
}
