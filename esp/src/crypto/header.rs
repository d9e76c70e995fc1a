//! The keys of AH: integrity over what is fed in pieces (RFC 4302 section 3.3.3, RFC 4543 section 4).

use super::gmac::{Gmac, GmacKey};
use super::mac::{MAX_ICV_LEN, Mac, leftmost};
use crate::error::ConfigError;
use crate::key::KeyMaterial;
use crate::suite::Kind;

/// The integrity key of one SA.
#[expect(clippy::large_enum_variant, reason = "it stands in a box of its own")]
pub(crate) enum HeaderKey {
    Mac(Mac),
    Gmac(GmacKey),
}

impl HeaderKey {
    pub(super) fn new(keys: &KeyMaterial) -> Result<Self, ConfigError> {
        match keys.suite().kind() {
            Kind::Header(integrity) => {
                Mac::new(integrity, keys.integrity_key()).map(Self::Mac).ok_or_else(|| keys.unfit())
            }
            Kind::HeaderGmac(length) => GmacKey::new(length, keys.integrity_key(), keys).map(Self::Gmac),
            Kind::Combined(_) | Kind::Apart(..) => Err(keys.unfit()),
        }
    }

    /// Nothing covered yet. The IV is GMAC's; the others have none.
    pub(crate) fn begin(&self, iv: [u8; 8]) -> Covering {
        match self {
            Self::Mac(mac) => Covering::Mac(mac.clone()),
            Self::Gmac(key) => Covering::Gmac(key.begin(iv)),
        }
    }
}

/// What was covered so far.
#[expect(clippy::large_enum_variant, reason = "a box would be allocated for every packet")]
pub(crate) enum Covering {
    Mac(Mac),
    Gmac(Gmac),
}

impl Covering {
    /// Covers `octets`, behind what was covered before.
    pub(crate) fn update(&mut self, octets: &[u8]) {
        match self {
            Self::Mac(mac) => mac.update(octets),
            Self::Gmac(gmac) => gmac.update(octets),
        }
    }

    /// As much of the value as any ICV takes.
    pub(crate) fn finish(self) -> [u8; MAX_ICV_LEN] {
        match self {
            Self::Mac(mac) => mac.finish(),
            Self::Gmac(gmac) => leftmost(&gmac.finish()),
        }
    }

    /// Whether `icv` is the value's beginning; takes as long wherever the first difference lies (T25).
    pub(crate) fn verify(self, icv: &[u8]) -> bool {
        self.finish().get(..icv.len()).is_some_and(|value| super::same(value, icv))
    }
}
