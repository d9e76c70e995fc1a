//! The network of the demo: alice, bob and mallory, each an inner and an outer namespace.
//!
//! The outer namespaces of alice and bob are joined by a veth pair, those of alice and mallory by another, each an IPv4
//! and an IPv6 subnet from the documentation ranges (RFC 5737, RFC 3849). The inner ones hold a loopback interface
//! and, once the gateway runs, its TUN. Mallory has bob's inner addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use latchway_netns::{Links, Namespace, links::veth};

use super::failure::Failure;

/// The three hosts.
#[derive(Debug)]
pub struct Network {
    /// The one whose gateway is watched.
    pub alice: Host,
    /// Its peer.
    pub bob: Host,
    /// A third one, with bob's inner addresses and another identity.
    pub mallory: Host,
}

/// One host.
#[derive(Debug)]
pub struct Host {
    /// What it is.
    pub plan: &'static Plan,
    /// Where its applications are.
    pub inner: Namespace,
    /// Where its wire is.
    pub outer: Namespace,
}

/// Names and addresses of a host. Arrays have the IPv4 one first.
#[derive(Debug)]
pub struct Plan {
    /// Its name, without the domain.
    pub name: &'static str,
    /// Its identity, a fully qualified domain name.
    pub identity: &'static str,
    /// Its inner addresses with their prefixes.
    pub inner: [IpNet; 2],
}

/// The outer IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// One veth pair between the outer namespaces of alice and somebody.
#[derive(Debug)]
pub struct Wire {
    /// The interface at alice.
    pub at_alice: &'static str,
    /// The interface at the other end.
    pub at_peer: &'static str,
    /// Addresses of alice.
    pub alice: [IpNet; 2],
    /// Addresses of the other end.
    pub peer: [IpNet; 2],
}

impl Network {
    /// Makes all of it.
    pub fn build() -> Result<Self, Failure> {
        let network =
            Self { alice: Host::make(&ALICE)?, bob: Host::make(&BOB)?, mallory: Host::make(&MALLORY)? };
        join(&network.alice, &network.bob, &TO_BOB)?;
        join(&network.alice, &network.mallory, &TO_MALLORY)?;
        network.route_back()?;
        network.discard_inner()?;
        Ok(network)
    }

    /// Outer hosts discard what is addressed to an inner prefix without a word. A clear packet comes no further either
    /// way, but an IPv6 host without such a route would answer that it has none (RFC 4443 section 3.1).
    fn discard_inner(&self) -> Result<(), Failure> {
        for host in [&self.alice, &self.bob, &self.mallory] {
            let links = Links::of(&host.outer)?;
            for inner in &host.plan.inner {
                links.add_blackhole(inner.trunc(), BLACKHOLE_METRIC)?;
            }
        }
        Ok(())
    }

    /// Alice's outer host knows a way to bob's inner addresses, so that an answer to a clear packet would travel:
    /// otherwise its absence on the wire would show nothing.
    fn route_back(&self) -> Result<(), Failure> {
        let links = Links::of(&self.alice.outer)?;
        for (inner, via) in BOB.inner.iter().zip(TO_BOB.peer) {
            links.add_route(inner.trunc(), Some(via.addr()), TO_BOB.at_alice, ROUTE_METRIC)?;
        }
        Ok(())
    }
}

impl Host {
    fn make(plan: &'static Plan) -> Result<Self, Failure> {
        let inner = Namespace::create(&format!("{} (inner)", plan.name))?;
        let outer = Namespace::create(&format!("{} (outer)", plan.name))?;
        Ok(Self { plan, inner, outer })
    }
}

impl Plan {
    /// The inner address of a family.
    pub fn address(&self, family: Family) -> IpAddr {
        family.of(&self.inner).addr()
    }
}

impl Wire {
    /// The UDP sockets of alice on this wire.
    pub fn alice_sockets(&self) -> impl Iterator<Item = SocketAddr> {
        self.alice.iter().map(|net| SocketAddr::new(net.addr(), ESP_PORT))
    }

    /// The UDP sockets of the other end.
    pub fn peer_sockets(&self) -> impl Iterator<Item = SocketAddr> {
        self.peer.iter().map(|net| SocketAddr::new(net.addr(), ESP_PORT))
    }
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The member of a pair that belongs to the family.
    pub const fn of<T>(self, [v4, v6]: &[T; 2]) -> &T {
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }

    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// As names of facts have it.
    pub const fn short(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }
}

/// Joins the outer namespaces of alice and somebody.
fn join(alice: &Host, peer: &Host, wire: &Wire) -> Result<(), Failure> {
    veth(&alice.outer, wire.at_alice, &peer.outer, wire.at_peer)?;
    set_up(&alice.outer, wire.at_alice, &wire.alice)?;
    set_up(&peer.outer, wire.at_peer, &wire.peer)
}

fn set_up(outer: &Namespace, interface: &str, addresses: &[IpNet]) -> Result<(), Failure> {
    let links = Links::of(outer)?;
    links.quiet_ipv6(interface)?;
    links.set_up(interface)?;
    for address in addresses {
        links.add_address(interface, *address)?;
    }
    Ok(())
}

const fn net4([a, b, c, d]: [u8; 4], length: u8) -> IpNet {
    IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), length)
}

const fn net6([a, b, c]: [u16; 3], host: u16, length: u8) -> IpNet {
    IpNet::new_assert(IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, host)), length)
}

/// The UDP port of ESP (RFC 3948).
pub const ESP_PORT: u16 = 4500;

/// The TUN of every host.
pub const TUN: &str = "latchway0";

/// Alice.
pub const ALICE: Plan = Plan {
    name: "alice",
    identity: "alice.example",
    inner: [net4([10, 77, 1, 1], 24), net6([0xfd77, 0x77, 1], 1, 64)],
};

/// Bob.
pub const BOB: Plan = Plan {
    name: "bob",
    identity: "bob.example",
    inner: [net4([10, 77, 2, 1], 24), net6([0xfd77, 0x77, 2], 1, 64)],
};

/// Mallory: who else, but with bob's addresses.
pub const MALLORY: Plan = Plan { name: "mallory", identity: "mallory.example", inner: BOB.inner };

/// Between alice and bob.
pub const TO_BOB: Wire = Wire {
    at_alice: "to-bob",
    at_peer: "to-alice",
    alice: [net4([198, 51, 100, 1], 24), net6([0x2001, 0xdb8, 1], 1, 64)],
    peer: [net4([198, 51, 100, 2], 24), net6([0x2001, 0xdb8, 1], 2, 64)],
};

/// Between alice and mallory.
pub const TO_MALLORY: Wire = Wire {
    at_alice: "to-mallory",
    at_peer: "to-alice",
    alice: [net4([203, 0, 113, 1], 24), net6([0x2001, 0xdb8, 2], 1, 64)],
    peer: [net4([203, 0, 113, 2], 24), net6([0x2001, 0xdb8, 2], 2, 64)],
};

const ROUTE_METRIC: u32 = 100;
const BLACKHOLE_METRIC: u32 = 1000;
