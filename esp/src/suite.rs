//! Suites: which algorithms protect an SA, and the one table of lengths they bring (RFC 4106, RFC 7634,
//! RFC 3602 with RFC 4868).
//!
//! A suite is a closed choice of cipher and integrity together, so no combination exists that should not. Everything
//! that depends on a length asks [`Suite`], and [`Suite`] asks its table.

use std::fmt;
use std::str::FromStr;

use crate::error::ConfigError;
use crate::protocol::Protocol;

/// Bytes of SPI and sequence number in front of every payload (RFC 4303 section 2).
pub const HEADER_LEN: usize = 8;

/// The algorithms of an SA, encryption and integrity together. Made of nothing but combinations that protect (T26).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Suite(Kind);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
    Aes128CbcHmacSha256,
    Aes256CbcHmacSha256,
}

/// One row of the table.
struct Lengths {
    /// Of the cipher.
    key: usize,
    /// Of the integrity algorithm, where it is apart.
    integrity_key: usize,
    salt: usize,
    iv: usize,
    icv: usize,
    /// What the cipher takes at a time; 1 where it takes any number of bytes.
    block: usize,
    alignment: usize,
}

impl Suite {
    /// AES-GCM with a 128-bit key and a 16-byte ICV (RFC 4106).
    pub const AES_128_GCM: Self = Self(Kind::Aes128Gcm);
    /// AES-GCM with a 256-bit key and a 16-byte ICV (RFC 4106).
    pub const AES_256_GCM: Self = Self(Kind::Aes256Gcm);
    /// ChaCha20-Poly1305 (RFC 7634).
    pub const CHACHA20_POLY1305: Self = Self(Kind::ChaCha20Poly1305);
    /// AES-CBC with a 128-bit key (RFC 3602), and HMAC-SHA-256 cut to a 16-byte ICV (RFC 4868).
    pub const AES_128_CBC_HMAC_SHA_256: Self = Self(Kind::Aes128CbcHmacSha256);
    /// AES-CBC with a 256-bit key (RFC 3602), and HMAC-SHA-256 cut to a 16-byte ICV (RFC 4868).
    pub const AES_256_CBC_HMAC_SHA_256: Self = Self(Kind::Aes256CbcHmacSha256);

    /// Those that RFC 8221 sections 5 and 6 say an implementation must or should have, with a key length each.
    pub const RECOMMENDED: [Self; 5] = [
        Self::AES_128_GCM,
        Self::AES_256_GCM,
        Self::CHACHA20_POLY1305,
        Self::AES_128_CBC_HMAC_SHA_256,
        Self::AES_256_CBC_HMAC_SHA_256,
    ];

    /// Every suite there is.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::RECOMMENDED.into_iter()
    }

    /// The header that carries it.
    pub const fn protocol(self) -> Protocol {
        Protocol::Esp
    }

    /// Whether the payload is hidden from the wire: with NULL it is not, nor with GMAC or AH.
    pub const fn is_confidential(self) -> bool {
        true
    }

    /// The name in configuration and output.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Aes128Gcm => "aes-128-gcm",
            Kind::Aes256Gcm => "aes-256-gcm",
            Kind::ChaCha20Poly1305 => "chacha20-poly1305",
            Kind::Aes128CbcHmacSha256 => "aes-128-cbc-hmac-sha-256",
            Kind::Aes256CbcHmacSha256 => "aes-256-cbc-hmac-sha-256",
        }
    }

    /// IKEv2's transform type 1 identifier, of the encryption, and its key's length in bits (RFC 7296 section 3.3.2,
    /// RFC 4106 section 8.4, RFC 7634 section 5). ChaCha20-Poly1305 carries no such attribute on the wire: its key has one
    /// length. AH has none.
    pub const fn encryption_transform(self) -> Option<(u16, u16)> {
        Some(match self.0 {
            Kind::Aes128Gcm => (20, 128),
            Kind::Aes256Gcm => (20, 256),
            Kind::ChaCha20Poly1305 => (28, 256),
            Kind::Aes128CbcHmacSha256 => (12, 128),
            Kind::Aes256CbcHmacSha256 => (12, 256),
        })
    }

    /// IKEv2's transform type 3 identifier, of the integrity algorithm where it is apart from encryption, and its key's
    /// length in bits (RFC 4868 section 4).
    pub const fn integrity_transform(self) -> Option<(u16, u16)> {
        match self.0 {
            Kind::Aes128Gcm | Kind::Aes256Gcm | Kind::ChaCha20Poly1305 => None,
            Kind::Aes128CbcHmacSha256 | Kind::Aes256CbcHmacSha256 => Some((12, 256)),
        }
    }

    /// Whether a sequence number that comes twice under one key is a catastrophe: its cipher is a key stream, which gives
    /// away plaintext, and with it the key of its authenticator (RFC 8221 section 3, T12).
    pub const fn is_counter_mode(self) -> bool {
        match self.0 {
            Kind::Aes128Gcm | Kind::Aes256Gcm | Kind::ChaCha20Poly1305 => true,
            Kind::Aes128CbcHmacSha256 | Kind::Aes256CbcHmacSha256 => false,
        }
    }

    /// Bytes of key, without the salt: the encryption key, followed by the integrity key where there is one
    /// (RFC 7296 section 2.17).
    pub const fn key_len(self) -> usize {
        self.lengths().key + self.lengths().integrity_key
    }

    /// What the key material is, in its order, for people.
    pub const fn key_layout(self) -> &'static str {
        match self.0 {
            Kind::Aes128Gcm | Kind::Aes256Gcm | Kind::ChaCha20Poly1305 => "key, then salt",
            Kind::Aes128CbcHmacSha256 | Kind::Aes256CbcHmacSha256 => "encryption key, then integrity key",
        }
    }

    /// Bytes of salt, which follow the key in the key material (RFC 4106 section 8.1, RFC 7634 section 2).
    pub const fn salt_len(self) -> usize {
        self.lengths().salt
    }

    /// Bytes of explicit IV in the packet (RFC 4106 section 3.1, RFC 7634 section 2, RFC 3602 section 3).
    #[inline]
    pub const fn iv_len(self) -> usize {
        self.lengths().iv
    }

    /// Bytes of integrity check value (RFC 4106 section 6, RFC 7634 section 2, RFC 4868 section 2.3).
    #[inline]
    pub const fn icv_len(self) -> usize {
        self.lengths().icv
    }

    /// What the sender makes the protected part a multiple of (RFC 4303 section 2.4).
    #[inline]
    pub const fn pad_alignment(self) -> usize {
        self.lengths().alignment
    }

    /// Where the payload begins, counted from the SPI.
    #[inline]
    pub const fn payload_offset(self) -> usize {
        HEADER_LEN + self.iv_len()
    }

    /// The length of the ESP packet around a payload, from SPI to ICV (RFC 4303 section 2.4). A length no buffer can
    /// have saturates.
    #[inline]
    pub const fn sealed_len(self, payload_len: usize) -> usize {
        let padded =
            match payload_len.saturating_add(TRAILER_LEN).checked_next_multiple_of(self.pad_alignment()) {
                Some(padded) => padded,
                None => usize::MAX,
            };
        padded.saturating_add(self.payload_offset() + self.icv_len())
    }

    /// The length of the shortest packet that can be: one that is shorter is a runt.
    #[inline]
    pub const fn smallest_len(self) -> usize {
        let block = self.lengths().block;
        let protected = if block > TRAILER_LEN { block } else { TRAILER_LEN };
        self.payload_offset() + protected + self.icv_len()
    }

    /// How many bytes the cipher is applied to for a payload of `payload_len`: payload, padding, pad length and next
    /// header. Byte lifetimes count these (RFC 4301 section 4.4.2.1).
    #[inline]
    pub const fn encrypted_len(self, payload_len: usize) -> usize {
        self.sealed_len(payload_len) - self.payload_offset() - self.icv_len()
    }

    /// The most that sealing adds to a payload of any length.
    #[inline]
    pub const fn overhead(self) -> usize {
        self.payload_offset() + (self.pad_alignment() - 1) + TRAILER_LEN + self.icv_len()
    }

    /// The longest payload whose sealed packet fits into `sealed_budget`; `None` where not even an empty one does.
    #[inline]
    pub const fn max_payload(self, sealed_budget: usize) -> Option<usize> {
        let Some(protected) = sealed_budget.checked_sub(self.payload_offset() + self.icv_len()) else {
            return None;
        };
        (protected - protected % self.pad_alignment()).checked_sub(TRAILER_LEN)
    }

    /// The table.
    #[inline]
    const fn lengths(self) -> Lengths {
        const AEAD: Lengths =
            Lengths { key: 32, integrity_key: 0, salt: 4, iv: 8, icv: 16, block: 1, alignment: 4 };
        const CBC_HMAC: Lengths =
            Lengths { key: 32, integrity_key: 32, salt: 0, iv: 16, icv: 16, block: 16, alignment: 16 };
        match self.0 {
            Kind::Aes128Gcm => Lengths { key: 16, ..AEAD },
            Kind::Aes256Gcm | Kind::ChaCha20Poly1305 => AEAD,
            Kind::Aes128CbcHmacSha256 => Lengths { key: 16, ..CBC_HMAC },
            Kind::Aes256CbcHmacSha256 => CBC_HMAC,
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Suite({})", self.name())
    }
}

impl FromStr for Suite {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::all().find(|suite| suite.name() == name).ok_or(ConfigError::UnknownSuite)
    }
}

/// Pad length and next header (RFC 4303 section 2).
pub(crate) const TRAILER_LEN: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for suite in Suite::all() {
            assert_eq!(suite.name().parse(), Ok(suite));
        }
        assert_eq!("AES".parse::<Suite>(), Err(ConfigError::UnknownSuite));
        for suite in Suite::all() {
            assert!(ConfigError::UnknownSuite.to_string().contains(suite.name()));
        }
    }

    /// RFC 7296 section 3.3.2, RFC 4106 section 8.4, RFC 7634 section 5, RFC 4868 section 4.
    #[test]
    fn transforms_are_those_of_ikev2() {
        let encryption = [(20, 128), (20, 256), (28, 256), (12, 128), (12, 256)].map(Some);
        assert_eq!(Suite::RECOMMENDED.map(Suite::encryption_transform), encryption);
        let integrity = [None, None, None, Some((12, 256)), Some((12, 256))];
        assert_eq!(Suite::RECOMMENDED.map(Suite::integrity_transform), integrity);
    }

    /// T26: no suite encrypts without integrity, and none has an ICV that is guessed.
    #[test]
    fn every_suite_has_integrity() {
        for suite in Suite::all() {
            let combined = matches!(suite.encryption_transform(), Some((20 | 28, _)));
            assert_ne!(combined, suite.integrity_transform().is_some(), "{suite}");
            assert_eq!(suite.icv_len(), 16, "{suite}");
        }
        for name in ["aes-128-cbc", "aes-256-cbc", "null", "aes-128-ctr", "hmac-sha-256-128"] {
            assert_eq!(name.parse::<Suite>(), Err(ConfigError::UnknownSuite));
        }
    }

    /// RFC 8221 section 3, T12.
    #[test]
    fn counter_modes_are_told_from_cbc() {
        assert_eq!(Suite::RECOMMENDED.map(Suite::is_counter_mode), [true, true, true, false, false]);
    }

    /// T23: written out from RFC 4303 section 2.4, not computed by the code under test.
    #[test]
    fn payloads_of_1_to_1500_have_the_exact_wire_length() {
        for suite in Suite::all() {
            for payload in 0..=1500_usize {
                let (iv, block) = if suite.is_counter_mode() { (8, 4) } else { (16, 16) };
                let padding = (block - (payload + 2) % block) % block;
                let sealed = 4 + 4 + iv + payload + padding + 1 + 1 + 16;
                assert_eq!(suite.sealed_len(payload), sealed, "{suite} {payload}");
                assert!(sealed <= payload + suite.overhead(), "{suite} {payload}");
            }
            // 95 is 15 modulo 16 and 3 modulo 4: the trailer needs the most padding there is.
            assert_eq!(suite.sealed_len(95), 95 + suite.overhead());
        }
    }

    #[test]
    fn max_payload_is_the_longest_that_fits() {
        for suite in Suite::all() {
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
}
