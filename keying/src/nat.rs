//! Whether addresses are translated between us and a peer, as a provider of SAs found out (L-32, RFC 7296 section 2.23). A
//! class does not have it: when a NAT gives a peer another address, its latches stay.

use std::net::SocketAddr;

/// What is known of address translation between us and a peer. The outer addresses of the tunnel are those of its path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nat {
    /// Whether we are behind a NAT; `None` where nobody said.
    pub local: Option<bool>,
    /// Whether the peer is; `None` where nobody said.
    pub remote: Option<bool>,
    /// Our own address and port behind our NAT.
    pub local_inner: Option<SocketAddr>,
    /// The peer's own address and port behind its NAT.
    pub remote_inner: Option<SocketAddr>,
}
