//! Packets of the suites whose encryption and integrity are apart: the ICV is over the ciphertext, and is verified before
//! anything is decrypted (RFC 4303 sections 3.3.2.1 and 3.4.4.1).

use zeroize::Zeroizing;

use super::aes::{Aes, BLOCK_LEN};
use super::frame::Frame;
use super::mac::{MAX_ICV_LEN, Mac};
use crate::error::{ConfigError, OpenError, SealError};
use crate::key::KeyMaterial;
use crate::number::{EsnHigh, SeqNum};
use crate::suite::{AesKey, Cipher, Integrity, Lengths};

/// The two keys of one SA: encryption before integrity in its key material (RFC 7296 section 2.17).
pub(crate) struct ApartKey {
    cipher: CipherKey,
    integrity: Mac,
    lengths: Lengths,
}

impl ApartKey {
    pub(crate) fn new(cipher: Cipher, integrity: Integrity, keys: &KeyMaterial) -> Result<Self, ConfigError> {
        let cipher = CipherKey::new(cipher, keys).ok_or_else(|| keys.unfit())?;
        let integrity = Mac::new(integrity, keys.integrity_key()).ok_or_else(|| keys.unfit())?;
        Ok(Self { cipher, integrity, lengths: keys.suite().lengths() })
    }

    /// Protects `packet` under as much of this IV as the cipher takes.
    #[inline]
    pub(crate) fn seal(
        &self,
        high: Option<EsnHigh>,
        iv: [u8; BLOCK_LEN],
        packet: &mut [u8],
    ) -> Result<(), SealError> {
        let frame = Frame::sealing(packet, &self.lengths)?;
        frame.iv.iter_mut().zip(iv).for_each(|(to, from)| *to = from);
        self.cipher.encrypt(iv, frame.body).ok_or(SealError::TooLong)?;
        let covered = packet.len() - self.lengths.icv;
        if let Some((covered, icv)) = packet.split_at_mut_checked(covered) {
            icv.iter_mut().zip(self.icv(covered, high)).for_each(|(to, from)| *to = from);
        }
        Ok(())
    }

    /// Verifies and decrypts `packet`.
    // T26: nothing unauthenticated is decrypted, so padding says nothing to who has no key.
    #[inline]
    pub(crate) fn open<'p>(
        &self,
        high: Option<EsnHigh>,
        packet: &'p mut [u8],
    ) -> Result<&'p mut [u8], OpenError> {
        // What is no whole number of blocks is refused before any cryptography.
        Frame::opening(packet, &self.lengths)?;
        let covered = packet.len() - self.lengths.icv;
        let expected = self.icv(packet.get(..covered).unwrap_or_default(), high);
        let frame = Frame::opening(packet, &self.lengths)?;
        let verified = expected.get(..self.lengths.icv).is_some_and(|icv| super::same(icv, frame.icv));
        if verified {
            let mut iv = [0; BLOCK_LEN];
            iv.iter_mut().zip(&*frame.iv).for_each(|(to, from)| *to = *from);
            // A body that is longer than the counter reaches has no buffer.
            self.cipher.decrypt(iv, frame.body).ok_or(OpenError::IcvMismatch)?;
        }
        frame.opened_if(verified)
    }

    /// Over what the ICV covers: the packet from SPI to ciphertext, and behind it the half of an extended number that is
    /// not sent (RFC 4303 sections 2.2.1 and 2.8).
    #[inline]
    fn icv(&self, covered: &[u8], high: Option<EsnHigh>) -> [u8; MAX_ICV_LEN] {
        let mut mac = self.integrity.clone();
        mac.update(covered);
        if let Some(high) = high {
            mac.update(&high.0.to_be_bytes());
        }
        mac.finish()
    }
}

/// A cipher that only hides.
enum CipherKey {
    Null,
    AesCtr { key: Aes, nonce: Zeroizing<[u8; 4]> },
    AesCbc(Aes),
}

impl CipherKey {
    fn new(cipher: Cipher, keys: &KeyMaterial) -> Option<Self> {
        let aes = |length| Aes::new(length, keys.encryption_key());
        Some(match cipher {
            Cipher::Null => Self::Null,
            Cipher::AesCtr(length) => {
                Self::AesCtr { key: aes(length)?, nonce: Zeroizing::new(keys.salt().try_into().ok()?) }
            }
            Cipher::AesCbc(length) => Self::AesCbc(aes(length)?),
        })
    }

    #[inline]
    fn encrypt(&self, iv: [u8; BLOCK_LEN], body: &mut [u8]) -> Option<()> {
        match self {
            Self::Null => {}
            Self::AesCtr { key, nonce } => key.ctr(counter(nonce, iv), body)?,
            Self::AesCbc(key) => key.cbc_encrypt(iv, body),
        }
        Some(())
    }

    #[inline]
    fn decrypt(&self, iv: [u8; BLOCK_LEN], body: &mut [u8]) -> Option<()> {
        match self {
            Self::Null => {}
            Self::AesCtr { key, nonce } => key.ctr(counter(nonce, iv), body)?,
            Self::AesCbc(key) => key.cbc_decrypt(iv, body),
        }
        Some(())
    }
}

/// The first counter block: nonce, the 8 octets of IV, and a counter that begins at 1 (RFC 3686 section 4).
#[inline]
fn counter(nonce: &[u8; 4], iv: [u8; BLOCK_LEN]) -> [u8; BLOCK_LEN] {
    let [a, b, c, d] = *nonce;
    let [e, f, g, h, i, j, k, l, ..] = iv;
    [a, b, c, d, e, f, g, h, i, j, k, l, 0, 0, 0, 1]
}

/// What nobody can foresee of the IVs of one SA (T11, RFC 3602 section 3).
///
/// An IV is the packet's number, enciphered under a random key that lives as long as the SA: numbers do not come twice,
/// so neither do IVs, and no system call is needed for a packet (NIST SP 800-38A, appendix C).
pub(crate) struct IvKey(Aes);

impl IvKey {
    pub(crate) fn random() -> Result<Self, ConfigError> {
        let mut key = Zeroizing::new([0; 16]);
        getrandom::fill(&mut *key).map_err(|_| ConfigError::NoRandomness)?;
        Aes::new(AesKey::Aes128, &*key).map(Self).ok_or(ConfigError::NoRandomness)
    }

    #[inline]
    pub(crate) fn iv(&self, seq: SeqNum) -> [u8; BLOCK_LEN] {
        self.0.block(u128::from(seq.0).to_be_bytes())
    }
}

#[cfg(test)]
mod tests;
