//! Sockets of applications and the real daemon: what the libraries for Rust and for C say of connections over a tunnel.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

mod answers;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "gateways can do more than is asked of them here")]
mod gateway;
mod in_process;
#[path = "../daemon/site.rs"]
#[expect(dead_code, reason = "pairs can be made in more ways than are of use here")]
mod pair;
mod programs;

use crate::gateway::{PATIENCE, eventually, scenario};
