//! The one door to cryptography: keys that seal and open the packets of one SA, in place and without allocation.
//!
//! A [`PacketKey`] is chosen by suite when an SA is made: an AEAD of the fast backend, another AEAD, GMAC, or encryption and
//! integrity apart. Nothing outside knows which it is. The keys of AH, which covers more than it carries, are
//! [`HeaderKey`]s.

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::{ConfigError, OpenError, SealError};
use crate::key::KeyMaterial;
use crate::number::{EsnHigh, SeqNum};
use crate::protocol::Protocol;
use crate::suite::{AesKey, Combined, IcvLen, Kind, Suite};

pub(crate) use self::aead::{Aead, AeadKey, ICV_LEN, NONCE_LEN};
use self::aes::BLOCK_LEN;
use self::apart::{ApartKey, IvKey};
use self::gmac::GmacKey;
pub(crate) use self::header::{Covering, HeaderKey};
use self::portable::PortableKey;

mod aead;
mod aes;
mod apart;
mod frame;
mod gmac;
mod header;
mod mac;
mod portable;
#[cfg(feature = "ring")]
pub(crate) mod ring;
#[cfg(any(test, not(feature = "ring")))]
pub(crate) mod rustcrypto;

/// The backend of AEADs that packets go through.
#[cfg(feature = "ring")]
pub(crate) type Backend = self::ring::RingAead;
/// The backend of AEADs that packets go through.
#[cfg(not(feature = "ring"))]
pub(crate) type Backend = self::rustcrypto::RustCryptoAead;

/// Seals the packets of one SA.
pub(crate) struct SealingKey<A = Backend> {
    key: PacketKey<A>,
    ivs: Ivs,
}

impl<A: Aead> SealingKey<A> {
    pub(crate) fn new(keys: &KeyMaterial) -> Result<Self, ConfigError> {
        Ok(Self { key: PacketKey::new(keys)?, ivs: Ivs::of(keys.suite())? })
    }

    /// Protects `packet`, which is header, room for the IV, plaintext with its trailer, room for the ICV. `high` is the
    /// high half of `seq` where numbers are extended.
    #[inline]
    pub(crate) fn seal(
        &self,
        seq: SeqNum,
        high: Option<EsnHigh>,
        packet: &mut [u8],
    ) -> Result<(), SealError> {
        match &self.key {
            PacketKey::Aead(key) => key.seal(high, seq.0.to_be_bytes(), packet),
            key => key.seal(high, self.ivs.iv(seq), packet),
        }
    }

    /// The key of an SA of AH.
    pub(crate) fn header(&self) -> Option<&HeaderKey> {
        self.key.header()
    }
}

/// Opens the packets of one SA.
pub(crate) struct OpeningKey<A = Backend>(PacketKey<A>);

impl<A: Aead> OpeningKey<A> {
    pub(crate) fn new(keys: &KeyMaterial) -> Result<Self, ConfigError> {
        PacketKey::new(keys).map(Self)
    }

    /// Verifies `packet`, of the number `seq`, and gives its plaintext with the trailer; a packet that fails is left
    /// without any.
    #[inline]
    pub(crate) fn open<'p>(
        &self,
        seq: SeqNum,
        high: Option<EsnHigh>,
        packet: &'p mut [u8],
    ) -> Result<&'p mut [u8], OpenError> {
        match &self.0 {
            PacketKey::Aead(key) => key.open(high, packet),
            key => key.open(seq, high, packet),
        }
    }

    /// The key of an SA of AH.
    pub(crate) fn header(&self) -> Option<&HeaderKey> {
        self.0.header()
    }
}

/// What protects the packets of one SA, whichever way they go.
pub(crate) enum PacketKey<A = Backend> {
    /// An AEAD of the backend: the packets that are in a hurry.
    Aead(AeadKey<A>),
    /// The same, whose IV is not sent.
    ImplicitIv(Box<AeadKey<A>>),
    Portable(PortableKey),
    Gmac(Box<GmacKey>),
    Apart(Box<ApartKey>),
    Header(Box<HeaderKey>),
}

impl<A: Aead> PacketKey<A> {
    pub(crate) fn new(keys: &KeyMaterial) -> Result<Self, ConfigError> {
        match keys.suite().kind() {
            Kind::Combined(Combined::AesGmac(length)) => {
                Ok(Self::Gmac(Box::new(GmacKey::new(length, keys.encryption_key(), keys)?)))
            }
            Kind::Combined(
                algorithm @ (Combined::AesGcm(AesKey::Aes128 | AesKey::Aes256, IcvLen::Sixteen)
                | Combined::ChaCha20Poly1305),
            ) => AeadKey::new(algorithm, keys).map(Self::Aead),
            Kind::Combined(
                algorithm @ (Combined::AesGcmImplicitIv(AesKey::Aes128 | AesKey::Aes256)
                | Combined::ChaCha20Poly1305ImplicitIv),
            ) => Ok(Self::ImplicitIv(Box::new(AeadKey::new(algorithm, keys)?))),
            Kind::Combined(algorithm) => PortableKey::new(algorithm, keys).map(Self::Portable),
            Kind::Apart(cipher, integrity) => {
                Ok(Self::Apart(Box::new(ApartKey::new(cipher, integrity, keys)?)))
            }
            Kind::Header(_) | Kind::HeaderGmac(_) => Ok(Self::Header(Box::new(HeaderKey::new(keys)?))),
        }
    }

    /// Protects `packet` under as much of this IV as the algorithm takes.
    pub(crate) fn seal(
        &self,
        high: Option<EsnHigh>,
        iv: [u8; BLOCK_LEN],
        packet: &mut [u8],
    ) -> Result<(), SealError> {
        match self {
            Self::Aead(key) => key.seal(high, counted(iv), packet),
            Self::ImplicitIv(key) => key.seal_implicit(high, counted(iv), packet),
            Self::Portable(key) => key.seal(high, counted(iv), packet),
            Self::Gmac(key) => key.seal(high, counted(iv), packet),
            Self::Apart(key) => key.seal(high, iv, packet),
            Self::Header(_) => Err(SealError::WrongProtocol(Protocol::Ah)),
        }
    }

    /// Verifies and decrypts `packet`.
    pub(crate) fn open<'p>(
        &self,
        seq: SeqNum,
        high: Option<EsnHigh>,
        packet: &'p mut [u8],
    ) -> Result<&'p mut [u8], OpenError> {
        match self {
            Self::Aead(key) => key.open(high, packet),
            Self::ImplicitIv(key) => key.open_implicit(high, seq.0.to_be_bytes(), packet),
            Self::Portable(key) => key.open(high, seq.0.to_be_bytes(), packet),
            Self::Gmac(key) => key.open(high, packet),
            Self::Apart(key) => key.open(high, packet),
            Self::Header(_) => Err(OpenError::WrongProtocol(Protocol::Ah)),
        }
    }

    fn header(&self) -> Option<&HeaderKey> {
        match self {
            Self::Header(key) => Some(key),
            _ => None,
        }
    }
}

/// Where the IVs of an SA come from.
enum Ivs {
    /// They are the numbers, so that none comes twice under one key (RFC 4106 section 3.1, RFC 3686 section 3.1).
    Counted,
    /// Nobody foresees them (RFC 3602 section 3).
    Unpredictable(IvKey),
}

impl Ivs {
    fn of(suite: Suite) -> Result<Self, ConfigError> {
        if suite.iv_len() == BLOCK_LEN { IvKey::random().map(Self::Unpredictable) } else { Ok(Self::Counted) }
    }

    fn iv(&self, seq: SeqNum) -> [u8; BLOCK_LEN] {
        match self {
            Self::Counted => (u128::from(seq.0) << 64).to_be_bytes(),
            Self::Unpredictable(key) => key.iv(seq),
        }
    }
}

/// The IV of an algorithm that takes 8 octets.
fn counted(iv: [u8; BLOCK_LEN]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = iv;
    [a, b, c, d, e, f, g, h]
}

/// Whether an ICV is the expected one; takes as long wherever the first difference lies (T25).
fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

/// Suite and key material under a secret, one way (HMAC-SHA-256, RFC 2104).
pub(crate) fn fingerprint(secret: &[u8; 32], suite: Suite, octets: &[u8]) -> [u8; 32] {
    // RFC 2104 section 2: a key is filled with zeros to the length of the hash's block.
    let mut key = Zeroizing::new([0; 64]);
    key.iter_mut().zip(secret).for_each(|(to, from)| *to = *from);
    let mut mac = <Hmac<Sha256> as KeyInit>::new((&*key).into());
    // No name holds a zero octet, so nothing else begins like this name and this key.
    for part in [suite.name().as_bytes(), &[0], octets] {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
