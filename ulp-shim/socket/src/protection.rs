//! What protects a connection, and who is on its other end (L-12, L-28 to L-31, Q-33 to Q-43).

use std::fmt;
use std::sync::Arc;

use latchway_control::ModeSpec;
use latchway_control::app::{ProtectionView, Unbindable};

use crate::error::{Error, Result};
use crate::identity::PeerIdentity;
use crate::strength::Strength;

/// What protected a connection when it was asked for. A latched one keeps it, rekeying included (N-16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Shared, so that many datagrams of one peer cost one.
    facts: Arc<Facts>,
}

/// What is known of a protection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) peer: PeerIdentity,
    pub(crate) local: Option<PeerIdentity>,
    pub(crate) confidential: Strength,
    pub(crate) integrity: Strength,
    pub(crate) mode: ModeSpec,
    pub(crate) options_protected: bool,
    pub(crate) replay_checked: bool,
    pub(crate) inbound_suite: String,
    pub(crate) outbound_suite: String,
    pub(crate) policy_name: Option<String>,
    pub(crate) audit: String,
    pub(crate) information: Option<String>,
    pub(crate) binding: std::result::Result<ChannelBinding, Unbindable>,
    pub(crate) latch: Option<String>,
    pub(crate) class: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) rule: Option<u64>,
    pub(crate) boot: u64,
    pub(crate) required: bool,
}

/// An end-point channel binding (RFC 5056): the same text at both ends of a connection, another for any other pair of keys
/// (C-15).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChannelBinding(String);

impl ChannelBinding {
    /// The text, always as long: a prefix and 64 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(text: &str) -> Result<Self> {
        let hash = text.strip_prefix(BINDING).and_then(crate::identity::hash);
        hash.map(|_| Self(text.to_owned())).ok_or_else(|| Error::protocol("its channel binding is none"))
    }
}

impl fmt::Display for ChannelBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Protection {
    /// Who is on the other end, and how that is known (Q-38, C-5).
    #[must_use]
    pub fn peer_identity(&self) -> &PeerIdentity {
        &self.facts.peer
    }

    /// Who we are towards it (Q-39, C-5); `None` where that is not known.
    #[must_use]
    pub fn local_identity(&self) -> Option<&PeerIdentity> {
        self.facts.local.as_ref()
    }

    /// How well it is hidden from others; of both directions the lesser.
    #[must_use]
    pub fn confidential(&self) -> Strength {
        self.facts.confidential
    }

    /// How well it is protected from change; of both directions the lesser.
    #[must_use]
    pub fn integrity(&self) -> Strength {
        self.facts.integrity
    }

    /// Tunnel or transport.
    #[must_use]
    pub fn mode(&self) -> ModeSpec {
        self.facts.mode
    }

    /// Whether options and extension headers of IP are protected, too.
    #[must_use]
    pub fn options_protected(&self) -> bool {
        self.facts.options_protected
    }

    /// What the rule of the policy is called.
    #[must_use]
    pub fn policy_name(&self) -> Option<&str> {
        self.facts.policy_name.as_deref()
    }

    /// One line for logs.
    #[must_use]
    pub fn audit(&self) -> &str {
        &self.facts.audit
    }

    /// How it is protected, in words, and never a key (Q-43, C-28).
    #[must_use]
    pub fn information(&self) -> Option<&str> {
        self.facts.information.as_deref()
    }

    /// The suite of what we receive.
    #[must_use]
    pub fn inbound_suite(&self) -> &str {
        &self.facts.inbound_suite
    }

    /// The suite of what we send.
    #[must_use]
    pub fn outbound_suite(&self) -> &str {
        &self.facts.outbound_suite
    }

    /// Whether replays are refused (L-10).
    #[must_use]
    pub fn replay_checked(&self) -> bool {
        self.facts.replay_checked
    }

    /// Whether this was required, and not only so.
    #[must_use]
    pub fn required(&self) -> bool {
        self.facts.required
    }

    /// What a channel of a higher layer can be bound to (Q-16, C-15).
    ///
    /// # Errors
    /// Why there is nothing.
    pub fn channel_binding(&self) -> std::result::Result<&ChannelBinding, Unbindable> {
        self.facts.binding.as_ref().map_err(|why| *why)
    }

    /// The handle of the latch, for logs; `None` where policy alone protects.
    #[must_use]
    pub fn latch(&self) -> Option<&str> {
        self.facts.latch.as_deref()
    }

    /// Whether both are of the same rule of the policy, with the same peer, equally strong, and both latched or both protected
    /// by policy alone (Q-52, C-16): what `ipsec_cmp_pToken` says. A rule may have several ranges of addresses and ports; they
    /// are one.
    #[must_use]
    pub fn equivalent(&self, other: &Self) -> bool {
        let what =
            |of: &Self| Some((of.facts.group?, of.facts.rule?, of.facts.boot, of.facts.latch.is_some()));
        what(self).is_some_and(|own| what(other) == Some(own))
    }

    /// Whether both are the same to a latch: equivalent, and of the same algorithms (C-16).
    #[must_use]
    pub fn congruent(&self, other: &Self) -> bool {
        self.facts.class.is_some() && self.facts.class == other.facts.class && self.equivalent(other)
    }

    /// What a gateway of the program's own knows.
    #[cfg(feature = "in-process")]
    pub(crate) fn of(facts: Facts) -> Self {
        Self { facts: Arc::new(facts) }
    }

    /// Reads what a gateway says of a connection that is protected.
    pub(crate) fn read(view: &ProtectionView) -> Result<Self> {
        let held = view.held.as_ref().ok_or_else(|| lacking("what protects it"))?;
        let peer = PeerIdentity::read(held.peer.as_ref().ok_or_else(|| lacking("its peer"))?)?;
        let local = held.identity.as_ref().map(PeerIdentity::read).transpose()?;
        let strengths = view.inbound.zip(view.outbound).ok_or_else(|| lacking("how strong it is"))?;
        let lesser =
            |of: fn(latchway_control::app::StrengthView) -> Strength| of(strengths.0).min(of(strengths.1));
        let binding = match (&view.binding, view.unbindable) {
            (Some(text), None) => Ok(ChannelBinding::read(text)?),
            (None, Some(why)) => Err(why),
            _ => return Err(lacking("whether a channel can be bound to it")),
        };
        let suite = |suite: &Option<String>| suite.clone().ok_or_else(|| lacking("its suite"));
        let audit = view.audit.clone().unwrap_or_else(|| peer.audit());
        let facts = Facts {
            confidential: lesser(|strength| Strength::of_key_bits(strength.key_bits)),
            integrity: lesser(|strength| Strength::of_icv_bits(strength.icv_bits)),
            mode: held.mode.ok_or_else(|| lacking("its mode"))?,
            options_protected: view.options_protected,
            replay_checked: held.replay_checked.unwrap_or_default(),
            inbound_suite: suite(&held.inbound_suite)?,
            outbound_suite: suite(&held.outbound_suite)?,
            policy_name: view.policy.clone(),
            audit,
            information: view.information.clone(),
            binding,
            latch: view.latch.clone(),
            class: view.class,
            group: view.group,
            rule: view.rule,
            boot: view.boot,
            required: view.required,
            peer,
            local,
        };
        Ok(Self { facts: Arc::new(facts) })
    }
}

fn lacking(what: &str) -> Error {
    Error::protocol(format_args!("it says that the socket is protected, but not {what}"))
}

/// The prefix of the binding's type. It is not registered with IANA.
const BINDING: &str = "latchway-ipsec-end-point:";
