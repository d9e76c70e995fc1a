//! The one door to cryptography: keys that seal and open the packet of one SA, in place and without allocation.
//!
//! [`SealingKey`] and [`OpeningKey`] know where in a packet IV, protected part and ICV lie; a backend knows ciphers
//! ([`Aead`]). A suite that is no AEAD becomes a second kind of key here, and nothing outside changes.

use zeroize::Zeroizing;

use crate::error::{ConfigError, OpenError, SealError};
use crate::header::Aad;
use crate::key::KeyMaterial;
use crate::number::EsnHigh;
use crate::suite::{HEADER_LEN, Suite};

#[cfg(feature = "ring")]
pub(crate) mod ring;
#[cfg(any(test, not(feature = "ring")))]
pub(crate) mod rustcrypto;

/// The backend packets go through.
#[cfg(feature = "ring")]
pub(crate) type Backend = self::ring::RingAead;
/// The backend packets go through.
#[cfg(not(feature = "ring"))]
pub(crate) type Backend = self::rustcrypto::RustCryptoAead;

/// Seals the packets of one SA.
pub(crate) struct SealingKey<A = Backend>(AeadKey<A>);

/// Opens the packets of one SA.
pub(crate) struct OpeningKey<A = Backend>(AeadKey<A>);

impl<A: Aead> SealingKey<A> {
    pub(crate) fn new(keys: &KeyMaterial) -> Result<Self, ConfigError> {
        AeadKey::new(keys).map(Self)
    }

    /// Protects `packet`, which is header, room for the IV, plaintext with its trailer, room for the ICV.
    #[inline]
    pub(crate) fn seal(
        &self,
        high: Option<EsnHigh>,
        iv: [u8; IV_LEN],
        packet: &mut [u8],
    ) -> Result<(), SealError> {
        let got = packet.len();
        let parts =
            Parts::of(packet).ok_or(SealError::NoRoom { needed: HEADER_LEN + IV_LEN + ICV_LEN, got })?;
        *parts.iv = iv;
        let sealed = self.0.aead.seal(self.0.nonce(iv), Aad::new(*parts.header, high).as_ref(), parts.body);
        *parts.icv = sealed.ok_or(SealError::TooLong)?;
        Ok(())
    }
}

impl<A: Aead> OpeningKey<A> {
    pub(crate) fn new(keys: &KeyMaterial) -> Result<Self, ConfigError> {
        AeadKey::new(keys).map(Self)
    }

    /// Verifies `packet` and gives its plaintext with the trailer; a packet that fails is left without any.
    #[inline]
    pub(crate) fn open<'p>(
        &self,
        high: Option<EsnHigh>,
        packet: &'p mut [u8],
    ) -> Result<&'p mut [u8], OpenError> {
        let got = packet.len();
        let parts =
            Parts::of(packet).ok_or(OpenError::Runt { needed: HEADER_LEN + IV_LEN + ICV_LEN, got })?;
        let aad = Aad::new(*parts.header, high);
        if self.0.aead.open(self.0.nonce(*parts.iv), aad.as_ref(), parts.body, *parts.icv) {
            return Ok(parts.body);
        }
        // T05: whatever a backend leaves behind, the caller finds zeros.
        parts.body.fill(0);
        Err(OpenError::IcvMismatch)
    }
}

/// An authenticated cipher with the nonce, tag and in-place form that RFC 4106 and RFC 7634 share.
pub(crate) trait Aead: Sized {
    /// `None` where the key's length is not the suite's.
    fn new(suite: Suite, key: &[u8]) -> Option<Self>;

    /// Encrypts `body` and gives the tag; `None` where it is too long for the cipher.
    fn seal(&self, nonce: [u8; NONCE_LEN], aad: &[u8], body: &mut [u8]) -> Option<[u8; ICV_LEN]>;

    /// Verifies and decrypts `body`; where it says false, what `body` holds is unspecified.
    fn open(&self, nonce: [u8; NONCE_LEN], aad: &[u8], body: &mut [u8], tag: [u8; ICV_LEN]) -> bool;
}

struct AeadKey<A> {
    salt: Zeroizing<[u8; SALT_LEN]>,
    aead: A,
}

impl<A: Aead> AeadKey<A> {
    fn new(keys: &KeyMaterial) -> Result<Self, ConfigError> {
        let suite = keys.suite();
        let refused = || ConfigError::KeyLength {
            suite,
            needed: suite.key_len() + suite.salt_len(),
            got: keys.key().len() + keys.salt().len(),
        };
        let salt = keys.salt().try_into().map_err(|_| refused())?;
        let aead = A::new(suite, keys.key()).ok_or_else(refused)?;
        Ok(Self { salt: Zeroizing::new(salt), aead })
    }

    // RFC 4106 section 4, RFC 7634 section 2: the nonce is the salt followed by the IV.
    #[inline]
    fn nonce(&self, iv: [u8; IV_LEN]) -> [u8; NONCE_LEN] {
        let [a, b, c, d] = *self.salt;
        let [e, f, g, h, i, j, k, l] = iv;
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }
}

/// A packet taken apart (RFC 4303 section 2, figure 2).
struct Parts<'p> {
    header: &'p mut [u8; HEADER_LEN],
    iv: &'p mut [u8; IV_LEN],
    body: &'p mut [u8],
    icv: &'p mut [u8; ICV_LEN],
}

impl<'p> Parts<'p> {
    #[inline]
    fn of(packet: &'p mut [u8]) -> Option<Self> {
        let (header, rest) = packet.split_first_chunk_mut()?;
        let (iv, rest) = rest.split_first_chunk_mut()?;
        let (body, icv) = rest.split_last_chunk_mut()?;
        Some(Self { header, iv, body, icv })
    }
}

/// Lengths that all AEAD suites share; the suites' table says the same (tested below).
const SALT_LEN: usize = 4;
const IV_LEN: usize = 8;
const NONCE_LEN: usize = SALT_LEN + IV_LEN;
const ICV_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_suites_has_the_lengths_of_this_file() {
        for suite in Suite::ALL {
            assert_eq!((suite.salt_len(), suite.iv_len(), suite.icv_len()), (SALT_LEN, IV_LEN, ICV_LEN));
        }
    }
}
