//! Sockets of applications and the real daemon: what the libraries for Rust and for C say of connections over a tunnel, and the
//! programs of `examples/sockets`.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod answers;
mod binding;
mod datagrams;
mod events;
mod examples;
mod first;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "gateways can do more than is asked of them here")]
mod gateway;
mod in_process;
#[path = "../daemon/site.rs"]
#[expect(dead_code, reason = "pairs can be made in more ways than are of use here")]
mod pair;
mod programs;
#[path = "../scenes/provider.rs"]
#[expect(dead_code, reason = "a provider can do more than is asked of it here")]
mod provider;
mod shim;
#[path = "../scenes/site.rs"]
mod site;

use crate::gateway::{PATIENCE, eventually, scenario};
