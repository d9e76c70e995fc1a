//! What latching is for, seen by hosts with the kernel's own TCP and UDP: gateways as processes, keys from a provider on
//! their control sockets, rekeys and floods under load.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

#[path = "../support/process.rs"]
#[expect(dead_code, reason = "these tests need less of it than those of the daemon")]
mod gateway;
mod load;
mod provider;
mod site;
mod storm;

use crate::gateway::{PATIENCE, scenario};
