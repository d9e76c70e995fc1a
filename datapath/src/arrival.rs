//! What one receive brought, apart from its octets: who sent it, by which wire, and what the outer header said.
//!
//! Nothing of it is authentic. What the SA makes of the outer addresses and of the traffic class (RFC 6040) it makes after
//! the integrity check.

use std::net::SocketAddr;

/// One received unit: a train of datagrams in UDP (RFC 3948), or one IP packet that carries ESP or AH itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Length of each datagram of a train but the last, which may be shorter.
    pub segment_size: usize,
    /// Which of the gateway's wires received it.
    pub wire: usize,
    /// Who claims to have sent it; the port is 0 where the carrier has none.
    pub from: SocketAddr,
    /// The outer traffic class: DSCP and ECN (RFC 2474, RFC 3168). Every datagram of a train has the same.
    pub traffic_class: u8,
    /// How it was carried.
    pub carrier: Carrier,
}

/// How protected packets travel between the gateways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// ESP in UDP (RFC 3948): a received buffer holds UDP payloads.
    #[default]
    Udp,
    /// IP protocols 50 and 51 (RFC 4303, RFC 4302): a buffer is one whole IP packet, header first.
    Native,
}

impl Arrival {
    /// A train in UDP at the first wire, with nothing in its traffic class.
    #[must_use]
    pub const fn udp(segment_size: usize, from: SocketAddr) -> Self {
        Self { segment_size, wire: 0, from, traffic_class: 0, carrier: Carrier::Udp }
    }
}
