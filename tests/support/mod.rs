//! Gateways in memory: the real key manager, Latch Database, shim and datapath, with virtual time and no device.
//!
//! What a worker does between two system calls, a [`Gateway`] does in one call; what lies between gateways is a
//! [`Wire`](wire::Wire) that loses, delays, doubles and damages as its seed says.

pub mod gateway;
pub mod net;
pub mod packet;
pub mod wire;

use std::time::Duration;

use latchway_datapath::time::Time;

/// The moment so many milliseconds after the start.
pub fn at(millis: u64) -> Time {
    Time::default() + Duration::from_millis(millis)
}
