//! What a gateway says of itself. Never a key.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// How a gateway is and what it moved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusView {
    /// Its name.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Its TUN.
    pub tun: TunView,
    /// Its wire sockets.
    pub listen: Vec<SocketAddr>,
    /// From the wire.
    pub inbound: StreetView,
    /// To the wire.
    pub outbound: StreetView,
    /// Latches by state: established, broken, others.
    pub latches: u64,
    /// Pairs of SAs.
    pub pairs: u64,
}

/// A TUN and how it is driven.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TunView {
    /// Its name.
    pub name: String,
    /// The backend in use, with the offloads that the kernel granted.
    pub backend: String,
}

/// What one direction moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreetView {
    /// Inner packets.
    pub packets: u64,
    /// Their octets.
    pub octets: u64,
    /// Packets dropped, for whatever reason.
    pub dropped: u64,
}

/// What was dropped and why: one row per reason that ever occurred.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Drops {
    /// The rows, inbound first.
    pub drops: Vec<DropRow>,
}

/// One reason in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRow {
    /// "inbound" or "outbound".
    pub direction: String,
    /// The reason's stable name.
    pub reason: String,
    /// How many packets.
    pub packets: u64,
    /// "info", "warn", "error" or "audit".
    pub severity: String,
    /// The section that calls for the drop.
    pub section: String,
    /// One sentence for people.
    pub text: String,
}

/// Every latch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Latches {
    /// The latches.
    pub latches: Vec<LatchRow>,
}

/// One latch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LatchRow {
    /// The flow: protocol, local, remote.
    pub flow: String,
    /// Local address and port.
    pub local: SocketAddr,
    /// Remote address and port.
    pub remote: SocketAddr,
    /// LISTENER, LARVAL, ESTABLISHED, BROKEN or CLOSED.
    pub state: String,
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
}

/// An inbound tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Every SA.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sas {
    /// The SAs, two of a pair after each other.
    pub sas: Vec<SaRow>,
}

/// One SA.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SaRow {
    /// The pair it belongs to.
    pub pair: u64,
    /// "inbound" or "outbound".
    pub direction: String,
    /// Its SPI.
    pub spi: u32,
    /// Its suite.
    pub suite: String,
    /// The peer's identity.
    pub peer: String,
    /// "pending", "standby", "active" or "retired".
    pub usage: String,
    /// Whether its hard lifetime is over.
    pub expired: bool,
    /// Inner packets carried.
    pub packets: u64,
    /// Octets that the cipher was applied to.
    pub octets: u64,
    /// The congruence class.
    pub class: u32,
}
