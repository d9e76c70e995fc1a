//! What packets cost the SA that seals them, and the one around it: a number each (RFC 4303 section 3.3.3), and their share of
//! its lifetime (RFC 4301 section 4.4.2.1).
//!
//! All packets of a super-packet get their numbers and are charged in one step, or none.

use latchway_esp::{FreshSeq, FreshSeqs, Protocol, TakeError};
use latchway_tagging::SaRef;

use crate::lifetime::HardExpired;
use crate::owned::OwnedOutbound;
use crate::refragment::Fragments;
use crate::segment::SuperPacket;
use crate::time::Time;
use crate::wrapping::{Sealing, Wrapping};

/// The numbers of packets to be sealed: as many of each SA.
pub(crate) struct Numbers {
    own: FreshSeqs,
    around: Option<FreshSeqs>,
}

/// The numbers of one packet.
pub(crate) struct Number {
    pub(crate) own: FreshSeq,
    pub(crate) around: Option<FreshSeq>,
}

/// Inner packets that are sealed together, by their lengths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packets {
    count: usize,
    /// Of all but the last.
    longest: usize,
    last: usize,
}

/// Why an SA seals nothing more.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spent {
    /// Its lifetime is over, or that of the SA around it.
    Lifetime(SaRef),
    /// There is no number for the packets.
    Numbers(TakeError),
}

impl Packets {
    /// One packet.
    pub(crate) const fn one(len: usize) -> Self {
        Self { count: 1, longest: len, last: len }
    }

    /// What a packet is cut into. The last fragment may be shorter than the others.
    pub(crate) fn cut(fragments: &Fragments<'_>) -> Self {
        let (longest, last) = fragments.lens();
        Self { count: fragments.count(), longest, last }
    }

    /// What a super-packet is cut into. The last segment may be shorter than the others.
    #[inline]
    pub(crate) fn of(super_packet: &SuperPacket<'_>) -> Self {
        let (count, longest) = (super_packet.segment_count(), super_packet.max_segment_len());
        Self { count, longest, last: super_packet.total_len() - longest * (count - 1) }
    }

    /// The sum over all packets of what one takes.
    #[inline]
    fn sum(self, one: impl Fn(usize) -> usize) -> u64 {
        let last = one(self.last) as u64;
        if self.count == 1 { last } else { one(self.longest) as u64 * (self.count as u64 - 1) + last }
    }
}

impl Numbers {
    /// Those of the next packet.
    #[inline]
    pub(crate) fn next_number(&mut self) -> Option<Number> {
        let own = self.own.next_seq()?;
        Some(Number { own, around: self.around.as_mut().and_then(FreshSeqs::next_seq) })
    }
}

impl Sealing<'_> {
    /// Spends lifetime and numbers of the SA, and of the one around it, for all packets or for none (RFC 4301 section
    /// 4.4.2.1). `soft` is set where an SA is to be looked at.
    #[inline]
    pub(crate) fn spend(
        &mut self,
        wrapping: &Wrapping,
        packets: Packets,
        now: Time,
        soft: &mut bool,
    ) -> Result<Numbers, Spent> {
        let count = u32::try_from(packets.count).unwrap_or(u32::MAX);
        if self.own.plain {
            let octets = packets.sum(|len| self.own.sa.encrypted_len(len));
            let own = self.own.spend(count, octets, now, soft)?;
            return Ok(Numbers { own, around: None });
        }
        self.spend_otherwise(wrapping, (packets, count), now, soft)
    }

    /// All SAs give their numbers before any is charged.
    #[inline(never)]
    fn spend_otherwise(
        &mut self,
        wrapping: &Wrapping,
        (packets, count): (Packets, u32),
        now: Time,
        soft: &mut bool,
    ) -> Result<Numbers, Spent> {
        let payload_len = |len| wrapping.payload_len(self.own, len);
        // Of AH it is what stands behind its header.
        let octets = packets.sum(|len| match self.own.entry.protocol {
            Protocol::Esp => self.own.sa.encrypted_len(payload_len(len)),
            Protocol::Ah => payload_len(len),
        });
        let around_octets = packets.sum(|len| self.sealed_len(payload_len(len)));
        let own = self.own.sa.take(count).map_err(Spent::Numbers)?;
        let around = self.around.as_mut().map(|around| around.sa.take(count)).transpose();
        let around = around.map_err(Spent::Numbers)?;
        if let Some(around) = &mut self.around {
            around.charge_for(count, around_octets, now, soft)?;
        }
        self.own.charge_for(count, octets, now, soft)?;
        Ok(Numbers { own, around })
    }
}

impl OwnedOutbound {
    /// Spends lifetime and numbers for packets of so many octets in all.
    #[inline]
    fn spend(&mut self, count: u32, octets: u64, now: Time, soft: &mut bool) -> Result<FreshSeqs, Spent> {
        // A number that stays unused harms nothing; a lifetime must not be spent on what does not leave.
        let numbers = self.sa.take(count).map_err(Spent::Numbers)?;
        self.charge_for(count, octets, now, soft)?;
        Ok(numbers)
    }

    #[inline]
    fn charge_for(&mut self, count: u32, octets: u64, now: Time, soft: &mut bool) -> Result<(), Spent> {
        match self.charge(count.into(), octets, now) {
            Ok(reached) => {
                *soft |= reached;
                Ok(())
            }
            Err(HardExpired) => Err(Spent::Lifetime(self.entry.sa)),
        }
    }
}
