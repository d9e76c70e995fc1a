//! What a latch costs: the one probe and check of a packet at 10^3 to 10^6 flows, latched and not; how many connections a
//! second begin and end; and how long it takes until another peer's SA has broken 10^5 latches and is in force.
//!
//! Packets are driven as the datapath drives them, through the `Ulp` trait. The outbound direction is measured: it does
//! the same probe and tracking as the inbound one, whose argument only the datapath can make.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement ends where something is not as it should be"
)]

#[expect(dead_code, reason = "these benches need no faults")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use latchway_datapath::drop::Direction;
use latchway_datapath::event::event_queue;
use latchway_datapath::packet::IpPacket;
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::snapshot::Snapshot;
use latchway_datapath::spd::{Action, Protection, Rule, Spd};
use latchway_datapath::time::Time;
use latchway_datapath::ulp::{Context, Ulp};
use latchway_keying::Op;
use latchway_tagging::{
    AuthMethod, ClassId, Credential, Feedback, Identity, IdentityLimit, IdentityRecord, IdentityTable,
    SaIndex, SaRef, SnapshotId, StateClock, StateVersion, WorkerId,
};
use latchway_ulp_shim::{LatchDatabase, Limits, Seed, Shim};

use crate::support::gateway::{Gateway, Terms};
use crate::support::net::{ALICE, BOB, MALLORY, Net, join};
use crate::support::packet::Flow;

const FLOWS: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// Latches that break at once.
const BROKEN: u32 = 100_000;

/// Packets whose flows are looked up in turn: few enough that the packets themselves stay in the cache.
const PACKETS: u32 = 256;

/// A shim and the policy that it works under.
struct Bed {
    shim: Shim,
    snapshot: Snapshot,
}

impl Bed {
    fn new(flows: u32, protection: Protection) -> Self {
        let limits = Limits {
            half_open: u32::MAX,
            half_open_of_peer: u32::MAX,
            unlatched: u32::MAX,
            ..Limits::for_flows(flows)
        };
        let database = LatchDatabase::new(limits, Arc::new(StateClock::new()), Seed::Fixed(1)).unwrap();
        publish(&database);
        let shim = Shim::new(Arc::new(database), WorkerId(0), event_queue().0);
        let any = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
        let rule = Rule::new(any, None, Action::Protect(protection));
        let id = SnapshotId::from_raw(1);
        Self { shim, snapshot: Snapshot { id, spd: Spd::new(vec![rule]), ..Snapshot::default() } }
    }

    /// As the datapath does: asks, and answers if asked.
    fn send(&mut self, packet: &IpPacket<'_>, now: Time) -> bool {
        let context = Context { snapshot: &self.snapshot, version: StateVersion::default(), now };
        let Ok(tag) = self.shim.outbound(packet, &context) else { return false };
        let sa = SaRef { index: SaIndex::new(1), generation: 1 };
        let feedback = Feedback::Protected { class: ClassId::from_raw(1), sa, version: context.version };
        !tag.feedback || self.shim.feedback(packet.flow(), feedback, &context).is_ok()
    }
}

/// Says that there is the class that this is about, and whose it is.
fn publish(database: &LatchDatabase) {
    let method = AuthMethod::PreSharedKey;
    let asserted = Identity::Fqdn("peer".into());
    let mut identities = IdentityTable::new(IdentityLimit::default());
    let peer = identities
        .acquire(&IdentityRecord { asserted, authorised: None, method, credential: Credential::None })
        .unwrap();
    database.peers().publish(ClassId::from_raw(1), peer, method, 0).unwrap();
}

/// A segment of flow `n`.
fn segment(n: u32, syn: bool) -> Vec<u8> {
    let [_, a, b, c] = n.to_be_bytes();
    let tcp = PacketBuilder::ipv4([10, 0, 0, 1], [10, a, b, c], 64).tcp(40_000, 80, 1000, 512);
    let mut octets = Vec::new();
    let tcp = if syn { tcp.syn() } else { tcp.ack(7) };
    tcp.write(&mut octets, &[]).unwrap();
    octets
}

fn parse(octets: &[u8]) -> IpPacket<'_> {
    IpPacket::parse(octets, Direction::Outbound).unwrap()
}

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("latch/lookup_and_check");
    group.throughput(Throughput::Elements(1));
    for (name, protection) in [("latched", Protection::LATCHED), ("unlatched", Protection::UNLATCHED)] {
        for flows in FLOWS {
            let mut bed = Bed::new(flows, protection);
            for n in 0..flows {
                assert!(bed.send(&parse(&segment(n, true)), Time::default()));
            }
            let octets: Vec<_> = (0..PACKETS).map(|n| segment(n * (flows / PACKETS), false)).collect();
            let packets: Vec<_> = octets.iter().map(|octets| parse(octets)).collect();
            let mut turn = packets.iter().cycle();
            group.bench_function(BenchmarkId::new(name, flows), |bencher| {
                bencher.iter(|| {
                    let sent = turn.next().map(|packet| bed.send(black_box(packet), Time::default()));
                    if sent != Some(true) {
                        panic!("refused");
                    }
                });
            });
        }
    }
    group.finish();
}

/// A connection begins, and ends with its tombstone.
fn turnover(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("latch/create_and_release");
    let flows = 10_000;
    group.throughput(Throughput::Elements(u64::from(flows)));
    let octets: Vec<_> = (0..flows).map(|n| segment(n, true)).collect();
    let packets: Vec<_> = octets.iter().map(|octets| parse(octets)).collect();
    let later = Time::default() + Duration::from_secs(3600);
    group.bench_function(BenchmarkId::from_parameter(flows), |bencher| {
        bencher.iter_batched_ref(
            || Bed::new(flows, Protection::LATCHED),
            |bed| {
                assert!(packets.iter().all(|packet| bed.send(packet, Time::default())));
                assert_eq!(bed.shim.sweep(later, flows), flows);
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// Connections of bob's hosts with alice's, and the SAs of mallory, who has the same inner networks (L-74): from the
/// installation until alice's worker serves them. The latches are of SAs that are gone.
fn breaking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("latch/break_at_once");
    group.throughput(Throughput::Elements(u64::from(BROKEN))).sample_size(10);
    group.bench_function(BenchmarkId::from_parameter(BROKEN), |bencher| {
        bencher.iter_batched_ref(
            latched,
            |net| {
                join(&mut net.alice, &mut net.mallory, &Terms::default(), net.now);
                let counts = net.alice.database.counts();
                assert_eq!((counts.established, counts.broken), (0, u64::from(BROKEN)));
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// As many connections as are to break.
fn latched() -> Net {
    let mut net = Net::new(Protection::LATCHED);
    let limits = Limits { half_open: u32::MAX, half_open_of_peer: u32::MAX, ..Limits::for_flows(BROKEN) };
    net.alice = Gateway::with_limits(ALICE, &[BOB, MALLORY], Protection::LATCHED, limits);
    let tunnel = join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    for n in 0..BROKEN {
        let (port, host) = (1024 + n / 200, n % 200 + 1);
        let flow = Flow::tcp(&format!("10.0.1.{host}:{port}"), "10.0.2.20:80");
        assert_eq!(net.alice.send(&flow.syn(), net.now).len(), 1);
    }
    net.commit(ALICE, vec![Op::Remove(tunnel.0)]);
    net.alice.settle(net.now);
    net
}

criterion_group!(benches, lookup, turnover, breaking);
criterion_main!(benches);
