//! The two fields every ESP packet begins with (RFC 4303 section 2).

use zerocopy::byteorder::big_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::ParseError;
use crate::number::{EsnHigh, SeqLow, Spi};
use crate::suite::HEADER_LEN;

/// SPI and sequence number as the packet shows them: read before anything is authenticated, so trusted for nothing
/// but finding the SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EspHeader {
    /// Names the SA (RFC 4303 section 2.1).
    pub spi: Spi,
    /// The low half of the sequence number (RFC 4303 section 2.2).
    pub seq: SeqLow,
}

impl EspHeader {
    /// Reads the header of a packet that begins with the SPI.
    // RFC 4303 section 2.1: SPI 0 MUST NOT be sent on the wire; 1 to 255 are reserved.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, ParseError> {
        let Ok((wire, _)) = Wire::ref_from_prefix(packet) else {
            return Err(ParseError::Runt { needed: HEADER_LEN, got: packet.len() });
        };
        match Spi::new(wire.spi.get()) {
            None => Err(ParseError::SpiZero),
            Some(spi) if spi.is_reserved() => Err(ParseError::SpiReserved(spi)),
            Some(spi) => Ok(Self { spi, seq: SeqLow(wire.seq.get()) }),
        }
    }

    /// The header's bytes.
    #[inline]
    pub(crate) fn to_bytes(self) -> [u8; HEADER_LEN] {
        zerocopy::transmute!(Wire { spi: U32::new(self.spi.get()), seq: U32::new(self.seq.0) })
    }
}

/// What the ICV covers beside the protected part (RFC 4106 section 5, RFC 7634 section 2.1).
pub(crate) enum Aad {
    /// SPI and sequence number.
    Short([u8; 8]),
    /// SPI and both halves of an extended sequence number.
    Extended([u8; 12]),
}

impl Aad {
    /// The additional data of a packet with this header, and with this high half where numbers are extended.
    #[inline]
    pub(crate) fn new(header: [u8; HEADER_LEN], high: Option<EsnHigh>) -> Self {
        let Some(high) = high else {
            return Self::Short(header);
        };
        let [a, b, c, d, e, f, g, h] = header;
        let [m, n, o, p] = high.0.to_be_bytes();
        Self::Extended([a, b, c, d, m, n, o, p, e, f, g, h])
    }
}

impl AsRef<[u8]> for Aad {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Short(bytes) => bytes,
            Self::Extended(bytes) => bytes,
        }
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Wire {
    spi: U32,
    seq: U32,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4303 section 2: both fields in network byte order.
    #[test]
    fn fields_are_big_endian() {
        let bytes = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0xff];
        let header = EspHeader::parse(&bytes).unwrap();
        assert_eq!((header.spi.get(), header.seq), (0x1234_5678, SeqLow(0x9abc_def0)));
        assert_eq!(header.to_bytes(), bytes[..8]);
    }

    /// T03.
    #[test]
    fn short_packets_are_runts() {
        for got in 0..8 {
            let parsed = EspHeader::parse(&[0xff; 8][..got]);
            assert_eq!(parsed, Err(ParseError::Runt { needed: 8, got }));
        }
        assert!(EspHeader::parse(&[0xff; 8]).is_ok());
    }

    /// T03, RFC 4303 section 2.1.
    #[test]
    fn spi_0_to_255_are_refused_each_with_its_reason() {
        for value in 0..=256_u32 {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&value.to_be_bytes());
            match (value, EspHeader::parse(&bytes)) {
                (0, parsed) => assert_eq!(parsed, Err(ParseError::SpiZero)),
                (1..=255, parsed) => {
                    assert_eq!(parsed, Err(ParseError::SpiReserved(Spi::new(value).unwrap())));
                }
                (_, parsed) => assert_eq!(parsed.unwrap().spi.get(), 256),
            }
        }
    }

    /// RFC 4106 section 5, figures 2 and 3.
    #[test]
    fn the_high_half_stands_between_spi_and_low_half() {
        let header = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(Aad::new(header, None).as_ref(), header);
        let extended = Aad::new(header, Some(EsnHigh(0x0a0b_0c0d)));
        assert_eq!(extended.as_ref(), [1, 2, 3, 4, 10, 11, 12, 13, 5, 6, 7, 8]);
    }
}
