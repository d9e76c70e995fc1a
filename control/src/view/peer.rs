//! Peers.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

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
    /// The best of these by which a peer that has a pair did so: who comes for the same addresses must at least equal it
    /// (L-70). Null while there is no pair.
    pub standing: Option<String>,
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

/// What some SAs carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Traffic {
    /// Inner packets.
    pub packets: u64,
    /// Octets that the cipher was applied to.
    pub octets: u64,
}
