//! AEADs of any length of key, nonce and ICV, and with the IV in the packet or not: what the fast backend has not
//! (RFC 4106, RFC 4309, RFC 8750).

use aes::{Aes128, Aes192, Aes256};
use aes_gcm::AesGcm;
use aes_gcm::aead::consts::{U8, U11, U12, U16};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};
use ccm::Ccm;
use zeroize::Zeroizing;

use super::frame::Frame;
use crate::error::{ConfigError, OpenError, SealError};
use crate::header::Aad;
use crate::key::KeyMaterial;
use crate::number::EsnHigh;
use crate::suite::{AesKey, Combined, IcvLen, Lengths};

/// Cipher and salt of one SA.
pub(crate) struct PortableKey {
    // Twenty types, none of them on the way of packets that are in a hurry: one call through a table is all it costs.
    cipher: Box<dyn Detached + Send + Sync>,
    salt: Zeroizing<Vec<u8>>,
    lengths: Lengths,
}

impl PortableKey {
    pub(crate) fn new(algorithm: Combined, keys: &KeyMaterial) -> Result<Self, ConfigError> {
        let cipher = cipher(algorithm, keys.encryption_key()).ok_or_else(|| keys.unfit())?;
        Ok(Self { cipher, salt: Zeroizing::new(keys.salt().to_vec()), lengths: keys.suite().lengths() })
    }

    /// Protects `packet` under this IV, which goes into it unless it is implicit.
    pub(crate) fn seal(
        &self,
        high: Option<EsnHigh>,
        iv: [u8; IV_LEN],
        packet: &mut [u8],
    ) -> Result<(), SealError> {
        let frame = Frame::sealing(packet, &self.lengths)?;
        frame.iv.iter_mut().zip(iv).for_each(|(to, from)| *to = from);
        let aad = Aad::new(*frame.header, high);
        let sealed = self.cipher.seal(self.nonce(iv).as_ref(), aad.as_ref(), frame.body, frame.icv);
        sealed.ok_or(SealError::TooLong)
    }

    /// Verifies and decrypts `packet`; `implicit` is the IV where the packet has none.
    pub(crate) fn open<'p>(
        &self,
        high: Option<EsnHigh>,
        implicit: [u8; IV_LEN],
        packet: &'p mut [u8],
    ) -> Result<&'p mut [u8], OpenError> {
        let frame = Frame::opening(packet, &self.lengths)?;
        let aad = Aad::new(*frame.header, high);
        let nonce = self.nonce(frame.iv.first_chunk().copied().unwrap_or(implicit));
        let opened = self.cipher.open(nonce.as_ref(), aad.as_ref(), frame.body, frame.icv);
        frame.opened_if(opened)
    }

    // RFC 4106 section 4, RFC 4309 section 4, RFC 8750 section 4: the nonce is the salt followed by the IV.
    fn nonce(&self, iv: [u8; IV_LEN]) -> Nonce {
        let mut octets = [0; MAX_NONCE_LEN];
        octets.iter_mut().zip(self.salt.iter().chain(&iv)).for_each(|(to, from)| *to = *from);
        Nonce { octets, len: self.salt.len() + IV_LEN }
    }
}

struct Nonce {
    octets: [u8; MAX_NONCE_LEN],
    len: usize,
}

impl AsRef<[u8]> for Nonce {
    fn as_ref(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or_default()
    }
}

/// An AEAD whose lengths are known to itself alone.
trait Detached {
    /// Encrypts `body` and fills `icv`; `None` where it is too long for the cipher.
    fn seal(&self, nonce: &[u8], aad: &[u8], body: &mut [u8], icv: &mut [u8]) -> Option<()>;

    /// Verifies and decrypts `body`; where it says false, what `body` holds is unspecified.
    fn open(&self, nonce: &[u8], aad: &[u8], body: &mut [u8], icv: &[u8]) -> bool;
}

impl<T: AeadInOut> Detached for T {
    fn seal(&self, nonce: &[u8], aad: &[u8], body: &mut [u8], icv: &mut [u8]) -> Option<()> {
        let tag = self.encrypt_inout_detached(nonce.try_into().ok()?, aad, InOutBuf::from(body)).ok()?;
        icv.iter_mut().zip(tag).for_each(|(to, from)| *to = from);
        Some(())
    }

    fn open(&self, nonce: &[u8], aad: &[u8], body: &mut [u8], icv: &[u8]) -> bool {
        let (Ok(nonce), Ok(icv)) = (nonce.try_into(), icv.try_into()) else { return false };
        self.decrypt_inout_detached(nonce, aad, InOutBuf::from(body), icv).is_ok()
    }
}

type Boxed = Box<dyn Detached + Send + Sync>;

/// The cipher of an algorithm that is not the backend's.
fn cipher(algorithm: Combined, key: &[u8]) -> Option<Boxed> {
    match algorithm {
        Combined::AesGcm(length, icv) => gcm(length, icv, key),
        Combined::AesGcmImplicitIv(length) => gcm(length, IcvLen::Sixteen, key),
        Combined::AesCcm(length, icv) => ccm(length, icv, key),
        Combined::AesCcm8ImplicitIv(length) => ccm(length, IcvLen::Eight, key),
        Combined::AesGmac(_) | Combined::ChaCha20Poly1305 | Combined::ChaCha20Poly1305ImplicitIv => None,
    }
}

fn gcm(length: AesKey, icv: IcvLen, key: &[u8]) -> Option<Boxed> {
    match (length, icv) {
        (AesKey::Aes128, IcvLen::Eight) => boxed::<AesGcm<Aes128, U12, U8>>(key),
        (AesKey::Aes128, IcvLen::Twelve) => boxed::<AesGcm<Aes128, U12, U12>>(key),
        (AesKey::Aes128, IcvLen::Sixteen) => boxed::<AesGcm<Aes128, U12, U16>>(key),
        (AesKey::Aes192, IcvLen::Eight) => boxed::<AesGcm<Aes192, U12, U8>>(key),
        (AesKey::Aes192, IcvLen::Twelve) => boxed::<AesGcm<Aes192, U12, U12>>(key),
        (AesKey::Aes192, IcvLen::Sixteen) => boxed::<AesGcm<Aes192, U12, U16>>(key),
        (AesKey::Aes256, IcvLen::Eight) => boxed::<AesGcm<Aes256, U12, U8>>(key),
        (AesKey::Aes256, IcvLen::Twelve) => boxed::<AesGcm<Aes256, U12, U12>>(key),
        (AesKey::Aes256, IcvLen::Sixteen) => boxed::<AesGcm<Aes256, U12, U16>>(key),
    }
}

// RFC 4309 section 4: the nonce has 11 octets, three of them salt.
fn ccm(length: AesKey, icv: IcvLen, key: &[u8]) -> Option<Boxed> {
    match (length, icv) {
        (AesKey::Aes128, IcvLen::Eight) => boxed::<Ccm<Aes128, U8, U11>>(key),
        (AesKey::Aes128, IcvLen::Twelve) => boxed::<Ccm<Aes128, U12, U11>>(key),
        (AesKey::Aes128, IcvLen::Sixteen) => boxed::<Ccm<Aes128, U16, U11>>(key),
        (AesKey::Aes192, IcvLen::Eight) => boxed::<Ccm<Aes192, U8, U11>>(key),
        (AesKey::Aes192, IcvLen::Twelve) => boxed::<Ccm<Aes192, U12, U11>>(key),
        (AesKey::Aes192, IcvLen::Sixteen) => boxed::<Ccm<Aes192, U16, U11>>(key),
        (AesKey::Aes256, IcvLen::Eight) => boxed::<Ccm<Aes256, U8, U11>>(key),
        (AesKey::Aes256, IcvLen::Twelve) => boxed::<Ccm<Aes256, U12, U11>>(key),
        (AesKey::Aes256, IcvLen::Sixteen) => boxed::<Ccm<Aes256, U16, U11>>(key),
    }
}

fn boxed<T: AeadInOut + KeyInit + Send + Sync + 'static>(key: &[u8]) -> Option<Boxed> {
    T::new_from_slice(key).ok().map(|cipher| Box::new(cipher) as Boxed)
}

/// Octets of IV, in the packet or not (RFC 4106 section 3.1, RFC 4309 section 3.1, RFC 8750 section 4).
const IV_LEN: usize = 8;
const MAX_NONCE_LEN: usize = 12;

#[cfg(test)]
mod tests;
