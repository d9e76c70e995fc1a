//! The kernel's names, key lengths and truncations, and the suites they are.

use latchway_control::XfrmStep;
use latchway_esp::Suite;

use super::read;
use crate::{Command, SuiteError, suite};

fn of(protocol: &str, algorithms: &str) -> Result<(Suite, Vec<u8>), SuiteError> {
    let line = format!("state add src ::1 dst ::2 proto {protocol} spi 256 {algorithms}");
    let Ok(Command::Apply(XfrmStep::AddState(state))) = read(&line) else {
        panic!("{line}: {:?}", read(&line))
    };
    suite(&state).map(|(suite, keys)| (suite, keys.to_vec()))
}

fn key(octets: u8) -> String {
    (0..octets).fold("0x".to_owned(), |text, octet| format!("{text}{octet:02x}"))
}

/// T40: where name and key change places, the key is in no error.
#[test]
fn a_key_where_a_name_belongs_is_not_said_again() {
    // As long as a name may be.
    let key = key(16);
    let digits = key.get(2..).unwrap();
    for algorithms in [
        format!("aead {key} 'rfc4106(gcm(aes))' 128"),
        format!("enc {key} 'cbc(aes)' auth-trunc sha256 {key} 128"),
        format!("enc 'cbc(aes)' {key} auth-trunc {key} sha256 128"),
    ] {
        let error = read(&format!("state add src ::1 dst ::2 proto esp spi 256 {algorithms}")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(digits), "{error}");
    }
}

#[test]
fn algorithms_are_suites() {
    for (protocol, algorithms, name, octets) in [
        ("esp", format!("aead 'rfc4106(gcm(aes))' {} 128", key(20)), "aes-128-gcm", 20),
        ("esp", format!("aead 'rfc4106(gcm(aes))' {} 128", key(36)), "aes-256-gcm", 36),
        ("esp", format!("aead 'rfc7539esp(chacha20,poly1305)' {} 128", key(36)), "chacha20-poly1305", 36),
        (
            "esp",
            format!("enc 'cbc(aes)' {} auth-trunc 'hmac(sha256)' {} 128", key(16), key(32)),
            "aes-128-cbc-hmac-sha-256",
            48,
        ),
        (
            "esp",
            format!("auth-trunc sha256 {} 128 enc aes {}", key(32), key(32)),
            "aes-256-cbc-hmac-sha-256",
            64,
        ),
    ] {
        let (suite, keys) = of(protocol, &algorithms).unwrap();
        assert_eq!((suite.name(), keys.len()), (name, octets), "{algorithms}");
        assert_eq!(keys.len(), suite.key_len() + suite.salt_len(), "{algorithms}");
    }
}

/// RFC 7296 section 2.17 has the encryption key first, whatever was said first.
#[test]
fn the_encryption_key_comes_first_and_a_short_hmac_key_is_filled_up() {
    let keys = |algorithms: &str| of("esp", algorithms).unwrap().1;
    let (cipher, integrity) = ("11".repeat(16), "22".repeat(32));
    let whole = [[0x11; 16].as_slice(), &[0x22; 32]].concat();
    assert_eq!(
        keys(&format!("auth-trunc 'hmac(sha256)' 0x{integrity} 128 enc 'cbc(aes)' 0x{cipher}")),
        whole
    );
    // RFC 2104 section 2.
    let short = [[0x11; 16].as_slice(), &[0x22; 20], &[0; 12]].concat();
    let said = "22".repeat(20);
    assert_eq!(keys(&format!("enc 'cbc(aes)' 0x{cipher} auth-trunc 'hmac(sha256)' 0x{said} 128")), short);
}

#[test]
fn t26_what_does_not_protect_is_refused_by_name() {
    let cbc = format!("enc 'cbc(aes)' {}", key(16));
    for (protocol, algorithms, said) in [
        ("esp", cbc.clone(), "encryption without integrity"),
        ("esp", "enc 'ecb(cipher_null)' ''".to_owned(), "encryption without integrity"),
        ("esp", format!("{cbc} auth digest_null ''"), "digest_null is refused"),
        ("ah", "auth digest_null ''".to_owned(), "digest_null is refused"),
        ("esp", format!("{cbc} auth 'hmac(md5)' {}", key(16)), "hmac(md5) is refused"),
        ("esp", format!("{cbc} auth 'xcbc(aes)' {}", key(16)), "xcbc(aes) is refused"),
        ("esp", format!("enc 'cbc(des3_ede)' {} auth sha1 {}", key(24), key(20)), "cbc(des3_ede) is refused"),
        ("esp", format!("enc 'cbc(camellia)' {} auth sha1 {}", key(24), key(20)), "cbc(camellia) is refused"),
    ] {
        let error = of(protocol, &algorithms).unwrap_err().to_string();
        assert!(error.contains(said), "{algorithms}: {error}");
    }
}

#[test]
fn lengths_that_do_not_fit_are_named() {
    for (algorithms, said) in [
        (format!("aead 'rfc4106(gcm(aes))' {} 128", key(16)), "has 16 octets; it takes 20, 28 or 36"),
        (format!("aead 'rfc4106(gcm(aes))' {} 80", key(20)), "cannot be cut to 80 bits"),
        (format!("aead 'rfc4543(gcm(aes))' {} 96", key(20)), "cannot be cut to 96 bits"),
        (format!("aead 'rfc7539esp(chacha20,poly1305)' {} 128", key(32)), "it takes 36"),
        (format!("enc 'cbc(aes)' {} auth sha256 {}", key(15), key(32)), "it takes 16, 24 or 32"),
        (format!("enc 'cbc(aes)' {} auth-trunc sha256 {} 128", key(16), key(15)), "it takes 16 to 32"),
        (
            format!("enc 'cbc(aes)' {} auth-trunc sha256 {} 120", key(16), key(32)),
            "cannot be cut to 120 bits",
        ),
        (format!("enc 'ecb(cipher_null)' 0x00 auth sha256 {}", key(32)), "it takes none"),
        (
            format!("enc 'cbc(rot13)' {} auth sha256 {}", key(16), key(32)),
            "\"cbc(rot13)\" is not an algorithm",
        ),
        (format!("aead 'gcm(aes)' {} 128", key(20)), "\"gcm(aes)\" is not an algorithm"),
    ] {
        let error = of("esp", &algorithms).unwrap_err().to_string();
        assert!(error.contains(said), "{algorithms}: {error}");
    }
}
