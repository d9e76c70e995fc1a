//! Peers.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::provider::AnchorSpec;
use crate::view::page;

page! {
    /// The peers (the PAD).
    Peers {
        /// The entries, in the order of the PAD.
        peers: PeerRow
    }
}

/// An entry of the PAD and what its peers moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PeerRow {
    /// The name of the entry.
    pub name: String,
    /// The identity that it speaks of, or a pattern of identities.
    pub identity: String,
    /// How its peers may prove who they are.
    pub methods: Vec<String>,
    /// The highest standing of a peer that has a pair: who comes for the same addresses must at least equal it (L-70). Null
    /// while there is no pair.
    pub standing: Option<String>,
    /// How many of its peers SAs, offers or latches are of.
    #[serde(default)]
    pub live: u64,
    /// Those that were there first, at most 16, and what they proved themselves with last (L-29).
    #[serde(default)]
    pub identities: Vec<ProvenRow>,
    /// The inner ranges that they may claim, as in a selector.
    pub ranges: Vec<String>,
    /// Where packets to it go, by its newest pair in use.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub endpoint: Option<SocketAddr>,
    /// Its pairs of SAs.
    pub pairs: Vec<u64>,
    /// From it, under the pairs there are now.
    pub inbound: Traffic,
    /// To it, under the pairs there are now.
    pub outbound: Traffic,
    /// How long ago an authentic packet came from it; null where none has, or where that is not known.
    pub last_heard: Option<u64>,
}

/// A peer, and what it proved itself with last. What whoever inquires a latch is shown in full is here by its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProvenRow {
    /// What it asserted; of a peer that no entry knows by name, its key (RFC 5386 section 2).
    pub asserted: String,
    /// How it proved that.
    pub method: String,
    /// Its certificate, where it has one (L-30).
    pub certificate: Option<CertificateView>,
    /// What the certificate was validated to (L-31).
    pub trust_anchor: Option<AnchorSpec>,
    /// The SHA-256 hash of its public key, where it is known by that alone.
    pub public_key_sha256: Option<String>,
    /// When it proved itself: milliseconds since 1970-01-01T00:00Z.
    pub authenticated: Option<u64>,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CertificateView {
    /// Whose it is.
    pub subject: String,
    /// Who vouches for it.
    pub issuer: String,
    /// The SHA-256 hash of all of it.
    pub sha256: String,
}

/// What some SAs carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Traffic {
    /// Inner packets.
    pub packets: u64,
    /// Octets that the cipher was applied to.
    pub octets: u64,
}
