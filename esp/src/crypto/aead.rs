//! Packets of the AEADs that a backend has: what RFC 4106 and RFC 7634 have in common.

use zeroize::Zeroizing;

use crate::error::{ConfigError, OpenError, SealError};
use crate::header::Aad;
use crate::key::KeyMaterial;
use crate::number::EsnHigh;
use crate::suite::{Combined, HEADER_LEN};

/// An authenticated cipher with the nonce, tag and in-place form that RFC 4106 and RFC 7634 share.
pub(crate) trait Aead: Sized {
    /// `None` where the backend has not the algorithm, or the key's length is not the algorithm's. Whether the IV is sent
    /// does not matter here.
    fn new(algorithm: Combined, key: &[u8]) -> Option<Self>;

    /// Encrypts `body` and gives the tag; `None` where it is too long for the cipher.
    fn seal(&self, nonce: [u8; NONCE_LEN], aad: &[u8], body: &mut [u8]) -> Option<[u8; ICV_LEN]>;

    /// Verifies and decrypts `body`; where it says false, what `body` holds is unspecified.
    fn open(&self, nonce: [u8; NONCE_LEN], aad: &[u8], body: &mut [u8], tag: [u8; ICV_LEN]) -> bool;
}

/// Cipher and salt of one SA.
pub(crate) struct AeadKey<A> {
    salt: Zeroizing<[u8; SALT_LEN]>,
    aead: A,
}

impl<A: Aead> AeadKey<A> {
    pub(crate) fn new(algorithm: Combined, keys: &KeyMaterial) -> Result<Self, ConfigError> {
        let salt = keys.salt().try_into().map_err(|_| keys.unfit())?;
        let aead = A::new(algorithm, keys.encryption_key()).ok_or_else(|| keys.unfit())?;
        Ok(Self { salt: Zeroizing::new(salt), aead })
    }

    /// Protects `packet` under this IV.
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
        let sealed = self.aead.seal(self.nonce(iv), Aad::new(*parts.header, high).as_ref(), parts.body);
        *parts.icv = sealed.ok_or(SealError::TooLong)?;
        Ok(())
    }

    /// Verifies and decrypts `packet`.
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
        if self.aead.open(self.nonce(*parts.iv), aad.as_ref(), parts.body, *parts.icv) {
            return Ok(parts.body);
        }
        // T05: whatever a backend leaves behind, the caller finds zeros.
        parts.body.fill(0);
        Err(OpenError::IcvMismatch)
    }

    /// Protects `packet`, which has no room for this IV (RFC 8750).
    pub(crate) fn seal_implicit(
        &self,
        high: Option<EsnHigh>,
        iv: [u8; IV_LEN],
        packet: &mut [u8],
    ) -> Result<(), SealError> {
        let got = packet.len();
        let parts = Parts::<0>::of(packet).ok_or(SealError::NoRoom { needed: HEADER_LEN + ICV_LEN, got })?;
        let sealed = self.aead.seal(self.nonce(iv), Aad::new(*parts.header, high).as_ref(), parts.body);
        *parts.icv = sealed.ok_or(SealError::TooLong)?;
        Ok(())
    }

    /// Verifies and decrypts `packet`, which does not hold this IV (RFC 8750).
    pub(crate) fn open_implicit<'p>(
        &self,
        high: Option<EsnHigh>,
        iv: [u8; IV_LEN],
        packet: &'p mut [u8],
    ) -> Result<&'p mut [u8], OpenError> {
        let got = packet.len();
        let parts = Parts::<0>::of(packet).ok_or(OpenError::Runt { needed: HEADER_LEN + ICV_LEN, got })?;
        let aad = Aad::new(*parts.header, high);
        if self.aead.open(self.nonce(iv), aad.as_ref(), parts.body, *parts.icv) {
            return Ok(parts.body);
        }
        parts.body.fill(0);
        Err(OpenError::IcvMismatch)
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

/// Lengths that all of them share; the suites' table says the same (tested below).
const SALT_LEN: usize = 4;
const IV_LEN: usize = 8;
pub(crate) const NONCE_LEN: usize = SALT_LEN + IV_LEN;
pub(crate) const ICV_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_suites_has_the_lengths_of_this_file() {
        for suite in crate::tests::AEADS {
            assert_eq!((suite.salt_len(), suite.iv_len(), suite.icv_len()), (SALT_LEN, IV_LEN, ICV_LEN));
        }
    }
}
