//! Three gateways on one wire: alice, bob, and mallory, who has bob's inner networks and an identity of her own.

use latchway_datapath::spd::Protection;
use latchway_datapath::time::Time;
use latchway_keying::{Op, PairId};

use crate::support::gateway::{Gateway, Host, Terms, keys};
use crate::support::packet::with_header;
use crate::support::wire::{Datagram, Faults, Wire};

/// Behind 10.0.1.0/24 and fd00:1::/32.
pub const ALICE: Host = Host { name: "alice", inner: 1, outer: 1 };
/// Behind 10.0.2.0/24 and fd00:2::/32.
pub const BOB: Host = Host { name: "bob", inner: 2, outer: 2 };
/// Behind bob's networks, which alice's operator allows both of them.
pub const MALLORY: Host = Host { name: "mallory", inner: 2, outer: 3 };

/// The gateways and what is between them.
pub struct Net {
    /// What time it is.
    pub now: Time,
    /// Who is asked to protect.
    pub alice: Gateway,
    /// Her peer.
    pub bob: Gateway,
    /// Who would like to be her peer.
    pub mallory: Gateway,
    /// What joins them.
    pub wire: Wire,
}

/// A packet that reached an inner host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Behind which gateway.
    pub at: &'static str,
    /// The packet.
    pub packet: Vec<u8>,
}

/// The pair of SAs between two gateways, by the name that either has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel(pub PairId, pub PairId);

impl Net {
    /// Gateways with policy and no SA, on a perfect wire.
    pub fn new(protection: Protection) -> Self {
        Self {
            now: Time::default(),
            alice: Gateway::new(ALICE, &[BOB, MALLORY], protection),
            bob: Gateway::new(BOB, &[ALICE], protection),
            mallory: Gateway::new(MALLORY, &[ALICE], protection),
            wire: Wire::new(0, Faults::default()),
        }
    }

    /// Sends a packet of an inner host of `from`, and delivers all that has arrived by now.
    pub fn send(&mut self, from: Host, packet: &[u8]) -> Vec<Delivery> {
        let datagrams = self.seal(from, &mut with_header(packet));
        self.carry(datagrams)
    }

    /// What a super-packet of an inner host of `from` becomes. It does not get on the wire.
    pub fn seal(&mut self, from: Host, octets: &mut [u8]) -> Vec<Datagram> {
        let now = self.now;
        self.gateway(from).send_super_packet(octets, now)
    }

    /// Commits changes at one gateway.
    pub fn commit(&mut self, at: Host, ops: Vec<Op>) {
        let now = self.now;
        self.gateway(at).commit(ops, now);
    }

    /// Puts datagrams on the wire, and delivers all that has arrived by now.
    pub fn carry(&mut self, datagrams: Vec<Datagram>) -> Vec<Delivery> {
        for datagram in datagrams {
            self.wire.carry(datagram, self.now);
        }
        self.deliver()
    }

    /// Delivers all that has arrived by now.
    pub fn deliver(&mut self) -> Vec<Delivery> {
        let (now, mut arrived) = (self.now, self.wire.arrivals(self.now));
        let mut deliveries = Vec::new();
        for host in [ALICE, BOB, MALLORY] {
            let here = arrived.extract_if(.., |datagram| datagram.to == host.address());
            let here: Vec<_> = here.collect();
            for train in trains(&here) {
                let packets = self.gateway(host).receive(train, now);
                deliveries.extend(packets.into_iter().map(|packet| Delivery { at: host.name, packet }));
            }
        }
        assert!(arrived.is_empty(), "{arrived:?} was sent to nobody");
        deliveries
    }

    /// The gateway of a host.
    pub fn gateway(&mut self, host: Host) -> &mut Gateway {
        match host {
            ALICE => &mut self.alice,
            BOB => &mut self.bob,
            _ => &mut self.mallory,
        }
    }

    /// All of them.
    pub const fn gateways(&self) -> [&Gateway; 3] {
        [&self.alice, &self.bob, &self.mallory]
    }
}

/// Joins two gateways by a pair of SAs, in force at both.
pub fn join(one: &mut Gateway, other: &mut Gateway, terms: &Terms, now: Time) -> Tunnel {
    let (spi, other_spi) = (one.draw_spi(), other.draw_spi());
    let install = |gateway: &mut Gateway, peer, inbound, outbound| {
        let offer = gateway.offer(peer, terms, now);
        gateway.keying.install(offer.ticket, keys(terms, inbound, outbound, peer), now).unwrap()
    };
    let tunnel = Tunnel(install(one, other.host, spi, other_spi), install(other, one.host, other_spi, spi));
    assert_eq!((one.settle(now), other.settle(now)), (vec![tunnel.0], vec![tunnel.1]));
    tunnel
}

/// Makes a successor of a pair at both ends, which receives and does not send yet.
pub fn rekey(one: &mut Gateway, other: &mut Gateway, old: Tunnel, terms: &Terms, now: Time) -> Tunnel {
    let (spi, other_spi) = (one.draw_spi(), other.draw_spi());
    let renew = |gateway: &mut Gateway, peer, old, inbound, outbound| {
        gateway.keying.rekey(old, keys(terms, inbound, outbound, peer), now).unwrap()
    };
    let there = renew(one, other.host, old.0, spi, other_spi);
    let new = Tunnel(there, renew(other, one.host, old.1, other_spi, spi));
    assert_eq!((one.settle(now), other.settle(now)), (vec![new.0], vec![new.1]));
    new
}

/// Datagrams as the kernel joins them: neighbours of one size from one sender.
fn trains(datagrams: &[Datagram]) -> Vec<&[Datagram]> {
    let shape = |datagram: &Datagram| (datagram.from, datagram.octets.len());
    datagrams.chunk_by(|one, next| shape(one) == shape(next)).collect()
}
