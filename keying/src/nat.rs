//! Whether a peer is behind a NAT, as a provider of SAs found out (L-32, RFC 7296 section 2.23). A class does not have it:
//! when a NAT gives a peer another address, its latches stay.

use std::net::{IpAddr, SocketAddr};

/// What is known of address translation between us and a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nat {
    /// Whether we are behind one.
    pub local: bool,
    /// Whether the peer is.
    pub remote: bool,
    /// The address of the peer's own tunnel end, where that is known.
    pub inner: Option<IpAddr>,
    /// Where it shows, seen from us; `None` is where we send.
    pub outer: Option<SocketAddr>,
}
