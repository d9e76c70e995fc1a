//! The guards in real network namespaces: as root, or in a user namespace; else skipped loudly.

mod blackholes;
mod inner;
mod support;
