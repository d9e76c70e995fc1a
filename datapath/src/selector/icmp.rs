//! The ICMP selector (RFC 4301 section 4.4.1.1): types and codes.

use std::ops::RangeInclusive;

/// A range of ICMP types, each with a range of codes, or of Mobility Header types; or OPAQUE, written as IKE does (RFC 7296
/// section 3.13.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IcmpRange {
    first: u16,
    last: u16,
}

impl IcmpRange {
    /// No message, but every packet of which no type can be seen: what is none (RFC 4301 section 4.4.1).
    pub const OPAQUE: Self = Self { first: u16::MAX, last: 0 };
    /// What matches nothing.
    const NONE: Self = Self { first: 1, last: 0 };

    /// From the first type with the first code to the last type with the last code. Type and code are compared as one
    /// number: between the first and the last type, every code is in the range. An empty range matches nothing.
    // RFC 4301 section 4.4.1.1: "T-start*256 + C-start <= t*256 + c <= T-end*256 + C-end".
    #[must_use]
    pub const fn new(types: &RangeInclusive<u8>, codes: &RangeInclusive<u8>) -> Self {
        let first = u16::from_be_bytes([*types.start(), *codes.start()]);
        let last = u16::from_be_bytes([*types.end(), *codes.end()]);
        if first <= last { Self { first, last } } else { Self::NONE }
    }

    /// Every code of one type.
    #[must_use]
    pub const fn of_type(kind: u8) -> Self {
        Self::new(&(kind..=kind), &(0..=u8::MAX))
    }

    /// The first and the last type and code, of what has any.
    #[must_use]
    pub const fn ends(self) -> Option<((u8, u8), (u8, u8))> {
        let ([first_type, first_code], [last_type, last_code]) =
            (self.first.to_be_bytes(), self.last.to_be_bytes());
        if self.first <= self.last { Some(((first_type, first_code), (last_type, last_code))) } else { None }
    }

    /// Whether a message of this type and code lies in the range.
    #[inline]
    #[must_use]
    pub const fn contains(self, (kind, code): (u8, u8)) -> bool {
        let number = u16::from_be_bytes([kind, code]);
        self.first <= number && number <= self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4301 4.4.1.1: a range is one of numbers made of type and code, and the truth table of that.
    #[test]
    fn rfc_4301_4_4_1_1_type_and_code_are_one_number() {
        let range = IcmpRange::new(&(3..=5), &(2..=4));
        for kind in 0..=u8::MAX {
            for code in 0..=u8::MAX {
                let number = u32::from(kind) * 256 + u32::from(code);
                let inside = (3 * 256 + 2..=5 * 256 + 4).contains(&number);
                assert_eq!(range.contains((kind, code)), inside, "{kind} {code}");
                assert_eq!(IcmpRange::of_type(3).contains((kind, code)), kind == 3);
            }
        }
        assert_eq!(range.ends(), Some(((3, 2), (5, 4))));
        #[expect(clippy::reversed_empty_ranges, reason = "an empty range is what is tried")]
        let empty = IcmpRange::new(&(5..=3), &(0..=0));
        assert!((0..=u8::MAX).all(|kind| !empty.contains((kind, 0))));
    }
}
