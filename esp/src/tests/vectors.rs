//! Published packets: RFC 7634 appendix A and draft-mcgrew-gcm-test-01, sealed and opened by every backend.

use serde_json::Value;

use crate::crypto::{Aead, OpeningKey, PacketKey};
use crate::key::KeyMaterial;
use crate::number::{SeqNum, Spi};
use crate::sa::{InboundConfig, InboundSa};
use crate::sequence::SequenceKind;
use crate::trailer;
use crate::{AntiReplay, EspHeader, NextHeader};

const PUBLISHED: &str = include_str!("../../tests/vectors/esp_published.json");
/// RFC 7634 has one packet; the draft has 17, of which one is of AES-192 and one of GMAC.
const EXPECTED: usize = 18;

struct Vector {
    id: String,
    keys: KeyMaterial,
    iv: [u8; 8],
    spi: u32,
    seq: SeqNum,
    sequence: SequenceKind,
    next_header: NextHeader,
    plaintext: Vec<u8>,
    esp: Vec<u8>,
}

fn published() -> Vec<Vector> {
    let file: Value = serde_json::from_str(PUBLISHED).unwrap();
    let vectors: Vec<Vector> = file["vectors"].as_array().unwrap().iter().map(vector).collect();
    assert_eq!(vectors.len(), EXPECTED);
    for suite in super::AEADS {
        assert!(vectors.iter().any(|vector| vector.keys.suite() == suite), "no vector of {suite}");
    }
    vectors
}

fn vector(entry: &Value) -> Vector {
    let octets = |field: &str| hex::decode(entry[field].as_str().unwrap()).unwrap();
    let suite = entry["suite"].as_str().unwrap().parse().unwrap();
    Vector {
        id: entry["id"].as_str().unwrap().into(),
        keys: KeyMaterial::new(suite, &[octets("key"), octets("salt")].concat()).unwrap(),
        iv: octets("iv").try_into().unwrap(),
        spi: entry["spi"].as_u64().unwrap().try_into().unwrap(),
        seq: SeqNum(entry["seq"].as_u64().unwrap()),
        sequence: if entry["esn"].as_bool().unwrap() { SequenceKind::Extended } else { SequenceKind::Seq32 },
        next_header: NextHeader(entry["next_header"].as_u64().unwrap().try_into().unwrap()),
        plaintext: octets("plaintext"),
        esp: octets("esp"),
    }
}

fn seals_and_opens_the_published_packets<A: Aead>() {
    for vector in published() {
        let high = (vector.sequence == SequenceKind::Extended).then(|| vector.seq.high());
        let mut packet = vector.spi.to_be_bytes().to_vec();
        packet.extend(vector.seq.low().0.to_be_bytes());
        packet.extend([0; 8]);
        packet.extend(&vector.plaintext);
        packet.extend([0; 16]);
        let (key, mut iv) = (PacketKey::<A>::new(&vector.keys).unwrap(), [0; 16]);
        iv[..8].copy_from_slice(&vector.iv);
        key.seal(high, iv, &mut packet).unwrap();
        assert_eq!(hex::encode(&packet), hex::encode(&vector.esp), "{}", vector.id);

        let opened = OpeningKey::<A>::new(&vector.keys).unwrap();
        let opened = opened.open(vector.seq, high, &mut packet).map(|plaintext| &*plaintext);
        assert_eq!(opened, Ok(vector.plaintext.as_slice()), "{}", vector.id);
    }
}

/// T24, RFC 7634 appendix A, RFC 4106.
#[cfg(feature = "ring")]
#[test]
fn ring_seals_and_opens_the_published_packets() {
    seals_and_opens_the_published_packets::<crate::crypto::ring::RingAead>();
}

/// T24, RFC 7634 appendix A, RFC 4106.
#[test]
fn rustcrypto_seals_and_opens_the_published_packets() {
    seals_and_opens_the_published_packets::<crate::crypto::rustcrypto::RustCryptoAead>();
}

/// The published packets through a whole SA, and their trailers as this crate would write them.
#[test]
fn an_inbound_sa_opens_the_published_packets() {
    let mut opened = 0;
    for vector in published() {
        // One packet of the draft has SPI 0, which no SA has (RFC 4303 section 2.1).
        let Some(spi) = Spi::new(vector.spi) else {
            assert_eq!(EspHeader::parse(&vector.esp), Err(crate::ParseError::SpiZero));
            continue;
        };
        let (suite, sequence) = (vector.keys.suite(), vector.sequence);
        let config = InboundConfig {
            spi,
            suite,
            keys: &vector.keys,
            sequence,
            anti_replay: AntiReplay::Off,
            top: None,
        };
        let sa = InboundSa::resume_after(config, SeqNum(vector.seq.0 - 1)).unwrap();
        let mut packet = vector.esp.clone();
        let seq = sa.check(EspHeader::parse(&packet).unwrap().seq).unwrap();
        assert_eq!(seq, vector.seq, "{}", vector.id);
        let inner = sa.open(seq, &mut packet).unwrap().0.decapsulate().unwrap();
        assert_eq!((inner.next_header, inner.offset), (vector.next_header, 16), "{}", vector.id);
        assert_eq!(inner.payload, &vector.plaintext[..inner.payload.len()], "{}", vector.id);

        let mut trailer = vector.plaintext[inner.payload.len()..].to_vec();
        assert_eq!(suite.sealed_len(inner.payload.len()), vector.esp.len(), "{}", vector.id);
        trailer.fill(0xee);
        trailer::write(&mut trailer, vector.next_header);
        assert_eq!(trailer, vector.plaintext[inner.payload.len()..], "{}", vector.id);
        opened += 1;
    }
    assert_eq!(opened, EXPECTED - 1);
}
