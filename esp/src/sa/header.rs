//! What an SA of AH does to a packet (RFC 4302 sections 3.3 and 3.4).

use super::high_half;
use super::inbound::InboundSa;
use super::outbound::OutboundSa;
use crate::ah::{AhHeader, AhVerified, cover};
use crate::error::{OpenError, SealError};
use crate::number::{FreshSeq, SeqNum, Verified};
use crate::protocol::Protocol;
use crate::suite::AH_FIXED_LEN;
use crate::trailer::NextHeader;

impl OutboundSa {
    /// Authenticates `packet`, a whole IP packet as it leaves, with room of [`OutboundSa::ah_len`] at `at` for the header
    /// itself, which stands behind the headers that routers look at. Length, checksum and protocol of the IP header are
    /// final. `seq` is one of this SA's own.
    // RFC 4302 section 3.3.
    pub fn authenticate(
        &self,
        seq: FreshSeq,
        packet: &mut [u8],
        at: usize,
        next_header: NextHeader,
    ) -> Result<(), SealError> {
        let key = self.key.header().ok_or(SealError::WrongProtocol(Protocol::Esp))?;
        let (len, got) = (self.ah_len(is_v6(packet)), packet.len());
        let no_room = SealError::NoRoom { needed: at.saturating_add(len), got };
        let seq = seq.number();
        let fields =
            AhHeader { next_header, len, spi: self.spi, seq: seq.low() }.to_bytes().ok_or(no_room)?;
        let header = packet.get_mut(at..).and_then(|from| from.get_mut(..len)).ok_or(no_room)?;
        header.fill(0);
        header.iter_mut().zip(fields).for_each(|(to, from)| *to = from);

        // RFC 4543 section 4: the IV stands before the ICV, and is the number, so that none comes twice.
        let iv = seq.0.to_be_bytes();
        let mut covering = key.begin(iv);
        cover(packet, at, &self.lengths, high_half(self.sequence, seq), &mut covering)?;
        let (iv, icv) =
            (iv.into_iter().take(self.lengths.iv), covering.finish().into_iter().take(self.lengths.icv));
        packet.iter_mut().skip(at + AH_FIXED_LEN).zip(iv.chain(icv)).for_each(|(to, from)| *to = from);
        Ok(())
    }

    /// The length of its AH; 0 where it is of ESP.
    pub const fn ah_len(&self, v6: bool) -> usize {
        match self.suite.protocol() {
            Protocol::Esp => 0,
            Protocol::Ah => self.lengths.header(self.align.is_eight(v6)),
        }
    }
}

impl InboundSa {
    /// Verifies `packet`, a whole IP packet whose AH stands at `at`, and leaves it as it is.
    // RFC 4302 section 3.4.4.
    pub fn verify(
        &self,
        seq: SeqNum,
        packet: &[u8],
        at: usize,
    ) -> Result<(AhVerified, Verified<SeqNum>), OpenError> {
        let key = self.key.header().ok_or(OpenError::WrongProtocol(Protocol::Esp))?;
        let (needed, got) = (at.saturating_add(self.ah_len(is_v6(packet))), packet.len());
        let from = packet.get(at..).ok_or(OpenError::Runt { needed, got })?;
        let header = AhHeader::parse(from)?;
        if header.len != self.ah_len(is_v6(packet)) {
            return Err(OpenError::AhLength { needed: self.ah_len(is_v6(packet)), got: header.len });
        }
        let field = from.get(AH_FIXED_LEN..header.len).unwrap_or_default();
        let (iv, field) = field.split_at_checked(self.lengths.iv).unwrap_or_default();
        let icv = field.get(..self.lengths.icv).ok_or(OpenError::Runt { needed, got })?;

        let mut covering = key.begin(iv.first_chunk().copied().unwrap_or_default());
        cover(packet, at, &self.lengths, high_half(self.sequence, seq), &mut covering)?;
        if !covering.verify(icv) {
            return Err(OpenError::IcvMismatch);
        }
        let payload = at + header.len;
        let verified =
            AhVerified { next_header: header.next_header, payload, authenticated_len: packet.len() };
        Ok((verified, Verified::new(seq)))
    }

    /// The length of its AH; 0 where it is of ESP.
    pub const fn ah_len(&self, v6: bool) -> usize {
        match self.suite.protocol() {
            Protocol::Esp => 0,
            Protocol::Ah => self.lengths.header(self.align.is_eight(v6)),
        }
    }
}

fn is_v6(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 6)
}
