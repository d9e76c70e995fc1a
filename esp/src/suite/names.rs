//! What suites are called in configuration and output.

use super::{AesKey, Cipher, Combined, IcvLen, Integrity, Kind, Suite};

/// A name that begins with the key's length.
macro_rules! keyed {
    ($key:expr, $rest:literal) => {
        match $key {
            AesKey::Aes128 => concat!("aes-128-", $rest),
            AesKey::Aes192 => concat!("aes-192-", $rest),
            AesKey::Aes256 => concat!("aes-256-", $rest),
        }
    };
}

/// A name that ends with the integrity algorithm.
macro_rules! checked {
    ($cipher:literal, $integrity:expr) => {
        match $integrity {
            Integrity::HmacSha1 => concat!($cipher, "hmac-sha-1"),
            Integrity::HmacSha256 => concat!($cipher, "hmac-sha-256"),
            Integrity::HmacSha384 => concat!($cipher, "hmac-sha-384"),
            Integrity::HmacSha512 => concat!($cipher, "hmac-sha-512"),
            Integrity::AesCmac => concat!($cipher, "aes-cmac"),
            Integrity::HmacSha256Cut96 => concat!($cipher, "hmac-sha-256-96"),
        }
    };
}

impl Suite {
    /// The name in configuration and output.
    pub const fn name(self) -> &'static str {
        match self.kind() {
            Kind::Combined(combined) => match combined {
                Combined::AesGcm(key, IcvLen::Eight) => keyed!(key, "gcm-8"),
                Combined::AesGcm(key, IcvLen::Twelve) => keyed!(key, "gcm-12"),
                Combined::AesGcm(key, IcvLen::Sixteen) => keyed!(key, "gcm"),
                Combined::AesGcmImplicitIv(key) => keyed!(key, "gcm-iiv"),
                Combined::AesCcm(key, IcvLen::Eight) => keyed!(key, "ccm-8"),
                Combined::AesCcm(key, IcvLen::Twelve) => keyed!(key, "ccm-12"),
                Combined::AesCcm(key, IcvLen::Sixteen) => keyed!(key, "ccm"),
                Combined::AesCcm8ImplicitIv(key) => keyed!(key, "ccm-8-iiv"),
                Combined::AesGmac(key) => keyed!(key, "gmac"),
                Combined::ChaCha20Poly1305 => "chacha20-poly1305",
                Combined::ChaCha20Poly1305ImplicitIv => "chacha20-poly1305-iiv",
            },
            Kind::Apart(Cipher::Null, integrity) => checked!("null-", integrity),
            Kind::Apart(Cipher::AesCtr(AesKey::Aes128), integrity) => checked!("aes-128-ctr-", integrity),
            Kind::Apart(Cipher::AesCtr(AesKey::Aes192), integrity) => checked!("aes-192-ctr-", integrity),
            Kind::Apart(Cipher::AesCtr(AesKey::Aes256), integrity) => checked!("aes-256-ctr-", integrity),
            Kind::Apart(Cipher::AesCbc(AesKey::Aes128), integrity) => checked!("aes-128-cbc-", integrity),
            Kind::Apart(Cipher::AesCbc(AesKey::Aes192), integrity) => checked!("aes-192-cbc-", integrity),
            Kind::Apart(Cipher::AesCbc(AesKey::Aes256), integrity) => checked!("aes-256-cbc-", integrity),
            Kind::Header(integrity) => checked!("ah-", integrity),
            Kind::HeaderGmac(AesKey::Aes128) => "ah-aes-128-gmac",
            Kind::HeaderGmac(AesKey::Aes192) => "ah-aes-192-gmac",
            Kind::HeaderGmac(AesKey::Aes256) => "ah-aes-256-gmac",
        }
    }
}
