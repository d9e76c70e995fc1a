//! The numbers of an ESP packet, one type for each space (RFC 4303 sections 2.1, 2.2, 2.2.1).
//!
//! A sequence number has three faces: what the wire shows ([`SeqLow`]), what both ends count ([`SeqNum`]) and the half
//! that is never sent ([`EsnHigh`]). Two wrappers carry a right: [`FreshSeq`] to seal once, [`Verified`] to move a
//! window.

use std::fmt;
use std::num::NonZeroU32;

/// Security Parameters Index: names an SA to its receiver and is never 0 on the wire (RFC 4303 section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spi(NonZeroU32);

impl Spi {
    /// The SPI of this value, or `None` for 0, which is for local use only (RFC 4303 section 2.1).
    #[inline]
    pub const fn new(value: u32) -> Option<Self> {
        match NonZeroU32::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The value in host order.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Whether IANA keeps the value: 1 to 255 (RFC 4303 section 2.1).
    #[inline]
    pub const fn is_reserved(self) -> bool {
        self.get() <= 255
    }
}

impl fmt::Display for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.get())
    }
}

/// The 32 bits of a sequence number that travel in the packet (RFC 4303 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqLow(pub u32);

/// The 32 bits of an extended sequence number that do not travel (RFC 4303 section 2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EsnHigh(pub u32);

/// A sequence number as both ends count it; without extended numbers its high half is 0 (RFC 4303 section 2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqNum(pub u64);

impl SeqNum {
    /// Joins the two halves.
    #[inline]
    pub const fn from_halves(high: EsnHigh, low: SeqLow) -> Self {
        Self(((high.0 as u64) << 32) | low.0 as u64)
    }

    /// The half that the packet carries.
    #[inline]
    pub const fn low(self) -> SeqLow {
        // The low half is what the cast keeps.
        SeqLow(self.0 as u32)
    }

    /// The half that the packet does not carry.
    #[inline]
    pub const fn high(self) -> EsnHigh {
        EsnHigh((self.0 >> 32) as u32)
    }
}

/// The right to seal one packet under this number; cannot be copied, so a number, and with it a nonce, is used once
/// (RFC 4303 section 3.3.3, RFC 4106 section 3.1).
///
/// The right holds for the SA whose counter gave it.
///
/// ```compile_fail,E0382
/// # use latchway_esp::{FreshSeq, NextHeader, OutboundSa};
/// fn seal_twice(sa: &OutboundSa, seq: FreshSeq, packet: &mut [u8]) {
///     let _ = sa.seal(seq, NextHeader::IPV4, packet, 20);
///     let _ = sa.seal(seq, NextHeader::IPV4, packet, 20);
/// }
/// ```
#[derive(Debug)]
pub struct FreshSeq(SeqNum);

impl FreshSeq {
    /// The number itself.
    #[inline]
    pub const fn number(&self) -> SeqNum {
        self.0
    }
}

/// A run of numbers that were taken in one step and not used yet (RFC 4303 section 3.3.3).
#[derive(Debug)]
#[must_use = "numbers that are dropped are lost to the SA"]
pub struct FreshSeqs {
    next: u64,
    left: u32,
}

impl FreshSeqs {
    /// The run of `count` numbers from `first` on. The caller has made sure that it ends within 64 bits.
    #[inline]
    pub(crate) const fn new(first: u64, count: u32) -> Self {
        Self { next: first, left: count }
    }

    /// Gives away the lowest number left.
    #[inline]
    pub fn next_seq(&mut self) -> Option<FreshSeq> {
        self.left = self.left.checked_sub(1)?;
        let seq = FreshSeq(SeqNum(self.next));
        // Wraps only behind the last number of the run, which `left` keeps from being given away.
        self.next = self.next.wrapping_add(1);
        Some(seq)
    }

    /// How many numbers are left.
    #[inline]
    pub const fn len(&self) -> usize {
        self.left as usize
    }

    /// Whether every number was given away.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.left == 0
    }
}

/// Something the integrity check value vouched for; only [`crate::InboundSa::open`] makes it
/// (RFC 4303 section 3.4.4.2). It speaks for the SA that opened.
///
/// ```compile_fail,E0624
/// # use latchway_esp::{ReplayWindow, SeqNum, Verified};
/// fn move_by_hand(window: &mut ReplayWindow) {
///     let _ = window.commit(Verified::new(SeqNum(1000)));
/// }
/// ```
#[derive(Debug)]
#[must_use = "a number that was verified and not committed can be replayed"]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    #[inline]
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }

    /// What was verified.
    #[inline]
    pub const fn get(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4303 section 2.1.
    #[test]
    fn spi_zero_cannot_exist_and_the_first_255_are_reserved() {
        assert_eq!(Spi::new(0), None);
        for value in 1..=255 {
            assert!(Spi::new(value).unwrap().is_reserved());
        }
        assert!(!Spi::new(256).unwrap().is_reserved());
        assert!(!Spi::new(u32::MAX).unwrap().is_reserved());
        assert_eq!(Spi::new(0xabc).unwrap().to_string(), "0x00000abc");
    }

    /// RFC 4303 section 2.2.1.
    #[test]
    fn halves_join_to_the_whole() {
        let seq = SeqNum(0x1234_5678_9abc_def0);
        assert_eq!(seq.high(), EsnHigh(0x1234_5678));
        assert_eq!(seq.low(), SeqLow(0x9abc_def0));
        assert_eq!(SeqNum::from_halves(seq.high(), seq.low()), seq);
    }

    #[test]
    fn a_run_gives_each_number_once_up_to_the_very_last() {
        let mut run = FreshSeqs::new(u64::MAX - 1, 2);
        assert_eq!(run.len(), 2);
        assert_eq!(run.next_seq().unwrap().number(), SeqNum(u64::MAX - 1));
        assert_eq!(run.next_seq().unwrap().number(), SeqNum(u64::MAX));
        assert!(run.is_empty());
        assert!(run.next_seq().is_none());
    }
}
