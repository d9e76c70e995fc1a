//! What an external provider of SAs says: a proposal, and later the keys (L-69 to L-74).

use serde::{Deserialize, Serialize};

use crate::spec::{LifetimeSpec, PathSpec, SaSpec, SelectorSpec, UsageSpec};
use crate::view::SelectorView;

/// A pair of SAs that a provider could make: with whom, for what, and how well protected.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProposalSpec {
    /// The identity that the peer asserts.
    pub peer: String,
    /// The flows to carry.
    pub selectors: Vec<SelectorSpec>,
    /// The name of the suite of what we receive.
    pub inbound_suite: String,
    /// The name of the suite of what we send.
    pub outbound_suite: String,
    /// Whether the answer may carry less than is proposed (L-73).
    #[serde(default)]
    pub narrow: bool,
    /// Whether our inbound SA refuses replays (L-10).
    #[serde(default = "yes")]
    pub replay_checked: bool,
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

const fn yes() -> bool {
    true
}

const fn default_window() -> u32 {
    4096
}
