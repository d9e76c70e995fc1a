//! An ESP packet taken apart where lengths are those of the SA (RFC 4303 section 2, figure 2).

use crate::error::{OpenError, SealError};
use crate::suite::{HEADER_LEN, Lengths};

/// The parts of a packet.
pub(super) struct Frame<'p> {
    pub header: &'p mut [u8; HEADER_LEN],
    pub iv: &'p mut [u8],
    pub body: &'p mut [u8],
    pub icv: &'p mut [u8],
}

impl<'p> Frame<'p> {
    /// The parts of a packet to be sealed.
    #[inline]
    pub(super) fn sealing(packet: &'p mut [u8], lengths: &Lengths) -> Result<Self, SealError> {
        let (around, got) = (lengths.front + lengths.back, packet.len());
        let needed = around.saturating_add(got.saturating_sub(around).next_multiple_of(lengths.block));
        if needed != got {
            return Err(SealError::NoRoom { needed, got });
        }
        Self::of(packet, lengths).ok_or(SealError::NoRoom { needed, got })
    }

    /// The parts of a packet to be opened.
    #[inline]
    pub(super) fn opening(packet: &'p mut [u8], lengths: &Lengths) -> Result<Self, OpenError> {
        let (needed, got) = (lengths.front + lengths.back, packet.len());
        let runt = OpenError::Runt { needed, got };
        let body = got.checked_sub(needed).ok_or(runt)?;
        if !body.is_multiple_of(lengths.block) {
            return Err(OpenError::Unaligned { block: lengths.block, got: body });
        }
        Self::of(packet, lengths).ok_or(runt)
    }

    /// What was protected, where the ICV was right; wiped where it was not (T05).
    #[inline]
    pub(super) fn opened_if(self, verified: bool) -> Result<&'p mut [u8], OpenError> {
        if verified {
            return Ok(self.body);
        }
        self.body.fill(0);
        Err(OpenError::IcvMismatch)
    }

    #[inline]
    fn of(packet: &'p mut [u8], lengths: &Lengths) -> Option<Self> {
        let (header, rest) = packet.split_first_chunk_mut()?;
        let (iv, rest) = rest.split_at_mut_checked(lengths.iv)?;
        let body = rest.len().checked_sub(lengths.icv)?;
        let (body, icv) = rest.split_at_mut_checked(body)?;
        Some(Self { header, iv, body, icv })
    }
}
