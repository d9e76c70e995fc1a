//! What applications require of what protects a socket (Q-44, L-33).

use serde::{Deserialize, Serialize};

use crate::app::ProtectionView;
use crate::latch::{ConflictSpec, MethodSpec, ModeSpec, ProtectionSpec};

/// What must protect a socket, beyond what the policy demands. What is missing is left to the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RequirementSpec {
    /// The type of protection (L-6).
    #[serde(default)]
    pub protection: Option<ProtectionSpec>,
    /// Tunnel or transport mode (L-7).
    #[serde(default)]
    pub mode: Option<ModeSpec>,
    /// The names of the suites of which each direction must use one (L-8); none is any.
    #[serde(default)]
    pub suites: Vec<String>,
    /// The least length of the encryption key in bits (L-9).
    #[serde(default)]
    pub key_bits: Option<u16>,
    /// Whether replays must be refused (L-10).
    #[serde(default)]
    pub replay_checked: bool,
    /// The identity of the peer (L-11).
    #[serde(default)]
    pub peer: Option<String>,
    /// Our own identity.
    #[serde(default)]
    pub identity: Option<String>,
    /// The methods of which one must have proven who the peer is; none is any.
    #[serde(default)]
    pub methods: Vec<MethodSpec>,
    /// The SHA-256 hash of the SubjectPublicKeyInfo that the peer must have proven to have, in hexadecimal.
    #[serde(default)]
    pub key_sha256: Option<String>,
    /// The SHA-256 hash of the SubjectPublicKeyInfo of the trust anchor that its certificate must lead to, in hexadecimal.
    #[serde(default)]
    pub anchor_sha256: Option<String>,
    /// Whether the IP header and its options must be protected, too.
    #[serde(default)]
    pub options_protected: bool,
}

/// What is required for the socket that comes with the call. It holds for its next packet, and as long as it lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Require {
    /// What must protect it.
    pub requirement: RequirementSpec,
    /// What becomes of its connections in a conflict; as the rule says where it is missing.
    #[serde(default)]
    pub on_conflict: Option<ConflictSpec>,
}

/// What a requirement met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Required {
    /// What protects the socket now; null where it has no other end yet.
    pub view: Option<ProtectionView>,
}

/// Nothing is required any more for the socket that comes with the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Forget {}
