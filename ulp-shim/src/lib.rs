//! The upper-layer side inside the gateway: flows, the Latch Database, enforcement.
//!
//! [`Shim`] is what the datapath asks about every packet; [`LatchDatabase`] is what all workers and the key manager
//! share. Covers draft-ietf-btns-connection-latching-04 sections 2, 2.2 to 2.4, and RFC 5660 sections 2.2 and 2.4.

#![forbid(unsafe_code)]

mod constraint;
mod database;
mod disposition;
mod entry;
mod latch;
mod limits;
mod owners;
mod peers;
mod progress;
mod requirements;
mod rooms;
mod shim;
mod sock_destroy;
mod sock_diag;
mod sock_gone;
mod sync;
mod table;

pub use constraint::ConstraintId;
pub use database::{Begin, CreateError, FlowView, LatchCounts, LatchDatabase, LatchView, Listening};
pub use disposition::{Disposed, Resets, resets, terminate};
pub use latchway_datapath::latching::{BreakReason, LatchId, LatchState};
pub use limits::{Limits, LimitsError, OCTETS_PER_FLOW};
pub use owners::{Owners, SocketOwners};
pub use peers::{ClassPeers, ClassPeersFull};
pub use progress::Progress;
pub use requirements::{Cookie, Owner, Requirement, RequirementId, Requirements};
pub use rooms::{RoomDemand, Rooms};
pub use shim::Shim;
pub use sock_destroy::{DestroyError, SocketDestroyer};
pub use sock_gone::{SocketGone, SocketsGone};
pub use table::Seed;
