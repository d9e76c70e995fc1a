//! The policy.

use serde::{Deserialize, Serialize};

use crate::spec::{ActionSpec, DirectionSpec};
use crate::view::Origin;
use crate::view::page;

page! {
    /// The policy (the SPD).
    Policies {
        /// The rules in their order: the first that matches decides. Where none does, the packet is dropped.
        policies: PolicyRow
    }
}

/// A rule of the SPD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PolicyRow {
    /// Its number, by which it can be deleted. It does not change when other rules come and go.
    pub number: u64,
    /// Who asked for it.
    pub origin: Origin,
    /// The flows it speaks of.
    pub selector: SelectorView,
    /// The direction it speaks of; null is both.
    pub direction: Option<DirectionSpec>,
    /// What it wants.
    pub action: ActionSpec,
    /// Whether connections under it are latched; only where it protects.
    pub latch: bool,
}

/// A traffic selector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SelectorView {
    /// Addresses behind this gateway: a prefix, an address, or first and last with a dash between.
    pub local: String,
    /// Addresses behind the peer, in the same way.
    pub remote: String,
    /// The number of the upper-layer protocol; null is any.
    pub protocol: Option<u8>,
    /// First and last local port; null is any.
    pub local_ports: Option<(u16, u16)>,
    /// First and last remote port; null is any.
    pub remote_ports: Option<(u16, u16)>,
}
