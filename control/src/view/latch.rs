//! Latches.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::view::page;
use crate::words::words;

page! {
    /// Latches.
    Latches {
        /// The latches, in no order.
        latches: LatchRow
    }
}

/// One latch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LatchRow {
    /// Its handle.
    pub latch: String,
    /// The flow: protocol, local, remote.
    pub flow: String,
    /// Local address and port.
    #[cfg_attr(test, schemars(with = "String"))]
    pub local: SocketAddr,
    /// Remote address and port.
    #[cfg_attr(test, schemars(with = "String"))]
    pub remote: SocketAddr,
    /// Its state.
    pub state: LatchState,
    /// The peer's identity.
    pub peer: String,
    /// The quality of protection: mode and suites.
    pub protection: String,
    /// The congruence class.
    pub class: u32,
    /// The tag of the last inbound packet.
    pub last_tag: Option<TagView>,
    /// Why it is not established, and by whose packet.
    pub reason: Option<String>,
    /// How long ago it was made.
    pub age: u64,
    /// How long ago a packet passed or the state changed.
    pub idle: u64,
}

words! {
    /// The states of a latch (draft-ietf-btns-connection-latching 2.2).
    LatchState {
        /// A listener's, from which those of its connections are made.
        Listener = "listener",
        /// It waits for an SA: nothing passes.
        Larval = "larval",
        /// Its connection keeps the peer and the protection it began with.
        Established = "established",
        /// It cannot keep them any more: nothing passes.
        Broken = "broken",
        /// Its connection has ended.
        Closed = "closed",
    }
}

/// An inbound tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TagView {
    /// The congruence class of the SA.
    pub class: u32,
    /// The SA's slot in the SAD.
    pub sa_index: u32,
    /// The slot's generation.
    pub generation: u32,
    /// The state version under which the packet was opened.
    pub version: u64,
}
