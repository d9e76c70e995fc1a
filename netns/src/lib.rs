//! Network namespaces, links, addresses and routes through netlink, and sockets that watch and inject frames.
//!
//! The gateway uses it for its TUN's addresses and routes, the demonstration and the end-to-end tests for whole
//! networks of namespaces. Nothing here starts another program ([`testing`] apart, which re-executes a test under
//! `unshare`), and a namespace outlives the process only where it is given a name ([`NamespaceRef::open_or_make`]): else
//! it is held by a descriptor.
//!
//! It works as root, and without any privilege after [`user::enter_user_namespace_if_needed`]. Every wait has a
//! deadline, and every error says what was attempted.

#![forbid(unsafe_code)]

pub mod inject;
pub mod links;
pub mod namespace;
pub mod netlink;
pub mod packet;
pub mod ping;
pub mod relay;
pub mod skip;
pub mod sockets;
pub mod sysctl;
pub mod testing;
pub mod user;
pub mod watch;

mod error;
mod packet_socket;

pub use error::Error;
pub use ipnet::IpNet;
pub use links::Links;
pub use namespace::{Namespace, NamespaceRef};

/// What every fallible call of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;
