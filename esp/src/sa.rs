//! Security associations: one direction's keys and numbers, and what they do to a packet (RFC 4303 sections 3.3
//! and 3.4).
//!
//! Outbound: [`OutboundSa::take`], then [`OutboundSa::seal`]. Inbound, in this order: [`InboundSa::check`],
//! [`InboundSa::open`], [`InboundSa::commit`], [`Opened::decapsulate`]. Every packet with a valid ICV burns its
//! number, also one whose trailer turns out to be bad.

use std::fmt;

use crate::crypto::{OpeningKey, SealingKey};
use crate::error::{BadPadding, ConfigError, OpenError, ReplayError, SealError, TakeError};
use crate::esn;
use crate::header::EspHeader;
use crate::key::KeyMaterial;
use crate::number::{EsnHigh, FreshSeq, FreshSeqs, SeqLow, SeqNum, Spi, Verified};
use crate::replay::{AntiReplay, ReplayWindow, WindowSize};
use crate::reservation::{ReceivedTop, Reservation};
use crate::sequence::{SeqCounter, SequenceKind};
use crate::suite::Suite;
use crate::trailer::{self, Decapsulated, NextHeader};

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
    spi: Spi,
    suite: Suite,
    sequence: SequenceKind,
    counter: SeqCounter,
    key: SealingKey,
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
        Ok(Self { spi, suite, sequence, counter, key })
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
        let (needed, got) = (self.sealed_len(payload_len), packet.len());
        let packet = packet.get_mut(..needed).ok_or(SealError::NoRoom { needed, got })?;
        let seq = seq.number();
        if let Some(header) = packet.first_chunk_mut() {
            *header = EspHeader { spi: self.spi, seq: seq.low() }.to_bytes();
        }
        let trailer = self.payload_offset() + payload_len..needed - self.suite.icv_len();
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
        self.suite.payload_offset()
    }

    /// The length of the ESP packet around a payload.
    #[inline]
    pub const fn sealed_len(&self, payload_len: usize) -> usize {
        self.suite.sealed_len(payload_len)
    }
}

impl fmt::Debug for OutboundSa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { spi, suite, sequence, counter, key: _ } = self;
        f.debug_struct("OutboundSa")
            .field("spi", spi)
            .field("suite", suite)
            .field("sequence", sequence)
            .field("counter", counter)
            .finish_non_exhaustive()
    }
}

/// What an inbound SA is made of.
#[derive(Debug)]
pub struct InboundConfig<'k> {
    /// What the sender puts into every packet.
    pub spi: Spi,
    /// How packets are protected.
    pub suite: Suite,
    /// The secret, for this SA alone.
    pub keys: &'k KeyMaterial,
    /// How wide its numbers are.
    pub sequence: SequenceKind,
    /// Whether replays are refused.
    pub anti_replay: AntiReplay,
    /// Where to tell the highest number verified, for the record (T12).
    pub top: Option<ReceivedTop>,
}

/// The receiver's side of an SA.
pub struct InboundSa {
    spi: Spi,
    suite: Suite,
    sequence: SequenceKind,
    received: Received,
    published: Option<ReceivedTop>,
    key: OpeningKey,
}

impl InboundSa {
    /// An SA that has received nothing.
    pub fn new(config: InboundConfig<'_>) -> Result<Self, ConfigError> {
        let received = match config.anti_replay {
            AntiReplay::Off => Received::Top(SeqNum(0)),
            AntiReplay::Window(size) => Received::Window(ReplayWindow::new(size)),
        };
        Self::with_received(config, received)
    }

    /// An SA that may have received any number up to `top` under the same key; with anti-replay it refuses them all.
    pub fn resume_after(config: InboundConfig<'_>, top: SeqNum) -> Result<Self, ConfigError> {
        if top > config.sequence.last() {
            return Err(ConfigError::ResumeOutOfRange(top.0));
        }
        let received = match config.anti_replay {
            AntiReplay::Off => Received::Top(top),
            AntiReplay::Window(size) => Received::Window(ReplayWindow::resume_after(size, top)),
        };
        Self::with_received(config, received)
    }

    /// Burns the number of a packet that was opened. Where it fails, a copy of the packet came first, and this one
    /// must be dropped.
    // RFC 4303 section 3.4.3: the window moves only after the ICV verifies.
    #[inline]
    pub fn commit(&mut self, seq: Verified<SeqNum>) -> Result<(), ReplayError> {
        match &mut self.received {
            Received::Window(window) => window.commit(seq)?,
            Received::Top(top) => *top = (*top).max(*seq.get()),
        }
        if let Some(published) = &self.published {
            published.publish(self.top());
        }
        Ok(())
    }

    /// The full number a packet must mean, if a packet with that number is welcome. Reads only; trusts nothing.
    // RFC 4303 section 3.4.3 and appendix A2.2. The epoch is followed with anti-replay off, too (T10).
    #[inline]
    pub fn check(&self, low: SeqLow) -> Result<SeqNum, ReplayError> {
        let (top, size) = match &self.received {
            Received::Window(window) => (window.top(), window.size()),
            // Nothing is refused as late, so the longest reach backwards costs nothing.
            Received::Top(top) => (*top, WindowSize::MAX),
        };
        let seq = match self.sequence {
            SequenceKind::Seq32 => SeqNum::from_halves(EsnHigh(0), low),
            SequenceKind::Extended => esn::infer(top, size, low).ok_or(ReplayError::TooOld)?,
        };
        match &self.received {
            Received::Window(window) => window.check(seq).map(|()| seq),
            Received::Top(_) => Ok(seq),
        }
    }

    /// Verifies and decrypts a whole ESP packet, from SPI to ICV, in place. Where it fails, what was protected is
    /// wiped: no plaintext is left (T05).
    // RFC 4303 section 3.4.4.2; a packet that fails the check is discarded.
    #[inline]
    pub fn open<'p>(
        &self,
        seq: SeqNum,
        packet: &'p mut [u8],
    ) -> Result<(Opened<'p>, Verified<SeqNum>), OpenError> {
        let offset = self.suite.payload_offset();
        let (needed, got) = (self.suite.smallest_len(), packet.len());
        if got < needed {
            return Err(OpenError::Runt { needed, got });
        }
        let plaintext = self.key.open(high_half(self.sequence, seq), packet)?;
        Ok((Opened { plaintext, offset }, Verified::new(seq)))
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

    /// Whether replays are refused.
    pub const fn anti_replay(&self) -> AntiReplay {
        match &self.received {
            Received::Window(window) => AntiReplay::Window(window.size()),
            Received::Top(_) => AntiReplay::Off,
        }
    }

    /// The highest number verified so far, 0 before the first.
    #[inline]
    pub const fn top(&self) -> SeqNum {
        match &self.received {
            Received::Window(window) => window.top(),
            Received::Top(top) => *top,
        }
    }

    fn with_received(config: InboundConfig<'_>, received: Received) -> Result<Self, ConfigError> {
        let InboundConfig { spi, suite, keys, sequence, anti_replay: _, top: published } = config;
        agree(spi, suite, keys)?;
        let sa = Self { spi, suite, sequence, received, published, key: OpeningKey::new(keys)? };
        if let Some(published) = &sa.published {
            published.publish(sa.top());
        }
        Ok(sa)
    }
}

impl fmt::Debug for InboundSa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundSa")
            .field("spi", &self.spi)
            .field("suite", &self.suite)
            .field("sequence", &self.sequence)
            .field("anti_replay", &self.anti_replay())
            .field("top", &self.top())
            .finish_non_exhaustive()
    }
}

/// A packet whose ICV was right, its trailer still on.
#[derive(Debug)]
pub struct Opened<'p> {
    plaintext: &'p mut [u8],
    offset: usize,
}

impl<'p> Opened<'p> {
    /// How many bytes were authenticated and decrypted, trailer included: what byte lifetimes count (RFC 4301
    /// section 4.4.2.1).
    #[inline]
    pub const fn encrypted_len(&self) -> usize {
        self.plaintext.len()
    }

    /// Takes the trailer off. Comes after [`InboundSa::commit`]: a bad trailer does not save the number.
    // RFC 4303 section 3.4.4.2: padding is looked at once the ICV is known to be right.
    #[inline]
    pub fn decapsulate(self) -> Result<Decapsulated<'p>, BadPadding> {
        Decapsulated::read(self.plaintext, self.offset)
    }
}

/// What a receiver remembers of the numbers it verified.
enum Received {
    /// The highest, for the epoch of extended numbers.
    Top(SeqNum),
    /// All of the window's.
    Window(ReplayWindow),
}

/// What holds for both directions before an SA is made.
fn agree(spi: Spi, suite: Suite, keys: &KeyMaterial) -> Result<(), ConfigError> {
    if spi.is_reserved() {
        return Err(ConfigError::ReservedSpi(spi));
    }
    if keys.suite() != suite {
        return Err(ConfigError::SuiteMismatch { suite, keys: keys.suite() });
    }
    Ok(())
}

/// The half that enters the ICV beside the header, where numbers are extended (RFC 4303 section 2.2.1).
#[inline]
fn high_half(sequence: SequenceKind, seq: SeqNum) -> Option<EsnHigh> {
    match sequence {
        SequenceKind::Seq32 => None,
        SequenceKind::Extended => Some(seq.high()),
    }
}
