//! What may be asked with a latch (latching-04 section 2.1, "type and QoP parameters", peer and local ID): L-13, L-33.

use latchway_esp::Suite;
use latchway_tagging::{
    Algorithms, AuthMethod, Class, Credential, Identity, IdentityRecord, Mode, Transforms,
};

use crate::evidence::Fingerprint;
use crate::proposal::Suites;

/// What a latch must be like. What is left out is as policy has it (L-14).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Constraints {
    /// Whether to be protected at all.
    pub protection: Asked,
    /// Tunnel or transport (L-7).
    pub mode: Option<Mode>,
    /// The suites of which one will do, in both directions (L-8). Empty is any.
    pub suites: Vec<Suite>,
    /// The shortest key of a cipher that will do, in bits (L-9). 0 is any.
    pub key_bits: u16,
    /// Whether replays must be refused (L-10).
    pub replay_checked: bool,
    /// Who the peer must assert to be (L-13).
    pub peer: Option<Identity>,
    /// Who we must be towards it (C-23).
    pub local: Option<Identity>,
    /// How well the peer's identity must be proven, at least.
    pub standing: Option<AuthMethod>,
    /// The methods of which one must have proven who the peer is. Empty is any.
    pub methods: Vec<AuthMethod>,
    /// The SHA-256 hash of the SubjectPublicKeyInfo by which the peer must be known, as those are that prove themselves by a
    /// bare key: public key, BTNS, leap of faith (L-11).
    pub key: Option<[u8; 32]>,
    /// The SHA-256 hash of the SubjectPublicKeyInfo of the trust anchor that the peer's certificate must lead to (L-31).
    pub anchor: Option<[u8; 32]>,
    /// Whether the header of what is protected must be, too, with its options: by tunnel mode, or by AH (RFC 4301 4.1).
    pub options_protected: bool,
    /// Whether SAs for the 5-tuple alone are wanted.
    pub narrow: bool,
}

/// Whether a connection is to be protected (latching-04 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Asked {
    /// As policy says.
    #[default]
    Policy,
    /// Authentic, hidden or not, also where policy says BYPASS (L-6, L-111).
    Authenticated,
    /// Hidden from others and authentic, also where policy says BYPASS (L-6, L-111).
    Confidential,
    /// In the clear, also where policy says PROTECT (L-112).
    Bypass,
}

impl Constraints {
    /// The same in the one spelling in which it is compared, where anybody can be called what is asked for.
    pub(crate) fn canonical(&self) -> Option<Self> {
        let named = |identity: &Option<Identity>| match identity {
            Some(identity) => identity.canonical().map(Some),
            None => Some(None),
        };
        let mut suites = self.suites.clone();
        suites.sort_unstable_by_key(|suite| suite.name());
        suites.dedup();
        let mut methods = self.methods.clone();
        methods.sort_unstable();
        methods.dedup();
        let (peer, local) = (named(&self.peer)?, named(&self.local)?);
        Some(Self { peer, local, suites, methods, ..self.clone() })
    }

    /// Whether nothing is asked, so that policy alone decides (L-14).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether any SA, or none, would do.
    pub(crate) fn asks_nothing(&self) -> bool {
        Self { narrow: false, ..self.clone() } == Self::default()
    }

    /// Whether nothing is asked of peer and quality, so that policy alone decides about them.
    pub(crate) fn is_as_policy(&self) -> bool {
        let protection = match self.protection {
            // Whatever policy protects is authentic.
            Asked::Authenticated => Asked::Policy,
            other => other,
        };
        Self { protection, narrow: false, ..self.clone() } == Self::default()
    }

    /// Whether a class of SAs, between these two ends and with this standing of the peer, is what was asked for (L-63).
    #[must_use]
    pub fn satisfied_by(
        &self,
        class: &Class,
        (peer, standing): (&IdentityRecord, AuthMethod),
        local: &IdentityRecord,
    ) -> bool {
        self.protection != Asked::Bypass
            && self.mode.is_none_or(|mode| mode == class.mode)
            && self.allows_algorithms(&class.algorithms)
            && (class.replay_checked || !self.replay_checked)
            && self.peer.as_ref().is_none_or(|wanted| *wanted == peer.asserted)
            && self.local.as_ref().is_none_or(|wanted| *wanted == local.asserted)
            && self.standing.is_none_or(|least| standing >= least)
            && (self.methods.is_empty() || self.methods.contains(&peer.method))
            && self.is_proven_by(&peer.credential)
            && (!self.options_protected || protects_options(class))
    }

    /// Whether this is the key, or the anchor, that is asked for. Which key a certificate is for is not part of what a latch
    /// compares, as it is renewed.
    fn is_proven_by(&self, credential: &Credential) -> bool {
        let (key, anchor) = match credential {
            Credential::None | Credential::EndPoints(_) => (None, None),
            Credential::Key(key) => (Some(key), None),
            Credential::Anchor { key, .. } => (None, Some(key)),
        };
        self.key.as_ref().is_none_or(|wanted| key == Some(wanted))
            && self.anchor.as_ref().is_none_or(|wanted| anchor == Some(wanted))
    }

    /// Whether everything that a latch compares is given, so that it can be ESTABLISHED at once (L-59).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.mode.is_some()
            && self.suites.len() == 1
            && self.replay_checked
            && self.peer.is_some()
            && self.local.is_some()
    }

    /// What is asked in words, a demand each.
    #[must_use]
    pub fn demands(&self) -> Vec<String> {
        let mut demands = Vec::new();
        match self.protection {
            Asked::Policy => {}
            Asked::Authenticated => demands.push("authenticated".to_owned()),
            Asked::Confidential => demands.push("confidential".into()),
            Asked::Bypass => demands.push("bypass".into()),
        }
        demands.extend(self.mode.map(|mode| match mode {
            Mode::Tunnel => "tunnel mode".into(),
            Mode::Transport => "transport mode".into(),
        }));
        if !self.suites.is_empty() {
            let suites: Vec<_> = self.suites.iter().map(|suite| suite.name()).collect();
            demands.push(suites.join(" or "));
        }
        if self.key_bits > 0 {
            demands.push(format!("keys of {} bits", self.key_bits));
        }
        if self.replay_checked {
            demands.push("replays refused".into());
        }
        demands.extend(self.peer.as_ref().map(|peer| format!("peer {peer}")));
        demands.extend(self.local.as_ref().map(|local| format!("ourselves {local}")));
        demands.extend(self.standing.map(|least| format!("proven by {} or better", least.name())));
        if !self.methods.is_empty() {
            let methods: Vec<_> = self.methods.iter().map(|method| method.name()).collect();
            demands.push(format!("proven by {}", methods.join(" or ")));
        }
        demands.extend(self.key.map(|key| format!("key {}", Fingerprint(key))));
        demands.extend(self.anchor.map(|anchor| format!("trust anchor {}", Fingerprint(anchor))));
        if self.options_protected {
            demands.push("header and options protected".into());
        }
        if self.narrow {
            demands.push("SAs of its own".into());
        }
        demands
    }

    /// Whether SAs for the 5-tuple alone are wanted: asked for, or because a quality is.
    #[must_use]
    pub const fn wants_narrow(&self) -> bool {
        self.narrow || !self.suites.is_empty() || self.key_bits > 0 || self.mode.is_some()
    }

    /// Whether several qualities of protection would do, so that none can be told before there is an SA.
    #[must_use]
    pub fn is_indeterminate(&self) -> bool {
        self.suites.len() != 1
    }

    /// What of it no SA could ever be, if anything is.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let of_key = |suite: &Suite| self.allows_key(&Suites::both(*suite).algorithms().inbound);
        match self.protection {
            Asked::Bypass if (Self { protection: Asked::Policy, ..self.clone() }) != Self::default() => {
                Some("nothing else can be asked of a connection in the clear")
            }
            _ if self.key.is_some() && self.anchor.is_some() => {
                Some("a peer proves itself by a bare key, or by a certificate of a trust anchor")
            }
            _ if !self.suites.is_empty() && !self.suites.iter().any(of_key) => {
                Some("no suite that is asked for has a key as long as is asked for")
            }
            _ if !Suite::all().any(|suite| of_key(&suite)) => Some("no suite has a key that long"),
            _ => None,
        }
    }

    fn allows_algorithms(&self, algorithms: &Algorithms) -> bool {
        let hidden = |of: &Transforms| self.protection != Asked::Confidential || of.confidential();
        let named = |of: &Transforms| {
            self.suites.is_empty()
                || self.suites.iter().any(|suite| Suites::both(*suite).algorithms().inbound == *of)
        };
        [&algorithms.inbound, &algorithms.outbound]
            .iter()
            .all(|of| hidden(of) && named(of) && self.allows_key(of))
    }

    fn allows_key(&self, of: &Transforms) -> bool {
        let key = of.encryption.or(of.integrity).or(of.authentication_header);
        key.map_or(0, |transform| transform.key_bits) >= self.key_bits
    }
}

/// Whether the header of the inner packet is protected in both directions (RFC 4301 4.1).
fn protects_options(class: &Class) -> bool {
    let has_header = |transforms: &Transforms| transforms.authentication_header.is_some();
    let Algorithms { inbound, outbound, .. } = &class.algorithms;
    class.mode == Mode::Tunnel || (has_header(inbound) && has_header(outbound))
}
