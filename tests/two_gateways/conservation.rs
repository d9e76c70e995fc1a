//! What becomes of every packet on a bad wire: it arrives once, or its loss is counted, by someone.

use std::collections::HashSet;
use std::time::Duration;

use etherparse::TransportSlice;
use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::flow::protocol;
use latchway_datapath::spd::Protection;
use latchway_datapath::virtio::VNET_HDR_LEN;
use latchway_esp::Suite;
use latchway_keying::Op;
use latchway_ulp_shim::LatchState;

use crate::support::gateway::Terms;
use crate::support::net::{ALICE, BOB, Delivery, Net, Tunnel, join, rekey};
use crate::support::packet::{Flow, with_header};
use crate::support::wire::{Faults, Wire};
use crate::{open, tcp, udp};

const SEEDS: u64 = 100;
const STEPS: u32 = 120;

/// Traffic of both directions, under rekeys, over a wire that loses, doubles, delays and damages.
struct Traffic {
    net: Net,
    tunnel: Tunnel,
    terms: Terms,
    random: fastrand::Rng,
    /// What was sent and did not arrive.
    missing: HashSet<Name>,
    sent: u64,
    delivered: u64,
    turn: u32,
}

/// Where a packet is to arrive, and what no other packet there has: TCP sequence number and data.
type Name = (&'static str, u32, Vec<u8>);

/// T08, T14: sent and doubled is delivered, lost and dropped; nothing arrives twice, or elsewhere, or
/// altered; and nothing is dropped for a reason that the wire does not account for.
#[test]
fn t08_every_packet_is_delivered_once_or_counted_as_lost_or_dropped() {
    let (mut delivered, mut lost, mut doubled, mut damaged) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let traffic = Traffic::run(seed);
        traffic.check(seed);
        let wire = &traffic.net.wire;
        delivered += traffic.delivered;
        lost += wire.lost;
        doubled += wire.doubled;
        damaged += wire.damaged;
    }
    println!("{delivered} delivered, {lost} lost, {doubled} doubled, {damaged} damaged");
    assert!([delivered, lost, doubled, damaged].iter().all(|&count| count > SEEDS));
}

impl Traffic {
    fn run(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let terms = Terms { suite: random.choice(Suite::RECOMMENDED).unwrap(), ..Terms::default() };
        let mut net = Net::new(Protection::LATCHED);
        let tunnel = join(&mut net.alice, &mut net.bob, &terms, net.now);
        open(&mut net);
        let delay = Duration::from_millis(random.u64(..50));
        let faults =
            Faults { lose: random.u8(..30), double: random.u8(..30), damage: random.u8(..20), delay };
        net.wire = Wire::new(seed, faults);
        let missing = HashSet::new();
        let mut traffic = Self { net, tunnel, terms, random, missing, sent: 0, delivered: 0, turn: 0 };
        for step in 0..STEPS {
            if step % 40 == 20 {
                traffic.rekey();
            }
            traffic.step();
        }
        traffic.wait(ALL_ARRIVED);
        traffic
    }

    /// Something from either side, and a pause.
    fn step(&mut self) {
        self.turn += 1;
        let flow = self.random.choice([tcp(), udp(), Flow::udp("10.0.1.11:7", "10.0.2.21:7")]).unwrap();
        let (from, to, flow) =
            if self.random.bool() { (ALICE, BOB, flow) } else { (BOB, ALICE, flow.reversed()) };
        let is_tcp = flow.protocol == protocol::TCP;
        let (mut octets, len) = if is_tcp && self.random.bool() {
            (flow.super_packet(self.turn << 16, self.random.usize(2..20), 1348), 1308)
        } else {
            let mut data = vec![0; self.random.usize(8..1200)];
            data[..4].copy_from_slice(&self.turn.to_be_bytes());
            let packet = if is_tcp { flow.data(self.turn << 16, &data) } else { flow.datagram(&data) };
            (with_header(&packet), data.len())
        };
        let (first, data) = contents(&octets[VNET_HDR_LEN..]);
        for (number, data) in data.chunks(len).enumerate() {
            self.sent += 1;
            assert!(self.missing.insert((to.name, first + (number * len) as u32, data.to_vec())));
        }
        let datagrams = self.net.seal(from, &mut octets);
        let arrived = self.net.carry(datagrams);
        self.arrive(arrived);
        let pause = Duration::from_millis(self.random.u64(..10));
        self.wait(pause);
    }

    /// Both ends, in either order, switch to new SAs, and let the old ones go when nothing is under way by them.
    fn rekey(&mut self) {
        let (net, old) = (&mut self.net, self.tunnel);
        let new = rekey(&mut net.alice, &mut net.bob, old, &self.terms, net.now);
        let mut switches = [(ALICE, old.0, new.0), (BOB, old.1, new.1)];
        self.random.shuffle(&mut switches);
        for (host, old, new) in switches {
            self.net.commit(host, vec![Op::Activate(new), Op::Retire(old)]);
            self.step();
        }
        self.wait(ALL_ARRIVED);
        for (host, old) in [(ALICE, old.0), (BOB, old.1)] {
            self.net.commit(host, vec![Op::Remove(old)]);
        }
        self.tunnel = new;
    }

    fn wait(&mut self, pause: Duration) {
        self.net.now = self.net.now + pause;
        let arrived = self.net.deliver();
        self.arrive(arrived);
    }

    fn arrive(&mut self, arrived: Vec<Delivery>) {
        for Delivery { at, packet } in arrived {
            let (seq, data) = contents(&packet);
            assert!(self.missing.remove(&(at, seq, data)), "twice, elsewhere, or altered: {packet:?}");
            self.delivered += 1;
        }
    }

    fn check(&self, seed: u64) {
        let (net, wire) = (&self.net, &self.net.wire);
        let dropped: u64 = net.gateways().iter().map(|gateway| gateway.dropped_in_all()).sum();
        assert_eq!(self.sent + wire.doubled, self.delivered + wire.lost + dropped, "seed {seed}");
        assert_eq!(self.sent, self.delivered + self.missing.len() as u64, "seed {seed}");
        assert!(self.missing.len() as u64 <= wire.lost + wire.damaged, "seed {seed}");
        // Whatever is damaged is dropped; of a packet and its double at most one more is.
        assert!((wire.damaged..=wire.damaged + wire.doubled).contains(&dropped), "seed {seed}");
        for (direction, reason, _) in net.gateways().iter().flat_map(|gateway| gateway.drops()) {
            assert_eq!(direction, Direction::Inbound, "seed {seed}");
            assert!(OF_THE_WIRE.contains(&reason), "seed {seed}: {reason}");
        }
        let latches = [net.alice.latch(tcp()), net.bob.latch(tcp().reversed())];
        assert!(latches.iter().all(|latch| latch.unwrap().state == LatchState::Established));
    }
}

/// The sequence number, where there is one, and the data.
fn contents(packet: &[u8]) -> (u32, Vec<u8>) {
    let sliced = etherparse::SlicedPacket::from_ip(packet).unwrap();
    match sliced.transport.unwrap() {
        TransportSlice::Tcp(tcp) => (tcp.sequence_number(), tcp.payload().to_vec()),
        TransportSlice::Udp(udp) => (0, udp.payload().to_vec()),
        other => panic!("{other:?}"),
    }
}

/// Longer than any datagram is under way.
const ALL_ARRIVED: Duration = Duration::from_millis(60);

/// What a datagram is dropped for that was damaged or came before.
const OF_THE_WIRE: [DropReason; 6] = [
    DropReason::IcvMismatch,
    DropReason::NoSa,
    DropReason::ReservedSpi,
    DropReason::NonEsp,
    DropReason::Replayed,
    DropReason::TooOld,
];
