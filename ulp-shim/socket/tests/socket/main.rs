//! This library and a gateway that answers well, badly, late or never.

#[path = "../support/fake_app.rs"]
mod fake_app;
mod gateway;
mod sockets;
#[cfg(feature = "tokio")]
mod tokio;
