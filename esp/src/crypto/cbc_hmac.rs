//! Packets of the suites of AES-CBC (RFC 3602) with HMAC-SHA-256-128 (RFC 4868): the ICV is over the ciphertext, and is
//! verified before anything is decrypted (RFC 4303 sections 3.3.2.1 and 3.4.4.1).

use aes::cipher::{BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit};
use aes::{Aes128, Aes256, Block};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{ICV_LEN, Parts};
use crate::error::{ConfigError, OpenError, SealError};
use crate::key::KeyMaterial;
use crate::number::{EsnHigh, SeqNum};
use crate::suite::{HEADER_LEN, Suite};

/// The two keys of one SA: encryption before integrity in its key material (RFC 7296 section 2.17).
pub(crate) struct CbcHmacKey {
    cipher: Cipher,
    /// The key absorbed, so that a packet begins with a copy of this state.
    integrity: Hmac<Sha256>,
}

impl CbcHmacKey {
    pub(crate) fn new(keys: &KeyMaterial) -> Result<Self, ConfigError> {
        let parts = keys.key().split_last_chunk::<INTEGRITY_KEY_LEN>();
        let (encryption, integrity) = parts.ok_or_else(|| keys.unfit())?;
        let cipher = Cipher::new(keys.suite(), encryption).ok_or_else(|| keys.unfit())?;
        let integrity = Hmac::new_from_slice(integrity).map_err(|_| keys.unfit())?;
        Ok(Self { cipher, integrity })
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
        let needed = FRAME_LEN.saturating_add(got.saturating_sub(FRAME_LEN).next_multiple_of(BLOCK_LEN));
        if needed != got {
            return Err(SealError::NoRoom { needed, got });
        }
        let parts = Parts::of(packet).ok_or(SealError::NoRoom { needed, got })?;
        *parts.iv = iv;
        self.cipher.encrypt(iv, parts.body);
        if let Some((covered, icv)) = packet.split_last_chunk_mut::<ICV_LEN>()
            && let Some(left) = self.covering(covered, high).finalize().into_bytes().first_chunk()
        {
            *icv = *left;
        }
        Ok(())
    }

    /// Verifies and decrypts `packet`.
    // T26: nothing unauthenticated is decrypted, so padding says nothing to who has no key. T25: the comparison takes as
    // long wherever the first difference lies.
    #[inline]
    pub(crate) fn open<'p>(
        &self,
        high: Option<EsnHigh>,
        packet: &'p mut [u8],
    ) -> Result<&'p mut [u8], OpenError> {
        let got = packet.len();
        let runt = OpenError::Runt { needed: FRAME_LEN, got };
        let body = got.checked_sub(FRAME_LEN).ok_or(runt)?;
        if !body.is_multiple_of(BLOCK_LEN) {
            return Err(OpenError::Unaligned { block: BLOCK_LEN, got: body });
        }
        let (covered, icv) = packet.split_last_chunk::<ICV_LEN>().ok_or(runt)?;
        let verified = self.covering(covered, high).verify_truncated_left(icv).is_ok();
        let parts = Parts::<IV_LEN>::of(packet).ok_or(runt)?;
        if !verified {
            parts.body.fill(0);
            return Err(OpenError::IcvMismatch);
        }
        self.cipher.decrypt(*parts.iv, parts.body);
        Ok(parts.body)
    }

    /// The integrity algorithm, fed with what the ICV covers: the packet from SPI to ciphertext, and behind it the half
    /// of an extended number that is not sent (RFC 4303 sections 2.2.1 and 2.8).
    #[inline]
    fn covering(&self, covered: &[u8], high: Option<EsnHigh>) -> Hmac<Sha256> {
        let mut integrity = self.integrity.clone();
        integrity.update(covered);
        if let Some(high) = high {
            integrity.update(&high.0.to_be_bytes());
        }
        integrity
    }
}

/// What nobody can foresee of the IVs of one SA (T11, RFC 3602 section 3).
///
/// An IV is the packet's number, enciphered under a random key that lives as long as the SA: numbers do not come twice,
/// so neither do IVs, and no system call is needed for a packet (NIST SP 800-38A, appendix C).
pub(crate) struct IvKey(Box<Aes128>);

impl IvKey {
    pub(crate) fn random() -> Result<Self, ConfigError> {
        let mut key = Zeroizing::new([0; 16]);
        getrandom::fill(&mut *key).map_err(|_| ConfigError::NoRandomness)?;
        Ok(Self(Box::new(Aes128::new((&*key).into()))))
    }

    #[inline]
    pub(crate) fn iv(&self, seq: SeqNum) -> [u8; IV_LEN] {
        let mut block = Block::from(u128::from(seq.0).to_be_bytes());
        self.0.encrypt_block(&mut block);
        block.into()
    }
}

/// AES in CBC mode, over whole blocks; what is behind the last whole one is left as it is.
enum Cipher {
    Aes128(Box<Aes128>),
    Aes256(Box<Aes256>),
}

impl Cipher {
    fn new(suite: Suite, key: &[u8]) -> Option<Self> {
        match suite {
            Suite::AES_128_CBC_HMAC_SHA_256 => {
                Aes128::new_from_slice(key).ok().map(Box::new).map(Self::Aes128)
            }
            Suite::AES_256_CBC_HMAC_SHA_256 => {
                Aes256::new_from_slice(key).ok().map(Box::new).map(Self::Aes256)
            }
            Suite::AES_128_GCM | Suite::AES_256_GCM | Suite::CHACHA20_POLY1305 => None,
        }
    }

    #[inline]
    fn encrypt(&self, iv: [u8; IV_LEN], body: &mut [u8]) {
        let (blocks, _) = Block::slice_as_chunks_mut(body);
        match self {
            Self::Aes128(key) => cbc::Encryptor::inner_iv_init(&**key, &iv.into()).encrypt_blocks(blocks),
            Self::Aes256(key) => cbc::Encryptor::inner_iv_init(&**key, &iv.into()).encrypt_blocks(blocks),
        }
    }

    #[inline]
    fn decrypt(&self, iv: [u8; IV_LEN], body: &mut [u8]) {
        let (blocks, _) = Block::slice_as_chunks_mut(body);
        match self {
            Self::Aes128(key) => cbc::Decryptor::inner_iv_init(&**key, &iv.into()).decrypt_blocks(blocks),
            Self::Aes256(key) => cbc::Decryptor::inner_iv_init(&**key, &iv.into()).decrypt_blocks(blocks),
        }
    }
}

/// RFC 4868 section 2.1.1: as long as the hash's output.
const INTEGRITY_KEY_LEN: usize = 32;
/// RFC 3602 section 3: as long as a block.
pub(crate) const IV_LEN: usize = BLOCK_LEN;
const BLOCK_LEN: usize = 16;
/// What surrounds the blocks of a packet.
const FRAME_LEN: usize = HEADER_LEN + IV_LEN + ICV_LEN;

#[cfg(test)]
mod tests;
