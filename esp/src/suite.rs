//! Suites: which algorithms protect an SA, and the one table of lengths they bring (RFC 4106, RFC 7634).
//!
//! A suite is a closed choice of cipher and integrity together, so no combination exists that should not. Everything
//! that depends on a length asks [`Suite`], and [`Suite`] asks its table.

use std::fmt;
use std::str::FromStr;

use crate::error::ConfigError;

/// Bytes of SPI and sequence number in front of every payload (RFC 4303 section 2).
pub const HEADER_LEN: usize = 8;

/// The algorithms of an SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suite {
    /// AES-GCM with a 128-bit key and a 16-byte ICV (RFC 4106).
    Aes128Gcm,
    /// AES-GCM with a 256-bit key and a 16-byte ICV (RFC 4106).
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 7634).
    ChaCha20Poly1305,
}

/// One row of the table.
struct Lengths {
    key: usize,
    salt: usize,
    iv: usize,
    icv: usize,
    alignment: usize,
}

impl Suite {
    /// Every suite there is.
    pub const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// The name in configuration and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes-128-gcm",
            Self::Aes256Gcm => "aes-256-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }

    /// IKEv2's transform type 1 identifier and key length attribute in bits (RFC 4106 section 8.4, RFC 7634
    /// section 5). ChaCha20-Poly1305 carries no such attribute on the wire: its key has one length.
    pub const fn transform(self) -> (u16, u16) {
        match self {
            Self::Aes128Gcm => (20, 128),
            Self::Aes256Gcm => (20, 256),
            Self::ChaCha20Poly1305 => (28, 256),
        }
    }

    /// Bytes of key, without the salt.
    pub const fn key_len(self) -> usize {
        self.lengths().key
    }

    /// Bytes of salt, which follow the key in the key material (RFC 4106 section 8.1, RFC 7634 section 2).
    pub const fn salt_len(self) -> usize {
        self.lengths().salt
    }

    /// Bytes of explicit IV in the packet (RFC 4106 section 3.1, RFC 7634 section 2).
    #[inline]
    pub const fn iv_len(self) -> usize {
        self.lengths().iv
    }

    /// Bytes of integrity check value (RFC 4106 section 6, RFC 7634 section 2).
    #[inline]
    pub const fn icv_len(self) -> usize {
        self.lengths().icv
    }

    /// What the protected part must be a multiple of (RFC 4303 section 2.4).
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
        match self {
            Self::Aes128Gcm => Lengths { key: 16, salt: 4, iv: 8, icv: 16, alignment: 4 },
            Self::Aes256Gcm => Lengths { key: 32, salt: 4, iv: 8, icv: 16, alignment: 4 },
            Self::ChaCha20Poly1305 => Lengths { key: 32, salt: 4, iv: 8, icv: 16, alignment: 4 },
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Suite {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|suite| suite.name() == name).ok_or(ConfigError::UnknownSuite)
    }
}

/// Pad length and next header (RFC 4303 section 2).
pub(crate) const TRAILER_LEN: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for suite in Suite::ALL {
            assert_eq!(suite.name().parse(), Ok(suite));
        }
        assert_eq!("AES".parse::<Suite>(), Err(ConfigError::UnknownSuite));
        for suite in Suite::ALL {
            assert!(ConfigError::UnknownSuite.to_string().contains(suite.name()));
        }
    }

    /// RFC 4106 section 8.4, RFC 7634 section 5.
    #[test]
    fn transforms_are_those_of_ikev2() {
        assert_eq!(Suite::ALL.map(Suite::transform), [(20, 128), (20, 256), (28, 256)]);
    }

    /// T23: written out from RFC 4303 section 2.4, not computed by the code under test.
    #[test]
    fn payloads_of_1_to_1500_have_the_exact_wire_length() {
        for suite in Suite::ALL {
            for payload in 0..=1500_usize {
                let padding = (4 - (payload + 2) % 4) % 4;
                let sealed = 4 + 4 + 8 + payload + padding + 1 + 1 + 16;
                assert_eq!(suite.sealed_len(payload), sealed, "{suite} {payload}");
                assert!(sealed <= payload + suite.overhead(), "{suite} {payload}");
            }
            assert_eq!(suite.sealed_len(87), 87 + suite.overhead());
        }
    }

    #[test]
    fn max_payload_is_the_longest_that_fits() {
        for suite in Suite::ALL {
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
        for suite in Suite::ALL {
            for payload in usize::MAX - 64..=usize::MAX {
                assert!(suite.sealed_len(payload) >= payload);
            }
        }
    }
}
