//! This library and a gateway that answers well, badly, late or never.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod datagrams;
#[path = "../support/fake_app.rs"]
#[expect(dead_code, reason = "the fake gateway can do more than is asked of it here")]
mod fake_app;
mod gateway;
mod sockets;
#[cfg(feature = "tokio")]
mod tokio;
