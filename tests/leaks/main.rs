//! Nothing in the clear, ever (T13): two gateways as processes, hosts that never stop talking, and a sniffer on every
//! interface by which their octets could leave, whatever befalls gateways, TUNs and routes.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod control;
mod disk;
#[path = "../support/process.rs"]
#[expect(dead_code, clippy::panic, reason = "these tests need less of it than those of the daemon")]
mod gateway;
mod intrusion;
mod latched;
mod lifetimes;
mod oom;
mod outage;
mod refused;
mod reload;
mod restart;
mod site;
mod traffic;
mod watch;

use crate::gateway::{PATIENCE, eventually, scenario};
