//! The header itself, whatever it says (T22).

use super::*;

fn header(payload_len: u8) -> Vec<u8> {
    let mut octets = vec![6, payload_len, 0, 0, 0xc0, 0xde, 0xca, 0xfe, 0, 0, 0, 9];
    octets.resize(2000, 0xee);
    octets
}

/// RFC 4302 section 2: every field where it belongs.
#[test]
fn fields_are_read_and_written_alike() {
    let octets = header(5);
    let header = AhHeader::parse(&octets).unwrap();
    assert_eq!((header.next_header, header.len), (NextHeader(6), 28));
    assert_eq!((header.spi.get(), header.seq), (0xc0de_cafe, SeqLow(9)));
    assert_eq!(header.to_bytes().unwrap(), octets[..12]);
}

/// T22: the length field from 0 to 255, over what there is and is not.
#[test]
fn every_length_field_is_read_or_refused() {
    for field in 0..=255 {
        let (octets, len) = (header(field), (usize::from(field) + 2) * 4);
        if len < 12 {
            assert_eq!(AhHeader::parse(&octets), Err(ParseError::AhLength(len)));
            continue;
        }
        assert_eq!(AhHeader::parse(&octets[..len]).unwrap().len, len);
        assert_eq!(AhHeader::parse(&octets).unwrap().len, len);
        let runt = ParseError::Runt { needed: len, got: len - 1 };
        assert_eq!(AhHeader::parse(&octets[..len - 1]), Err(if len == 12 { RUNT } else { runt }));
    }
    for got in 0..12 {
        let runt = ParseError::Runt { needed: 12, got };
        assert_eq!(AhHeader::parse(&header(4)[..got]), Err(runt));
    }
}

const RUNT: ParseError = ParseError::Runt { needed: 12, got: 11 };

/// RFC 4302 section 2.4.
#[test]
fn spi_0_to_255_are_refused_each_with_its_reason() {
    for value in 0..=256_u32 {
        let mut octets = header(4);
        octets[4..8].copy_from_slice(&value.to_be_bytes());
        match (value, AhHeader::parse(&octets)) {
            (0, parsed) => assert_eq!(parsed, Err(ParseError::SpiZero)),
            (1..=255, parsed) => assert_eq!(parsed, Err(ParseError::SpiReserved(Spi::new(value).unwrap()))),
            (_, parsed) => assert_eq!(parsed.unwrap().spi.get(), 256),
        }
    }
}

/// RFC 4302 section 2.2: the field has 8 bits.
#[test]
fn a_length_without_a_field_is_not_written() {
    let header = AhHeader { len: 0, ..AhHeader::parse(&header(4)).unwrap() };
    assert_eq!(header.to_bytes(), None);
    assert!(AhHeader { len: 257 * 4, ..header }.to_bytes().is_some());
    assert_eq!(AhHeader { len: 258 * 4, ..header }.to_bytes(), None);
}
