//! Whole packets of AES-CBC with HMAC-SHA-256-128: a stranger's, forged ones, and ones with bad padding (RFC 3602,
//! RFC 4868).

use serde_json::Value;

use crate::crypto::{Backend, PacketKey};
use crate::error::{BadPadding, OpenError, ReplayError};
use crate::number::{SeqNum, Spi};
use crate::suite::Suite;
use crate::{AntiReplay, EspHeader, InboundConfig, InboundSa, KeyMaterial, NextHeader, SequenceKind};

use super::{CBCS, SPI, inbound, keys, outbound, payload, sealed, window};

const FOREIGN: &str = include_str!("../../tests/vectors/esp_cbc_hmac.json");

/// T24: packets that another implementation sealed open here, and are sealed here to the same octets, with 32-bit and
/// with extended numbers.
#[test]
fn packets_of_another_implementation_open_and_are_sealed_alike() {
    let file: Value = serde_json::from_str(FOREIGN).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 30);
    for vector in vectors {
        let octets = |field: &str| hex::decode(vector[field].as_str().unwrap()).unwrap();
        let id = vector["id"].as_str().unwrap();
        let suite: Suite = vector["suite"].as_str().unwrap().parse().unwrap();
        let material = KeyMaterial::new(suite, &[octets("key"), octets("integrity_key")].concat()).unwrap();
        let seq = SeqNum(vector["seq"].as_u64().unwrap());
        let extended = vector["esn"].as_bool().unwrap();
        let (plaintext, esp) = (octets("plaintext"), octets("esp"));

        let mut packet = [&esp[..8], &[0; 16], &plaintext, &[0; 16]].concat();
        let (key, high) = (PacketKey::<Backend>::new(&material).unwrap(), extended.then(|| seq.high()));
        key.seal(high, octets("iv").try_into().unwrap(), &mut packet).unwrap();
        assert_eq!(hex::encode(&packet), hex::encode(&esp), "{id}");

        let config = InboundConfig {
            spi: Spi::new(vector["spi"].as_u64().unwrap().try_into().unwrap()).unwrap(),
            suite,
            keys: &material,
            sequence: if extended { SequenceKind::Extended } else { SequenceKind::Seq32 },
            anti_replay: AntiReplay::Off,
            top: None,
        };
        let sa = InboundSa::resume_after(config, SeqNum(seq.0 - 1)).unwrap();
        let inferred = sa.check(EspHeader::parse(&packet).unwrap().seq).unwrap();
        assert_eq!(inferred, seq, "{id}");
        let inner = sa.open(seq, &mut packet).unwrap().0.decapsulate().unwrap();
        assert_eq!((inner.next_header, inner.offset), (NextHeader::IPV4, 24), "{id}");
        assert_eq!(inner.payload, &plaintext[..inner.payload.len()], "{id}");
        assert_eq!(suite.sealed_len(inner.payload.len()), esp.len(), "{id}");
    }
}

/// A packet with any plaintext of whole blocks under a right ICV, as a peer with the key could send it.
fn authentic(suite: Suite, number: u64, plaintext: &[u8]) -> Vec<u8> {
    let header = EspHeader { spi: Spi::new(SPI).unwrap(), seq: SeqNum(number).low() }.to_bytes();
    let mut packet = [&header[..], &[0; 16], plaintext, &[0; 16]].concat();
    PacketKey::<Backend>::new(&keys(suite)).unwrap().seal(None, [0x77; 16], &mut packet).unwrap();
    packet
}

/// T01, RFC 4303 section 3.4.4.1: what is wrong behind a valid ICV is told by its own name, and the number is burnt.
#[test]
fn bad_padding_behind_a_valid_icv_burns_its_number() {
    for suite in CBCS {
        let mut sa = inbound(suite, SequenceKind::Seq32, window(64), 0);
        let mut number = 0;
        let mut receive = |last: &[u8]| {
            number += 1;
            let plaintext = [&payload(32 - last.len()), last].concat();
            let mut packet = authentic(suite, number, &plaintext);
            let seq = sa.check(EspHeader::parse(&packet).unwrap().seq).unwrap();
            let (opened, verified) = sa.open(seq, &mut packet).unwrap();
            assert_eq!((sa.commit(verified), sa.check(seq.low())), (Ok(()), Err(ReplayError::Replayed)));
            opened.decapsulate().map(|inner| inner.payload.len())
        };
        assert_eq!(receive(&[0, 4]), Ok(30));
        assert_eq!(receive(&[1, 2, 3, 3, 4]), Ok(27));
        assert_eq!(receive(&[1, 2, 2, 3, 4]), Err(BadPadding::Contents));
        assert_eq!(receive(&[31, 4]), Err(BadPadding::Length { pad: 31, available: 30 }));
        assert_eq!(receive(&[255, 4]), Err(BadPadding::Length { pad: 255, available: 30 }));
        assert_eq!(receive(&[255, 59]), Ok(30), "a dummy need not be well-formed (RFC 4303 section 2.6)");
    }
}

/// T25, T26: padding is not looked at before the ICV is known to be right, so whoever changes a ciphertext learns nothing.
#[test]
fn a_changed_packet_is_refused_alike_whatever_its_padding_becomes() {
    for suite in CBCS {
        let packet = sealed(&outbound(suite, SequenceKind::Seq32, 1), 1, 14);
        for change in 0..=u8::MAX {
            // The IV's last octets change the pad length and the next header, were they decrypted.
            let mut forged = packet.clone();
            forged[22] ^= change;
            let opened =
                inbound(suite, SequenceKind::Seq32, window(64), 0).open(SeqNum(1), &mut forged).map(drop);
            assert_eq!(opened, if change == 0 { Ok(()) } else { Err(OpenError::IcvMismatch) });
        }
    }
}

/// RFC 4303 section 2.4: what is no whole number of blocks is refused before any cryptography, and by its own name.
#[test]
fn broken_blocks_are_refused_untouched() {
    for suite in CBCS {
        let sa = inbound(suite, SequenceKind::Seq32, window(64), 0);
        let packet = sealed(&outbound(suite, SequenceKind::Seq32, 1), 1, 100);
        for cut in 1..16 {
            let mut short = packet[..packet.len() - cut].to_vec();
            let refused = OpenError::Unaligned { block: 16, got: 112 - cut };
            assert_eq!(sa.open(SeqNum(1), &mut short).map(drop), Err(refused));
            assert_eq!(short, packet[..packet.len() - cut]);
        }
    }
}

/// T11: two senders under one key, as before and after a restart, share no IV, so equal packets are not seen to be equal.
#[test]
fn two_lives_of_an_sa_seal_one_packet_differently() {
    for suite in CBCS {
        let [one, other] = [(), ()].map(|()| sealed(&outbound(suite, SequenceKind::Extended, 1), 5, 40));
        assert_eq!(one[..8], other[..8]);
        assert_ne!(one[8..24], other[8..24]);
        assert!(one[24..].chunks(16).zip(other[24..].chunks(16)).all(|(one, other)| one != other));
    }
}
