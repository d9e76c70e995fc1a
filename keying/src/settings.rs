//! What an operator may set about the key manager: how long, and how many.

use std::time::Duration;

use latchway_tagging::{ClassLimit, IdentityLimit};

use crate::archive::EvidenceLimit;

/// How long and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long an offer stands.
    pub offer_lifetime: Duration,
    /// How long slots and SPIs of deleted SAs rest, and how long a class outlives its last SA: as long as packets
    /// may be under way or wait for reassembly, and never less than [`LEAST_REST`](Self::LEAST_REST).
    pub rest: Duration,
    /// How long a pair that a change removes goes on receiving what is under way.
    pub drain: Duration,
    /// How many pairs may exist, those at rest included.
    pub pairs: u32,
    /// How many offers may wait for their keys.
    pub offers: usize,
    /// How many identities may be live for one entry of the PAD.
    pub identities: IdentityLimit,
    /// How many classes may be live.
    pub classes: ClassLimit,
    /// How much of what peers proved themselves with is kept.
    pub evidence: EvidenceLimit,
    /// Who may hold how many latches.
    pub holders: HolderLimits,
}

/// How much those who ask for latches may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolderLimits {
    /// How many may hold latches.
    pub holders: usize,
    /// How many latches one of them may hold.
    pub latches: usize,
    /// How many alerts wait for one of them, beside those that are never lost.
    pub alerts: usize,
}

impl Settings {
    /// Twice the longest that IPv6 lets a fragment wait (RFC 8200 section 4.5).
    pub const LEAST_REST: Duration = Duration::from_secs(120);
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            offer_lifetime: Duration::from_secs(30),
            rest: Self::LEAST_REST,
            drain: Duration::from_secs(10),
            pairs: 65_536,
            offers: 1024,
            identities: IdentityLimit::default(),
            classes: ClassLimit::default(),
            evidence: EvidenceLimit::default(),
            holders: HolderLimits::default(),
        }
    }
}

impl Default for HolderLimits {
    fn default() -> Self {
        Self { holders: 8192, latches: 4096, alerts: 256 }
    }
}
