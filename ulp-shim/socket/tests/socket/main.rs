//! This library and a gateway that answers well, badly, late or never.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod datagrams;
#[path = "../support/fake_app.rs"]
mod fake_app;
mod gateway;
mod sockets;
#[cfg(feature = "tokio")]
mod tokio;
