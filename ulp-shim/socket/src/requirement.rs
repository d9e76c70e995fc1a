//! What must protect a socket, beyond what the policy demands (Q-4, Q-44, P-12, L-13).

use latchway_control::app::{Require, RequirementSpec};
use latchway_control::{ConflictSpec, MethodSpec, ModeSpec, ProtectionSpec};
use latchway_tagging::Identity;

use crate::error::{Error, ErrorKind, Result};
use crate::identity::PeerIdentity;
use crate::protection::Protection;

/// What must protect a socket. What is not said is left to the policy; it holds from the socket's next packet on, and as
/// long as the socket lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirement {
    said: Require,
    /// The peer was known by a key or under an anchor, and nobody knows which.
    unknown: bool,
}

/// A type of protection (L-6, L-111).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protected {
    /// Authentic, hidden or not.
    Authenticated,
    /// Hidden from others, and authentic.
    Confidential,
}

impl Requirement {
    /// Nothing beyond the policy.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The peer must be this one, proven the same way: by the same key where it was a bare key, under the same trust anchor
    /// where it was a certificate (L-11, P-13). One that was known by a key or an anchor of which nothing is known cannot be
    /// required: whoever came with any other would do. Requiring it fails then ([`ErrorKind::NoData`]).
    #[must_use]
    pub fn peer(mut self, peer: &PeerIdentity) -> Self {
        self.unknown = !peer.is_known_again();
        self.with(|spec| {
            spec.peer = Some(peer.asserted.to_string());
            spec.methods = peer.method.into_iter().collect();
            spec.key_sha256 = peer.key.filter(|_| peer.is_by_key()).map(hex::encode);
            let anchor = peer.anchor.as_ref().filter(|_| peer.method == Some(MethodSpec::Certificate));
            spec.anchor_sha256 = anchor.map(|anchor| hex::encode(anchor.key));
        })
    }

    /// We must be this towards the peer (R-1, C-23).
    #[must_use]
    pub fn local(self, identity: &Identity) -> Self {
        self.with(|spec| spec.identity = Some(identity.to_string()))
    }

    /// The type of protection must be this one or a better one (L-6).
    #[must_use]
    pub fn protection(self, protection: Protected) -> Self {
        self.with(|spec| {
            spec.protection = match protection {
                Protected::Authenticated => Some(ProtectionSpec::Authenticated),
                Protected::Confidential => Some(ProtectionSpec::Confidential),
            };
        })
    }

    /// It must be tunnel mode, or transport mode (L-7).
    #[must_use]
    pub fn mode(self, mode: ModeSpec) -> Self {
        self.with(|spec| spec.mode = Some(mode))
    }

    /// Each direction must use one of these suites (L-8); none is any.
    #[must_use]
    pub fn suites<S: AsRef<str>>(self, suites: impl IntoIterator<Item = S>) -> Self {
        self.with(|spec| spec.suites = suites.into_iter().map(|suite| suite.as_ref().to_owned()).collect())
    }

    /// Keys must be so many bits long, or longer (L-9).
    #[must_use]
    pub fn key_bits(self, bits: u16) -> Self {
        self.with(|spec| spec.key_bits = Some(bits).filter(|bits| *bits > 0))
    }

    /// Replays must be refused (L-10).
    #[must_use]
    pub fn replay_checked(self) -> Self {
        self.with(|spec| spec.replay_checked = true)
    }

    /// The peer's identity must be proven by one of these methods; none is any.
    #[must_use]
    pub fn methods(self, methods: impl IntoIterator<Item = MethodSpec>) -> Self {
        self.with(|spec| spec.methods = methods.into_iter().collect())
    }

    /// What becomes of the connection when another peer comes for it.
    #[must_use]
    pub const fn on_conflict(mut self, on_conflict: ConflictSpec) -> Self {
        self.said.on_conflict = Some(on_conflict);
        self
    }

    /// Options and extension headers of IP must be protected, too.
    #[must_use]
    pub fn options_protected(self) -> Self {
        self.with(|spec| spec.options_protected = true)
    }

    /// What the gateway is told.
    ///
    /// # Errors
    /// [`ErrorKind::NoData`]: it could not be held to.
    pub(crate) fn call(&self) -> Result<&Require> {
        if self.unknown {
            let said = "nothing is known of the key or the trust anchor by which the peer was known, and any other would do; \
                        require what an earlier connection had, or text with `key` or `anchor` in it";
            return Err(Error::new(ErrorKind::NoData, said));
        }
        Ok(&self.said)
    }

    /// Whether the peer of a connection is who is required, proven as is required: the gateway sees to it, and its answer
    /// says it again.
    pub(crate) fn is_met_by(&self, held: &Protection) -> bool {
        let (spec, peer) = (&self.said.requirement, held.peer_identity());
        let method = || peer.method.is_some_and(|method| spec.methods.contains(&method));
        let is = |wanted: &Option<String>, held: Option<[u8; 32]>| {
            wanted.as_ref().is_none_or(|wanted| held.map(hex::encode).as_ref() == Some(wanted))
        };
        spec.peer.as_ref().is_none_or(|wanted| peer.asserted.to_string() == *wanted)
            && (spec.methods.is_empty() || method())
            && is(&spec.key_sha256, peer.key)
            && is(&spec.anchor_sha256, peer.anchor.as_ref().map(|anchor| anchor.key))
    }

    #[cfg(any(test, feature = "in-process"))]
    pub(crate) const fn spec(&self) -> &RequirementSpec {
        &self.said.requirement
    }

    fn with(mut self, change: impl FnOnce(&mut RequirementSpec)) -> Self {
        change(&mut self.said.requirement);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(fields: &str) -> PeerIdentity {
        PeerIdentity::import(&format!("latchway-itoken:1;id=fqdn:b.example;{fields}")).unwrap()
    }

    /// P-13, C-29: who was known by a key alone is nobody without it, and whoever was vouched for is nobody without the
    /// voucher.
    #[test]
    fn p13_c29_a_peer_whose_key_or_anchor_is_not_known_cannot_be_required() {
        let call = |fields: &str| Requirement::new().peer(&imported(fields)).call().map(|_| ());
        for unknown in ["btns", "leap-of-faith", "public-key", "certificate"] {
            let error = call(&format!("method={unknown}")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoData, "{unknown}");
        }
        assert_eq!(call("method=pre-shared-key"), Ok(()));
        assert_eq!(call(&format!("method=leap-of-faith;key={}", "ab".repeat(32))), Ok(()));
        let asserting = PeerIdentity::asserting(&"fqdn:b.example".parse().unwrap()).unwrap();
        let replaced = Requirement::new().peer(&imported("method=btns")).peer(&asserting);
        assert!(replaced.call().is_ok());
    }

    /// L-11, P-13, C-29: what is required of a peer that was seen before is what it is known by again.
    #[test]
    fn l11_p13_c29_a_peer_is_known_again_by_key_or_by_anchor() {
        let (key, anchor) = ("ab".repeat(32), "cd".repeat(32));
        let of = |fields: &str| Requirement::new().peer(&imported(fields)).spec().clone();
        let bare = of(&format!("method=leap-of-faith;key={key}"));
        assert_eq!(bare.peer.as_deref(), Some("fqdn:b.example"));
        assert_eq!((bare.key_sha256, bare.anchor_sha256), (Some(key.clone()), None));
        assert_eq!(bare.methods, [MethodSpec::LeapOfFaith]);
        let certified = of(&format!("method=certificate;anchor=CN=Root,{anchor};key={key}"));
        assert_eq!(
            (certified.key_sha256, certified.anchor_sha256),
            (None, Some(anchor)),
            "certificates are renewed"
        );
        let secret = of("method=pre-shared-key");
        assert_eq!((secret.key_sha256, secret.anchor_sha256), (None, None));
    }
}
