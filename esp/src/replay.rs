//! The receiver's anti-replay window (RFC 4303 section 3.4.3 and appendix A2.1).
//!
//! The window is the numbers from B = T - W + 1 to T, where T is the highest number verified so far. It is kept as a
//! ring of 64-bit words that never shifts (the idea of RFC 6479): moving up clears the words entered and nothing else.
//! Looking is [`ReplayWindow::check`]; only [`ReplayWindow::commit`] writes, and it takes a [`Verified`] number, so a
//! forged packet cannot move the window (T08).

use crate::error::{ConfigError, ReplayError};
use crate::number::{SeqNum, Verified};

/// W: how many numbers a window spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowSize(u32);

impl WindowSize {
    /// The smallest size RFC 4303 section 3.4.3 allows.
    pub const MIN: Self = Self(32);
    /// The largest size this crate keeps.
    pub const MAX: Self = Self(65536);

    /// A window of `packets` numbers.
    // RFC 4303 section 3.4.3: a minimum of 32 MUST be supported, 64 SHOULD be the default, larger MAY be chosen.
    pub const fn new(packets: u32) -> Result<Self, ConfigError> {
        if packets < Self::MIN.0 || packets > Self::MAX.0 {
            return Err(ConfigError::WindowSize(packets));
        }
        Ok(Self(packets))
    }

    /// W.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for WindowSize {
    /// 4096: receivers that steer packets over several queues reorder by hundreds.
    fn default() -> Self {
        Self(4096)
    }
}

/// Whether a receiver refuses replays (RFC 4303 section 3.4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AntiReplay {
    /// It does not.
    Off,
    /// It does, within this window.
    Window(WindowSize),
}

/// Which numbers of one SA were received.
#[derive(Debug)]
pub struct ReplayWindow {
    top: u64,
    size: u64,
    /// One bit for each number, at its value modulo the ring's length, which is a power of two of words and more than
    /// W + 63 bits: so clearing a whole word never forgets a number within the window.
    ring: Box<[u64]>,
}

impl ReplayWindow {
    /// The window of an SA that has received nothing.
    pub fn new(size: WindowSize) -> Self {
        Self { top: 0, size: u64::from(size.get()), ring: vec![0; words(size)].into_boxed_slice() }
    }

    /// The window of an SA that may have received any number up to `top`, all of which it refuses.
    pub fn resume_after(size: WindowSize, top: SeqNum) -> Self {
        let mut window = Self { top: top.0, ..Self::new(size) };
        window.ring.fill(u64::MAX);
        if let Some(word) = window.word_mut(top.0) {
            // Of the top's own word, the numbers above it are still to come.
            *word = u64::MAX >> (WORD_BITS - 1 - top.0 % WORD_BITS);
        }
        window
    }

    /// Enters a number into the window, and moves it up if the number lies beyond.
    ///
    /// Fails as [`ReplayWindow::check`] does, for of two copies opened before either is committed the second is a
    /// replay: its packet must be dropped.
    // RFC 4303 section 3.4.3: the window moves only after the ICV verifies.
    #[inline]
    pub fn commit(&mut self, seq: Verified<SeqNum>) -> Result<(), ReplayError> {
        let seq = *seq.get();
        self.check(seq)?;
        if seq.0 > self.top {
            self.clear_words_between(self.top, seq.0);
            self.top = seq.0;
        }
        let mask = bit(seq.0);
        if let Some(word) = self.word_mut(seq.0) {
            *word |= mask;
        }
        Ok(())
    }

    /// Whether a packet with this number may be opened. Reads only.
    // RFC 4303 section 3.4.3: a number below the window or seen before is refused before the ICV is computed.
    #[inline]
    pub fn check(&self, seq: SeqNum) -> Result<(), ReplayError> {
        if seq.0 == 0 {
            return Err(ReplayError::Zero);
        }
        match self.top.checked_sub(seq.0) {
            None => Ok(()),
            Some(below_top) if below_top >= self.size => Err(ReplayError::TooOld),
            Some(_) if self.word(seq.0) & bit(seq.0) != 0 => Err(ReplayError::Replayed),
            Some(_) => Ok(()),
        }
    }

    /// T: the highest number verified so far, 0 before the first.
    #[inline]
    pub const fn top(&self) -> SeqNum {
        SeqNum(self.top)
    }

    /// W.
    #[inline]
    pub const fn size(&self) -> WindowSize {
        // The field is a widened `WindowSize`.
        WindowSize(self.size as u32)
    }

    #[inline]
    fn word(&self, seq: u64) -> u64 {
        // The default is never taken: `place` is below the ring's length.
        self.ring.get(self.place(seq)).copied().unwrap_or(u64::MAX)
    }

    #[inline]
    fn word_mut(&mut self, seq: u64) -> Option<&mut u64> {
        let place = self.place(seq);
        self.ring.get_mut(place)
    }

    #[inline]
    fn place(&self, seq: u64) -> usize {
        // The mask comes first, so that nothing is lost where `usize` has 32 bits.
        ((seq / WORD_BITS) & (self.ring.len() as u64 - 1)) as usize
    }

    /// Clears the words behind that of `old` up to that of `new`, at most all of them.
    #[inline]
    fn clear_words_between(&mut self, old: u64, new: u64) {
        let entered = (new / WORD_BITS - old / WORD_BITS).min(self.ring.len() as u64);
        for step in 0..entered {
            if let Some(word) = self.word_mut(new - step * WORD_BITS) {
                *word = 0;
            }
        }
    }
}

const WORD_BITS: u64 = u64::BITS as u64;

#[inline]
const fn bit(seq: u64) -> u64 {
    1 << (seq % WORD_BITS)
}

/// Words of a ring that spans W numbers wherever in a word the window begins.
fn words(size: WindowSize) -> usize {
    (size.get() as usize + 63).div_ceil(64).next_power_of_two()
}

#[cfg(test)]
mod tests;
