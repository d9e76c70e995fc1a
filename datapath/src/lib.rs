//! Moves batches of packets through the IPsec boundary.
//!
//! [`outbound`] and [`inbound`] are the two streets of the gateway, one call per step, in the order of RFC 4301
//! section 5. They are sans-IO: they take a batch and a time and return packets, [`drop::DropReason`]s and events.
//! Only [`low`] and [`worker`] touch the system.

#![deny(unsafe_code)]

pub mod coalesce;
pub mod low;
pub mod segment;
pub mod send_batch;
pub mod virtio;

mod checksum;
