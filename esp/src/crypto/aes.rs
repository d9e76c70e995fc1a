//! AES with a key of any length, in the modes that packets need.

use aes::cipher::consts::U16;
use aes::cipher::{
    BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, BlockSizeUser, InnerIvInit, KeyInit,
    StreamCipher, StreamCipherCoreWrapper,
};
use aes::{Aes128, Aes192, Aes256, Block};
use ctr::CtrCore;
use ctr::flavors::Ctr32BE;

use crate::suite::AesKey;

/// A key, its schedule made; wiped on drop.
pub(crate) enum Aes {
    Aes128(Box<Aes128>),
    Aes192(Box<Aes192>),
    Aes256(Box<Aes256>),
}

impl Aes {
    /// `None` where `octets` is not as long as `key`.
    pub(crate) fn new(key: AesKey, octets: &[u8]) -> Option<Self> {
        match key {
            AesKey::Aes128 => Aes128::new_from_slice(octets).ok().map(Box::new).map(Self::Aes128),
            AesKey::Aes192 => Aes192::new_from_slice(octets).ok().map(Box::new).map(Self::Aes192),
            AesKey::Aes256 => Aes256::new_from_slice(octets).ok().map(Box::new).map(Self::Aes256),
        }
    }

    /// One block, enciphered.
    #[inline]
    pub(crate) fn block(&self, block: [u8; BLOCK_LEN]) -> [u8; BLOCK_LEN] {
        let mut block = Block::from(block);
        match self {
            Self::Aes128(key) => key.encrypt_block(&mut block),
            Self::Aes192(key) => key.encrypt_block(&mut block),
            Self::Aes256(key) => key.encrypt_block(&mut block),
        }
        block.into()
    }

    /// CBC over whole blocks; what is behind the last whole one is left as it is (RFC 3602 section 2).
    #[inline]
    pub(crate) fn cbc_encrypt(&self, iv: [u8; BLOCK_LEN], body: &mut [u8]) {
        let (blocks, _) = Block::slice_as_chunks_mut(body);
        match self {
            Self::Aes128(key) => cbc::Encryptor::inner_iv_init(&**key, &iv.into()).encrypt_blocks(blocks),
            Self::Aes192(key) => cbc::Encryptor::inner_iv_init(&**key, &iv.into()).encrypt_blocks(blocks),
            Self::Aes256(key) => cbc::Encryptor::inner_iv_init(&**key, &iv.into()).encrypt_blocks(blocks),
        }
    }

    /// The inverse of [`Self::cbc_encrypt`].
    #[inline]
    pub(crate) fn cbc_decrypt(&self, iv: [u8; BLOCK_LEN], body: &mut [u8]) {
        let (blocks, _) = Block::slice_as_chunks_mut(body);
        match self {
            Self::Aes128(key) => cbc::Decryptor::inner_iv_init(&**key, &iv.into()).decrypt_blocks(blocks),
            Self::Aes192(key) => cbc::Decryptor::inner_iv_init(&**key, &iv.into()).decrypt_blocks(blocks),
            Self::Aes256(key) => cbc::Decryptor::inner_iv_init(&**key, &iv.into()).decrypt_blocks(blocks),
        }
    }

    /// CTR from this counter block on, whose last 32 bits count (RFC 3686 section 2.1): its own inverse. `None`, with
    /// `body` as it was, where a block would come twice.
    #[inline]
    pub(crate) fn ctr(&self, counter: [u8; BLOCK_LEN], body: &mut [u8]) -> Option<()> {
        let counter = counter.into();
        match self {
            Self::Aes128(key) => ctr(&**key, counter, body),
            Self::Aes192(key) => ctr(&**key, counter, body),
            Self::Aes256(key) => ctr(&**key, counter, body),
        }
    }
}

fn ctr<C>(key: &C, counter: Block, body: &mut [u8]) -> Option<()>
where
    C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    let core = CtrCore::<&C, Ctr32BE>::inner_iv_init(key, &counter);
    StreamCipherCoreWrapper::from_core(core).try_apply_keystream(body).ok()
}

/// Octets of a block.
pub(crate) const BLOCK_LEN: usize = 16;

#[cfg(test)]
mod tests;
