//! What a datagram on the NAT traversal port is (RFC 3948 sections 2.1 to 2.3).

use crate::error::ParseError;
use crate::header::EspHeader;
use crate::number::Spi;

/// The contents of one UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulated<'d> {
    /// One byte 0xff, to be dropped (RFC 3948 section 2.3).
    Keepalive,
    /// An IKE message, here without its marker of four zero bytes (RFC 3948 section 2.2).
    NonEsp(&'d [u8]),
    /// The whole datagram is an ESP packet (RFC 3948 section 2.1).
    Esp(EspHeader),
    /// An ESP packet for an SPI that IANA keeps (RFC 4303 section 2.1).
    ReservedSpi(Spi),
    /// Too short to be any of these.
    Runt,
}

/// Tells apart what shares the port, by the first four bytes: an SPI is never 0 on the wire.
#[inline]
pub fn classify(datagram: &[u8]) -> Encapsulated<'_> {
    if datagram == KEEPALIVE {
        return Encapsulated::Keepalive;
    }
    if let Some(message) = datagram.strip_prefix(&NON_ESP_MARKER) {
        return Encapsulated::NonEsp(message);
    }
    match EspHeader::parse(datagram) {
        Ok(header) => Encapsulated::Esp(header),
        Err(ParseError::SpiReserved(spi)) => Encapsulated::ReservedSpi(spi),
        Err(ParseError::Runt { .. } | ParseError::SpiZero | ParseError::AhLength(_)) => Encapsulated::Runt,
    }
}

const KEEPALIVE: [u8; 1] = [0xff];
const NON_ESP_MARKER: [u8; 4] = [0; 4];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::SeqLow;

    /// T03, RFC 3948 section 2.3: exactly one byte, exactly 0xff.
    #[test]
    fn a_keepalive_is_one_byte_ff() {
        assert_eq!(classify(&[0xff]), Encapsulated::Keepalive);
        assert_eq!(classify(&[0xff, 0xff]), Encapsulated::Runt);
        assert_eq!(classify(&[0xfe]), Encapsulated::Runt);
        assert_eq!(classify(&[]), Encapsulated::Runt);
    }

    /// T03, RFC 3948 section 2.2.
    #[test]
    fn four_zero_bytes_mark_what_is_not_esp() {
        assert_eq!(classify(&[0, 0, 0, 0, 7, 8]), Encapsulated::NonEsp(&[7, 8]));
        assert_eq!(classify(&[0, 0, 0, 0]), Encapsulated::NonEsp(&[]));
        for short in 1..4 {
            assert_eq!(classify(&[0; 4][..short]), Encapsulated::Runt);
        }
    }

    /// RFC 3948 section 2.1.
    #[test]
    fn anything_else_is_esp() {
        let Encapsulated::Esp(header) = classify(&[0, 0, 1, 0, 0, 0, 0, 5, 0xaa]) else { panic!() };
        assert_eq!((header.spi.get(), header.seq), (256, SeqLow(5)));
        // RFC 4303 section 2.1: a reserved SPI is no SA's.
        let reserved = Spi::new(255).unwrap();
        assert_eq!(classify(&[0, 0, 0, 255, 0, 0, 0, 5]), Encapsulated::ReservedSpi(reserved));
        assert_eq!(classify(&[0, 0, 1, 0, 0, 0, 0]), Encapsulated::Runt);
    }
}
