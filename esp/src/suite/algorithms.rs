//! The algorithms of RFC 8221, and of its forebears that others still speak, one type for each role.

/// How long an AES key is (RFC 3602 section 2, RFC 4106 section 8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AesKey {
    /// 128 bits.
    Aes128,
    /// 192 bits.
    Aes192,
    /// 256 bits.
    Aes256,
}

/// How long the ICV of AES-GCM or AES-CCM is (RFC 4106 section 6, RFC 4309 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IcvLen {
    /// 8 octets, which RFC 8221 section 5 keeps for constrained devices.
    Eight,
    /// 12 octets.
    Twelve,
    /// 16 octets.
    Sixteen,
}

/// An algorithm that is encryption and integrity at once (RFC 4303 section 3.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Combined {
    /// AES-GCM (RFC 4106).
    AesGcm(AesKey, IcvLen),
    /// AES-GCM with a 16-octet ICV whose IV is the sequence number and not sent (RFC 8750).
    AesGcmImplicitIv(AesKey),
    /// AES-CCM (RFC 4309).
    AesCcm(AesKey, IcvLen),
    /// AES-CCM with an 8-octet ICV whose IV is the sequence number and not sent (RFC 8750).
    AesCcm8ImplicitIv(AesKey),
    /// ENCR_NULL_AUTH_AES_GMAC, which hides nothing (RFC 4543 section 3).
    AesGmac(AesKey),
    /// ChaCha20-Poly1305 (RFC 7634).
    ChaCha20Poly1305,
    /// ChaCha20-Poly1305 whose IV is the sequence number and not sent (RFC 8750).
    ChaCha20Poly1305ImplicitIv,
}

/// An algorithm that encrypts, or does not, and needs integrity beside it (T26).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cipher {
    /// No encryption (RFC 2410).
    Null,
    /// AES in counter mode (RFC 3686).
    AesCtr(AesKey),
    /// AES in cipher block chaining mode (RFC 3602).
    AesCbc(AesKey),
}

/// An algorithm for integrity alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Integrity {
    /// HMAC-SHA-1, cut to 96 bits (RFC 2404).
    HmacSha1,
    /// HMAC-SHA-256, cut to 128 bits (RFC 4868).
    HmacSha256,
    /// HMAC-SHA-384, cut to 192 bits (RFC 4868).
    HmacSha384,
    /// HMAC-SHA-512, cut to 256 bits (RFC 4868).
    HmacSha512,
    /// AES-CMAC with a 128-bit key, cut to 96 bits (RFC 4494).
    AesCmac,
    /// HMAC-SHA-256, cut to 96 bits as a draft of RFC 4868 had it: what Linux does where no length is asked for.
    HmacSha256Cut96,
}

impl AesKey {
    /// All lengths.
    pub const ALL: [Self; 3] = [Self::Aes128, Self::Aes192, Self::Aes256];

    /// The length in octets.
    pub const fn octets(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// The length in bits, as IKEv2's Key Length attribute has it (RFC 7296 section 3.3.5).
    pub const fn bits(self) -> u16 {
        match self {
            Self::Aes128 => 128,
            Self::Aes192 => 192,
            Self::Aes256 => 256,
        }
    }

    /// The key of so many octets.
    pub fn of_octets(octets: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.octets() == octets)
    }
}

impl IcvLen {
    /// All lengths.
    pub const ALL: [Self; 3] = [Self::Eight, Self::Twelve, Self::Sixteen];

    /// The length in octets.
    pub const fn octets(self) -> usize {
        match self {
            Self::Eight => 8,
            Self::Twelve => 12,
            Self::Sixteen => 16,
        }
    }

    /// The ICV of so many octets.
    pub fn of_octets(octets: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|icv| icv.octets() == octets)
    }
}

impl Cipher {
    /// Bytes of key, without the nonce of AES-CTR (RFC 3686 section 5.1).
    pub const fn key_len(self) -> usize {
        match self {
            Self::Null => 0,
            Self::AesCtr(key) | Self::AesCbc(key) => key.octets(),
        }
    }

    /// Every cipher with every key length.
    pub fn all() -> impl Iterator<Item = Self> {
        let keyed = [Self::AesCtr as fn(AesKey) -> Self, Self::AesCbc].into_iter();
        keyed.flat_map(|cipher| AesKey::ALL.map(cipher)).chain([Self::Null])
    }
}

impl Integrity {
    /// Every algorithm.
    pub const ALL: [Self; 6] = [
        Self::HmacSha256,
        Self::HmacSha384,
        Self::HmacSha512,
        Self::AesCmac,
        Self::HmacSha1,
        Self::HmacSha256Cut96,
    ];

    /// Bytes of key: as long as the hash's output (RFC 4868 section 2.1.1, RFC 2404 section 3), or AES-128's.
    pub const fn key_len(self) -> usize {
        match self {
            Self::HmacSha1 => 20,
            Self::HmacSha256 | Self::HmacSha256Cut96 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
            Self::AesCmac => 16,
        }
    }

    /// Bytes of ICV (RFC 4868 section 2.3, RFC 2404 section 2, RFC 4494 section 2).
    pub const fn icv_len(self) -> usize {
        match self {
            Self::HmacSha1 | Self::HmacSha256Cut96 | Self::AesCmac => 12,
            Self::HmacSha256 => 16,
            Self::HmacSha384 => 24,
            Self::HmacSha512 => 32,
        }
    }
}

impl Combined {
    /// Every algorithm with every length of key and ICV.
    pub fn all() -> impl Iterator<Item = Self> {
        let sized =
            [Self::AesGcm as fn(AesKey, IcvLen) -> Self, Self::AesCcm].into_iter().flat_map(|sized| {
                AesKey::ALL.into_iter().flat_map(move |key| IcvLen::ALL.map(|icv| sized(key, icv)))
            });
        let keyed = [Self::AesGcmImplicitIv as fn(AesKey) -> Self, Self::AesCcm8ImplicitIv, Self::AesGmac];
        let keyed = keyed.into_iter().flat_map(|keyed| AesKey::ALL.map(keyed));
        sized.chain(keyed).chain([Self::ChaCha20Poly1305, Self::ChaCha20Poly1305ImplicitIv])
    }

    /// Bytes of key, without the salt.
    pub const fn key_len(self) -> usize {
        match self {
            Self::AesGcm(key, _)
            | Self::AesGcmImplicitIv(key)
            | Self::AesCcm(key, _)
            | Self::AesCcm8ImplicitIv(key)
            | Self::AesGmac(key) => key.octets(),
            Self::ChaCha20Poly1305 | Self::ChaCha20Poly1305ImplicitIv => 32,
        }
    }

    /// Bytes of salt: four, but three with CCM (RFC 4309 section 4).
    pub const fn salt_len(self) -> usize {
        match self {
            Self::AesCcm(..) | Self::AesCcm8ImplicitIv(_) => 3,
            _ => 4,
        }
    }

    /// Bytes of ICV.
    pub const fn icv_len(self) -> usize {
        match self {
            Self::AesGcm(_, icv) | Self::AesCcm(_, icv) => icv.octets(),
            Self::AesCcm8ImplicitIv(_) => 8,
            _ => 16,
        }
    }

    /// Whether the IV is the sequence number, and not sent (RFC 8750).
    pub const fn has_implicit_iv(self) -> bool {
        matches!(
            self,
            Self::AesGcmImplicitIv(_) | Self::AesCcm8ImplicitIv(_) | Self::ChaCha20Poly1305ImplicitIv
        )
    }
}
