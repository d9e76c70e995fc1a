//! The C API of draft-ietf-btns-c-api-04: tokens that say who is on the other end of a socket and what protects it, and that
//! demand who it must be and what must protect it.
//!
//! The header is `include/latchway/ipsec.h`; it is written from `names.rs` and the `export` files, and a test compares.
//! Unsafe code is in those, `descriptor.rs`, `options.rs`, `wrapped.rs` and `fork.rs` alone. A token is never a pointer (`token.rs`), so a wrong one is an errno.

mod accessor;
mod address;
mod ancillary;
mod attribute;
mod datagram;
mod descriptor;
mod export;
mod export_events;
mod export_messages;
mod failure;
mod fork;
mod identity;
mod kept;
mod names;
mod options;
mod protection;
mod reference;
mod socket;
mod template;
mod token;
mod watch;
mod wrapped;

pub use export::*;
pub use export_events::*;
pub use export_messages::*;
pub use names::*;
