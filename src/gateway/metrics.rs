//! Metrics: what a gateway counts, for Prometheus, on a listener of its own.
//!
//! Off unless an address is configured. Anybody who reaches that address reads the counts; nobody can change anything,
//! and no key is ever among them (T40). Drops come from the one table of reasons, with all rows in both directions, so
//! that a rate begins at zero.

mod exposition;
mod listener;

use std::sync::Arc;
use std::time::SystemTime;

use latchway_datapath::drop::Counters;
use latchway_ulp_shim::LatchCounts;

pub use self::listener::Listener;

/// What a gateway counts, at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The gateway's name.
    pub gateway: String,
    /// Its identity.
    pub identity: String,
    /// When it started.
    pub started: SystemTime,
    /// What both streets moved and dropped.
    pub counters: Arc<Counters>,
    /// Latches by state, and how full their database is.
    pub latches: LatchCounts,
    /// Pairs of SAs by usage.
    pub pairs: Pairs,
    /// Peers, in the order of the PAD.
    pub peers: Vec<Peer>,
    /// Lifetimes of SAs that ended.
    pub expiries: Expiries,
    /// Sequence numbers reserved on disk, where there is a state directory.
    pub reservations: Option<Reservations>,
    /// Whether packets are moved at all.
    pub worker: Heartbeat,
    /// Events that nobody had room for.
    pub events_lost: u64,
    /// Changes of the configuration.
    pub reloads: Reloads,
}

/// How many pairs of SAs there are, by what they are used for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pairs {
    /// Not in force yet (L-74).
    pub pending: u64,
    /// Receive, and may send later.
    pub standby: u64,
    /// Send and receive.
    pub active: u64,
    /// Receive what is still under way.
    pub retired: u64,
}

/// What a peer's SAs moved.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its identity.
    pub identity: String,
    /// Pairs of SAs that it has now.
    pub pairs: u64,
    /// Numbers of those that were passed and whose packets did not come (RFC 4303 section 3.4.3).
    pub lost: u64,
    /// Received from it. SAs that are gone count on, or the count would go backwards.
    pub inbound: Moved,
    /// Sent to it, likewise.
    pub outbound: Moved,
}

/// Packets and their octets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moved {
    /// Inner packets.
    pub packets: u64,
    /// Octets that the cipher was applied to.
    pub octets: u64,
}

/// How many lifetimes ended (RFC 4301 4.4.2.1).
#[derive(Clone, Copy, Debug, Default)]
pub struct Expiries {
    /// Soft ones: a replacement is due.
    pub soft: u64,
    /// Hard ones: the SA moves nothing any more.
    pub hard: u64,
}

/// How it goes with sequence numbers reserved on disk (T11).
#[derive(Clone, Copy, Debug)]
pub struct Reservations {
    /// Whether numbers can be reserved.
    pub healthy: bool,
    /// How often they could not.
    pub failures: u64,
}

/// A sign of life of the worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heartbeat {
    /// Whether it was seen lately.
    pub alive: bool,
    /// How often it was seen.
    pub beats: u64,
}

/// How often the configuration was changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reloads {
    /// Changes in force.
    pub applied: u64,
    /// Changes refused, which changed nothing.
    pub refused: u64,
}
