//! The kernel's names of algorithms, and the suites that they are here.

use latchway_control::{XfrmAlgorithm, XfrmAlgorithmKind, XfrmProtocol, XfrmState};
use latchway_esp::Suite;
use zeroize::Zeroizing;

use crate::error::Quoted;

/// Why no suite is made of a state's algorithms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuiteError {
    /// The combination is not there.
    #[error("{0}")]
    Combination(&'static str),
    /// An algorithm is refused.
    #[error("{name} is refused: {why}")]
    Refused {
        /// Its name.
        name: String,
        /// Why, and what to use instead.
        why: &'static str,
    },
    /// An algorithm is not there.
    #[error(
        "{0} is not an algorithm of this gateway; aead 'rfc4106(gcm(aes))' is, among others: docs/xfrm.md lists them"
    )]
    Unknown(String),
    /// A key is of no length that its algorithm takes.
    #[error("the key of {name} has {got} octets; it takes {takes}")]
    KeyLength {
        /// The algorithm.
        name: String,
        /// What it takes.
        takes: &'static str,
        /// What it was given.
        got: usize,
    },
    /// A key that is not hexadecimal.
    #[error("the key of {0} is not hexadecimal digits")]
    NotHexadecimal(String),
    /// An integrity check value is of no length that the algorithm has here.
    #[error("{name} cannot be cut to {bits} bits; {takes}")]
    IcvLength {
        /// The algorithm.
        name: String,
        /// What was asked for.
        bits: u32,
        /// What it can be cut to.
        takes: &'static str,
    },
}

/// The suite of a state, and its keys as the suite takes them: encryption key with its salt, then integrity key.
///
/// # Errors
/// [`SuiteError`], which says what to do.
pub fn suite(state: &XfrmState) -> Result<(Suite, Zeroizing<Vec<u8>>), SuiteError> {
    use XfrmAlgorithmKind::{Aead, Auth, AuthTrunc, Enc};
    let find = |kinds: &[XfrmAlgorithmKind]| {
        state.algorithms.iter().find(|algorithm| kinds.contains(&algorithm.kind))
    };
    let (aead, enc, auth) = (find(&[Aead]), find(&[Enc]), find(&[Auth, AuthTrunc]));
    let (name, keys) = match (state.protocol, aead, enc, auth) {
        _ if state.algorithms.len() > 2 => return Err(SuiteError::Combination(ONE_EACH)),
        (XfrmProtocol::Esp, Some(aead), None, None) => combined(aead)?,
        (XfrmProtocol::Esp, None, Some(enc), Some(auth)) => {
            let (cipher, mut keys) = encryption(enc)?;
            let (integrity, key) = integrity(auth)?;
            keys.extend_from_slice(&key);
            (format!("{cipher}-{integrity}"), keys)
        }
        (XfrmProtocol::Esp, None, Some(_), None) => return Err(SuiteError::Combination(UNCHECKED)),
        (XfrmProtocol::Ah, None, None, Some(auth)) => {
            let (integrity, key) = integrity(auth)?;
            (format!("ah-{integrity}"), key)
        }
        _ => return Err(SuiteError::Combination(ONE_EACH)),
    };
    Ok((name.parse().map_err(|_| unknown(&name))?, keys))
}

/// An AEAD by the suite's name, and its key with its salt.
fn combined(aead: &XfrmAlgorithm) -> Result<(String, Zeroizing<Vec<u8>>), SuiteError> {
    let key = octets(aead)?;
    let aes = |salt: usize, takes| {
        let bits = key.len().checked_sub(salt).filter(|length| [16, 24, 32].contains(length));
        bits.map(|length| length * 8).ok_or_else(|| key_length(aead, takes, key.len()))
    };
    let cut = match aead.bits.unwrap_or(128) {
        64 => "-8",
        96 => "-12",
        128 => "",
        bits => return Err(icv_length(aead, bits, "it is 64, 96 or 128 bits long")),
    };
    let whole = || match cut {
        "" => Ok(()),
        _ => Err(icv_length(aead, aead.bits.unwrap_or(128), "it is 128 bits long")),
    };
    let name = match aead.name.as_str() {
        "rfc4106(gcm(aes))" => format!("aes-{}-gcm{cut}", aes(4, "20, 28 or 36: a key and 4 of salt")?),
        "rfc4309(ccm(aes))" => format!("aes-{}-ccm{cut}", aes(3, "19, 27 or 35: a key and 3 of salt")?),
        "rfc4543(gcm(aes))" => {
            whole()?;
            format!("aes-{}-gmac", aes(4, "20, 28 or 36: a key and 4 of salt")?)
        }
        "rfc7539esp(chacha20,poly1305)" => {
            whole()?;
            if key.len() != 36 {
                return Err(key_length(aead, "36: a key and 4 of salt", key.len()));
            }
            "chacha20-poly1305".to_owned()
        }
        name => return Err(unknown(name)),
    };
    Ok((name, key))
}

/// A cipher by the suite's name, and its key with its nonce.
fn encryption(enc: &XfrmAlgorithm) -> Result<(String, Zeroizing<Vec<u8>>), SuiteError> {
    let key = octets(enc)?;
    let aes = |salt: usize, takes| {
        let bits = key.len().checked_sub(salt).filter(|length| [16, 24, 32].contains(length));
        bits.map(|length| length * 8).ok_or_else(|| key_length(enc, takes, key.len()))
    };
    let name = match enc.name.as_str() {
        "cbc(aes)" | "aes" => format!("aes-{}-cbc", aes(0, "16, 24 or 32")?),
        "rfc3686(ctr(aes))" => format!("aes-{}-ctr", aes(4, "20, 28 or 36: a key and 4 of nonce")?),
        "ecb(cipher_null)" | "cipher_null" if key.is_empty() => "null".to_owned(),
        "ecb(cipher_null)" | "cipher_null" => return Err(key_length(enc, "none: \"\"", key.len())),
        "cbc(des)" | "cbc(des3_ede)" | "cbc(cast5)" | "cbc(blowfish)" | "des" | "des3_ede" | "cast5"
        | "blowfish" => {
            return Err(refused(enc, "its block is too short to be safe (RFC 8221 section 5); use cbc(aes)"));
        }
        "cbc(serpent)" | "cbc(camellia)" | "cbc(twofish)" | "serpent" | "camellia" | "twofish" => {
            return Err(refused(enc, "RFC 8221 does not ask for it; use cbc(aes)"));
        }
        name => return Err(unknown(name)),
    };
    Ok((name, key))
}

/// An integrity algorithm by the suite's name, and its key. What the kernel cuts where nothing is said is said here.
fn integrity(auth: &XfrmAlgorithm) -> Result<(&'static str, Zeroizing<Vec<u8>>), SuiteError> {
    let (name, bits, length) = match auth.name.as_str() {
        "hmac(sha1)" | "sha1" => ("hmac-sha-1", 96, 20),
        "hmac(sha256)" | "sha256" => match auth.bits {
            None | Some(96) => ("hmac-sha-256-96", 96, 32),
            _ => ("hmac-sha-256", 128, 32),
        },
        "hmac(sha384)" | "sha384" => ("hmac-sha-384", 192, 48),
        "hmac(sha512)" | "sha512" => ("hmac-sha-512", 256, 64),
        "cmac(aes)" => ("aes-cmac", 96, 16),
        "digest_null" => {
            return Err(refused(
                auth,
                "it checks nothing, so anybody's packets would be taken for the peer's (T26)",
            ));
        }
        "hmac(md5)" | "md5" | "hmac(rmd160)" | "rmd160" | "xcbc(aes)" => {
            return Err(refused(
                auth,
                "RFC 8221 section 6 advises against it; use hmac(sha256) at both ends",
            ));
        }
        name => return Err(unknown(name)),
    };
    let cut = auth.bits.unwrap_or(bits);
    if cut != bits {
        return Err(icv_length(auth, cut, "only the lengths of RFC 4868, RFC 2404 and RFC 4494 are there"));
    }
    let mut key = octets(auth)?;
    // RFC 2104 section 2: HMAC itself fills a short key up with zeros.
    let fits = key.len() == length || name != "aes-cmac" && (LEAST_KEY..length).contains(&key.len());
    if !fits {
        let takes = match length {
            16 => "16",
            20 => "16 to 20",
            32 => "16 to 32",
            48 => "16 to 48",
            _ => "16 to 64",
        };
        return Err(key_length(auth, takes, key.len()));
    }
    // Not by growing, which would leave a copy behind.
    let mut whole = Zeroizing::new(Vec::with_capacity(length));
    whole.append(&mut key);
    whole.resize(length, 0);
    Ok((name, whole))
}

fn octets(algorithm: &XfrmAlgorithm) -> Result<Zeroizing<Vec<u8>>, SuiteError> {
    // Room for an integrity key behind it, so that it does not move.
    let mut octets =
        Zeroizing::new(Vec::with_capacity(algorithm.key.expose().len() / 2 + MOST_INTEGRITY_KEY));
    let key = hex::decode(algorithm.key.expose()).map(Zeroizing::new);
    let key = key.map_err(|_| SuiteError::NotHexadecimal(shown(&algorithm.name)))?;
    octets.extend_from_slice(&key);
    Ok(octets)
}

fn key_length(algorithm: &XfrmAlgorithm, takes: &'static str, got: usize) -> SuiteError {
    SuiteError::KeyLength { name: shown(&algorithm.name), takes, got }
}

fn icv_length(algorithm: &XfrmAlgorithm, bits: u32, takes: &'static str) -> SuiteError {
    SuiteError::IcvLength { name: shown(&algorithm.name), bits, takes }
}

fn refused(algorithm: &XfrmAlgorithm, why: &'static str) -> SuiteError {
    SuiteError::Refused { name: shown(&algorithm.name), why }
}

/// A name that is known here.
fn shown(name: &str) -> String {
    name.to_owned()
}

/// A name that is not known: where name and key were said the other way round, it is a key, and is not said (T40).
fn unknown(name: &str) -> SuiteError {
    SuiteError::Unknown(Quoted::new(name).to_string())
}

const ONE_EACH: &str =
    "an ESP state has enc with auth or auth-trunc, or aead alone, and an AH state auth or auth-trunc alone";
const UNCHECKED: &str = "encryption without integrity lets packets be forged (RFC 8221 section 4, T26); add auth-trunc, or use aead";

/// The shortest key of an HMAC that is taken, in octets.
const LEAST_KEY: usize = 16;
const MOST_INTEGRITY_KEY: usize = 64;
