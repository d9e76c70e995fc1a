//! What protected the datagrams of a UDP socket that has no other end (Q-48, Q-49, N-6).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::app::ProtectionView;
use crate::words::words;

/// What protected the datagrams of one flow of the socket that comes with the call (Q-49, N-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Datagram {
    /// Where it came from.
    #[cfg_attr(test, schemars(with = "String"))]
    pub remote: SocketAddr,
    /// Where it came to (IP_PKTINFO, IPV6_RECVPKTINFO).
    #[cfg_attr(test, schemars(with = "String"))]
    pub local: SocketAddr,
    /// The index of the device that it came by, as the same message says.
    pub interface: u32,
}

/// What protected the datagrams of a flow, and when. Both times are nanoseconds since 1970-01-01T00:00Z, as stamps of datagrams
/// have them (SO_TIMESTAMPNS).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DatagramView {
    /// What protects the flow.
    pub view: ProtectionView,
    /// From when on nothing else has been let through; null where nothing is certain of any datagram.
    pub since: Option<u64>,
    /// Until when that is known.
    pub as_of: u64,
    /// Why nothing is certain, whatever the latch.
    pub doubt: Option<Doubt>,
}

/// Has the UDP socket that comes with the call say of each datagram that it receives whether it came in pieces
/// (IP_RECVFRAGSIZE, IPV6_RECVFRAGSIZE): of those nothing is certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Pieces {}

words! {
    /// Why nothing is certain of a datagram, although its flow may have a latch.
    Doubt {
        /// It did not come by the gateway's device, so that nobody judged it.
        OtherDevice = "other-device",
        /// Programs of this host can make up one like it, which would seem to come by the gateway's device.
        Forgeable = "forgeable",
    }
}
