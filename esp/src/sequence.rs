//! The sender's counter (RFC 4303 sections 2.2 and 3.3.3).
//!
//! Testing the limit and advancing are one step, and what comes out can be used once: no number is given twice, none
//! beyond the limit (T11). Numbers are 64 bits wide on every target.

use crate::error::{ConfigError, TakeError};
use crate::number::{FreshSeqs, SeqNum};
use crate::reservation::Reservation;

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
    /// The highest number that may be taken as far as is known: the last, or a copy of the reservation's bound.
    bound: u64,
    reservation: Option<Reservation>,
}

impl SeqCounter {
    /// A counter whose first number is 1 (RFC 4303 section 2.2).
    pub const fn new(kind: SequenceKind) -> Self {
        let last = kind.last().0;
        Self { taken: 0, last, bound: last, reservation: None }
    }

    /// A counter that goes on with `next`, for an SA that sent before under the same key.
    pub fn resume_at(kind: SequenceKind, next: SeqNum) -> Result<Self, ConfigError> {
        let last = kind.last().0;
        match next.0.checked_sub(1) {
            Some(taken) if next.0 <= last => Ok(Self { taken, last, bound: last, reservation: None }),
            _ => Err(ConfigError::ResumeOutOfRange(next.0)),
        }
    }

    /// The same counter, which takes no number above the bound of `reservation` (T12).
    pub fn within(self, reservation: Reservation) -> Result<Self, ConfigError> {
        reservation.claim(self.taken())?;
        let bound = reservation.bound().0.min(self.last);
        Ok(Self { bound, reservation: Some(reservation), ..self })
    }

    /// Takes the next `count` numbers, all of them or none.
    // RFC 4303 section 3.3.3: the sender MUST NOT send a packet if doing so would cause the number to cycle.
    #[inline]
    pub fn take(&mut self, count: u32) -> Result<FreshSeqs, TakeError> {
        if u64::from(count) > self.reserved() {
            self.reread(count)?;
        }
        // Both sums stay at or below `bound`, save that the first number of an empty run may be one beyond.
        let first = self.taken.wrapping_add(1);
        self.taken += u64::from(count);
        if let Some(reservation) = &self.reservation {
            reservation.publish(SeqNum(self.taken));
        }
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

    /// How many numbers may be taken as far as is known.
    #[inline]
    const fn reserved(&self) -> u64 {
        self.bound.saturating_sub(self.taken)
    }

    /// Looks whether there are `count` numbers after all.
    #[cold]
    fn reread(&mut self, count: u32) -> Result<(), TakeError> {
        let remaining = self.remaining();
        if u64::from(count) > remaining {
            return Err(TakeError::Exhausted { remaining });
        }
        if let Some(reservation) = &self.reservation {
            self.bound = reservation.bound().0.min(self.last);
        }
        let reserved = self.reserved();
        if u64::from(count) > reserved {
            return Err(TakeError::Unreserved { reserved });
        }
        Ok(())
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
            assert_eq!(counter.take(4).unwrap_err(), TakeError::Exhausted { remaining: 3 });
            assert_eq!(counter.take(u32::MAX).unwrap_err(), TakeError::Exhausted { remaining: 3 });
            assert_eq!(numbers(counter.take(2).unwrap()), [last - 2, last - 1]);
            assert_eq!(numbers(counter.take(1).unwrap()), [last]);
            assert_eq!(counter.take(1).unwrap_err(), TakeError::Exhausted { remaining: 0 });
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

    /// T12: no number above the bound, and every number below it.
    #[test]
    fn no_number_beyond_the_reservation() {
        let reservation = Reservation::new(SeqNum(10));
        let mut counter = SeqCounter::new(SequenceKind::Seq32).within(reservation.clone()).unwrap();
        assert_eq!(numbers(counter.take(8).unwrap()), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(reservation.taken(), SeqNum(8));
        assert_eq!(counter.take(3).unwrap_err(), TakeError::Unreserved { reserved: 2 });
        assert_eq!(numbers(counter.take(2).unwrap()), [9, 10]);
        assert_eq!(counter.take(1).unwrap_err(), TakeError::Unreserved { reserved: 0 });
        assert!(counter.take(0).unwrap().is_empty());
        reservation.raise(SeqNum(11));
        assert_eq!(numbers(counter.take(1).unwrap()), [11]);
        assert_eq!((counter.taken(), reservation.taken()), (SeqNum(11), SeqNum(11)));
    }

    /// T12: a counter that resumes beyond what is reserved waits for more.
    #[test]
    fn a_counter_beyond_its_reservation_takes_nothing() {
        let reservation = Reservation::new(SeqNum(10));
        let counter = SeqCounter::resume_at(SequenceKind::Seq32, SeqNum(21)).unwrap();
        let mut counter = counter.within(reservation.clone()).unwrap();
        assert_eq!(reservation.taken(), SeqNum(20));
        assert_eq!(counter.take(1).unwrap_err(), TakeError::Unreserved { reserved: 0 });
        reservation.raise(SeqNum(21));
        assert_eq!(numbers(counter.take(1).unwrap()), [21]);
    }

    /// RFC 4303 section 3.3.3: a reservation beyond the last number does not lengthen the SA's life.
    #[test]
    fn exhaustion_is_told_from_numbers_that_are_not_reserved() {
        let last = u64::from(u32::MAX);
        let reservation = Reservation::new(SeqNum(last - 1));
        let counter = SeqCounter::resume_at(SequenceKind::Seq32, SeqNum(last - 1)).unwrap();
        let mut counter = counter.within(reservation.clone()).unwrap();
        assert_eq!(counter.take(3).unwrap_err(), TakeError::Exhausted { remaining: 2 });
        assert_eq!(counter.take(2).unwrap_err(), TakeError::Unreserved { reserved: 1 });
        reservation.raise(SeqNum(u64::MAX));
        assert_eq!(numbers(counter.take(2).unwrap()), [last - 1, last]);
        assert_eq!(counter.take(1).unwrap_err(), TakeError::Exhausted { remaining: 0 });
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
