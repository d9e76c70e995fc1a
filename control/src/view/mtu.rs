//! What fits, and why: the sum of a packet's octets, SA by SA.

use serde::{Deserialize, Serialize};

use crate::view::{PathView, SaUsage};
use crate::words::words;

/// How long the packets to a peer may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MtuView {
    /// The outbound SAs to the peer, those of pairs first, each oldest first.
    pub sas: Vec<MtuRow>,
}

/// One outbound SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MtuRow {
    /// The pair it belongs to; null for an SA of one direction, a state of `latchway xfrm`.
    pub pair: Option<u64>,
    /// The peer's identity.
    pub peer: String,
    /// Its SPI.
    pub spi: u32,
    /// Its suite.
    pub suite: String,
    /// Whether it is in use.
    pub usage: SaUsage,
    /// Whether a packet keeps its own header in front: transport mode.
    pub transport: bool,
    /// The path, and what it takes.
    pub path: PathView,
    /// The size of outer packet below which it believes nothing.
    pub floor: u32,
    /// What makes it ask what the path takes.
    pub discovery: DiscoverySpec,
    /// The longest inner packet that fits.
    pub inner: u32,
    /// The octets of the outer packet around it, from the outside in; parts that are not there are left out.
    pub parts: Vec<MtuPart>,
    /// Their sum: what leaves.
    pub outer: u32,
    /// The largest TCP segment that fits over IPv4, without options; null where the SA carries none.
    pub mss_v4: Option<u32>,
    /// The same over IPv6.
    pub mss_v6: Option<u32>,
    /// Whether TCP connections are kept to that.
    pub clamped: bool,
    /// Where packets that may be cut are.
    pub fragment: FragmentSpec,
}

/// Some octets of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MtuPart {
    /// What they are.
    pub part: PartKind,
    /// How many.
    pub octets: u32,
}

words! {
    /// The parts of an outer packet.
    PartKind {
        /// The outer IP header.
        OuterHeader = "outer_header",
        /// The UDP header (RFC 3948).
        Udp = "udp",
        /// The authentication header (RFC 4302).
        Ah = "ah",
        /// SPI and sequence number (RFC 4303 section 2).
        EspHeader = "esp_header",
        /// The initialisation vector.
        Iv = "iv",
        /// The inner packet; in transport mode with its own header, which is in front of everything then.
        Inner = "inner",
        /// What is added to hide lengths (RFC 4303 section 2.7).
        Tfc = "tfc",
        /// What makes the payload end where it must (RFC 4303 section 2.4).
        Padding = "padding",
        /// Pad length and next header.
        Trailer = "trailer",
        /// The integrity check value.
        Icv = "icv",
    }
}

words! {
    /// What makes an SA ask what its path takes.
    DiscoverySpec {
        /// Nothing: what is configured stands.
        Fixed = "fixed",
        /// ICMP errors about its packets.
        Learn = "learn",
        /// Besides, the passage of time.
        Probe = "probe",
    }
}

words! {
    /// Where packets are cut that do not fit and may be cut.
    FragmentSpec {
        /// Before they are sealed.
        Before = "before",
        /// Sealed whole, the outer packet is.
        After = "after",
    }
}
