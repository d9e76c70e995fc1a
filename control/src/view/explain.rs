//! What would become of a packet, and why.

use serde::{Deserialize, Serialize};

use crate::spec::DirectionSpec;
use crate::view::{LatchState, PolicyRow};
use crate::words::words;

/// What would become of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Explanation {
    /// The flow: protocol, local, remote.
    pub flow: String,
    /// Where the packet would come from.
    pub direction: DirectionSpec,
    /// What would become of it.
    pub verdict: Verdict,
    /// The rule that decides; null where no rule matches or a latch decides.
    pub policy: Option<PolicyRow>,
    /// The SA that would carry it, or that it would have to come in under.
    pub sa: Option<SaUsed>,
    /// The state of the flow's latch; null where it has none.
    pub latch: Option<LatchState>,
    /// The largest inner packet that fits; null where none would leave protected.
    pub mtu: Option<u32>,
    /// The reason of the drop, as the drop table names it.
    pub drop: Option<String>,
    /// Step by step: what was asked, what was found, what was passed over and why.
    pub why: Vec<String>,
}

words! {
    /// What becomes of a packet.
    Verdict {
        /// It leaves protected, or is accepted if it came protected.
        Protect = "protect",
        /// It passes in the clear.
        Bypass = "bypass",
        /// It is dropped.
        Drop = "drop",
    }
}

/// An SA that a flow uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SaUsed {
    /// The pair it belongs to; null for an SA of one direction, a state of `latchway xfrm`.
    pub pair: Option<u64>,
    /// The SPI.
    pub spi: u32,
    /// The suite.
    pub suite: String,
    /// The peer's identity.
    pub peer: String,
    /// The congruence class; null for an SA of one direction that makes no pair with another.
    pub class: Option<u32>,
}
