//! AES-GMAC: AES-GCM of an empty plaintext, over additional data that comes in pieces (RFC 4543 section 2).

use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use zeroize::Zeroizing;

use super::aes::{Aes, BLOCK_LEN};
use super::frame::Frame;
use crate::error::{ConfigError, OpenError, SealError};
use crate::key::KeyMaterial;
use crate::number::EsnHigh;
use crate::suite::{AesKey, Lengths};

/// Cipher, hash key and salt of one SA.
pub(crate) struct GmacKey {
    aes: Aes,
    hash: GHash,
    salt: Zeroizing<[u8; 4]>,
    lengths: Lengths,
}

impl GmacKey {
    /// The key is the encryption key in ESP and the integrity key in AH.
    pub(crate) fn new(length: AesKey, key: &[u8], keys: &KeyMaterial) -> Result<Self, ConfigError> {
        let aes = Aes::new(length, key).ok_or_else(|| keys.unfit())?;
        let salt = keys.salt().try_into().map_err(|_| keys.unfit())?;
        let subkey = Zeroizing::new(aes.block([0; BLOCK_LEN]));
        let hash = GHash::new(&(*subkey).into());
        Ok(Self { aes, hash, salt: Zeroizing::new(salt), lengths: keys.suite().lengths() })
    }

    /// Protects an ESP packet under this IV; nothing is hidden (RFC 4543 section 3).
    pub(crate) fn seal(
        &self,
        high: Option<EsnHigh>,
        iv: [u8; IV_LEN],
        packet: &mut [u8],
    ) -> Result<(), SealError> {
        let frame = Frame::sealing(packet, &self.lengths)?;
        frame.iv.copy_from_slice(&iv);
        let tag = self.covering(iv, &frame, high).finish();
        frame.icv.copy_from_slice(&tag);
        Ok(())
    }

    /// Verifies an ESP packet.
    pub(crate) fn open<'p>(
        &self,
        high: Option<EsnHigh>,
        packet: &'p mut [u8],
    ) -> Result<&'p mut [u8], OpenError> {
        let frame = Frame::opening(packet, &self.lengths)?;
        let iv = frame.iv.first_chunk().copied().unwrap_or_default();
        let tag = self.covering(iv, &frame, high).finish();
        let verified = super::same(&tag, frame.icv);
        frame.opened_if(verified)
    }

    /// Nothing covered yet, under this IV.
    // RFC 4543 section 3.2: the nonce is the salt followed by the IV. Its block ends in 1 (SP 800-38D, section 7.1).
    pub(crate) fn begin(&self, iv: [u8; IV_LEN]) -> Gmac {
        let [a, b, c, d] = *self.salt;
        let [e, f, g, h, i, j, k, l] = iv;
        let mask = self.aes.block([a, b, c, d, e, f, g, h, i, j, k, l, 0, 0, 0, 1]);
        Gmac { hash: self.hash.clone(), block: [0; BLOCK_LEN], filled: 0, octets: 0, mask }
    }

    // RFC 4543 section 3.3, figures 2 and 3: SPI, number, IV and payload, the high half between SPI and low half.
    fn covering(&self, iv: [u8; IV_LEN], frame: &Frame<'_>, high: Option<EsnHigh>) -> Gmac {
        let mut gmac = self.begin(iv);
        let (spi, low) = frame.header.split_at(4);
        gmac.update(spi);
        if let Some(high) = high {
            gmac.update(&high.0.to_be_bytes());
        }
        for part in [low, frame.iv, frame.body] {
            gmac.update(part);
        }
        gmac
    }
}

/// What was covered so far.
pub(crate) struct Gmac {
    hash: GHash,
    /// What waits to fill a block.
    block: [u8; BLOCK_LEN],
    filled: usize,
    octets: u64,
    mask: [u8; BLOCK_LEN],
}

impl Gmac {
    /// Covers `octets`, behind what was covered before.
    pub(crate) fn update(&mut self, octets: &[u8]) {
        self.octets += octets.len() as u64;
        let wanted = (BLOCK_LEN - self.filled) % BLOCK_LEN;
        let (first, rest) = octets.split_at_checked(wanted).unwrap_or((octets, &[]));
        self.fill(first);
        let (blocks, last) = ghash::Block::slice_as_chunks(rest);
        self.hash.update(blocks);
        self.fill(last);
    }

    /// The tag.
    pub(crate) fn finish(mut self) -> [u8; BLOCK_LEN] {
        self.hash.update_padded(self.block.get(..self.filled).unwrap_or_default());
        // Of both lengths, in bits, the second is that of the plaintext, of which there is none.
        let bits = u128::from(self.octets * 8) << 64;
        self.hash.update(&[bits.to_be_bytes().into()]);
        let hash = u128::from_be_bytes(self.hash.finalize().into());
        (hash ^ u128::from_be_bytes(self.mask)).to_be_bytes()
    }

    /// Adds what does not go beyond the block.
    fn fill(&mut self, octets: &[u8]) {
        if let Some(room) = self.block.get_mut(self.filled..) {
            room.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
        }
        self.filled += octets.len();
        if self.filled == BLOCK_LEN {
            self.hash.update(&[self.block.into()]);
            self.filled = 0;
        }
    }
}

/// Octets of IV (RFC 4543 section 3.1).
pub(crate) const IV_LEN: usize = 8;

#[cfg(test)]
mod tests;
