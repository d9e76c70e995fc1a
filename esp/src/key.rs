//! Key material: the octets a key exchange or an operator hands over. The encryption key comes first, behind it its salt
//! (RFC 4106 section 8.1, RFC 7634 section 2) or nonce (RFC 3686 section 5.1), behind both the integrity key (RFC 7296
//! section 2.17). They are wiped on drop and shown by nothing.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::crypto;
use crate::error::ConfigError;
use crate::protocol::Protocol;
use crate::suite::{Lengths, Suite};

/// The secret of one direction of one SA. Not `Clone`: under one key and salt there is one counter (RFC 4106
/// section 2, RFC 7634 section 2).
pub struct KeyMaterial {
    suite: Suite,
    octets: Zeroizing<Vec<u8>>,
}

impl KeyMaterial {
    /// Copies `octets`, in the order of [`Suite::key_layout`]. Wiping the original is the caller's part.
    pub fn new(suite: Suite, octets: &[u8]) -> Result<Self, ConfigError> {
        let needed = suite.material_len();
        if octets.len() != needed {
            return Err(ConfigError::KeyLength { suite, needed, got: octets.len() });
        }
        Ok(Self { suite, octets: Zeroizing::new(octets.to_vec()) })
    }

    /// The suite it was made for.
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// A number by which one process knows the key and its salt again (RFC 4106 section 2: none may come twice). It is
    /// computed under a random `secret` of that process, so it says nothing of them to anyone else.
    pub fn fingerprint(&self, secret: &RandomState) -> u64 {
        secret.hash_one(self.nonce_octets())
    }

    /// By what a store on disk knows key, salt and how nonces are made of them again (T12): HMAC-SHA-256 under the store's own
    /// random `secret`, so it says nothing of them to who has not both.
    pub fn fingerprint_under(&self, secret: &[u8; 32]) -> [u8; 32] {
        crypto::fingerprint(secret, self.suite.sharing_nonces(), self.nonce_octets())
    }

    /// What decides the nonces of a counter mode, which another integrity key makes no others (T11); of other suites all of it.
    fn nonce_octets(&self) -> &[u8] {
        let Lengths { encryption_key, salt, .. } = self.suite.lengths();
        let whole = self.octets.as_slice();
        match self.suite.protocol() {
            Protocol::Esp if self.suite.is_counter_mode() => {
                whole.get(..encryption_key + salt).unwrap_or(whole)
            }
            _ => whole,
        }
    }

    /// What is to be said where no key of the suite can be made of this.
    pub(crate) fn unfit(&self) -> ConfigError {
        let needed = self.suite.material_len();
        ConfigError::KeyLength { suite: self.suite, needed, got: self.octets.len() }
    }

    /// The encryption key.
    pub(crate) fn encryption_key(&self) -> &[u8] {
        self.parts().0
    }

    /// The salt, or nonce.
    pub(crate) fn salt(&self) -> &[u8] {
        self.parts().1
    }

    /// The integrity key, where it is apart.
    pub(crate) fn integrity_key(&self) -> &[u8] {
        self.parts().2
    }

    /// Encryption key, salt and integrity key; of AH, whose key is of integrity, the salt stands behind it.
    fn parts(&self) -> (&[u8], &[u8], &[u8]) {
        let Lengths { encryption_key, integrity_key, salt, .. } = self.suite.lengths();
        let split = |first, second| {
            let (first, rest) = self.octets.split_at_checked(first)?;
            let (second, third) = rest.split_at_checked(second)?;
            Some((first, second, third))
        };
        match self.suite.protocol() {
            Protocol::Esp => split(encryption_key, salt).unwrap_or_default(),
            Protocol::Ah => {
                let (integrity, salt, none) = split(integrity_key, salt).unwrap_or_default();
                (none, salt, integrity)
            }
        }
    }
}

/// A copy of key material to be shown to who asks for just that (T40): no SA can be made of it. Wiped on drop.
pub struct ShownKey(KeyMaterial);

impl KeyMaterial {
    /// A copy to be shown.
    pub fn to_show(&self) -> ShownKey {
        ShownKey(Self { suite: self.suite, octets: self.octets.clone() })
    }
}

impl ShownKey {
    /// The suite it is of.
    pub const fn suite(&self) -> Suite {
        self.0.suite
    }

    /// The encryption key; empty where there is none.
    pub fn encryption_key(&self) -> &[u8] {
        self.0.encryption_key()
    }

    /// The salt, or nonce; empty where there is none.
    pub fn salt(&self) -> &[u8] {
        self.0.salt()
    }

    /// The integrity key, where it is apart.
    pub fn integrity_key(&self) -> &[u8] {
        self.0.integrity_key()
    }
}

impl Clone for ShownKey {
    fn clone(&self) -> Self {
        self.0.to_show()
    }
}

impl fmt::Debug for ShownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Zeroize for KeyMaterial {
    fn zeroize(&mut self) {
        self.octets.zeroize();
    }
}

impl ZeroizeOnDrop for KeyMaterial {}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyMaterial").field("suite", &self.suite).field("octets", &"redacted").finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4106 section 8.1: 20 and 36 octets. RFC 7634 section 2: 36. RFC 3602 and RFC 4868 section 2.1.1: 48 and 64.
    #[test]
    fn only_the_exact_length_is_taken() {
        for (suite, needed) in Suite::RECOMMENDED.into_iter().zip([20, 36, 36, 48, 64]) {
            for len in 0..80 {
                let made = KeyMaterial::new(suite, &vec![7; len]);
                match made {
                    Ok(keys) => assert_eq!((len, keys.suite()), (needed, suite)),
                    Err(error) => {
                        assert_ne!(len, needed);
                        assert_eq!(error, ConfigError::KeyLength { suite, needed, got: len });
                    }
                }
            }
        }
    }

    /// RFC 4106 section 8.1: the salt is the last four octets.
    #[test]
    fn the_salt_follows_the_key() {
        let octets: Vec<u8> = (0..36).collect();
        let keys = KeyMaterial::new(Suite::AES_256_GCM, &octets).unwrap();
        assert_eq!(keys.encryption_key(), &octets[..32]);
        assert_eq!(keys.salt(), &octets[32..]);
    }

    /// T24, RFC 7296 section 2.17, RFC 3686 section 5.1, RFC 4543 section 5.4: what stands where.
    #[test]
    fn encryption_key_salt_and_integrity_key_stand_in_this_order() {
        let parts = |name: &str| {
            let suite: Suite = name.parse().unwrap();
            let octets: Vec<u8> = (0..).take(suite.material_len()).collect();
            let keys = KeyMaterial::new(suite, &octets).unwrap();
            [keys.encryption_key(), keys.salt(), keys.integrity_key()]
                .map(|part| part.first().map(|first| (*first, part.len())))
        };
        assert_eq!(parts("aes-192-ctr-hmac-sha-256"), [Some((0, 24)), Some((24, 4)), Some((28, 32))]);
        assert_eq!(parts("aes-128-cbc-hmac-sha-1"), [Some((0, 16)), None, Some((16, 20))]);
        assert_eq!(parts("null-aes-cmac"), [None, None, Some((0, 16))]);
        assert_eq!(parts("aes-256-ccm-8"), [Some((0, 32)), Some((32, 3)), None]);
        assert_eq!(parts("aes-256-gmac"), [Some((0, 32)), Some((32, 4)), None]);
        assert_eq!(parts("ah-hmac-sha-512"), [None, None, Some((0, 64))]);
        assert_eq!(parts("ah-aes-256-gmac"), [None, Some((32, 4)), Some((0, 32))]);
    }

    /// RFC 7296 section 2.17: the error says what comes first.
    #[test]
    fn a_wrong_length_is_told_with_the_order_of_keys() {
        let said = |suite| KeyMaterial::new(suite, &[]).unwrap_err().to_string();
        assert!(said(Suite::AES_128_GCM).contains("20 bytes of key material (key, then salt), not 0"));
        let layout = "48 bytes of key material (encryption key, then integrity key), not 0";
        assert!(said(Suite::AES_128_CBC_HMAC_SHA_256).contains(layout));
    }

    /// RFC 4106 section 2: key and salt together are what must not come twice.
    #[test]
    fn a_fingerprint_knows_key_and_salt_again() {
        let secret = RandomState::new();
        let of =
            |octets: [u8; 20]| KeyMaterial::new(Suite::AES_128_GCM, &octets).unwrap().fingerprint(&secret);
        let (mut other_key, mut other_salt) = ([7; 20], [7; 20]);
        (other_key[0], other_salt[19]) = (8, 8);
        assert_eq!(of([7; 20]), of([7; 20]));
        assert_ne!(of([7; 20]), of(other_key));
        assert_ne!(of([7; 20]), of(other_salt));
    }

    /// T11, T12: AES-GCM encrypts under the counter blocks of AES-CTR and authenticates under the nonces of AES-GMAC, whatever the
    /// length of the ICV and the key of an HMAC beside it. Who knows a key again, knows it again in all of them.
    #[test]
    fn suites_that_would_repeat_nonces_of_each_other_have_one_fingerprint() {
        let secret = RandomState::new();
        let of = |name: &str, hmac: u8| {
            let suite: Suite = name.parse().unwrap();
            let octets: Vec<u8> =
                (0..suite.material_len()).map(|at| if at < 20 { 7 } else { hmac }).collect();
            let keys = KeyMaterial::new(suite, &octets).unwrap();
            (keys.fingerprint(&secret), keys.fingerprint_under(&[1; 32]))
        };
        let known = of("aes-128-gcm", 0);
        for name in ["aes-128-gcm-8", "aes-128-gcm-12", "aes-128-gcm-iiv", "aes-128-gmac", "ah-aes-128-gmac"]
        {
            assert_eq!(of(name, 0), known, "{name}");
        }
        for hmac in [1, 2] {
            assert_eq!(of("aes-128-ctr-hmac-sha-256", hmac), known, "{hmac}");
        }
        assert_ne!(of("null-hmac-sha-256", 1), of("null-hmac-sha-256", 2));
        assert_ne!(of("aes-128-cbc-hmac-sha-256", 1), of("aes-128-cbc-hmac-sha-256", 2));
    }

    /// T12: whoever reads the store later must find the key again, and no other; not by the octets alone, for suites differ.
    #[test]
    fn a_stored_fingerprint_is_of_secret_suite_key_and_salt() {
        let of = |secret: [u8; 32], suite, octets: [u8; 36]| {
            KeyMaterial::new(suite, &octets).unwrap().fingerprint_under(&secret)
        };
        let suite = Suite::AES_256_GCM;
        let known = of([1; 32], suite, [7; 36]);
        assert_eq!(known, of([1; 32], suite, [7; 36]));
        for at in [0, 31, 32, 35] {
            let mut other = [7; 36];
            other[at] ^= 1;
            assert_ne!(known, of([1; 32], suite, other), "{at}");
        }
        assert_ne!(known, of([2; 32], suite, [7; 36]));
        assert_ne!(known, of([1; 32], Suite::CHACHA20_POLY1305, [7; 36]));
        // Computed once more by another implementation.
        let expected = "6f3318980ae66af63ae72cbaccab5efba2e2b0baec689e0eed37ee26fd49b7db";
        assert_eq!(hex::encode(known), expected);
    }

    /// T40.
    #[test]
    fn debug_output_shows_no_key_octet() {
        let keys = KeyMaterial::new(Suite::AES_128_GCM, &[0xab; 20]).unwrap();
        assert_eq!(format!("{keys:?}"), "KeyMaterial { suite: Suite(aes-128-gcm), octets: \"redacted\" }");
    }

    /// T40.
    #[test]
    fn key_material_is_wiped() {
        fn wiped_on_drop<T: ZeroizeOnDrop>(_: &T) {}
        let mut keys = KeyMaterial::new(Suite::AES_128_GCM, &[0xab; 20]).unwrap();
        wiped_on_drop(&keys);
        wiped_on_drop(&keys.octets);
        keys.zeroize();
        assert!(keys.octets.is_empty());
        assert!(keys.encryption_key().is_empty() && keys.salt().is_empty());
    }
}
