//! Latchway among strangers: other people's implementations of IPsec as peers and as judges.
//!
//! They come from `tests/interop/fetch`; a test that misses its own says so and is skipped ([`latchway_netns::skip`]).

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod authenticated;
mod captured;
mod case;
mod congestion;
mod extension;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "these tests need less of it than those of the daemon")]
mod gateway;
mod guest;
mod kernel;
mod numbers;
mod path;
mod sample;
mod scapy;
mod scripts;
mod shape;
mod short;
mod site;
mod sizes;
mod strongswan;
mod suite;
mod talk;
mod tshark;

use crate::gateway::{PATIENCE, eventually, scenario};
