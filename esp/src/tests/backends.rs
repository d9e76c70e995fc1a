//! The backends against each other: what one seals the other opens, and both leave the same bytes.

use crate::crypto::rustcrypto::RustCryptoAead;
use crate::crypto::{Aead, Backend, OpeningKey, SealingKey};
use crate::error::OpenError;
use crate::number::EsnHigh;
use crate::suite::Suite;

use super::{keys, payload};

const HIGHS: [Option<EsnHigh>; 3] = [None, Some(EsnHigh(0)), Some(EsnHigh(0x8000_0001))];

/// Header, room for the IV, `len` bytes, room for the ICV.
fn unsealed(len: usize) -> Vec<u8> {
    [&[0xc0, 0xde, 0xca, 0xfe, 0, 0, 0, 9][..], &[0; 8], &payload(len), &[0; 16]].concat()
}

fn seal<A: Aead>(suite: Suite, high: Option<EsnHigh>, len: usize) -> Vec<u8> {
    let mut packet = unsealed(len);
    let key = SealingKey::<A>::new(&keys(suite)).unwrap();
    key.seal(high, (len as u64).to_be_bytes(), &mut packet).unwrap();
    packet
}

fn open<A: Aead>(suite: Suite, high: Option<EsnHigh>, packet: &mut [u8]) -> Result<Vec<u8>, OpenError> {
    OpeningKey::<A>::new(&keys(suite)).unwrap().open(high, packet).map(|plaintext| plaintext.to_vec())
}

#[test]
fn backends_agree_on_every_length() {
    for suite in Suite::ALL {
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
    for suite in Suite::ALL {
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
        let sealed = seal::<A>(suite, high, 70);
        let key = OpeningKey::<A>::new(&keys(suite)).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut packet = sealed.clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(high, &mut packet), Err(OpenError::IcvMismatch), "{suite} {bit}");
            assert!(packet[16..86].iter().all(|&byte| byte == 0), "{suite} {bit}");
        }
    }
    for suite in Suite::ALL {
        for high in HIGHS {
            flip_each_bit::<Backend>(suite, high);
            flip_each_bit::<RustCryptoAead>(suite, high);
        }
    }
}

/// The two ends of the key's contract: salt and key both matter.
#[test]
fn another_key_or_salt_does_not_open() {
    for suite in Suite::ALL {
        let total = suite.key_len() + suite.salt_len();
        for at in 0..total {
            let mut octets: Vec<u8> = (0..).take(total).collect();
            octets[at] ^= 0x80;
            let other = crate::KeyMaterial::new(suite, &octets).unwrap();
            let mut packet = seal::<Backend>(suite, None, 64);
            let opened = OpeningKey::<Backend>::new(&other).unwrap().open(None, &mut packet).is_ok();
            assert!(!opened, "{suite} octet {at}");
        }
    }
}

#[test]
fn what_holds_no_packet_is_refused_before_any_cryptography() {
    for suite in Suite::ALL {
        for got in 0..32 {
            let mut packet = vec![0xaa; got];
            let opened = OpeningKey::<Backend>::new(&keys(suite)).unwrap().open(None, &mut packet).is_ok();
            let sealed = SealingKey::<Backend>::new(&keys(suite)).unwrap().seal(None, [0; 8], &mut packet);
            assert!(!opened && sealed.is_err());
            assert!(packet.iter().all(|&byte| byte == 0xaa));
        }
    }
}
