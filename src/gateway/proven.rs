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

#[cfg(test)]
mod tests {
    use super::*;

    /// L-30: what is no certificate, key or hash is refused with what to do, and nothing panics.
    #[test]
    fn l_30_evidence_that_is_none_is_refused_by_name() {
        let anchor = |key_sha256: &str| AnchorSpec { subject: "CN=ca".into(), key_sha256: key_sha256.into() };
        for (says, spec) in [
            ("no base64", EvidenceSpec { certificate: Some("%".into()), ..EvidenceSpec::default() }),
            ("cannot be read", EvidenceSpec { certificate: Some("MAA=".into()), ..EvidenceSpec::default() }),
            (
                "no SubjectPublicKeyInfo",
                EvidenceSpec { public_key: Some("MAA=".into()), ..EvidenceSpec::default() },
            ),
            ("no SHA-256", EvidenceSpec { trust_anchor: Some(anchor("00")), ..EvidenceSpec::default() }),
        ] {
            let error = evidence(&spec).unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
        let now = evidence(&EvidenceSpec::default()).unwrap();
        assert!(now.certificate.is_none() && now.authenticated_at.is_some());
        let far = EvidenceSpec { authenticated: Some(u64::MAX), ..EvidenceSpec::default() };
        assert!(evidence(&far).unwrap().authenticated_at.is_some());
    }
}
