//! Packets as they pass, both sides of the transform, with what became of them.

use serde::{Deserialize, Serialize};

use crate::spec::DirectionSpec;
use crate::words::words;

/// Parameters of [`crate::Call::Capture`]: which packets to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CaptureSpec {
    /// Only on this side of the gateway; both where it is missing.
    #[serde(default)]
    pub side: Option<SideSpec>,
    /// Only packets that were dropped.
    #[serde(default)]
    pub dropped: bool,
    /// At most so many octets of each packet.
    #[serde(default = "whole")]
    pub snap_len: u32,
}

impl Default for CaptureSpec {
    fn default() -> Self {
        Self { side: None, dropped: false, snap_len: whole() }
    }
}

words! {
    /// A side of the gateway.
    SideSpec {
        /// Towards the inner hosts: packets in the clear.
        Inner = "inner",
        /// Towards the peers: packets as they are on the wire.
        Wire = "wire",
    }
}

words! {
    /// What became of a packet.
    CapturedVerdict {
        /// It went on: sealed, or to the inner host.
        Passed = "passed",
        /// It went around IPsec, as policy says.
        Bypassed = "bypassed",
        /// It was dropped, for a reason.
        Dropped = "dropped",
    }
}

/// Packets that were captured since the last reply. The first reply says that the capture stands, and has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CapturedPackets {
    /// The packets, in the order in which the gateway had them in hand.
    pub packets: Vec<CapturedPacket>,
    /// How many could not be shown since the last reply, because they came faster than they were read.
    pub lost: u64,
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CapturedPacket {
    /// When: nanoseconds since 1970-01-01T00:00Z, of the batch that it came with.
    pub time: u64,
    /// Where it was seen.
    pub side: SideSpec,
    /// Which way it went.
    pub direction: DirectionSpec,
    /// How long it was, in octets.
    pub len: u32,
    /// Its octets from the IP header on, as many as were asked for, in base64. Of a packet in UDP, the headers around it
    /// are written from what the socket knows of it.
    pub octets: String,
    /// What became of it.
    pub verdict: CapturedVerdict,
    /// The name of the reason for which it was dropped.
    pub reason: Option<String>,
    /// The SPI of the SA, where there is one.
    pub spi: Option<u32>,
    /// The congruence class of the SA: what the packet was tagged with, or left under.
    pub class: Option<u32>,
    /// The slot of the SA in the SAD, and its generation: the rest of the tag.
    pub sa: Option<(u32, u32)>,
}

/// No IP packet is longer.
const fn whole() -> u32 {
    65_575
}
