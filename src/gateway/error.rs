//! Why there is no gateway, and what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use latchway_datapath::low::tun::TunError;
use latchway_datapath::low::wire::WireError;
use latchway_esp::Spi;
use latchway_keying::Stopped;
use latchway_tagging::PeerPattern;
use latchway_ulp_shim::LimitsError;

use crate::gateway::convert::SpecError;
use crate::gateway::{harden, records};

/// Why a gateway did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The description cannot be read.
    #[error("cannot read the description {path}: {source}")]
    Read {
        /// The file, or `-`.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The description is not what it must be.
    #[error("the description {path} is not right: {source}")]
    Json {
        /// The file, or `-`.
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
    /// The file stays where it is, and with it the keys.
    #[error("cannot delete {path} after reading it ({source}); it holds keys that must not be used twice")]
    NotDeleted {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A part of the description cannot be used.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// An SA of the description was refused.
    #[error("the SAs with {peer} were refused: {reason}")]
    Refused {
        /// The peer.
        peer: String,
        /// Why.
        reason: String,
    },
    /// A namespace or an interface could not be used.
    #[error(transparent)]
    Network(#[from] latchway_netns::Error),
    /// Inner and outer namespace are one.
    #[error(
        "inner and outer network namespace are one, where nothing keeps clear packets from the inner addresses, nor \
         the inner hosts' packets from other routes; name two namespaces, or write \"unguarded\": true to accept that"
    )]
    OneNamespace,
    /// An SA of the configuration cannot be made.
    #[error("the SA of {peer} with inbound SPI {spi} cannot be made: {what}; `latchway check` says more")]
    Unusable {
        /// The peer.
        peer: PeerPattern,
        /// The SPI of its inbound SA.
        spi: Spi,
        /// Why not.
        what: &'static str,
    },
    /// Metrics cannot be offered.
    #[error("cannot offer metrics at {address}: {source}; choose another address, or end who listens there")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// There is no record of sequence numbers.
    #[error(transparent)]
    Record(#[from] records::OpenError),
    /// The record does not take a key.
    #[error(transparent)]
    Resume(#[from] records::RecordError),
    /// Privileges cannot be given up.
    #[error(transparent)]
    Harden(#[from] harden::HardenError),
    /// A guard does not stand.
    #[error(transparent)]
    Guard(#[from] latchway_guard::GuardError),
    /// Someone else was to prepare what is not there.
    #[error(
        "the configuration says that these are there already, and they are not: {0}; put them there, as `latchway setup` does \
         while no gateway runs, or let the gateway do it"
    )]
    NotPrepared(String),
    /// The TUN could not be opened.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// A wire socket could not be bound.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The Latch Database cannot have this size.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// The key manager is gone.
    #[error(transparent)]
    Keying(#[from] Stopped),
    /// The control socket cannot be offered.
    #[error("cannot offer the control socket {path}: {source}")]
    Control {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no state directory.
    #[error(
        "there is no state directory {path}: make it by `latchway enrol {path}` if none of the keys was used before; \
         where there was one, restore it or make fresh keys, since numbers would repeat under the old ones",
        path = .0.display()
    )]
    NoState(PathBuf),
    /// The worker ended.
    #[error("the worker ended, so nothing passes any more: {0}; restart the gateway")]
    Worker(io::Error),
    /// The system gave no thread, descriptor or signal.
    #[error("the system refused what a gateway needs: {0}")]
    System(#[from] io::Error),
    /// More wire sockets than a worker can have.
    #[error("{0} listen addresses are more than the {max} that a worker serves", max = latchway_datapath::worker::MAX_WIRES)]
    TooManyWires(usize),
}
