//! The receiver's side (RFC 4303 section 3.4).

use std::fmt;

use super::{agree, high_half};
use crate::ah::Align;
use crate::crypto::OpeningKey;
use crate::error::{BadPadding, ConfigError, OpenError, ReplayError};
use crate::esn;
use crate::key::KeyMaterial;
use crate::number::{EsnHigh, SeqLow, SeqNum, Spi, Verified};
use crate::replay::{AntiReplay, ReplayWindow};
use crate::reservation::ReceivedTop;
use crate::sequence::SequenceKind;
use crate::suite::{Lengths, Suite};
use crate::trailer::{Decapsulated, PaddingContents};

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
    pub(super) spi: Spi,
    pub(super) suite: Suite,
    pub(super) sequence: SequenceKind,
    received: Received,
    published: Option<ReceivedTop>,
    /// How many packets failed in a row.
    pub(super) forged: u32,
    padding: PaddingContents,
    /// The suite's, computed once.
    pub(super) lengths: Lengths,
    pub(super) align: Align,
    pub(super) key: OpeningKey,
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

    /// The same SA, whose AH is aligned like this.
    #[must_use]
    pub fn aligned(self, align: Align) -> Self {
        Self { align, ..self }
    }

    /// The same SA, which takes this for padding.
    #[must_use]
    pub fn padded(self, padding: PaddingContents) -> Self {
        Self { padding, ..self }
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
        self.forged = 0;
        if let Some(published) = &self.published {
            published.publish(self.top());
        }
        Ok(())
    }

    /// The full number a packet must mean, if a packet with that number is welcome. Reads only; trusts nothing.
    // RFC 4303 section 3.4.3 and appendix A2.2. The epoch is followed with anti-replay off, too (T10).
    #[inline(always)]
    pub fn check(&self, low: SeqLow) -> Result<SeqNum, ReplayError> {
        let seq = match (self.sequence, &self.received) {
            (SequenceKind::Seq32, _) => SeqNum::from_halves(EsnHigh(0), low),
            (SequenceKind::Extended, Received::Window(window)) => {
                esn::infer(window.top(), window.size(), low).ok_or(ReplayError::TooOld)?
            }
            (SequenceKind::Extended, Received::Top(top)) => {
                esn::infer_within(*top, REACH_WITHOUT_WINDOW, low).ok_or(ReplayError::TooOld)?
            }
        };
        match &self.received {
            Received::Window(window) => window.check(seq).map(|()| seq),
            Received::Top(_) => Ok(seq),
        }
    }

    /// Verifies and decrypts a whole ESP packet, from SPI to ICV, in place. Where it fails, what was protected is
    /// wiped: no plaintext is left (T05).
    // RFC 4303 section 3.4.4.2; a packet that fails the check is discarded.
    #[inline(always)]
    pub fn open<'p>(
        &self,
        seq: SeqNum,
        packet: &'p mut [u8],
    ) -> Result<(Opened<'p>, Verified<SeqNum>), OpenError> {
        let offset = self.lengths.front;
        let (needed, got) = (self.lengths.smallest(), packet.len());
        if got < needed {
            return Err(OpenError::Runt { needed, got });
        }
        let plaintext = self.key.open(seq, high_half(self.sequence, seq), packet)?;
        Ok((Opened { plaintext, offset, padding: self.padding }, Verified::new(seq)))
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

    /// Whether a number lies below the window, where there is one.
    pub(super) fn is_late(&self, seq: SeqNum) -> bool {
        match &self.received {
            Received::Window(window) => window.check(seq) == Err(ReplayError::TooOld),
            Received::Top(_) => false,
        }
    }

    fn with_received(config: InboundConfig<'_>, received: Received) -> Result<Self, ConfigError> {
        let InboundConfig { spi, suite, keys, sequence, anti_replay: _, top: published } = config;
        agree(spi, suite, keys)?;
        let (lengths, key) = (suite.lengths(), OpeningKey::new(keys)?);
        let (align, padding) = (Align::Rfc, PaddingContents::Counting);
        let sa = Self { spi, suite, sequence, received, published, forged: 0, padding, lengths, align, key };
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
            .field("align", &self.align)
            .finish_non_exhaustive()
    }
}

/// A packet whose ICV was right, its trailer still on.
#[derive(Debug)]
pub struct Opened<'p> {
    plaintext: &'p mut [u8],
    offset: usize,
    padding: PaddingContents,
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
    #[inline(always)]
    pub fn decapsulate(self) -> Result<Decapsulated<'p>, BadPadding> {
        Decapsulated::read(self.plaintext, self.offset, self.padding)
    }
}

/// What a receiver remembers of the numbers it verified.
enum Received {
    /// The highest, for the epoch of extended numbers.
    Top(SeqNum),
    /// All of the window's.
    Window(ReplayWindow),
}

/// How far below the highest number a packet may be, where nothing is refused as late (T10): a quarter of the low halves, so
/// that a loss of three quarters of them is survived, too.
const REACH_WITHOUT_WINDOW: u32 = 1 << 30;
