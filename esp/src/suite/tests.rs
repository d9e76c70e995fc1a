//! The tables, against what the RFCs write out.

use std::collections::HashSet;

use super::*;
use crate::tests::{ah, by_name, esp};

#[test]
fn names_are_read_back_and_each_is_one_suites() {
    let mut names = HashSet::new();
    for suite in Suite::all() {
        assert_eq!(suite.name().parse(), Ok(suite));
        assert!(names.insert(suite.name()), "{suite}");
    }
    assert_eq!(names.len(), 9 + 9 + 3 * 3 + 2 + 7 * 6 + 6 + 3);
    assert_eq!("AES".parse::<Suite>(), Err(ConfigError::UnknownSuite));
    for suite in Suite::RECOMMENDED {
        assert!(ConfigError::UnknownSuite.to_string().contains(suite.name()));
        assert!(Suite::all().any(|one| one == suite));
    }
}

/// RFC 8247 sections 2.1 and 2.3, RFC 8750 section 8, RFC 4543 section 9, RFC 4868 section 4, RFC 4494 section 6.
#[test]
fn transforms_are_those_of_ikev2() {
    for (name, encryption, integrity) in [
        ("aes-128-gcm", Some((20, 128)), None),
        ("aes-192-gcm-8", Some((18, 192)), None),
        ("aes-256-gcm-12", Some((19, 256)), None),
        ("aes-128-ccm-8", Some((14, 128)), None),
        ("aes-192-ccm-12", Some((15, 192)), None),
        ("aes-256-ccm", Some((16, 256)), None),
        ("aes-128-gmac", Some((21, 128)), Some((9, 128))),
        ("chacha20-poly1305", Some((28, 256)), None),
        ("aes-128-ccm-8-iiv", Some((29, 128)), None),
        ("aes-256-gcm-iiv", Some((30, 256)), None),
        ("chacha20-poly1305-iiv", Some((31, 256)), None),
        ("null-hmac-sha-1", Some((11, 0)), Some((2, 160))),
        ("aes-192-cbc-aes-cmac", Some((12, 192)), Some((8, 128))),
        ("aes-256-ctr-hmac-sha-256", Some((13, 256)), Some((12, 256))),
        ("ah-hmac-sha-384", None, Some((13, 384))),
        ("ah-hmac-sha-512", None, Some((14, 512))),
        ("ah-aes-192-gmac", None, Some((10, 192))),
        ("ah-aes-256-gmac", None, Some((11, 256))),
    ] {
        let suite: Suite = name.parse().unwrap();
        assert_eq!(suite.encryption_transform(), encryption, "{name}");
        assert_eq!(suite.integrity_transform(), integrity, "{name}");
    }
    let all = |suite: Suite| (suite.encryption_transform(), suite.integrity_transform(), suite.protocol());
    let told: HashSet<_> = Suite::all().map(all).collect();
    assert_eq!(told.len(), Suite::all().count(), "no two suites look alike to a latch");
}

/// T26: no suite encrypts without integrity, and none has an ICV that is guessed.
#[test]
fn every_suite_has_integrity() {
    for suite in Suite::all() {
        let combined = matches!(suite.encryption_transform(), Some((14..=16 | 18..=20 | 28..=31, _)));
        assert_ne!(combined, suite.integrity_transform().is_some(), "{suite}");
        assert!(suite.icv_len() >= 8, "{suite}");
    }
    for name in ["aes-128-cbc", "aes-256-cbc", "null", "aes-128-ctr", "hmac-sha-256-128", "ah", "ah-null"] {
        assert_eq!(name.parse::<Suite>(), Err(ConfigError::UnknownSuite));
    }
}

/// RFC 8221 section 3, RFC 4543 section 2, T12.
#[test]
fn counter_modes_are_told_from_the_others() {
    for suite in Suite::all() {
        let counts = ["gcm", "ccm", "gmac", "chacha20", "ctr"].iter().any(|part| suite.name().contains(part));
        assert_eq!(suite.is_counter_mode(), counts, "{suite}");
        let hides = !["null", "gmac", "ah-"].iter().any(|part| suite.name().contains(part));
        assert_eq!(suite.is_confidential(), hides, "{suite}");
    }
}

/// RFC 4106 section 8.1, RFC 4309 section 7.1, RFC 3686 section 5.1, RFC 4868 section 2.1.1, RFC 4543 section 5.4.
#[test]
fn key_material_is_as_long_as_the_rfcs_say() {
    for (name, octets) in [
        ("aes-128-gcm", 16 + 4),
        ("aes-192-gcm-8", 24 + 4),
        ("aes-256-ccm-12", 32 + 3),
        ("aes-256-gcm-iiv", 32 + 4),
        ("aes-192-gmac", 24 + 4),
        ("chacha20-poly1305", 32 + 4),
        ("aes-128-ctr-hmac-sha-512", 16 + 4 + 64),
        ("aes-192-cbc-hmac-sha-384", 24 + 48),
        ("null-hmac-sha-1", 20),
        ("null-aes-cmac", 16),
        ("null-hmac-sha-256-96", 32),
        ("ah-hmac-sha-256", 32),
        ("ah-aes-128-gmac", 16 + 4),
    ] {
        assert_eq!(name.parse::<Suite>().unwrap().material_len(), octets, "{name}");
    }
}

/// T23: written out from RFC 4303 section 2.4, not computed by the code under test.
#[test]
fn payloads_of_0_to_1500_have_the_exact_wire_length() {
    for suite in esp() {
        let (iv, block, icv) = by_name(suite);
        for payload in 0..=1500_usize {
            let padding = (block - (payload + 2) % block) % block;
            let sealed = 4 + 4 + iv + payload + padding + 1 + 1 + icv;
            assert_eq!(suite.sealed_len(payload), sealed, "{suite} {payload}");
            assert_eq!(suite.encrypted_len(payload), payload + padding + 2, "{suite} {payload}");
            assert!(sealed <= payload + suite.overhead(), "{suite} {payload}");
        }
        assert_eq!(suite.payload_offset(), 8 + iv, "{suite}");
        // 95 is 15 modulo 16 and 3 modulo 4: the trailer needs the most padding there is.
        assert_eq!(suite.sealed_len(95), 95 + suite.overhead());
    }
}

/// RFC 4303 section 2.3: whatever the IV, what is protected begins at a multiple of 8 octets, which IPv6 asks for and IPv4 is
/// content with. Section 2.4: the trailer ends at one of 4.
#[test]
fn rfc_4303_2_3_what_is_protected_begins_at_a_multiple_of_8_octets() {
    for suite in esp() {
        assert_eq!(suite.payload_offset() % 8, 0, "{suite}");
        for payload in 0..=64 {
            let end = suite.sealed_len(payload) - suite.icv_len();
            assert_eq!(end % 4, 0, "{suite} {payload}");
        }
    }
}

/// RFC 4302 sections 2.2 and 2.6: over IPv4 whole words, over IPv6 whole pairs of them.
#[test]
fn authentication_headers_have_the_exact_length() {
    for (name, v4, v6) in [
        ("ah-hmac-sha-1", 24, 24),
        ("ah-aes-cmac", 24, 24),
        ("ah-hmac-sha-256-96", 24, 24),
        ("ah-hmac-sha-256", 28, 32),
        ("ah-hmac-sha-384", 36, 40),
        ("ah-hmac-sha-512", 44, 48),
        ("ah-aes-128-gmac", 36, 40),
        ("ah-aes-256-gmac", 36, 40),
    ] {
        let suite: Suite = name.parse().unwrap();
        assert_eq!((suite.ah_len(false), suite.ah_len(true)), (Some(v4), Some(v6)), "{name}");
        assert_eq!((suite.sealed_len(100), suite.overhead(), suite.encrypted_len(100)), (100 + v6, v6, 100));
        assert_eq!((suite.max_payload(v6 + 7), suite.max_payload(v6 - 1)), (Some(7), None));
    }
    assert!(esp().all(|suite| suite.ah_len(false).is_none() && suite.ah_len(true).is_none()));
    assert_eq!(ah().count(), 9);
}

#[test]
fn max_payload_is_the_longest_that_fits() {
    for suite in esp() {
        assert_eq!(suite.max_payload(suite.sealed_len(0) - 1), None);
        for budget in suite.sealed_len(0)..=1500 {
            let payload = suite.max_payload(budget).unwrap();
            assert!(suite.sealed_len(payload) <= budget, "{suite} {budget}");
            assert!(suite.sealed_len(payload + 1) > budget, "{suite} {budget}");
        }
    }
}

#[test]
fn lengths_no_buffer_has_saturate() {
    for suite in Suite::all() {
        for payload in usize::MAX - 64..=usize::MAX {
            assert!(suite.sealed_len(payload) >= payload);
        }
    }
}
