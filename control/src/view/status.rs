//! How a gateway is and what it moved.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::wire::WireSpec;
use crate::words::words;

/// How a gateway is and what it moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StatusView {
    /// Its name.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started: u64,
    /// Whether it stands between two namespaces or in one.
    pub mode: Mode,
    /// Where its inner network namespace is found: `nsenter --net=PATH`. Null where that is not known.
    pub inner: Option<String>,
    /// Where its outer network namespace is found; null where that is not known.
    pub outer: Option<String>,
    /// Who it is towards its peers.
    pub identity: String,
    /// Its TUN.
    pub tun: TunView,
    /// The name of its bypass port, the second TUN through which BYPASS traffic leaves and enters.
    pub bypass: Option<String>,
    /// The prefixes that programs started behind the gateway get their addresses from.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub exec: Vec<IpNet>,
    /// Its wire sockets.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub listen: Vec<WireSpec>,
    /// From the wire.
    pub inbound: StreetView,
    /// To the wire.
    pub outbound: StreetView,
    /// Messages to inner senders whose packets were too big for their SA (RFC 4301 8.2.1); those packets are drops besides.
    pub told_too_big: u64,
    /// Inner senders that were told that their connection is over (L-87, L-103); their packets are drops besides.
    pub told_over: u64,
    /// Messages to inner senders whose packets policy discards (RFC 4301 5.1.1); those packets are drops besides.
    pub told_prohibited: u64,
    /// Inner IPv4 packets that were sealed in fragments, each of which counts as a packet (RFC 4301 8.2.1).
    pub fragmented: u64,
    /// Inner and outer ECN fields that no tunnel makes, where the packet went on (RFC 6040 4.2).
    pub ecn_unusual: u64,
    /// Unauthenticated messages that a path takes less than it is thought to (RFC 4301 8.2, T18).
    pub mtu_hints: u64,
    /// Packets by which paths were asked what they take.
    pub mtu_probes: u64,
    /// Packets that answered them.
    pub mtu_probes_answered: u64,
    /// How often a peer was found elsewhere, as an authenticated packet said (T34).
    pub peers_moved: u64,
    /// NAT keepalives sent (RFC 3948 2.3); those received are drops, `keepalive`.
    pub keepalives: u64,
    /// Dummy packets sent (RFC 4303 2.6); those received are drops, `dummy`.
    pub dummies: u64,
    /// Latches by state.
    pub latches: LatchCounts,
    /// Pairs of SAs.
    pub pairs: u64,
    /// Where sequence numbers are reserved; null without a state directory.
    pub state: Option<StateHealth>,
    /// The reloads since the start.
    pub reloads: ReloadHistory,
    /// What keeps the process from doing more than it must, in force now.
    pub hardening: Vec<String>,
    /// What an operator should know, a sentence each.
    pub warnings: Vec<String>,
}

words! {
    /// How a gateway keeps clear packets from the inner addresses.
    Mode {
        /// The TUN is in an inner namespace, the wire sockets in an outer one.
        Split = "split",
        /// Both are in one namespace, and packet filters guard it.
        Host = "host",
        /// Both are in one namespace, and nothing guards it.
        Unguarded = "unguarded",
    }
}

/// A TUN and how it is driven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TunView {
    /// Its name.
    pub name: String,
    /// The backend in use, with the offloads that the kernel granted.
    pub backend: String,
    /// Its MTU, where the gateway set it or could read it.
    pub mtu: Option<u32>,
    /// Whether it is up, where the gateway could tell.
    pub up: Option<bool>,
}

/// What one direction moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StreetView {
    /// Inner packets.
    pub packets: u64,
    /// Their octets.
    pub octets: u64,
    /// Packets dropped, for whatever reason.
    pub dropped: u64,
    /// Datagrams on the wire; null where they are not counted.
    pub wire_datagrams: Option<u64>,
    /// Octets of their payload; null where they are not counted.
    pub wire_octets: Option<u64>,
}

/// Entries of the Latch Database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LatchCounts {
    /// Room for entries.
    pub capacity: u32,
    /// Flows without a latch, cached.
    pub unlatched: u64,
    /// Latches on whose connection only one side has spoken.
    pub half_open: u64,
    /// Latches in state LISTENER.
    pub listener: u64,
    /// Latches in state LARVAL.
    pub larval: u64,
    /// Latches in state ESTABLISHED.
    pub established: u64,
    /// Latches in state BROKEN.
    pub broken: u64,
    /// Latches in state CLOSED.
    pub closed: u64,
    /// Sockets that applications require something of.
    pub requirements: u64,
}

impl LatchCounts {
    /// The latches of all states.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.listener + self.larval + self.established + self.broken + self.closed
    }
}

/// The state directory, where sequence numbers are reserved before they are used (T12).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StateHealth {
    /// Its path.
    pub path: String,
    /// Whether reservations succeed. Where they do not, sealing stops once what is reserved is used up.
    pub healthy: bool,
    /// What is wrong and what to do, where it is not healthy.
    pub message: Option<String>,
}

/// The reloads of a gateway's life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReloadHistory {
    /// How many were asked for, refused ones included.
    pub count: u64,
    /// The last one.
    pub last: Option<ReloadOutcome>,
}

/// What became of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReloadOutcome {
    /// When.
    pub time: u64,
    /// Whether it was applied; a refused one changed nothing.
    pub applied: bool,
    /// What changed, or why nothing did.
    pub text: String,
}
