//! What is required of a connection, as it is compared with the class of SAs that it would have (L-13, L-63, P-13).

use latchway_control::app::RequirementSpec;
use latchway_control::{MethodSpec, ModeSpec, ProtectionSpec};
use latchway_esp::Suite;
use latchway_keying::{Asked, Constraints};
use latchway_tagging::{AuthMethod, Class, Credential, Identity, IdentityRecord, Mode};

use crate::error::{Error, ErrorKind, Result};
use crate::identity::hash;
use crate::requirement::Requirement;

/// A requirement that could be met.
#[derive(Clone, Debug)]
pub(super) struct Demands {
    constraints: Constraints,
    methods: Vec<MethodSpec>,
    key: Option<[u8; 32]>,
    anchor: Option<[u8; 32]>,
    options_protected: bool,
}

impl Demands {
    /// Reads a requirement.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for what a gateway in the program does not offer, [`ErrorKind::Invalid`] for what nothing
    /// could ever be.
    pub(super) fn of(requirement: &Requirement) -> Result<Self> {
        let said = requirement.call()?;
        if said.on_conflict.is_some() {
            return Err(unsupported(
                "a gateway in the program latches on the terms of its policy; leave `on_conflict` out",
            ));
        }
        let spec = requirement.spec();
        Ok(Self {
            constraints: constraints(spec)?,
            methods: spec.methods.clone(),
            key: spec.key_sha256.as_deref().map(sha_256).transpose()?,
            anchor: spec.anchor_sha256.as_deref().map(sha_256).transpose()?,
            options_protected: spec.options_protected,
        })
    }

    /// Whether a class, between this peer and us, is what is required.
    pub(super) fn met_by(&self, class: &Class, peer: &IdentityRecord, local: &IdentityRecord) -> bool {
        let credential = |wanted: &[u8; 32], by_key: bool| match &peer.credential {
            Credential::Key(key) => by_key && key == wanted,
            Credential::Anchor { key, .. } => !by_key && key == wanted,
            Credential::None | Credential::EndPoints(_) => false,
        };
        self.constraints.satisfied_by(class, (peer, peer.method), local)
            && (self.methods.is_empty() || self.methods.contains(&method(peer.method)))
            && self.key.is_none_or(|key| credential(&key, true))
            && self.anchor.is_none_or(|anchor| credential(&anchor, false))
            && (!self.options_protected || protects_options(class))
    }
}

/// The word for a method.
pub(super) const fn method(method: AuthMethod) -> MethodSpec {
    match method {
        AuthMethod::Btns => MethodSpec::Btns,
        AuthMethod::LeapOfFaith => MethodSpec::LeapOfFaith,
        AuthMethod::Manual => MethodSpec::Manual,
        AuthMethod::PreSharedKey => MethodSpec::PreSharedKey,
        AuthMethod::PublicKey => MethodSpec::PublicKey,
        AuthMethod::Certificate => MethodSpec::Certificate,
    }
}

/// Whether the header of a packet and its options are protected, both ways (RFC 4301 section 4.1).
pub(super) fn protects_options(class: &Class) -> bool {
    let algorithms = &class.algorithms;
    class.mode == Mode::Tunnel
        || (algorithms.inbound.header_protected() && algorithms.outbound.header_protected())
}

fn constraints(spec: &RequirementSpec) -> Result<Constraints> {
    let suite = |name: &String| name.parse::<Suite>().map_err(|_| invalid(name, "is no suite"));
    Ok(Constraints {
        protection: match spec.protection {
            Some(ProtectionSpec::Confidential) => Asked::Confidential,
            Some(ProtectionSpec::Authenticated) | None => Asked::Policy,
            Some(_) => return Err(unsupported("nothing leaves a gateway in the program in the clear")),
        },
        mode: spec.mode.map(|mode| match mode {
            ModeSpec::Tunnel => Mode::Tunnel,
            ModeSpec::Transport => Mode::Transport,
        }),
        suites: spec.suites.iter().map(suite).collect::<Result<_>>()?,
        key_bits: spec.key_bits.unwrap_or_default(),
        replay_checked: spec.replay_checked,
        peer: spec.peer.as_deref().map(identity).transpose()?,
        local: spec.identity.as_deref().map(identity).transpose()?,
        standing: None,
        narrow: false,
        ..Constraints::default()
    })
}

fn identity(text: &str) -> Result<Identity> {
    let identity: Option<Identity> = text.parse().ok();
    identity.and_then(|identity| identity.canonical()).ok_or_else(|| invalid(text, "is no identity"))
}

fn sha_256(text: &str) -> Result<[u8; 32]> {
    hash(text).ok_or_else(|| invalid(text, "is no SHA-256 hash"))
}

fn invalid(text: &str, what: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("{text:?} {what}, so that nothing could have what is required"))
}

fn unsupported(said: &str) -> Error {
    Error::new(ErrorKind::Unsupported, said)
}
