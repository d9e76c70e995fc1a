//! Who somebody is, and how that is known: what an iToken holds (Q-2, N-8).

use std::fmt;

use base64ct::{Base64, Encoding};
use latchway_control::{IdentityView, MethodSpec};
use latchway_tagging::Identity;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// An identity, and by what it was proven. It means the same after the gateway or the program was started again, and can be
/// kept as text ([`export`](Self::export)).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerIdentity {
    pub(crate) asserted: Identity,
    pub(crate) method: Option<MethodSpec>,
    pub(crate) anchor: Option<Anchor>,
    /// The SHA-256 hash of the public key.
    pub(crate) key: Option<[u8; 32]>,
    pub(crate) subject: Option<String>,
    pub(crate) authority: Option<String>,
    /// SubjectPublicKeyInfo in DER.
    pub(crate) public_key: Option<Vec<u8>>,
}

/// The trust anchor that a certificate was validated to (L-31).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Anchor {
    /// Its distinguished name, as RFC 4514 writes it.
    pub(crate) subject: String,
    /// The SHA-256 hash of its SubjectPublicKeyInfo.
    pub(crate) key: [u8; 32],
}

impl PeerIdentity {
    /// Whoever asserts this and is authorised to, however it is proven. `None` where it is not what its kind says.
    #[must_use]
    pub fn asserting(identity: &Identity) -> Option<Self> {
        let asserted = identity.canonical()?;
        Some(Self {
            asserted,
            method: None,
            anchor: None,
            key: None,
            subject: None,
            authority: None,
            public_key: None,
        })
    }

    /// What it asserts that it is.
    #[must_use]
    pub const fn asserted(&self) -> &Identity {
        &self.asserted
    }

    /// How it was proven; `None` of ourselves, and where nothing is said of that.
    #[must_use]
    pub const fn method(&self) -> Option<MethodSpec> {
        self.method
    }

    /// Who vouches for it: the issuer of its certificate, or the trust anchor.
    #[must_use]
    pub fn certificate_authority(&self) -> Option<&str> {
        let anchor = self.anchor.as_ref().map(|anchor| anchor.subject.as_str());
        self.authority.as_deref().or(anchor)
    }

    /// Whose its certificate is (P-22).
    #[must_use]
    pub fn certificate_subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The public key that it proved to have, as SubjectPublicKeyInfo in DER, octet for octet.
    #[must_use]
    pub fn public_key(&self) -> Option<&[u8]> {
        self.public_key.as_deref()
    }

    /// Whether it was known by a key that nobody vouches for.
    pub(crate) fn is_by_key(&self) -> bool {
        matches!(self.method, Some(MethodSpec::Btns | MethodSpec::LeapOfFaith | MethodSpec::PublicKey))
    }

    /// Whether another can be told from it: the key is known that it is known by, or the anchor (C-29).
    pub(crate) fn is_known_again(&self) -> bool {
        let vouched = self.method == Some(MethodSpec::Certificate);
        (!self.is_by_key() || self.key.is_some()) && (!vouched || self.anchor.is_some())
    }

    /// One line for logs and people (Q-13, P-26).
    #[must_use]
    pub fn audit(&self) -> String {
        self.to_string()
    }

    /// Reads what the gateway says.
    pub(crate) fn read(view: &IdentityView) -> Result<Self> {
        let asserted = view.asserted.parse().map_err(|no_identity| {
            Error::protocol(format_args!("the identity {:?} {no_identity}", view.asserted))
        })?;
        let public_key = view.public_key.as_deref().map(der).transpose()?;
        let anchor = view.trust_anchor.as_ref().map(|anchor| {
            let subject = canonical_name(&anchor.subject);
            let key = hash(&anchor.key_sha256);
            subject.zip(key).map(|(subject, key)| Anchor { subject, key })
        });
        let certificate = view.certificate.as_ref();
        Ok(Self {
            asserted,
            method: view.method,
            anchor: anchor
                .map(|anchor| anchor.ok_or_else(|| Error::protocol("its trust anchor is none")))
                .transpose()?,
            key: public_key.as_deref().map(sha256),
            subject: certificate.and_then(|certificate| printable(&certificate.subject)),
            authority: certificate.and_then(|certificate| printable(&certificate.issuer)),
            public_key,
        })
    }
}

/// What is asserted, how it was proven, and who vouches for it.
impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.asserted)?;
        if let Some(method) = self.method {
            write!(f, ", proven by {method}")?;
        }
        if let Some(authority) = self.certificate_authority() {
            write!(f, " of {authority}")?;
        }
        Ok(())
    }
}

/// The SHA-256 hash.
pub(crate) fn sha256(octets: &[u8]) -> [u8; 32] {
    Sha256::digest(octets).into()
}

/// A SHA-256 hash in small hexadecimal letters, and in no other spelling.
pub(crate) fn hash(text: &str) -> Option<[u8; 32]> {
    let mut octets = [0; 32];
    hex::decode_to_slice(text, &mut octets).ok()?;
    (hex::encode(octets) == text).then_some(octets)
}

/// A distinguished name in the one spelling in which it is compared.
pub(crate) fn canonical_name(name: &str) -> Option<String> {
    match Identity::DistinguishedName(name.to_owned()).canonical()? {
        Identity::DistinguishedName(name) => Some(name),
        _ => None,
    }
}

/// Text that can be printed and ended by a NUL; what a certificate says otherwise is not shown at all.
pub(crate) fn printable(text: &str) -> Option<String> {
    let fits = !text.is_empty() && text.len() <= LONGEST_NAME && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
}

fn der(base64: &str) -> Result<Vec<u8>> {
    let octets = Base64::decode_vec(base64).ok().filter(|octets| (1..=LONGEST_KEY).contains(&octets.len()));
    octets.ok_or_else(|| Error::protocol("the peer's public key is none"))
}

/// Of a public key, in octets.
pub(crate) const LONGEST_KEY: usize = 4096;
/// Of a name of a certificate, in octets.
pub(crate) const LONGEST_NAME: usize = 4096;
