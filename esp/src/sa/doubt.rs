//! Packets whose extended number may not be what the window makes of it: late ones, and those behind a loss of 2^32 packets
//! or more (RFC 4303 appendix A3, RFC 4302 appendix B3).
//!
//! The half of the number that is not sent is inferred from the window, and what the window cannot know the ICV tells. The
//! work is bounded, and done only where a packet claims to be more than 2^31 ahead or where nothing has verified for long.

use super::inbound::{InboundSa, Opened};
use crate::ah::AhVerified;
use crate::error::OpenError;
use crate::number::{SeqNum, Verified};
use crate::sequence::SequenceKind;

impl InboundSa {
    /// Whether [`InboundSa::check`] may have made the wrong number of a packet, so that it is one for
    /// [`InboundSa::open_in_doubt`] or [`InboundSa::verify_in_doubt`]; never without extended numbers.
    #[inline]
    pub const fn is_in_doubt(&self, seq: SeqNum) -> bool {
        match self.sequence {
            SequenceKind::Seq32 => false,
            SequenceKind::Extended => self.is_far_ahead(seq) || self.resynchronises(),
        }
    }

    /// What [`InboundSa::open`] does, under whichever number the packet has. `scratch` is at least as long as the packet;
    /// where it is not, there is no second try.
    ///
    /// # Errors
    /// As [`InboundSa::open`]; and [`OpenError::Late`] for an authentic packet from below the window.
    #[cold]
    pub fn open_in_doubt<'p>(
        &self,
        seq: SeqNum,
        packet: &'p mut [u8],
        scratch: &mut [u8],
    ) -> Result<(Opened<'p>, Verified<SeqNum>), OpenError> {
        let authentic = |seq: &SeqNum| {
            scratch.get_mut(..packet.len()).is_some_and(|copy| {
                copy.copy_from_slice(packet);
                self.open(*seq, copy).is_ok()
            })
        };
        let found = self.candidates(seq).find(authentic).unwrap_or(seq);
        if self.is_late(found) {
            packet.fill(0);
            return Err(OpenError::Late);
        }
        self.open(found, packet)
    }

    /// What [`InboundSa::verify`] does, under whichever number the packet has.
    ///
    /// # Errors
    /// As [`InboundSa::verify`]; and [`OpenError::Late`] for an authentic packet from below the window.
    #[cold]
    pub fn verify_in_doubt(
        &self,
        seq: SeqNum,
        packet: &[u8],
        at: usize,
    ) -> Result<(AhVerified, Verified<SeqNum>), OpenError> {
        let authentic = |seq: &SeqNum| self.verify(*seq, packet, at).is_ok();
        let found = self.candidates(seq).find(authentic).unwrap_or(seq);
        if self.is_late(found) {
            return Err(OpenError::Late);
        }
        self.verify(found, packet, at)
    }

    /// Counts a packet whose ICV was wrong; the next that verifies ends the count (RFC 4303 appendix A3.1).
    #[inline]
    pub fn count_forged(&mut self) {
        self.forged = self.forged.wrapping_add(1);
    }

    /// The number a packet seems to have, and others that it may have.
    fn candidates(&self, seq: SeqNum) -> impl Iterator<Item = SeqNum> {
        let late = seq.0.checked_sub(SUBSPACE).filter(|_| self.is_far_ahead(seq));
        let subspaces = if self.resynchronises() { RETRIES } else { 0 };
        let later = (1..=subspaces).filter_map(move |count| seq.0.checked_add(count * SUBSPACE));
        [seq.0].into_iter().chain(late).chain(later).map(SeqNum)
    }

    /// Whether a packet from a little below the window explains the low half better than one that is ahead.
    #[inline]
    const fn is_far_ahead(&self, seq: SeqNum) -> bool {
        seq.0.saturating_sub(self.top().0) >= SUBSPACE / 2
    }

    // RFC 4303 appendix A3.1: after so many failures, and not for each of them, lest a forger divert the receiver.
    #[inline]
    const fn resynchronises(&self) -> bool {
        self.forged >= RESYNCHRONISE_AFTER && self.forged.is_multiple_of(RESYNCHRONISE_AFTER)
    }
}

/// How many numbers share a high half.
const SUBSPACE: u64 = 1 << 32;
/// How many packets in a row fail before the next subspaces are tried, and then how many between two tries (RFC 4303
/// appendix A3.1: a local parameter).
const RESYNCHRONISE_AFTER: u32 = 128;
/// How many subspaces are tried (RFC 4303 appendix A3.2: a local parameter).
const RETRIES: u64 = 4;
