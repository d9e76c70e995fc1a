//! The backends against each other: what one seals the other opens, and both leave the same bytes.

use crate::crypto::rustcrypto::RustCryptoAead;
use crate::crypto::{Aead, Backend, OpeningKey, SealingKey};
use crate::error::OpenError;
use crate::key::KeyMaterial;
use crate::number::{EsnHigh, SeqNum};
use crate::suite::{Kind, Suite};

use super::{AEADS, esp, keys, payload};

const HIGHS: [Option<EsnHigh>; 3] = [None, Some(EsnHigh(0)), Some(EsnHigh(0x8000_0001))];

/// Header, room for the IV, `len` bytes, room for the ICV.
fn unsealed(suite: Suite, len: usize) -> Vec<u8> {
    let header = [0xc0, 0xde, 0xca, 0xfe, 0, 0, 0, 9];
    [&header[..], &vec![0; suite.iv_len()], &payload(len), &vec![0; suite.icv_len()]].concat()
}

fn seal<A: Aead>(suite: Suite, high: Option<EsnHigh>, len: usize) -> Vec<u8> {
    let mut packet = unsealed(suite, len);
    let key = SealingKey::<A>::new(&keys(suite)).unwrap();
    key.seal(SeqNum(len as u64), high, &mut packet).unwrap();
    packet
}

/// The number that `seal` gave a packet: the length of what it protects.
fn number(suite: Suite, packet: &[u8]) -> SeqNum {
    SeqNum((packet.len() - suite.payload_offset() - suite.icv_len()) as u64)
}

fn open<A: Aead>(suite: Suite, high: Option<EsnHigh>, packet: &mut [u8]) -> Result<Vec<u8>, OpenError> {
    open_with::<A>(&keys(suite), high, packet)
}

fn open_with<A: Aead>(
    keys: &KeyMaterial,
    high: Option<EsnHigh>,
    packet: &mut [u8],
) -> Result<Vec<u8>, OpenError> {
    let seq = number(keys.suite(), packet);
    OpeningKey::<A>::new(keys).unwrap().open(seq, high, packet).map(|plaintext| plaintext.to_vec())
}

#[test]
fn backends_agree_on_every_length() {
    for suite in AEADS {
        for high in HIGHS {
            for len in (0..=150).chain([255, 256, 257, 511, 512, 1348, 1420, 8900]) {
                let packet = seal::<Backend>(suite, high, len);
                assert_eq!(packet, seal::<RustCryptoAead>(suite, high, len), "{suite} {len}");
                assert_eq!(packet[8..16], (len as u64).to_be_bytes());
                assert_eq!(open::<Backend>(suite, high, &mut packet.clone()), Ok(payload(len)));
                assert_eq!(open::<RustCryptoAead>(suite, high, &mut packet.clone()), Ok(payload(len)));
            }
        }
    }
}

/// RFC 4303 section 2.2.1: the half that does not travel is authenticated.
#[test]
fn another_high_half_does_not_open() {
    for suite in esp() {
        for (sealed, tried) in HIGHS.into_iter().flat_map(|a| HIGHS.map(|b| (a, b))) {
            let packet = seal::<Backend>(suite, sealed, 64);
            let expected = if sealed == tried { Ok(payload(64)) } else { Err(OpenError::IcvMismatch) };
            assert_eq!(open::<Backend>(suite, tried, &mut packet.clone()), expected);
            assert_eq!(open::<RustCryptoAead>(suite, tried, &mut packet.clone()), expected);
        }
    }
}

/// RFC 4303 section 3.4.4.2: a flip of any bit of header, IV, ciphertext or ICV is found, and T05: what was protected
/// is zeros afterwards.
#[test]
fn a_flip_of_any_bit_is_found_and_leaves_no_plaintext() {
    fn flip_each_bit<A: Aead>(suite: Suite, high: Option<EsnHigh>) {
        let sealed = seal::<A>(suite, high, 80);
        let key = OpeningKey::<A>::new(&keys(suite)).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut packet = sealed.clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                key.open(number(suite, &sealed), high, &mut packet),
                Err(OpenError::IcvMismatch),
                "{suite} {bit}"
            );
            let body = suite.payload_offset()..sealed.len() - suite.icv_len();
            assert!(packet[body].iter().all(|&byte| byte == 0), "{suite} {bit}");
        }
    }
    for suite in esp() {
        let highs = if Suite::RECOMMENDED.contains(&suite) { &HIGHS[..] } else { &HIGHS[2..] };
        for &high in highs {
            flip_each_bit::<Backend>(suite, high);
        }
    }
    for suite in AEADS {
        HIGHS.into_iter().for_each(|high| flip_each_bit::<RustCryptoAead>(suite, high));
    }
}

/// The two ends of the key's contract: every octet of key material matters. An integrity key that is apart refuses by itself;
/// the encryption key then decides what the plaintext is.
#[test]
fn another_key_or_salt_does_not_open() {
    for suite in esp() {
        let total = suite.material_len();
        for at in 0..total {
            let mut octets: Vec<u8> = (0..).take(total).collect();
            octets[at] ^= 0x80;
            let other = KeyMaterial::new(suite, &octets).unwrap();
            let mut packet = seal::<Backend>(suite, None, 64);
            let opened = open_with::<Backend>(&other, None, &mut packet);
            let apart = match suite.kind() {
                Kind::Apart(_, integrity) => total - integrity.key_len(),
                _ => 0,
            };
            assert_ne!(opened, Ok(payload(64)), "{suite} octet {at}");
            assert_eq!(opened.is_ok(), at < apart, "{suite} octet {at}");
        }
    }
}

#[test]
fn what_holds_no_packet_is_refused_before_any_cryptography() {
    for suite in esp() {
        for got in 0..suite.payload_offset() + suite.icv_len() {
            let mut packet = vec![0xaa; got];
            let opened =
                OpeningKey::<Backend>::new(&keys(suite)).unwrap().open(SeqNum(0), None, &mut packet).is_ok();
            let sealed = SealingKey::<Backend>::new(&keys(suite)).unwrap().seal(SeqNum(0), None, &mut packet);
            assert!(!opened && sealed.is_err());
            assert!(packet.iter().all(|&byte| byte == 0xaa));
        }
    }
}
