//! What latching is for, seen by hosts with the kernel's own TCP and UDP: gateways as processes, keys from a provider on
//! their control sockets, rekeys and floods under load.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod flood;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "these tests need less of it than those of the daemon")]
mod gateway;
mod imap;
mod leak;
mod load;
mod provider;
mod site;
mod storm;

use std::sync::{Mutex, PoisonError};

use crate::gateway::{PATIENCE, eventually, scenario};

/// Runs a scenario that takes all the machine has, while no other such runs.
fn alone(test: &str, body: impl FnOnce()) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    scenario(test, body);
}
