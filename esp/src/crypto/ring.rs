//! The fast backend: `ring`'s AEADs, assembly chosen at run time.
//!
//! `ring` does not wipe its key schedules on drop; the key material they come from is wiped.

use ring::aead::{self, LessSafeKey, Nonce, UnboundKey};

use super::{Aead, ICV_LEN, NONCE_LEN};
use crate::suite::{AesKey, Combined, IcvLen};

/// A key of any AEAD; `ring` dispatches on it.
pub(crate) struct RingAead(LessSafeKey);

impl Aead for RingAead {
    fn new(algorithm: Combined, key: &[u8]) -> Option<Self> {
        let algorithm = match algorithm {
            Combined::AesGcm(AesKey::Aes128, IcvLen::Sixteen)
            | Combined::AesGcmImplicitIv(AesKey::Aes128) => &aead::AES_128_GCM,
            Combined::AesGcm(AesKey::Aes256, IcvLen::Sixteen)
            | Combined::AesGcmImplicitIv(AesKey::Aes256) => &aead::AES_256_GCM,
            Combined::ChaCha20Poly1305 | Combined::ChaCha20Poly1305ImplicitIv => &aead::CHACHA20_POLY1305,
            _ => return None,
        };
        UnboundKey::new(algorithm, key).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    #[inline]
    fn seal(&self, nonce: [u8; NONCE_LEN], aad: &[u8], body: &mut [u8]) -> Option<[u8; ICV_LEN]> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, aead::Aad::from(aad), body).ok()?;
        tag.as_ref().try_into().ok()
    }

    #[inline]
    fn open(&self, nonce: [u8; NONCE_LEN], aad: &[u8], body: &mut [u8], tag: [u8; ICV_LEN]) -> bool {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let aad = aead::Aad::from(aad);
        self.0.open_in_place_separate_tag(nonce, aad, tag.into(), body, 0..).is_ok()
    }
}
