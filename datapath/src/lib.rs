//! Moves batches of packets through the IPsec boundary.
//!
//! [`outbound`] and [`inbound`] are the two streets of the gateway, one call per step, in the order of RFC 4301
//! section 5. They are sans-IO: they take a batch and a time and return packets, [`drop::DropReason`]s and events.
//! Only [`low`] and [`worker`] touch the system.

#![deny(unsafe_code)]

pub mod arrival;
pub mod audit;
pub mod bypass;
pub mod capture;
pub mod coalesce;
pub mod drop;
pub mod event;
pub mod fitting;
pub mod flow;
pub mod fragments;
pub mod gateway;
pub mod inbound;
pub mod injection;
pub mod latching;
pub mod lifetime;
pub mod low;
pub mod outbound;
pub mod outer;
pub mod oversize;
pub mod owned;
pub mod packet;
pub mod pmtu;
pub mod prohibition;
pub mod quoted;
pub mod reset;
pub mod sad;
pub mod segment;
pub mod selector;
pub mod send_batch;
pub mod snapshot;
pub mod spd;
mod spending;
pub mod time;
pub mod traffic;
pub mod ulp;
pub mod virtio;

#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz_offload;
pub mod worker;

mod answer;
mod checksum;
mod icmp_error;
mod limit;
mod mss;
mod native;
mod opening;
mod packet_too_big;
mod probe;
mod refragment;
mod refusal;
mod release;
mod reply;
mod transport;
mod unwrapping;
mod wrapping;

#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz_streets;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod testing;

#[cfg(test)]
mod tests;
