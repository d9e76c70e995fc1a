//! Who is on the other end of a connection.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::view::{HeldView, LatchState, SaUsed, TunnelView};
use crate::words::words;

/// The connections that were asked for, and who is on their other ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WhoisAnswer {
    /// The connections that there are, in no order.
    pub connections: Vec<WhoisRow>,
    /// Whether there are more than these: name both ends.
    pub truncated: bool,
    /// What would become of a connection that is not there; null where one is there, or only one end was named.
    pub otherwise: Option<String>,
}

/// One connection, and who is on its other end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WhoisRow {
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
    /// What can be said of the other end.
    pub bond: Bond,
    /// One sentence for people.
    pub text: String,
    /// The latch's handle; null where there is none.
    pub latch: Option<String>,
    /// The latch's state; null where there is none.
    pub state: Option<LatchState>,
    /// What the connection has: its latch's parameters, or those of the SA that carries it now.
    pub held: Option<HeldView>,
    /// The SA that its packets last came in under or leave by.
    pub sa: Option<SaUsed>,
    /// Where that SA leads.
    pub tunnel: Option<TunnelView>,
    /// Why its latch is not in force.
    pub reason: Option<String>,
    /// How long ago it began, as far as the gateway knows; null where there is no latch.
    pub age: Option<u64>,
    /// How long ago a packet passed.
    pub idle: u64,
}

words! {
    /// What binds a connection to its other end.
    Bond {
        /// A latch in force: it is this peer and no other, for as long as the connection lives.
        Latched = "latched",
        /// A latch that is not in force: nothing passes.
        Suspended = "suspended",
        /// Policy alone: it is protected now, and may be with another peer later.
        Protected = "protected",
        /// Nothing: it passes in the clear, and anybody may be there.
        Bypassed = "bypassed",
        /// Nothing, and nothing passes.
        Dropped = "dropped",
    }
}
