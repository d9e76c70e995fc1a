//! The Authentication Header: its fields, its length, and what its ICV covers (RFC 4302).

use zerocopy::byteorder::big_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::ParseError;
use crate::number::{SeqLow, Spi};
use crate::suite::AH_FIXED_LEN;
use crate::trailer::NextHeader;

pub(crate) use self::covered::cover;

mod covered;
mod v4;
mod v6;

/// What a packet's AH shows: read before anything is authenticated, so trusted for nothing but finding the SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AhHeader {
    /// What stands behind the header (RFC 4302 section 2.1).
    pub next_header: NextHeader,
    /// How long the header is, ICV and padding included; no more than there is (RFC 4302 section 2.2).
    pub len: usize,
    /// Names the SA (RFC 4302 section 2.4).
    pub spi: Spi,
    /// The low half of the sequence number (RFC 4302 section 2.5).
    pub seq: SeqLow,
}

impl AhHeader {
    /// Reads the header of a packet that begins with it.
    // RFC 4302 section 2.4: SPI 0 MUST NOT be sent on the wire; 1 to 255 are reserved. T22: the length may say anything.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, ParseError> {
        let got = packet.len();
        let Ok((wire, _)) = Wire::ref_from_prefix(packet) else {
            return Err(ParseError::Runt { needed: AH_FIXED_LEN, got });
        };
        let len = (usize::from(wire.payload_len) + LEN_BIAS) * 4;
        if len < AH_FIXED_LEN {
            return Err(ParseError::AhLength(len));
        }
        if len > got {
            return Err(ParseError::Runt { needed: len, got });
        }
        match Spi::new(wire.spi.get()) {
            None => Err(ParseError::SpiZero),
            Some(spi) if spi.is_reserved() => Err(ParseError::SpiReserved(spi)),
            Some(spi) => {
                let (next_header, seq) = (NextHeader(wire.next_header), SeqLow(wire.seq.get()));
                Ok(Self { next_header, len, spi, seq })
            }
        }
    }

    /// The bytes before the ICV; the reserved ones are zero (RFC 4302 section 2.3). `None` where the length has no field.
    pub(crate) fn to_bytes(self) -> Option<[u8; AH_FIXED_LEN]> {
        let payload_len = (self.len / 4).checked_sub(LEN_BIAS)?.try_into().ok()?;
        let (next_header, reserved) = (self.next_header.0, [0; 2]);
        let (spi, seq) = (U32::new(self.spi.get()), U32::new(self.seq.0));
        Some(zerocopy::transmute!(Wire { next_header, payload_len, reserved, spi, seq }))
    }
}

/// What the length of the header is a multiple of, at both ends of an SA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Align {
    /// 4 octets over IPv4 and 8 over IPv6 (RFC 4302 section 2.6).
    #[default]
    Rfc,
    /// 8 octets over both: what Linux does and expects over IPv4, unless its SA has the flag `align4`.
    Eight,
}

impl Align {
    /// Whether the header is aligned to 8 octets.
    #[inline]
    pub(crate) const fn is_eight(self, v6: bool) -> bool {
        v6 || matches!(self, Self::Eight)
    }
}

/// An authentic packet: what AH said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AhVerified {
    /// What stands behind the header (RFC 4302 section 2.1).
    pub next_header: NextHeader,
    /// Where it begins, counted from the IP header.
    pub payload: usize,
    /// How many bytes the integrity algorithm was applied to: what byte lifetimes count (RFC 4301 section 4.4.2.1).
    pub authenticated_len: usize,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Wire {
    next_header: u8,
    payload_len: u8,
    reserved: [u8; 2],
    spi: U32,
    seq: U32,
}

/// The length field counts words of 32 bits, less two of them (RFC 4302 section 2.2).
const LEN_BIAS: usize = 2;

#[cfg(test)]
mod tests;
