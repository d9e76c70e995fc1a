//! Suites by both their names: ours, and those of `ip xfrm`.

use std::fmt::Write;

/// A suite, with the kernel's words for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suite {
    pub name: String,
    parts: Vec<Part>,
}

/// One algorithm, with its share of the keying material.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Name, octets of key and salt, bits of the ICV.
    Aead(&'static str, usize, u16),
    /// Name, octets of key and nonce.
    Encryption(&'static str, usize),
    /// Name, octets of key, bits of the ICV.
    Integrity(&'static str, usize, u16),
}

impl Suite {
    /// A suite of this name that both have.
    pub fn named(name: &str) -> Self {
        let found = all().into_iter().find(|suite| suite.name == name);
        found.unwrap_or_else(|| panic!("{name} is no suite of both"))
    }

    /// Whether it is one of AH.
    pub fn is_ah(&self) -> bool {
        self.name.starts_with("ah-")
    }

    /// How many octets of keying material it takes.
    pub fn key_len(&self) -> usize {
        let parts = self.parts.iter();
        parts
            .map(|&(Part::Aead(_, len, _) | Part::Encryption(_, len) | Part::Integrity(_, len, _))| len)
            .sum()
    }

    /// How many octets its ICV has.
    pub fn icv_len(&self) -> usize {
        let bits = self.parts.iter().map(|part| match part {
            Part::Aead(_, _, bits) | Part::Integrity(_, _, bits) => usize::from(*bits),
            Part::Encryption(..) => 0,
        });
        bits.sum::<usize>() / 8
    }

    /// What `ip xfrm state add` calls it, with this key, given in hexadecimal.
    pub fn kernel(&self, mut key: &str) -> String {
        let mut words = String::new();
        let mut take = |len: usize| {
            let (own, rest) = key.split_at(2 * len);
            key = rest;
            if len == 0 { "\"\"".to_owned() } else { format!("0x{own}") }
        };
        for part in &self.parts {
            let written = match *part {
                Part::Aead(name, len, icv) => write!(words, " aead {name} {} {icv}", take(len)),
                Part::Encryption(name, len) => write!(words, " enc {name} {}", take(len)),
                Part::Integrity(name, len, icv) => write!(words, " auth-trunc {name} {} {icv}", take(len)),
            };
            written.unwrap();
        }
        words
    }
}

/// Every suite of ESP and AH that Linux and we both have.
pub fn all() -> Vec<Suite> {
    let mut suites = Vec::new();
    let mut add = |name: String, parts: &[Part]| suites.push(Suite { name, parts: parts.to_vec() });
    for (bits, key) in KEYS {
        for (suffix, icv) in [("", 128), ("-12", 96), ("-8", 64)] {
            add(format!("aes-{bits}-gcm{suffix}"), &[Part::Aead("rfc4106(gcm(aes))", key + 4, icv)]);
        }
        for (suffix, icv) in [("", 128), ("-12", 96), ("-8", 64)] {
            add(format!("aes-{bits}-ccm{suffix}"), &[Part::Aead("rfc4309(ccm(aes))", key + 3, icv)]);
        }
        add(format!("aes-{bits}-gmac"), &[Part::Aead("rfc4543(gcm(aes))", key + 4, 128)]);
    }
    add("chacha20-poly1305".to_owned(), &[Part::Aead("rfc7539esp(chacha20,poly1305)", 36, 128)]);
    for (name, kernel, len, icv) in INTEGRITY {
        let integrity = Part::Integrity(kernel, len, icv);
        for (bits, key) in KEYS {
            add(format!("aes-{bits}-cbc-{name}"), &[Part::Encryption("cbc(aes)", key), integrity]);
            add(
                format!("aes-{bits}-ctr-{name}"),
                &[Part::Encryption("rfc3686(ctr(aes))", key + 4), integrity],
            );
        }
        add(format!("null-{name}"), &[Part::Encryption("ecb(cipher_null)", 0), integrity]);
        add(format!("ah-{name}"), &[integrity]);
    }
    suites
}

/// AES by the bits of its key, and its octets.
const KEYS: [(u16, usize); 3] = [(128, 16), (192, 24), (256, 32)];

/// Integrity algorithms: our name, the kernel's, octets of key, bits of the ICV.
const INTEGRITY: [(&str, &str, usize, u16); 6] = [
    ("hmac-sha-1", "hmac(sha1)", 20, 96),
    ("hmac-sha-256-96", "hmac(sha256)", 32, 96),
    ("hmac-sha-256", "hmac(sha256)", 32, 128),
    ("hmac-sha-384", "hmac(sha384)", 48, 192),
    ("hmac-sha-512", "hmac(sha512)", 64, 256),
    ("aes-cmac", "cmac(aes)", 16, 96),
];
