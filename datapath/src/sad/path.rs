//! The outer ends of an SA, and what its packets look like between them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::arrival::Carrier;
use crate::outer::OuterPolicy;
use crate::pmtu::Sizing;

/// The outer path of an outbound SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Which of the gateway's wires sends.
    pub wire: usize,
    /// Our own address. Unspecified where the system chooses one, which it can in UDP tunnels only.
    pub from: IpAddr,
    /// The peer's address and UDP port; port 0 where packets travel without UDP.
    pub to: SocketAddr,
    /// The largest outer IP packet that the path takes, in octets.
    pub mtu: u16,
    /// How packets travel.
    pub carrier: Carrier,
}

/// Who sends what an inbound SA protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// How packets come; what comes otherwise is not this SA's.
    pub carrier: Carrier,
    /// The peer's address. Unspecified where it may be anywhere.
    pub address: IpAddr,
    /// Our own address, to which it sends. Unspecified where it may be any of ours, which it may in tunnel mode only.
    pub local: IpAddr,
    /// What becomes of packets from another address.
    pub follow: Follow,
    /// Whether a NAT is on the way, so that checksums which cover addresses are made anew in transport mode (RFC 3948
    /// 3.1.2).
    pub translated: bool,
}

/// What becomes of authenticated packets that come from another address than the peer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Follow {
    /// They are dropped.
    #[default]
    Fixed,
    /// The peer has moved: what is sent to it follows (T34, RFC 7296 section 2.23).
    Follow,
}

/// What an outbound SA's packets look like from outside, and when some are sent that carry nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The fields of the outer header.
    pub outer: OuterPolicy,
    /// What is added to hide lengths.
    pub tfc: Tfc,
    /// How packets are made to fit.
    pub sizing: Sizing,
    /// How often a dummy packet is sent (RFC 4303 section 2.6).
    pub dummies: Option<Duration>,
    /// After how long without a packet a NAT is reminded of the path (RFC 3948 section 4).
    pub keepalive: Option<Duration>,
}

/// Traffic-flow confidentiality padding (RFC 4303 section 2.7), in tunnel mode: there alone the receiver can always tell it
/// from the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tfc {
    /// None.
    #[default]
    None,
    /// Up to the next multiple of so many octets of inner packet, as far as the path takes it.
    Multiple(u16),
    /// Up to what the path takes.
    Mtu,
}

impl Path {
    /// A path in UDP, from whatever address the system chooses.
    #[must_use]
    pub const fn udp(wire: usize, to: SocketAddr, mtu: u16) -> Self {
        Self { wire, from: unspecified(to), to, mtu, carrier: Carrier::Udp }
    }

    /// Octets of protected packet that fit: the MTU less the outer IP header (RFC 791, RFC 8200) and, in UDP, its header
    /// (RFC 768).
    #[must_use]
    pub const fn room(&self) -> usize {
        let ip = if self.to.is_ipv4() { 20 } else { 40 };
        let udp = match self.carrier {
            Carrier::Udp => 8,
            Carrier::Native => 0,
        };
        (self.mtu as usize).saturating_sub(ip + udp)
    }

    /// The other end of this path, as the sender of what comes back.
    #[must_use]
    pub const fn peer(&self) -> Peer {
        Peer {
            carrier: self.carrier,
            address: self.to.ip(),
            local: self.from,
            follow: Follow::Fixed,
            translated: false,
        }
    }
}

/// No address, of the family of another.
const fn unspecified(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}
