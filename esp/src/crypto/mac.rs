//! Integrity algorithms that stand alone: HMAC (RFC 2404, RFC 4868) and AES-CMAC (RFC 4494).

use aes::Aes128;
use cmac::Cmac;
use hmac::{Hmac, KeyInit, Mac as _};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use crate::suite::Integrity;

/// An algorithm with its key absorbed, so that a packet begins with a copy of it. Wiped on drop.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "a box would be allocated for every packet")]
pub(crate) enum Mac {
    HmacSha1(Hmac<Sha1>),
    HmacSha256(Hmac<Sha256>),
    HmacSha384(Hmac<Sha384>),
    HmacSha512(Hmac<Sha512>),
    AesCmac(Cmac<Aes128>),
}

impl Mac {
    /// `None` where the key's length is not the algorithm's.
    pub(crate) fn new(integrity: Integrity, key: &[u8]) -> Option<Self> {
        if key.len() != integrity.key_len() {
            return None;
        }
        match integrity {
            Integrity::HmacSha1 => Hmac::new_from_slice(key).ok().map(Self::HmacSha1),
            Integrity::HmacSha256 | Integrity::HmacSha256Cut96 => {
                Hmac::new_from_slice(key).ok().map(Self::HmacSha256)
            }
            Integrity::HmacSha384 => Hmac::new_from_slice(key).ok().map(Self::HmacSha384),
            Integrity::HmacSha512 => Hmac::new_from_slice(key).ok().map(Self::HmacSha512),
            Integrity::AesCmac => Cmac::new_from_slice(key).ok().map(Self::AesCmac),
        }
    }

    /// Covers `octets`, behind what was covered before.
    #[inline]
    pub(crate) fn update(&mut self, octets: &[u8]) {
        match self {
            Self::HmacSha1(mac) => mac.update(octets),
            Self::HmacSha256(mac) => mac.update(octets),
            Self::HmacSha384(mac) => mac.update(octets),
            Self::HmacSha512(mac) => mac.update(octets),
            Self::AesCmac(mac) => mac.update(octets),
        }
    }

    /// As much of the value as any ICV takes; zeros behind it where it is shorter (RFC 4868 section 2.3: the leftmost
    /// bits are the ICV).
    #[inline]
    pub(crate) fn finish(self) -> [u8; MAX_ICV_LEN] {
        match self {
            Self::HmacSha1(mac) => leftmost(&mac.finalize().into_bytes()),
            Self::HmacSha256(mac) => leftmost(&mac.finalize().into_bytes()),
            Self::HmacSha384(mac) => leftmost(&mac.finalize().into_bytes()),
            Self::HmacSha512(mac) => leftmost(&mac.finalize().into_bytes()),
            Self::AesCmac(mac) => leftmost(&mac.finalize().into_bytes()),
        }
    }
}

/// As much of `value` as any ICV takes.
#[inline]
pub(crate) fn leftmost(value: &[u8]) -> [u8; MAX_ICV_LEN] {
    let mut icv = [0; MAX_ICV_LEN];
    icv.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
    icv
}

/// Octets of the longest ICV: HMAC-SHA-512-256's.
pub(crate) const MAX_ICV_LEN: usize = 32;

#[cfg(test)]
mod tests;
