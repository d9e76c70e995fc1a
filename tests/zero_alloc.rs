//! Neither street allocates or frees: not for any suite, size or protocol, not for the first packet of a latched flow,
//! not for a packet that is dropped, and not after a rekey in the middle.
//!
//! Counted is all that a worker does for a batch between two system calls. Adopting a snapshot is not a packet's work: it
//! may allocate, and is done apart.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

#[expect(dead_code, reason = "these tests need neither faults nor a third gateway")]
mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use latchway_datapath::arrival::{Arrival, Carrier};
use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::outbound::Outbound;
use latchway_datapath::sad::{Role, Usage};
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::spd::{Action, Protection, Rule, Spd};
use latchway_datapath::virtio::VNET_HDR_LEN;
use latchway_esp::{
    AhHeader, AntiReplay, EspHeader, InboundConfig, InboundSa, Integrity, KeyMaterial, NextHeader,
    OutboundConfig, OutboundSa, Protocol, SequenceKind, Spi, Suite, WindowSize,
};
use latchway_keying::Op;
use latchway_tagging::{Mode, SnapshotId};

use crate::support::gateway::Terms;
use crate::support::net::{ALICE, BOB, Net, Tunnel, join, rekey};
use crate::support::packet::{Flow, with_header};

const PACKETS: usize = 10_000;
const SEGMENTS: usize = 48;
const PROTECTIONS: [Protection; 2] = [Protection::LATCHED, Protection::UNLATCHED];

/// Two gateways, what is sent again and again, and how often its work met the heap.
struct Bed {
    net: Net,
    tunnel: Tunnel,
    terms: Terms,
    /// Super-packets, virtio header first, sent in turn.
    templates: Vec<Vec<u8>>,
    octets: Vec<u8>,
    train: Vec<u8>,
    delivered: usize,
    work: Work,
    /// How what is sent travels.
    carrier: Carrier,
}

/// Allocations and deallocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Work(u64, i64);

/// That what follows can fail.
#[test]
fn the_counter_sees_every_allocation_and_every_deallocation() {
    let boxed = Box::new(black_box(1_u64));
    assert_eq!(Work::of(|| drop(black_box(vec![0_u8; 10]))), Work(1, 1));
    assert_eq!(Work::of(|| drop(boxed)), Work(0, 1));
    let mut kept = Vec::new();
    assert_eq!(Work::of(|| kept.push(black_box(1))), Work(1, 0));
}

#[test]
fn super_packets_neither_allocate_nor_free() {
    for (suite, protection) in combinations() {
        let flow = Flow::tcp("10.0.1.10:40000", "10.0.2.20:80");
        let mut bed = Bed::new(suite, protection, vec![flow.super_packet(1, SEGMENTS, 1348)]);
        for (from, packet) in [(ALICE, flow.syn()), (BOB, flow.reversed().syn_ack())] {
            assert_eq!(bed.net.send(from, &packet).len(), 1);
        }
        bed.run(PACKETS.div_ceil(SEGMENTS));
        bed.check(PACKETS.next_multiple_of(SEGMENTS));
    }
}

/// Of 500 flows, so that one in twenty packets makes an entry, and each entry is swept by and used again.
#[test]
fn small_datagrams_neither_allocate_nor_free() {
    for (suite, protection) in combinations() {
        let flow = |port| Flow::udp(&format!("10.0.1.10:{port}"), "10.0.2.20:53");
        let templates = (1000..1500).map(|port| with_header(&flow(port).datagram(b"small"))).collect();
        let mut bed = Bed::new(suite, protection, templates);
        bed.run(PACKETS);
        bed.check(PACKETS);
    }
}

/// Forged, replayed, unserved: a flood of what is dropped costs no memory either, nor that its sender is told (L-103).
#[test]
fn dropped_packets_neither_allocate_nor_free() {
    let flow = Flow::udp("10.0.1.10:1000", "10.0.2.20:53");
    let mut bed =
        Bed::new(Suite::AES_128_GCM, Protection::LATCHED, vec![with_header(&flow.datagram(b"small"))]);
    let mid_stream = with_header(&Flow::tcp("10.0.1.10:1", "10.0.2.20:2").data(1, b"who?"));
    let no_policy = with_header(&Flow::udp("10.0.1.10:1", "10.0.9.9:2").datagram(b"nowhere"));
    bed.step();
    let replayed = bed.sealed();
    bed.octets.clone_from(&bed.templates[0]);
    bed.outbound(Outbound::Sealed);
    let fresh = bed.sealed();
    for turn in 0..PACKETS {
        bed.net.now = bed.net.now + Duration::from_millis(1);
        bed.octets.clone_from(if turn % 2 == 0 { &mid_stream } else { &no_policy });
        bed.outbound(Outbound::Answered);
        bed.train.clone_from(&replayed);
        bed.inbound(replayed.len());
        bed.train.clone_from(&fresh);
        bed.train[8 + turn % 30] ^= 1;
        bed.inbound(fresh.len());
    }
    bed.check(1);
    let (half, all) = (PACKETS as u64 / 2, PACKETS as u64);
    let (inbound, outbound) = (Direction::Inbound, Direction::Outbound);
    assert_eq!(
        bed.net.alice.drops(),
        [(outbound, DropReason::NoPolicy, half), (outbound, DropReason::MidStream, half)]
    );
    let forged_and_replayed = [(inbound, DropReason::Replayed, all), (inbound, DropReason::IcvMismatch, all)];
    assert_eq!(bed.net.bob.drops(), forged_and_replayed);
}

/// What does not fit its SA is fragmented, or answered: neither costs memory (RFC 4301 8.2.1).
#[test]
fn packets_that_do_not_fit_neither_allocate_nor_free() {
    let answered = with_header(&Flow::udp("10.0.1.10:1000", "10.0.2.20:53").datagram(&[7; 2000]));
    let answered_v6 = with_header(&Flow::udp("[fd00:1::10]:1000", "[fd00:2::20]:53").datagram(&[7; 2000]));
    let mut fragmented = answered.clone();
    fragmented[VNET_HDR_LEN + 6] = 0;
    let mut bed = Bed::new(Suite::AES_128_GCM, Protection::UNLATCHED, vec![fragmented]);
    let turns = PACKETS / 2;
    for turn in 0..turns {
        bed.step();
        bed.octets.clone_from(if turn % 2 == 0 { &answered } else { &answered_v6 });
        bed.outbound(Outbound::Answered);
    }
    bed.check(2 * turns);
    let counters = bed.net.alice.datapath.counters();
    let (told, fragmented) = (counters.told_too_big.get(), counters.fragmented.get());
    assert_eq!((told, fragmented), (turns as u64, turns as u64));
}

/// Native and in transport mode, by AH, and by AH around ESP (RFC 4301 4.1, 4.3): nothing that they take costs memory.
#[test]
fn every_form_of_an_sa_neither_allocates_nor_frees() {
    let ah = Suite::ah(Integrity::HmacSha256);
    for (suite, carrier) in
        [(Suite::AES_128_GCM, Carrier::Udp), (Suite::AES_128_GCM, Carrier::Native), (ah, Carrier::Native)]
    {
        for mode in [Mode::Tunnel, Mode::Transport] {
            let template = match mode {
                Mode::Tunnel => Flow::tcp("10.0.1.10:40000", "10.0.2.20:80").super_packet(1, 8, 1300),
                Mode::Transport => Flow::tcp("192.0.2.1:40000", "192.0.2.2:80").super_packet(1, 8, 1300),
            };
            let mut bed = Bed::new(suite, Protection::UNLATCHED, vec![template]);
            bed.form(mode, carrier, None);
            (0..PACKETS / 8).for_each(|_| bed.step());
            bed.check(PACKETS);
        }
    }
    let template = Flow::tcp("10.0.1.10:40000", "10.0.2.20:80").super_packet(1, 8, 1300);
    let mut bed = Bed::new(Suite::AES_128_GCM, Protection::UNLATCHED, vec![template]);
    let terms = Terms { suite: ah, ..bed.terms };
    let around = join(&mut bed.net.alice, &mut bed.net.bob, &terms, bed.net.now);
    bed.form(Mode::Tunnel, Carrier::Native, Some(around));
    (0..PACKETS / 8).for_each(|_| bed.step());
    bed.check(PACKETS);
}

/// A worker that pauses between batches lets go of its snapshot and takes it up again. That may free what was replaced
/// before, a little at a time, and allocates nothing.
#[test]
fn pauses_do_not_allocate() {
    let templates = vec![with_header(&Flow::udp("10.0.1.10:1000", "10.0.2.20:53").datagram(b"small"))];
    let mut bed = Bed::new(Suite::AES_128_GCM, Protection::LATCHED, templates);
    bed.rekey();
    for _ in 0..PACKETS {
        let (alice, now) = (&mut bed.net.alice.datapath, bed.net.now);
        let Work(allocations, _) = Work::of(|| {
            alice.quiesce();
            alice.begin(now);
        });
        assert_eq!(allocations, 0);
    }
}

/// Every suite of ESP and AH, by itself: nothing that an SA does to a packet allocates, be the packet authentic, forged or
/// late.
#[test]
fn no_suite_allocates_or_frees() {
    for suite in Suite::all() {
        let (spi, sequence) = (Spi::new(0x1000).unwrap(), SequenceKind::Extended);
        let keys = &KeyMaterial::new(suite, &vec![7; suite.material_len()]).unwrap();
        let mut sender =
            OutboundSa::new(OutboundConfig { spi, suite, keys, sequence, reservation: None }).unwrap();
        let anti_replay = AntiReplay::Window(WindowSize::MIN);
        let config = InboundConfig { spi, suite, keys, sequence, anti_replay, top: None };
        let mut receiver = InboundSa::new(config).unwrap();
        let mut packet = ip_packet(sender.ah_len(false));
        let (mut scratch, pristine) = (packet.clone(), packet.clone());
        let work = Work::of(|| {
            for turn in 0..40 {
                packet.copy_from_slice(&pristine);
                protect(&mut sender, &mut packet);
                if turn % 4 == 3 {
                    packet[150] ^= 1;
                }
                let opened = unprotect(&mut receiver, &mut packet, &mut scratch);
                assert_eq!(opened, turn % 4 != 3, "{suite}");
            }
        });
        assert_eq!(work, Work::default(), "{suite}");
    }
}

/// An IPv4 packet of AH with room for such a header, as long as an ESP packet needs to be.
fn ip_packet(ah_len: usize) -> Vec<u8> {
    let mut packet = vec![0; 300 + ah_len];
    let [high, low] = u16::try_from(packet.len()).unwrap().to_be_bytes();
    packet[..10].copy_from_slice(&[0x45, 0, high, low, 0, 0, 0, 0, 64, 51]);
    packet
}

fn protect(sender: &mut OutboundSa, packet: &mut [u8]) {
    let seq = sender.take(1).unwrap().next_seq().unwrap();
    match sender.suite().protocol() {
        Protocol::Esp => {
            sender.seal_padded(seq, NextHeader::IPV4, packet, 100, 50).unwrap();
        }
        Protocol::Ah => sender.authenticate(seq, packet, 20, NextHeader(17)).unwrap(),
    }
}

/// Whether the packet was authentic. Each goes through both ways of opening.
fn unprotect(receiver: &mut InboundSa, packet: &mut [u8], scratch: &mut [u8]) -> bool {
    let verified = match receiver.suite().protocol() {
        Protocol::Esp => {
            let packet = &mut packet[..receiver.suite().sealed_len(150)];
            let seq = receiver.check(EspHeader::parse(packet).unwrap().seq).unwrap();
            let opened = receiver.open_in_doubt(seq, packet, scratch);
            opened.map(|(opened, verified)| (opened.decapsulate().unwrap().payload.len(), verified).1)
        }
        Protocol::Ah => {
            let seq = receiver.check(AhHeader::parse(&packet[20..]).unwrap().seq).unwrap();
            receiver.verify_in_doubt(seq, packet, 20).map(|(_, verified)| verified)
        }
    };
    match verified {
        Ok(verified) => receiver.commit(verified).is_ok(),
        Err(_) => {
            receiver.count_forged();
            false
        }
    }
}

fn combinations() -> impl Iterator<Item = (Suite, Protection)> {
    Suite::RECOMMENDED.into_iter().flat_map(|suite| PROTECTIONS.map(|protection| (suite, protection)))
}

impl Bed {
    fn new(suite: Suite, protection: Protection, templates: Vec<Vec<u8>>) -> Self {
        let (mut net, terms) = (Net::new(protection), Terms { suite, ..Terms::default() });
        let tunnel = join(&mut net.alice, &mut net.bob, &terms, net.now);
        let (octets, train) = (Vec::with_capacity(1 << 16), Vec::with_capacity(1 << 16));
        let (work, carrier) = (Work::default(), Carrier::Udp);
        Self { net, tunnel, terms, templates, octets, train, delivered: 0, work, carrier }
    }

    /// Gives the SAs another form, behind the key managers' backs: `around` is the pair that goes around the other.
    fn form(&mut self, mode: Mode, carrier: Carrier, around: Option<Tunnel>) {
        self.carrier = carrier;
        let [alice, bob] =
            [(self.tunnel.0, around.map(|pair| pair.0)), (self.tunnel.1, around.map(|pair| pair.1))];
        for (gateway, (own, around)) in [(&mut self.net.alice, alice), (&mut self.net.bob, bob)] {
            let pair = |id| gateway.pair(id);
            let (own, around) = (pair(own), around.map(pair));
            let other = |sa| {
                let around = around.as_ref()?;
                let both = [(own.inbound.sa, around.inbound.sa), (own.outbound.sa, around.outbound.sa)];
                both.into_iter().find_map(|(own, around)| match sa {
                    sa if sa == own => Some(around),
                    sa if sa == around => Some(own),
                    _ => None,
                })
            };
            let mut snapshot = gateway.keying.snapshot().as_ref().clone();
            let entries: Vec<_> = snapshot.sad.iter().map(|slot| Arc::clone(&slot.entry)).collect();
            for entry in entries {
                snapshot.sad.remove(entry.sa);
                let is_around = around
                    .as_ref()
                    .is_some_and(|pair| [pair.inbound.sa, pair.outbound.sa].contains(&entry.sa));
                let mut entry = entry.as_ref().clone();
                let suite = if is_around { Suite::ah(Integrity::HmacSha256) } else { self.terms.suite };
                (entry.protocol, entry.nested) = (suite.protocol(), other(entry.sa));
                entry.mode = if is_around { Mode::Transport } else { mode };
                entry.selectors = [Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4)].into();
                let local = gateway.host.address().ip();
                match &mut entry.role {
                    Role::Inbound { from, .. } => (from.carrier, from.local) = (carrier, local),
                    Role::Outbound { path, .. } => (path.carrier, path.from) = (carrier, local),
                }
                snapshot.sad.insert(Arc::new(entry), Usage::Active).unwrap();
            }
            let any = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
            snapshot.spd = Spd::new(vec![Rule::new(any, None, Action::Protect(Protection::UNLATCHED))]);
            snapshot.id = SnapshotId::from_raw(snapshot.id.raw() + 1);
            gateway.keying.publisher().publish(Arc::new(snapshot));
            gateway.datapath.begin(self.net.now);
        }
    }

    /// So many batches, with a rekey in the middle.
    fn run(&mut self, batches: usize) {
        for batch in 0..batches {
            if batch == batches / 2 {
                self.rekey();
            }
            self.templates.rotate_left(1);
            self.step();
        }
    }

    /// One batch from alice's TUN to bob's.
    fn step(&mut self) {
        self.net.now = self.net.now + Duration::from_millis(1);
        self.octets.clone_from(&self.templates[0]);
        self.outbound(Outbound::Sealed);
        let runs: Vec<_> =
            self.net.alice.batch.runs().map(|run| (run.segment_size, run.bytes.to_vec())).collect();
        for (segment_size, bytes) in runs {
            // What travels without UDP arrives one by one.
            let unit = if self.carrier == Carrier::Native { segment_size } else { bytes.len() };
            for arrived in bytes.chunks(unit) {
                self.train.clear();
                self.train.extend_from_slice(arrived);
                self.inbound(segment_size);
            }
        }
    }

    /// What the batch at hand begins with.
    fn sealed(&self) -> Vec<u8> {
        self.net.alice.batch.runs().next().unwrap().bytes.to_vec()
    }

    fn outbound(&mut self, expected: Outbound) {
        let (alice, now, octets) = (&mut self.net.alice, self.net.now, &mut self.octets);
        self.work.add(Work::of(|| {
            alice.datapath.begin(now);
            alice.batch.clear();
            assert_eq!(alice.datapath.outbound(octets, &mut alice.batch), expected);
            black_box(alice.batch.runs().map(|run| run.len()).sum::<usize>());
            alice.datapath.end();
        }));
    }

    fn inbound(&mut self, segment_size: usize) {
        let (bob, now, train) = (&mut self.net.bob, self.net.now, &mut self.train);
        let mut delivered = 0;
        let arrival = Arrival { carrier: self.carrier, ..Arrival::udp(segment_size, ALICE.address()) };
        self.work.add(Work::of(|| {
            bob.datapath.begin(now);
            bob.units.clear();
            bob.datapath.inbound(train, &arrival, &mut bob.units);
            delivered = bob.units.units().map(|unit| unit.payload.len()).sum();
            bob.datapath.end();
        }));
        self.delivered += delivered;
    }

    /// The adoption of each new snapshot is the settling's, and not counted.
    fn rekey(&mut self) {
        let (net, old) = (&mut self.net, self.tunnel);
        self.tunnel = rekey(&mut net.alice, &mut net.bob, old, &self.terms, net.now);
        net.commit(ALICE, vec![Op::Activate(self.tunnel.0), Op::Remove(old.0)]);
        net.commit(BOB, vec![Op::Activate(self.tunnel.1), Op::Remove(old.1)]);
        for gateway in [&mut net.alice, &mut net.bob] {
            let work = Work::of(|| gateway.datapath.begin(net.now));
            assert_ne!(work, Work::default(), "the old SAs went with their keys");
        }
    }

    fn check(&self, delivered: usize) {
        assert_eq!(self.delivered, delivered);
        assert_eq!(self.work, Work(0, 0), "{}", self.terms.suite);
    }
}

impl Work {
    fn of(work: impl FnOnce()) -> Self {
        let info = measure(work);
        Self(info.count_total, info.count_total as i64 - info.count_current)
    }

    const fn add(&mut self, other: Self) {
        self.0 += other.0;
        self.1 += other.1;
    }
}
