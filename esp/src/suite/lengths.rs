//! How long a packet of a suite is, from what its algorithms take (RFC 4303 section 2.4, RFC 4302 section 2.6).

use super::{Cipher, Kind};

/// The lengths of one suite: computed where an SA is made, and kept in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lengths {
    /// Of the encryption key.
    pub encryption_key: usize,
    pub salt: usize,
    /// Of the integrity key, where integrity is apart.
    pub integrity_key: usize,
    pub iv: usize,
    pub icv: usize,
    /// What stands before the payload: header and IV; of AH, all of it.
    pub front: usize,
    /// What stands behind the protected part.
    pub back: usize,
    /// Pad length and next header; none in AH.
    pub trailer: usize,
    /// What the cipher takes at a time; 1 where it takes any number of bytes.
    pub block: usize,
    /// What the sender makes the protected part a multiple of.
    pub alignment: usize,
}

impl Lengths {
    pub(super) const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Combined(combined) => {
                let iv = if combined.has_implicit_iv() { 0 } else { 8 };
                let keys = (combined.key_len(), combined.salt_len(), 0);
                Self::esp(keys, iv, combined.icv_len(), 1)
            }
            Kind::Apart(cipher, integrity) => {
                let (salt, iv, block) = match cipher {
                    Cipher::Null => (0, 0, 1),
                    // RFC 3686 sections 3.1 and 5.1.
                    Cipher::AesCtr(_) => (4, 8, 1),
                    // RFC 3602 section 3.
                    Cipher::AesCbc(_) => (0, 16, 16),
                };
                Self::esp((cipher.key_len(), salt, integrity.key_len()), iv, integrity.icv_len(), block)
            }
            Kind::Header(integrity) => Self::ah(integrity.key_len(), 0, 0, integrity.icv_len()),
            // RFC 4543 section 4: the IV stands before the ICV, in its field.
            Kind::HeaderGmac(key) => Self::ah(key.octets(), 4, 8, 16),
        }
    }

    const fn esp(
        (encryption_key, salt, integrity_key): (usize, usize, usize),
        iv: usize,
        icv: usize,
        block: usize,
    ) -> Self {
        let alignment = if block > MIN_ALIGNMENT { block } else { MIN_ALIGNMENT };
        let (front, back, trailer) = (HEADER_LEN + iv, icv, TRAILER_LEN);
        Self { encryption_key, salt, integrity_key, iv, icv, front, back, trailer, block, alignment }
    }

    const fn ah(integrity_key: usize, salt: usize, iv: usize, icv: usize) -> Self {
        let front = (AH_FIXED_LEN + iv + icv).next_multiple_of(8);
        let (encryption_key, back, trailer, block, alignment) = (0, 0, 0, 1, 1);
        Self { encryption_key, salt, integrity_key, iv, icv, front, back, trailer, block, alignment }
    }

    /// A length no buffer can have saturates.
    #[inline]
    pub(crate) const fn sealed(&self, payload_len: usize) -> usize {
        let padded = match payload_len.saturating_add(self.trailer).checked_next_multiple_of(self.alignment) {
            Some(padded) => padded,
            None => usize::MAX,
        };
        padded.saturating_add(self.front + self.back)
    }

    #[inline]
    pub(crate) const fn smallest(&self) -> usize {
        let protected = if self.block > self.trailer { self.block } else { self.trailer };
        self.front + protected + self.back
    }

    #[inline]
    pub(crate) const fn encrypted(&self, payload_len: usize) -> usize {
        self.sealed(payload_len) - self.front - self.back
    }

    #[inline]
    pub(crate) const fn overhead(&self) -> usize {
        self.front + (self.alignment - 1) + self.trailer + self.back
    }

    /// Of AH alone, aligned to what the IP version takes.
    #[inline]
    pub(crate) const fn header(&self, eight: bool) -> usize {
        (AH_FIXED_LEN + self.iv + self.icv).next_multiple_of(if eight { 8 } else { 4 })
    }

    #[inline]
    pub(crate) const fn max_payload(&self, sealed_budget: usize) -> Option<usize> {
        let Some(protected) = sealed_budget.checked_sub(self.front + self.back) else {
            return None;
        };
        (protected - protected % self.alignment).checked_sub(self.trailer)
    }
}

/// Bytes of SPI and sequence number in front of every payload (RFC 4303 section 2).
pub const HEADER_LEN: usize = 8;
/// Pad length and next header (RFC 4303 section 2).
pub(crate) const TRAILER_LEN: usize = 2;
/// Bytes of AH before its ICV (RFC 4302 section 2).
pub(crate) const AH_FIXED_LEN: usize = 12;
/// What the ICV begins on a multiple of, whatever the cipher (RFC 4303 section 2.4).
const MIN_ALIGNMENT: usize = 4;
