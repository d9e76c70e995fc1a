//! The portable backend: RustCrypto's AEADs, which wipe their key schedules on drop.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use chacha20poly1305::ChaCha20Poly1305;

use super::{Aead, ICV_LEN, NONCE_LEN};
use crate::suite::{AesKey, Combined, IcvLen};

/// A key, one variant for each AEAD.
pub(crate) enum RustCryptoAead {
    Aes128Gcm(Box<Aes128Gcm>),
    Aes256Gcm(Box<Aes256Gcm>),
    ChaCha20Poly1305(ChaCha20Poly1305),
}

impl Aead for RustCryptoAead {
    fn new(algorithm: Combined, key: &[u8]) -> Option<Self> {
        Some(match algorithm {
            Combined::AesGcm(AesKey::Aes128, IcvLen::Sixteen)
            | Combined::AesGcmImplicitIv(AesKey::Aes128) => {
                Self::Aes128Gcm(Box::new(Aes128Gcm::new_from_slice(key).ok()?))
            }
            Combined::AesGcm(AesKey::Aes256, IcvLen::Sixteen)
            | Combined::AesGcmImplicitIv(AesKey::Aes256) => {
                Self::Aes256Gcm(Box::new(Aes256Gcm::new_from_slice(key).ok()?))
            }
            Combined::ChaCha20Poly1305 | Combined::ChaCha20Poly1305ImplicitIv => {
                Self::ChaCha20Poly1305(ChaCha20Poly1305::new_from_slice(key).ok()?)
            }
            _ => return None,
        })
    }

    fn seal(&self, nonce: [u8; NONCE_LEN], aad: &[u8], body: &mut [u8]) -> Option<[u8; ICV_LEN]> {
        let (nonce, aad, body) = (&nonce.into(), aad, InOutBuf::from(body));
        let tag = match self {
            Self::Aes128Gcm(key) => key.encrypt_inout_detached(nonce, aad, body),
            Self::Aes256Gcm(key) => key.encrypt_inout_detached(nonce, aad, body),
            Self::ChaCha20Poly1305(key) => key.encrypt_inout_detached(nonce, aad, body),
        };
        tag.ok().map(Into::into)
    }

    fn open(&self, nonce: [u8; NONCE_LEN], aad: &[u8], body: &mut [u8], tag: [u8; ICV_LEN]) -> bool {
        let (nonce, aad, body, tag) = (&nonce.into(), aad, InOutBuf::from(body), &tag.into());
        let opened = match self {
            Self::Aes128Gcm(key) => key.decrypt_inout_detached(nonce, aad, body, tag),
            Self::Aes256Gcm(key) => key.decrypt_inout_detached(nonce, aad, body, tag),
            Self::ChaCha20Poly1305(key) => key.decrypt_inout_detached(nonce, aad, body, tag),
        };
        opened.is_ok()
    }
}
