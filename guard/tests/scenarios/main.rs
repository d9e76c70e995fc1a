//! The guards in real network namespaces: as root, or in a user namespace; else skipped loudly.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod blackholes;
mod host;
mod inner;
mod monitor;
mod support;
