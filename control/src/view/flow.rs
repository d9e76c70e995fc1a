//! Flows that the gateway tracks, latched or not.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::view::page;
use crate::view::{LatchState, SaUsed};

page! {
    /// Flows.
    Flows {
        /// The flows, in no order.
        flows: FlowRow
    }
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FlowRow {
    /// The flow: protocol, local, remote.
    pub flow: String,
    /// The number of its protocol.
    pub protocol: u8,
    /// Local address and port.
    #[cfg_attr(test, schemars(with = "String"))]
    pub local: SocketAddr,
    /// Remote address and port.
    #[cfg_attr(test, schemars(with = "String"))]
    pub remote: SocketAddr,
    /// How far its connection is, as far as its packets tell.
    pub progress: String,
    /// The state of its latch; null where it has none.
    pub latch: Option<LatchState>,
    /// The peer's identity; null where none is known.
    pub peer: Option<String>,
    /// The SA that its packets last came in under or leave by.
    pub sa: Option<SaUsed>,
    /// How long ago a packet passed.
    pub idle: u64,
}
