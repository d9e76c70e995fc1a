//! The guards in real network namespaces: as root, or in a user namespace; else skipped loudly.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod blackholes;
mod bypass;
mod host;
mod inner;
mod monitor;
mod room;
mod support;
