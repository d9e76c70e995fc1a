//! What proved a peer's identity, kept for whoever asks (L-29 to L-31): the certificate as it was sent, the trust anchor
//! that it was validated to, the public key.
//!
//! A provider of SAs has verified signatures and chains. What is checked here is that the evidence is what it is said to
//! be, and that it speaks of the peer that it is given for.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use latchway_tagging::{AuthMethod, Credential, Identity};
use sha2::{Digest, Sha256};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::spki::SubjectPublicKeyInfoRef;

/// The evidence of one identity. Shared, so that a copy costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The peer's certificate, where one was used (L-30). The chain above it is not kept.
    pub certificate: Option<Certificate>,
    /// What the certificate was validated to (L-31).
    pub anchor: Option<TrustAnchor>,
    /// The peer's key, where it is known by that alone (RFC 5386).
    pub public_key: Option<PublicKey>,
    /// When the peer proved itself.
    pub authenticated_at: Option<SystemTime>,
}

/// A certificate (RFC 5280), with what it says of whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Arc<[u8]>,
    subject: String,
    issuer: String,
    names: Arc<[Identity]>,
    key: PublicKey,
}

/// A public key: SubjectPublicKeyInfo in DER.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Arc<[u8]>);

/// What a certificate was validated to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustAnchor {
    /// Its distinguished name, as RFC 4514 writes it.
    pub subject: String,
    /// The SHA-256 hash of its SubjectPublicKeyInfo.
    pub key: Fingerprint,
}

/// A SHA-256 hash. Its text is hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// Why evidence is none, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// RFC 5280: it cannot be read.
    #[error("the certificate cannot be read ({0}); give it as DER, without what else the peer sent")]
    BadCertificate(String),
    /// More than anybody's certificate has.
    #[error(
        "a certificate of {0} octets is more than the {LARGEST_CERTIFICATE} that are kept; give the peer's own alone"
    )]
    LargeCertificate(usize),
    /// It is no key.
    #[error("the public key is no SubjectPublicKeyInfo in DER of at most {LARGEST_KEY} octets")]
    BadKey,
    /// It is no name.
    #[error("the trust anchor's subject is no distinguished name; write it as RFC 4514 does")]
    BadAnchor,
    /// What the method proves with is not there.
    #[error("a peer authenticated by {} comes with its {missing}; give it with the proposal", method.name())]
    Missing {
        /// The method.
        method: AuthMethod,
        /// What is missing.
        missing: &'static str,
    },
    /// What is there proves nothing by the method.
    #[error("a peer authenticated by {} has no {given} that proves it; leave it out, or say the method that was used", method.name())]
    Foreign {
        /// The method.
        method: AuthMethod,
        /// What is there.
        given: &'static str,
    },
    /// The certificate is somebody else's (RFC 4301 4.4.3.2).
    #[error(
        "the certificate of {subject} does not name {asserted}, neither as its subject nor beside it; propose a name that it has"
    )]
    OtherName {
        /// Whom the peer claims to be.
        asserted: Identity,
        /// Whose certificate it is.
        subject: String,
    },
    /// Two keys for one peer.
    #[error(
        "the public key is another than that of the certificate or identity; give the one it signed with"
    )]
    OtherKey,
}

impl Evidence {
    /// What makes a peer that was authenticated by `method`, and asserted `peer`, the same another time (L-11).
    ///
    /// # Errors
    /// [`EvidenceError`] where the evidence is not what the method proves with, or not of this peer.
    pub fn credential(&self, peer: &Identity, method: AuthMethod) -> Result<Credential, EvidenceError> {
        let foreign = |given| Err(EvidenceError::Foreign { method, given });
        let missing = |missing| Err(EvidenceError::Missing { method, missing });
        match method {
            AuthMethod::Manual | AuthMethod::PreSharedKey => match self {
                Self { certificate: Some(_), .. } => foreign("certificate"),
                Self { anchor: Some(_), .. } => foreign("trust anchor"),
                Self { public_key: Some(_), .. } => foreign("public key"),
                _ => Ok(Credential::None),
            },
            AuthMethod::Btns | AuthMethod::LeapOfFaith | AuthMethod::PublicKey => {
                if self.anchor.is_some() {
                    return foreign("trust anchor");
                }
                match self.key(peer)? {
                    Some(key) => Ok(Credential::Key(key.fingerprint().0)),
                    None => missing("public key"),
                }
            }
            AuthMethod::Certificate => {
                let Some(certificate) = &self.certificate else { return missing("certificate") };
                let Some(anchor) = &self.anchor else { return missing("trust anchor") };
                self.key(peer)?;
                if !certificate.names(peer) {
                    let subject = certificate.subject.clone();
                    return Err(EvidenceError::OtherName { asserted: peer.clone(), subject });
                }
                let TrustAnchor { subject, key } = anchor.clone();
                Ok(Credential::Anchor { subject, key: key.0 })
            }
        }
    }

    /// The key that we are known by to a peer. Whether anybody vouches for it is the peer's to judge.
    ///
    /// # Errors
    /// [`EvidenceError`] where keys are several, or the certificate is not ours.
    pub(crate) fn own_key(&self, local: &Identity) -> Result<Option<PublicKey>, EvidenceError> {
        if let Some(certificate) = self.certificate.as_ref().filter(|certificate| !certificate.names(local)) {
            let subject = certificate.subject.clone();
            return Err(EvidenceError::OtherName { asserted: local.clone(), subject });
        }
        if *self == Self::default() { Ok(None) } else { self.key(local) }
    }

    /// The key of a peer: all that tell of it must tell of the same.
    ///
    /// # Errors
    /// [`EvidenceError::OtherKey`]
    pub(crate) fn key(&self, peer: &Identity) -> Result<Option<PublicKey>, EvidenceError> {
        let named = match peer {
            Identity::PublicKey(der) => Some(PublicKey::from_der(der)?),
            _ => None,
        };
        let certified = self.certificate.as_ref().map(|certificate| certificate.key.clone());
        let mut keys = [self.public_key.clone(), certified, named].into_iter().flatten();
        let key = keys.next();
        if keys.any(|other| Some(&other) != key.as_ref()) {
            return Err(EvidenceError::OtherKey);
        }
        Ok(key)
    }

    /// How many octets it takes to keep.
    pub(crate) fn octets(&self) -> usize {
        let certificate = self.certificate.as_ref().map_or(0, |certificate| certificate.der.len());
        let key = self.public_key.as_ref().map_or(0, |key| key.0.len());
        let anchor = self.anchor.as_ref().map_or(0, |anchor| anchor.subject.len());
        certificate + key + anchor
    }

    /// Whether the peer proved itself by it no earlier than by `other`.
    pub(crate) fn is_newer(&self, other: &Self) -> bool {
        self.authenticated_at >= other.authenticated_at
    }
}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`EvidenceError`]
    pub fn from_der(der: &[u8]) -> Result<Self, EvidenceError> {
        if der.len() > LARGEST_CERTIFICATE {
            return Err(EvidenceError::LargeCertificate(der.len()));
        }
        let bad = |error: x509_cert::der::Error| EvidenceError::BadCertificate(error.to_string());
        let certificate = x509_cert::Certificate::from_der(der).map_err(bad)?;
        let certified = certificate.tbs_certificate();
        let key = certified.subject_public_key_info().to_der().map_err(bad)?;
        let (subject, issuer) = (certified.subject().to_string(), certified.issuer().to_string());
        let beside = certified.get_extension::<SubjectAltName>().map_err(bad)?;
        let beside = beside.map(|(_, names)| names.0).unwrap_or_default();
        let own = Identity::DistinguishedName(subject.clone());
        let names = std::iter::once(own).chain(beside.iter().filter_map(alternative));
        // A name with a NUL in it, or a pattern for many hosts, is nobody's identity.
        let names = names.filter_map(|name| name.canonical()).collect();
        Ok(Self { der: der.into(), subject, issuer, names, key: PublicKey::from_der(&key)? })
    }

    /// The certificate as it was sent (L-30).
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whose it is: a distinguished name, as RFC 4514 writes it.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Who vouches for it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Its public key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The hash of all of it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }

    /// Whether it names `peer`: as its subject, beside that (RFC 5280 section 4.2.1.6), or by its key.
    #[must_use]
    pub fn names(&self, peer: &Identity) -> bool {
        let keyed = matches!(peer, Identity::PublicKey(der) if **der == *self.key.0);
        keyed || peer.canonical().is_some_and(|peer| self.names.contains(&peer))
    }
}

impl PublicKey {
    /// Reads a public key.
    ///
    /// # Errors
    /// [`EvidenceError::BadKey`]
    pub fn from_der(der: &[u8]) -> Result<Self, EvidenceError> {
        let fits = der.len() <= LARGEST_KEY && SubjectPublicKeyInfoRef::from_der(der).is_ok();
        if fits { Ok(Self(der.into())) } else { Err(EvidenceError::BadKey) }
    }

    /// The key as DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    /// Its hash.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.0)
    }
}

impl TrustAnchor {
    /// An anchor by its name and the hash of its key.
    ///
    /// # Errors
    /// [`EvidenceError::BadAnchor`] where the name is none.
    pub fn new(subject: &str, key: Fingerprint) -> Result<Self, EvidenceError> {
        match Identity::DistinguishedName(subject.to_owned()).canonical() {
            Some(Identity::DistinguishedName(subject)) => Ok(Self { subject, key }),
            _ => Err(EvidenceError::BadAnchor),
        }
    }

    /// The anchor that has this certificate.
    ///
    /// # Errors
    /// [`EvidenceError::BadAnchor`] where the certificate has no subject.
    pub fn of(certificate: &Certificate) -> Result<Self, EvidenceError> {
        Self::new(&certificate.subject, certificate.key.fingerprint())
    }
}

impl Fingerprint {
    /// The hash of these octets.
    #[must_use]
    pub fn of(octets: &[u8]) -> Self {
        Self(Sha256::digest(octets).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({:?} of {:?})", self.fingerprint(), self.subject)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?})", self.fingerprint())
    }
}

/// A name beside the subject, of a kind that a peer may assert.
fn alternative(name: &GeneralName) -> Option<Identity> {
    match name {
        GeneralName::DnsName(name) => Some(Identity::Fqdn(name.to_string())),
        GeneralName::Rfc822Name(address) => Some(Identity::Email(address.to_string())),
        GeneralName::DirectoryName(name) => Some(Identity::DistinguishedName(name.to_string())),
        GeneralName::IpAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(octets.as_bytes()).map(std::net::IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(octets.as_bytes()).map(std::net::IpAddr::from));
            address.ok().map(Identity::Address)
        }
        _ => None,
    }
}

/// Of a certificate, in octets.
pub const LARGEST_CERTIFICATE: usize = 16 * 1024;
/// Of a public key, in octets.
pub const LARGEST_KEY: usize = 4096;
