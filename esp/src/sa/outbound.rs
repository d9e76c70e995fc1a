//! The sender's side (RFC 4303 section 3.3).

use std::fmt;

use super::{agree, high_half};
use crate::ah::Align;
use crate::crypto::SealingKey;
use crate::error::{ConfigError, SealError, TakeError};
use crate::header::EspHeader;
use crate::key::KeyMaterial;
use crate::number::{FreshSeq, FreshSeqs, SeqNum, Spi};
use crate::reservation::Reservation;
use crate::sequence::{SeqCounter, SequenceKind};
use crate::suite::{Lengths, Suite};
use crate::trailer::{self, NextHeader};

/// What an outbound SA is made of.
#[derive(Debug)]
pub struct OutboundConfig<'k> {
    /// Goes into every packet.
    pub spi: Spi,
    /// How packets are protected.
    pub suite: Suite,
    /// The secret, for this SA alone.
    pub keys: &'k KeyMaterial,
    /// How wide its numbers are.
    pub sequence: SequenceKind,
    /// How far it may count, where that is on record (T12).
    pub reservation: Option<Reservation>,
}

/// The sender's side of an SA.
pub struct OutboundSa {
    pub(super) spi: Spi,
    pub(super) suite: Suite,
    pub(super) sequence: SequenceKind,
    counter: SeqCounter,
    /// The suite's, computed once.
    pub(super) lengths: Lengths,
    pub(super) align: Align,
    pub(super) key: SealingKey,
}

impl OutboundSa {
    /// An SA whose first packet has the number 1 (RFC 4303 section 3.3.3).
    pub fn new(config: OutboundConfig<'_>) -> Result<Self, ConfigError> {
        Self::resume_at(config, SeqNum(1))
    }

    /// An SA whose next packet has the number `next`: it sent before, under the same key.
    pub fn resume_at(config: OutboundConfig<'_>, next: SeqNum) -> Result<Self, ConfigError> {
        let OutboundConfig { spi, suite, keys, sequence, reservation } = config;
        agree(spi, suite, keys)?;
        let key = SealingKey::new(keys)?;
        let counter = SeqCounter::resume_at(sequence, next)?;
        // Comes last: an SA that cannot be made leaves the reservation to another.
        let counter = match reservation {
            Some(reservation) => counter.within(reservation)?,
            None => counter,
        };
        Ok(Self { spi, suite, sequence, counter, lengths: suite.lengths(), align: Align::Rfc, key })
    }

    /// The same SA, whose AH is aligned like this.
    #[must_use]
    pub fn aligned(self, align: Align) -> Self {
        Self { align, ..self }
    }

    /// Takes the numbers of the next `count` packets, all or none (RFC 4303 section 3.3.3).
    #[inline]
    pub fn take(&mut self, count: u32) -> Result<FreshSeqs, TakeError> {
        self.counter.take(count)
    }

    /// Seals the payload that the caller wrote at [`OutboundSa::payload_offset`] of `packet`, and gives the length of
    /// the ESP packet, from SPI to ICV. Bytes behind that length are not touched. `seq` is one of this SA's own.
    // RFC 4303 section 3.3.2: padding, encryption and ICV; AAD as in RFC 4106 section 5.
    #[inline]
    pub fn seal(
        &self,
        seq: FreshSeq,
        next_header: NextHeader,
        packet: &mut [u8],
        payload_len: usize,
    ) -> Result<usize, SealError> {
        self.seal_padded(seq, next_header, packet, payload_len, 0)
    }

    /// Seals the payload, and behind it so many zeros that tell an observer nothing of its length; the receiver sees from
    /// the payload's own length where they begin (RFC 4303 section 2.7).
    #[inline]
    pub fn seal_padded(
        &self,
        seq: FreshSeq,
        next_header: NextHeader,
        packet: &mut [u8],
        payload_len: usize,
        tfc_len: usize,
    ) -> Result<usize, SealError> {
        let padded_len = payload_len.saturating_add(tfc_len);
        let (needed, got) = (self.sealed_len(padded_len), packet.len());
        let packet = packet.get_mut(..needed).ok_or(SealError::NoRoom { needed, got })?;
        let seq = seq.number();
        if let Some(header) = packet.first_chunk_mut() {
            *header = EspHeader { spi: self.spi, seq: seq.low() }.to_bytes();
        }
        let payload = self.lengths.front + payload_len;
        if tfc_len > 0
            && let Some(padding) = packet.get_mut(payload..payload + tfc_len)
        {
            padding.fill(0);
        }
        let trailer = payload + tfc_len..needed - self.lengths.back;
        if let Some(trailer) = packet.get_mut(trailer) {
            trailer::write(trailer, next_header);
        }
        self.key.seal(seq, high_half(self.sequence, seq), packet)?;
        Ok(needed)
    }

    /// Seals a packet that the receiver drops without a word; its payload may be anything (RFC 4303 section 2.6).
    #[inline]
    pub fn seal_dummy(
        &self,
        seq: FreshSeq,
        packet: &mut [u8],
        payload_len: usize,
    ) -> Result<usize, SealError> {
        self.seal(seq, NextHeader::DUMMY, packet, payload_len)
    }

    /// The SPI of its packets.
    #[inline]
    pub const fn spi(&self) -> Spi {
        self.spi
    }

    /// How packets are protected.
    #[inline]
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// How wide its numbers are.
    #[inline]
    pub const fn sequence(&self) -> SequenceKind {
        self.sequence
    }

    /// The counter, to be read.
    #[inline]
    pub const fn counter(&self) -> &SeqCounter {
        &self.counter
    }

    /// Where in a packet the caller writes the payload.
    #[inline]
    pub const fn payload_offset(&self) -> usize {
        self.lengths.front
    }

    /// How many bytes the cipher is applied to for a payload, as [`Suite::encrypted_len`] says.
    #[inline]
    pub const fn encrypted_len(&self, payload_len: usize) -> usize {
        self.lengths.encrypted(payload_len)
    }

    /// The length of the ESP packet around a payload.
    #[inline]
    pub const fn sealed_len(&self, payload_len: usize) -> usize {
        self.lengths.sealed(payload_len)
    }
}

impl fmt::Debug for OutboundSa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { spi, suite, sequence, counter, lengths: _, align, key: _ } = self;
        f.debug_struct("OutboundSa")
            .field("spi", spi)
            .field("suite", suite)
            .field("sequence", sequence)
            .field("counter", counter)
            .field("align", align)
            .finish_non_exhaustive()
    }
}
