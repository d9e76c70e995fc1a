//! The one door to cryptography: keys that seal and open the packet of one SA, in place and without allocation.
//!
//! [`SealingKey`] and [`OpeningKey`] choose by suite between the two forms a packet has: those of an AEAD, whose cipher is
//! a backend's ([`Aead`]), and those whose encryption and integrity are apart. Nothing outside knows which it is.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::{ConfigError, OpenError, SealError};
use crate::header::iv_of;
use crate::key::KeyMaterial;
use crate::number::{EsnHigh, SeqNum};
use crate::suite::{HEADER_LEN, Suite};

pub(crate) use self::aead::{Aead, AeadKey, ICV_LEN, NONCE_LEN};
pub(crate) use self::cbc_hmac::{CbcHmacKey, IvKey};

mod aead;
mod cbc_hmac;
#[cfg(feature = "ring")]
pub(crate) mod ring;
#[cfg(any(test, not(feature = "ring")))]
pub(crate) mod rustcrypto;

/// The backend of AEADs that packets go through.
#[cfg(feature = "ring")]
pub(crate) type Backend = self::ring::RingAead;
/// The backend of AEADs that packets go through.
#[cfg(not(feature = "ring"))]
pub(crate) type Backend = self::rustcrypto::RustCryptoAead;

/// Seals the packets of one SA.
pub(crate) enum SealingKey<A = Backend> {
    Aead(AeadKey<A>),
    CbcHmac(CbcHmacKey, IvKey),
}

/// Opens the packets of one SA.
pub(crate) enum OpeningKey<A = Backend> {
    Aead(AeadKey<A>),
    CbcHmac(CbcHmacKey),
}

impl<A: Aead> SealingKey<A> {
    pub(crate) fn new(keys: &KeyMaterial) -> Result<Self, ConfigError> {
        match keys.suite() {
            Suite::AES_128_CBC_HMAC_SHA_256 | Suite::AES_256_CBC_HMAC_SHA_256 => {
                Ok(Self::CbcHmac(CbcHmacKey::new(keys)?, IvKey::random()?))
            }
            Suite::AES_128_GCM | Suite::AES_256_GCM | Suite::CHACHA20_POLY1305 => {
                AeadKey::new(keys).map(Self::Aead)
            }
        }
    }

    /// Protects `packet`, which is header, room for the IV, plaintext with its trailer, room for the ICV. `high` is the
    /// high half of `seq` where numbers are extended.
    #[inline]
    pub(crate) fn seal(
        &self,
        seq: SeqNum,
        high: Option<EsnHigh>,
        packet: &mut [u8],
    ) -> Result<(), SealError> {
        match self {
            Self::Aead(key) => key.seal(high, iv_of(seq), packet),
            Self::CbcHmac(key, iv_key) => key.seal(high, iv_key.iv(seq), packet),
        }
    }
}

impl<A: Aead> OpeningKey<A> {
    pub(crate) fn new(keys: &KeyMaterial) -> Result<Self, ConfigError> {
        match keys.suite() {
            Suite::AES_128_CBC_HMAC_SHA_256 | Suite::AES_256_CBC_HMAC_SHA_256 => {
                CbcHmacKey::new(keys).map(Self::CbcHmac)
            }
            Suite::AES_128_GCM | Suite::AES_256_GCM | Suite::CHACHA20_POLY1305 => {
                AeadKey::new(keys).map(Self::Aead)
            }
        }
    }

    /// Verifies `packet` and gives its plaintext with the trailer; a packet that fails is left without any.
    #[inline]
    pub(crate) fn open<'p>(
        &self,
        high: Option<EsnHigh>,
        packet: &'p mut [u8],
    ) -> Result<&'p mut [u8], OpenError> {
        match self {
            Self::Aead(key) => key.open(high, packet),
            Self::CbcHmac(key) => key.open(high, packet),
        }
    }
}

/// Suite and key material under a secret, one way (HMAC-SHA-256, RFC 2104).
pub(crate) fn fingerprint(secret: &[u8; 32], suite: Suite, octets: &[u8]) -> [u8; 32] {
    // RFC 2104 section 2: a key is filled with zeros to the length of the hash's block.
    let mut key = Zeroizing::new([0; 64]);
    key.iter_mut().zip(secret).for_each(|(to, from)| *to = *from);
    let mut mac = <Hmac<Sha256> as KeyInit>::new((&*key).into());
    // No name holds a zero octet, so nothing else begins like this name and this key.
    for part in [suite.name().as_bytes(), &[0], octets] {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// A packet taken apart (RFC 4303 section 2, figure 2).
struct Parts<'p, const IV_LEN: usize> {
    header: &'p mut [u8; HEADER_LEN],
    iv: &'p mut [u8; IV_LEN],
    body: &'p mut [u8],
    icv: &'p mut [u8; ICV_LEN],
}

impl<'p, const IV_LEN: usize> Parts<'p, IV_LEN> {
    #[inline]
    fn of(packet: &'p mut [u8]) -> Option<Self> {
        let (header, rest) = packet.split_first_chunk_mut()?;
        let (iv, rest) = rest.split_first_chunk_mut()?;
        let (body, icv) = rest.split_last_chunk_mut()?;
        Some(Self { header, iv, body, icv })
    }
}
