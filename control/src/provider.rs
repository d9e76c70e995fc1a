//! What an external provider of SAs says: a proposal, and later the keys (L-69 to L-74).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::form::{FormSpec, HeaderSpec};
use crate::latch::{MethodSpec, ModeSpec};
use crate::selector::{SelectorSpec, SelectorView};
use crate::spec::{LifetimeSpec, PathSpec, SaSpec, UsageSpec};

/// A pair of SAs that a provider could make: with whom, for what, and how well protected.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProposalSpec {
    /// The identity that the peer asserts, with its kind in front or of the kind that it looks like: a domain name, a mail
    /// address, an address; or `fqdn:`, `email:`, `address:`, `dn:`, `keyid:`, `publickey:`.
    pub peer: String,
    /// How it proved that.
    #[serde(default = "manual")]
    pub method: MethodSpec,
    /// What it proved that with; the method says what must be there.
    #[serde(default)]
    pub evidence: EvidenceSpec,
    /// Who we are towards it; our identity, where it is missing.
    #[serde(default)]
    pub local: Option<String>,
    /// What we proved that with: `certificate` or `public_key`. A channel can be bound (RFC 5056) only where both ends' keys are
    /// known, and with another key of ours the pair is of another class.
    #[serde(default)]
    pub local_evidence: Option<EvidenceSpec>,
    /// What is known of address translation on the way (L-32).
    #[serde(default)]
    pub nat: NatSpec,
    /// The flows to carry.
    pub selectors: Vec<SelectorSpec>,
    /// Tunnel or transport (L-7).
    #[serde(default = "tunnel")]
    pub mode: ModeSpec,
    /// The name of the suite of what we receive, of ESP or of AH.
    pub inbound_suite: String,
    /// The name of the suite of what we send.
    pub outbound_suite: String,
    /// The name of the suite of the AH around ESP, of a bundle.
    #[serde(default)]
    pub header_suite: Option<String>,
    /// Whether the answer may carry less than is proposed (L-73).
    #[serde(default)]
    pub narrow: bool,
    /// Whether our inbound SA refuses replays (L-10).
    #[serde(default = "yes")]
    pub replay_checked: bool,
}

/// What a peer, or we, proved an identity with, which whoever inquires a latch is shown (L-29 to L-31).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EvidenceSpec {
    /// Its certificate alone, in DER, in base64. It must name whose it is.
    #[serde(default)]
    pub certificate: Option<String>,
    /// What the certificate was validated to.
    #[serde(default)]
    pub trust_anchor: Option<AnchorSpec>,
    /// Its public key as SubjectPublicKeyInfo in DER, in base64; for btns, leap-of-faith and public-key.
    #[serde(default)]
    pub public_key: Option<String>,
    /// When it proved itself: milliseconds since 1970-01-01T00:00Z; now, where it is missing.
    #[serde(default)]
    pub authenticated: Option<u64>,
}

/// A trust anchor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AnchorSpec {
    /// Its distinguished name, as RFC 4514 writes it.
    pub subject: String,
    /// The SHA-256 hash of its SubjectPublicKeyInfo, in hexadecimal.
    pub key_sha256: String,
}

/// What is known of address translation between us and a peer.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NatSpec {
    /// Whether we are behind a NAT.
    #[serde(default)]
    pub local: Option<bool>,
    /// Whether the peer is behind a NAT.
    #[serde(default)]
    pub remote: Option<bool>,
    /// Our own address and port behind our NAT.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub local_inner: Option<SocketAddr>,
    /// The peer's own address and port behind its NAT.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub remote_inner: Option<SocketAddr>,
}

/// What the gateway would accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Offered {
    /// The right to install such a pair, once.
    pub ticket: String,
    /// When the ticket is void: milliseconds from now.
    pub expires: u64,
    /// The flows that the pair may carry.
    pub selectors: Vec<SelectorView>,
    /// The congruence class that the pair will have.
    pub class: u32,
    /// The flows whose latches installing would break (L-72).
    pub breaks: Vec<String>,
}

/// An offer to be made real.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InstallSpec {
    /// The ticket of the offer.
    pub ticket: String,
    /// What makes it real.
    pub keys: KeysSpec,
}

/// A pair to be succeeded. Its successor receives at once, and sends when a commit activates it: once the peer has it.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RekeySpec {
    /// The number of the pair.
    pub pair: u64,
    /// SPIs and keys of its successor.
    pub keys: KeysSpec,
}

/// SPIs, keys and path of a pair. The keys are fresh and made for this pair alone.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KeysSpec {
    /// The SA that protects what we receive.
    pub inbound: SaSpec,
    /// The SA that protects what we send.
    pub outbound: SaSpec,
    /// The name of the suite of what we receive, as it was proposed.
    pub inbound_suite: String,
    /// The name of the suite of what we send, as it was proposed.
    pub outbound_suite: String,
    /// The AH around ESP, of a bundle, as it was proposed.
    #[serde(default)]
    pub header: Option<HeaderSpec>,
    /// In what form its packets travel.
    #[serde(default)]
    pub form: FormSpec,
    /// Whether sequence numbers are extended to 64 bits.
    #[serde(default = "yes")]
    pub esn: bool,
    /// The size of the replay window in packets; 0 turns the check off.
    #[serde(default = "default_window")]
    pub replay_window: u32,
    /// Where protected packets go.
    pub path: PathSpec,
    /// Its soft lifetime, after which a successor is asked for. Not beyond the hard one.
    #[serde(default)]
    pub soft: LifetimeSpec,
    /// Its hard lifetime, after which nothing passes.
    #[serde(default)]
    pub hard: LifetimeSpec,
    /// Whether it sends from the start. A successor never does.
    #[serde(default)]
    pub usage: UsageSpec,
}

const fn tunnel() -> ModeSpec {
    ModeSpec::Tunnel
}

const fn manual() -> MethodSpec {
    MethodSpec::Manual
}

const fn yes() -> bool {
    true
}

const fn default_window() -> u32 {
    4096
}
