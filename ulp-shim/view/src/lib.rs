//! Sockets of family PF_SHIM, as draft-komu-btns-api-00 section 2 has them, offered by a library for LD_PRELOAD (rows K-1 to
//! K-12).
//!
//! Such a socket is an ordinary one of IPv6 that reaches IPv4, too. Functions of the C library are stood in for: they look
//! whether the descriptor is one of ours, by a table that is read without a lock, and if it is not, call what they stand for
//! with what they were given. The header is `include/latchway/shim.h`. Unsafe code is in `export.rs` and in the files that
//! are named for what of C they need: `next.rs`, `quiet.rs`, `fork.rs`, `descriptor.rs`.

mod address;
mod descriptor;
mod export;
mod failure;
mod fork;
mod handle;
mod kept;
mod mark;
mod names;
mod next;
mod opening;
mod property;
mod quiet;
mod requirement;
mod watch;

pub use export::*;
