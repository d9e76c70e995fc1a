//! The sender's counter (RFC 4303 sections 2.2 and 3.3.3).
//!
//! Testing the limit and advancing are one step, and what comes out can be used once: no number is given twice, none
//! beyond the limit (T11). Numbers are 64 bits wide on every target.

use crate::error::{ConfigError, SeqExhausted};
use crate::number::{FreshSeqs, SeqNum};

/// How wide an SA's numbers are (RFC 4303 section 2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SequenceKind {
    /// 32 bits, all of them in the packet.
    Seq32,
    /// Extended: 64 bits, of which the packet carries the low half and the ICV covers both.
    Extended,
}

impl SequenceKind {
    /// The last number an SA may send.
    #[inline]
    pub const fn last(self) -> SeqNum {
        match self {
            Self::Seq32 => SeqNum(u32::MAX as u64),
            Self::Extended => SeqNum(u64::MAX),
        }
    }
}

/// Counts what an SA sends.
#[derive(Debug)]
pub struct SeqCounter {
    /// The number taken last; 0 before the first.
    taken: u64,
    last: u64,
}

impl SeqCounter {
    /// A counter whose first number is 1 (RFC 4303 section 2.2).
    pub const fn new(kind: SequenceKind) -> Self {
        Self { taken: 0, last: kind.last().0 }
    }

    /// A counter that goes on with `next`, for an SA that sent before under the same key.
    pub fn resume_at(kind: SequenceKind, next: SeqNum) -> Result<Self, ConfigError> {
        let last = kind.last().0;
        match next.0.checked_sub(1) {
            Some(taken) if next.0 <= last => Ok(Self { taken, last }),
            _ => Err(ConfigError::ResumeOutOfRange(next.0)),
        }
    }

    /// Takes the next `count` numbers, all of them or none.
    // RFC 4303 section 3.3.3: the sender MUST NOT send a packet if doing so would cause the number to cycle.
    #[inline]
    pub fn take(&mut self, count: u32) -> Result<FreshSeqs, SeqExhausted> {
        let remaining = self.remaining();
        if u64::from(count) > remaining {
            return Err(SeqExhausted { remaining });
        }
        // Both sums stay at or below `last`, save that the first number of an empty run may be one beyond.
        let first = self.taken.wrapping_add(1);
        self.taken += u64::from(count);
        Ok(FreshSeqs::new(first, count))
    }

    /// How many numbers are left.
    #[inline]
    pub const fn remaining(&self) -> u64 {
        self.last - self.taken
    }

    /// The number taken last, or 0.
    #[inline]
    pub const fn taken(&self) -> SeqNum {
        SeqNum(self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(mut run: FreshSeqs) -> Vec<u64> {
        std::iter::from_fn(|| run.next_seq()).map(|seq| seq.number().0).collect()
    }

    /// RFC 4303 section 2.2.
    #[test]
    fn the_first_number_is_one() {
        for kind in [SequenceKind::Seq32, SequenceKind::Extended] {
            let mut counter = SeqCounter::new(kind);
            assert_eq!(numbers(counter.take(3).unwrap()), [1, 2, 3]);
            assert!(counter.take(0).unwrap().is_empty());
            assert_eq!(numbers(counter.take(1).unwrap()), [4]);
            assert_eq!(counter.taken(), SeqNum(4));
        }
    }

    /// T11, RFC 4303 section 3.3.3: near the limit no number passes it and none comes twice.
    #[test]
    fn no_number_beyond_the_limit() {
        for (kind, last) in [(SequenceKind::Seq32, 0xffff_ffff), (SequenceKind::Extended, u64::MAX)] {
            let mut counter = SeqCounter::resume_at(kind, SeqNum(last - 2)).unwrap();
            assert_eq!(counter.take(4).unwrap_err(), SeqExhausted { remaining: 3 });
            assert_eq!(counter.take(u32::MAX).unwrap_err(), SeqExhausted { remaining: 3 });
            assert_eq!(numbers(counter.take(2).unwrap()), [last - 2, last - 1]);
            assert_eq!(numbers(counter.take(1).unwrap()), [last]);
            assert_eq!(counter.take(1).unwrap_err(), SeqExhausted { remaining: 0 });
            assert!(counter.take(0).unwrap().is_empty());
            assert_eq!(counter.taken(), SeqNum(last));
        }
    }

    /// RFC 4303 section 2.2.1: extended numbers pass 2^32 without a seam.
    #[test]
    fn extended_numbers_pass_the_32_bit_line() {
        let mut counter = SeqCounter::resume_at(SequenceKind::Extended, SeqNum(0xffff_ffff)).unwrap();
        assert_eq!(numbers(counter.take(2).unwrap()), [0xffff_ffff, 0x1_0000_0000]);
    }

    #[test]
    fn resuming_outside_the_range_is_refused() {
        for (kind, next) in [
            (SequenceKind::Seq32, 0),
            (SequenceKind::Extended, 0),
            (SequenceKind::Seq32, 1 << 32),
            (SequenceKind::Seq32, u64::MAX),
        ] {
            let refused = SeqCounter::resume_at(kind, SeqNum(next)).unwrap_err();
            assert_eq!(refused, ConfigError::ResumeOutOfRange(next));
        }
    }

    /// T11: a counter as wide as a pointer would wrap on 32-bit targets.
    #[test]
    fn numbers_are_64_bits_wide_on_every_target() {
        assert_eq!(size_of::<SeqNum>(), 8);
        assert_eq!(SequenceKind::Extended.last().0, u64::MAX);
    }
}
