//! What proves a peer's identity, from the words of control.sock and to them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64ct::{Base64, Encoding};
use latchway_control::{AnchorSpec, EvidenceSpec, MethodSpec};
use latchway_keying::{Certificate, Evidence, Fingerprint, PublicKey, TrustAnchor};
use latchway_tagging::AuthMethod;

use crate::gateway::convert::SpecError;

/// What a peer proved its identity with.
///
/// # Errors
/// [`SpecError`]
pub fn evidence(spec: &EvidenceSpec) -> Result<Evidence, SpecError> {
    let (certificate, key) = (octets(spec.certificate.as_deref())?, octets(spec.public_key.as_deref())?);
    let at = spec.authenticated.map(Duration::from_millis).and_then(|at| UNIX_EPOCH.checked_add(at));
    Ok(Evidence {
        certificate: certificate.map(|der| Certificate::from_der(&der)).transpose()?,
        anchor: spec.trust_anchor.as_ref().map(anchor).transpose()?,
        public_key: key.map(|der| PublicKey::from_der(&der)).transpose()?,
        authenticated_at: Some(at.unwrap_or_else(SystemTime::now)),
    })
}

/// A method of authentication.
pub const fn method(word: MethodSpec) -> AuthMethod {
    match word {
        MethodSpec::Btns => AuthMethod::Btns,
        MethodSpec::LeapOfFaith => AuthMethod::LeapOfFaith,
        MethodSpec::Manual => AuthMethod::Manual,
        MethodSpec::PreSharedKey => AuthMethod::PreSharedKey,
        MethodSpec::PublicKey => AuthMethod::PublicKey,
        MethodSpec::Certificate => AuthMethod::Certificate,
    }
}

fn octets(base64: Option<&str>) -> Result<Option<Vec<u8>>, SpecError> {
    base64.map(|text| Base64::decode_vec(text).map_err(|_| SpecError::NoBase64)).transpose()
}

fn anchor(spec: &AnchorSpec) -> Result<TrustAnchor, SpecError> {
    let mut key = [0; 32];
    hex::decode_to_slice(&spec.key_sha256, &mut key).map_err(|_| SpecError::NoFingerprint)?;
    Ok(TrustAnchor::new(&spec.subject, Fingerprint(key))?)
}
