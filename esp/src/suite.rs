//! Suites: which algorithms protect an SA, and the lengths they bring.
//!
//! A suite is made of algorithms by constructors that take nothing unprotected: encryption without integrity has no
//! value here, and neither has NULL with nothing beside it (RFC 8221 section 4, T26). Everything that depends on a length
//! asks [`Suite`]; SAs keep its answers.

use std::fmt;
use std::str::FromStr;

use crate::error::ConfigError;
use crate::protocol::Protocol;

pub use self::algorithms::{AesKey, Cipher, Combined, IcvLen, Integrity};
pub use self::lengths::HEADER_LEN;
pub(crate) use self::lengths::{AH_FIXED_LEN, Lengths, TRAILER_LEN};

mod algorithms;
mod lengths;
mod names;

/// The algorithms of an SA, encryption and integrity together. Made of nothing but combinations that protect (T26).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Suite(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// ESP of one algorithm.
    Combined(Combined),
    /// ESP of two.
    Apart(Cipher, Integrity),
    /// AH.
    Header(Integrity),
    /// AH by AES-GMAC.
    HeaderGmac(AesKey),
}

impl Suite {
    /// AES-GCM with a 128-bit key and a 16-byte ICV (RFC 4106).
    pub const AES_128_GCM: Self = Self::combined(Combined::AesGcm(AesKey::Aes128, IcvLen::Sixteen));
    /// AES-GCM with a 256-bit key and a 16-byte ICV (RFC 4106).
    pub const AES_256_GCM: Self = Self::combined(Combined::AesGcm(AesKey::Aes256, IcvLen::Sixteen));
    /// ChaCha20-Poly1305 (RFC 7634).
    pub const CHACHA20_POLY1305: Self = Self::combined(Combined::ChaCha20Poly1305);
    /// AES-CBC with a 128-bit key (RFC 3602), and HMAC-SHA-256 cut to a 16-byte ICV (RFC 4868).
    pub const AES_128_CBC_HMAC_SHA_256: Self =
        Self::apart(Cipher::AesCbc(AesKey::Aes128), Integrity::HmacSha256);
    /// AES-CBC with a 256-bit key (RFC 3602), and HMAC-SHA-256 cut to a 16-byte ICV (RFC 4868).
    pub const AES_256_CBC_HMAC_SHA_256: Self =
        Self::apart(Cipher::AesCbc(AesKey::Aes256), Integrity::HmacSha256);
    /// AH by HMAC-SHA-256 cut to a 16-byte ICV (RFC 4868).
    pub const AH_HMAC_SHA_256: Self = Self::ah(Integrity::HmacSha256);

    /// Those that RFC 8221 sections 5 and 6 say an implementation must or should have for ESP, with a key length each.
    pub const RECOMMENDED: [Self; 5] = [
        Self::AES_128_GCM,
        Self::AES_256_GCM,
        Self::CHACHA20_POLY1305,
        Self::AES_128_CBC_HMAC_SHA_256,
        Self::AES_256_CBC_HMAC_SHA_256,
    ];

    /// ESP by an algorithm that is encryption and integrity at once.
    pub const fn combined(algorithm: Combined) -> Self {
        Self(Kind::Combined(algorithm))
    }

    /// ESP by encryption, or none, and integrity beside it.
    pub const fn apart(cipher: Cipher, integrity: Integrity) -> Self {
        Self(Kind::Apart(cipher, integrity))
    }

    /// AH.
    pub const fn ah(integrity: Integrity) -> Self {
        Self(Kind::Header(integrity))
    }

    /// AH by AES-GMAC (RFC 4543 section 4).
    pub const fn ah_gmac(key: AesKey) -> Self {
        Self(Kind::HeaderGmac(key))
    }

    /// Every suite there is.
    pub fn all() -> impl Iterator<Item = Self> {
        let apart =
            Cipher::all().flat_map(|cipher| Integrity::ALL.map(|integrity| Self::apart(cipher, integrity)));
        let header = Integrity::ALL.map(Self::ah).into_iter().chain(AesKey::ALL.map(Self::ah_gmac));
        Combined::all().map(Self::combined).chain(apart).chain(header)
    }

    /// The header that carries it.
    pub const fn protocol(self) -> Protocol {
        match self.0 {
            Kind::Combined(_) | Kind::Apart(..) => Protocol::Esp,
            Kind::Header(_) | Kind::HeaderGmac(_) => Protocol::Ah,
        }
    }

    /// Whether the payload is hidden from the wire: with NULL it is not, nor with GMAC or AH.
    pub const fn is_confidential(self) -> bool {
        match self.0 {
            Kind::Combined(combined) => !matches!(combined, Combined::AesGmac(_)),
            Kind::Apart(cipher, _) => !matches!(cipher, Cipher::Null),
            Kind::Header(_) | Kind::HeaderGmac(_) => false,
        }
    }

    /// Whether a sequence number that comes twice under one key is a catastrophe: its cipher is a key stream, which gives
    /// away plaintext, or its authenticator gives away its own key (RFC 8221 section 3, RFC 4543 section 2, T12).
    pub const fn is_counter_mode(self) -> bool {
        match self.0 {
            Kind::Combined(_) | Kind::HeaderGmac(_) | Kind::Apart(Cipher::AesCtr(_), _) => true,
            Kind::Apart(Cipher::Null | Cipher::AesCbc(_), _) | Kind::Header(_) => false,
        }
    }

    /// The suite that stands for all whose nonces are made alike of a key and a salt, so that numbers of one repeat those of
    /// another: however long the ICV, explicit or not the IV, and whatever else checks integrity (RFC 4106 section 3.1,
    /// RFC 3686 section 4, RFC 4543 section 3.2, T11). Of others it is the suite itself.
    pub(crate) const fn sharing_nonces(self) -> Self {
        Self::combined(match self.0 {
            Kind::Combined(
                Combined::AesGcm(key, _) | Combined::AesGcmImplicitIv(key) | Combined::AesGmac(key),
            )
            | Kind::HeaderGmac(key)
            | Kind::Apart(Cipher::AesCtr(key), _) => Combined::AesGcm(key, IcvLen::Sixteen),
            Kind::Combined(Combined::AesCcm(key, _) | Combined::AesCcm8ImplicitIv(key)) => {
                Combined::AesCcm(key, IcvLen::Sixteen)
            }
            Kind::Combined(Combined::ChaCha20Poly1305 | Combined::ChaCha20Poly1305ImplicitIv) => {
                Combined::ChaCha20Poly1305
            }
            Kind::Apart(Cipher::Null | Cipher::AesCbc(_), _) | Kind::Header(_) => return self,
        })
    }

    /// IKEv2's transform type 1 identifier, of the encryption, and its key's length in bits (RFC 7296 section 3.3.2,
    /// RFC 8247 section 2.1, RFC 8750 section 8). Algorithms whose key has one length carry no such attribute on the wire.
    /// AH has none.
    pub const fn encryption_transform(self) -> Option<(u16, u16)> {
        Some(match self.0 {
            Kind::Combined(combined) => match combined {
                Combined::AesGcm(key, IcvLen::Eight) => (18, key.bits()),
                Combined::AesGcm(key, IcvLen::Twelve) => (19, key.bits()),
                Combined::AesGcm(key, IcvLen::Sixteen) => (20, key.bits()),
                Combined::AesCcm(key, IcvLen::Eight) => (14, key.bits()),
                Combined::AesCcm(key, IcvLen::Twelve) => (15, key.bits()),
                Combined::AesCcm(key, IcvLen::Sixteen) => (16, key.bits()),
                Combined::AesGmac(key) => (21, key.bits()),
                Combined::ChaCha20Poly1305 => (28, 256),
                Combined::AesCcm8ImplicitIv(key) => (29, key.bits()),
                Combined::AesGcmImplicitIv(key) => (30, key.bits()),
                Combined::ChaCha20Poly1305ImplicitIv => (31, 256),
            },
            Kind::Apart(Cipher::Null, _) => (11, 0),
            Kind::Apart(Cipher::AesCbc(key), _) => (12, key.bits()),
            Kind::Apart(Cipher::AesCtr(key), _) => (13, key.bits()),
            Kind::Header(_) | Kind::HeaderGmac(_) => return None,
        })
    }

    /// IKEv2's transform type 3 identifier, of the integrity algorithm where it is apart from encryption, and its key's
    /// length in bits (RFC 8247 section 2.3). With GMAC it is that of AH, in ESP as well, which hides nothing either
    /// (RFC 4543 section 9). HMAC-SHA-256 cut to 96 bits has none of IANA's; this one is of the range for private use.
    pub const fn integrity_transform(self) -> Option<(u16, u16)> {
        match self.0 {
            Kind::Combined(Combined::AesGmac(key)) | Kind::HeaderGmac(key) => Some(match key {
                AesKey::Aes128 => (9, 128),
                AesKey::Aes192 => (10, 192),
                AesKey::Aes256 => (11, 256),
            }),
            Kind::Combined(_) => None,
            Kind::Apart(_, integrity) | Kind::Header(integrity) => Some(match integrity {
                Integrity::HmacSha1 => (2, 160),
                Integrity::AesCmac => (8, 128),
                Integrity::HmacSha256 => (12, 256),
                Integrity::HmacSha384 => (13, 384),
                Integrity::HmacSha512 => (14, 512),
                Integrity::HmacSha256Cut96 => (1027, 256),
            }),
        }
    }

    /// Bytes of key, without the salt: the encryption key, followed by the integrity key where there is one
    /// (RFC 7296 section 2.17).
    pub const fn key_len(self) -> usize {
        self.lengths().encryption_key + self.lengths().integrity_key
    }

    /// What the key material is, in its order, for people.
    pub const fn key_layout(self) -> &'static str {
        match self.0 {
            Kind::Combined(_) | Kind::HeaderGmac(_) => "key, then salt",
            Kind::Apart(Cipher::AesCbc(_), _) => "encryption key, then integrity key",
            Kind::Apart(Cipher::AesCtr(_), _) => "encryption key, nonce, then integrity key",
            Kind::Apart(Cipher::Null, _) | Kind::Header(_) => "integrity key",
        }
    }

    /// Bytes of salt, which follow the encryption key in the key material (RFC 4106 section 8.1, RFC 7634 section 2,
    /// RFC 4309 section 7.1, RFC 4543 section 5.4); of AES-CTR, the nonce (RFC 3686 section 5.1).
    pub const fn salt_len(self) -> usize {
        self.lengths().salt
    }

    /// Bytes of all key material.
    pub const fn material_len(self) -> usize {
        self.key_len() + self.salt_len()
    }

    /// Bytes of explicit IV in the packet (RFC 4106 section 3.1, RFC 7634 section 2, RFC 3602 section 3, RFC 3686
    /// section 3.1); none where it is implicit (RFC 8750).
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

    /// Where the payload begins, counted from the SPI; of AH, how long the header is over IPv6.
    #[inline]
    pub const fn payload_offset(self) -> usize {
        self.lengths().front
    }

    /// The length of the ESP packet around a payload, from SPI to ICV (RFC 4303 section 2.4). A length no buffer can
    /// have saturates. Of AH: header and payload over IPv6, and what follows likewise.
    #[inline]
    pub const fn sealed_len(self, payload_len: usize) -> usize {
        self.lengths().sealed(payload_len)
    }

    /// The length of the shortest packet that can be: one that is shorter is a runt.
    #[inline]
    pub const fn smallest_len(self) -> usize {
        self.lengths().smallest()
    }

    /// How many bytes the cipher is applied to for a payload of `payload_len`: payload, padding, pad length and next
    /// header. Byte lifetimes count these (RFC 4301 section 4.4.2.1).
    #[inline]
    pub const fn encrypted_len(self, payload_len: usize) -> usize {
        self.lengths().encrypted(payload_len)
    }

    /// The most that sealing adds to a payload of any length.
    #[inline]
    pub const fn overhead(self) -> usize {
        self.lengths().overhead()
    }

    /// The longest payload whose sealed packet fits into `sealed_budget`; `None` where not even an empty one does.
    #[inline]
    pub const fn max_payload(self, sealed_budget: usize) -> Option<usize> {
        self.lengths().max_payload(sealed_budget)
    }

    /// The length of its AH header where it is aligned as RFC 4302 section 2.6 says: to 4 octets over IPv4, to 8 over
    /// IPv6. None where it is of ESP.
    #[inline]
    pub const fn ah_len(self, v6: bool) -> Option<usize> {
        match self.protocol() {
            Protocol::Esp => None,
            Protocol::Ah => Some(self.lengths().header(v6)),
        }
    }

    pub(crate) const fn kind(self) -> Kind {
        self.0
    }

    #[inline]
    pub(crate) const fn lengths(self) -> Lengths {
        Lengths::of(self.0)
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

#[cfg(test)]
mod tests;
