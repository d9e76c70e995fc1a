//! Scenarios in real network namespaces: as root, or in a user namespace; else skipped loudly.

mod inject;
mod links;
mod namespace;
mod ping;
mod quiet;
mod relay;
mod support;
mod watch;
