//! What a latch costs: the one probe and check of a packet at 10^3 to 10^6 flows, latched and not, and how many
//! connections a second begin and end.
//!
//! Driven as the datapath drives it, through the `Ulp` trait. The outbound direction is measured: it does the same
//! probe and tracking as the inbound one, whose argument only the datapath can make.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot go on stops")]

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
use latchway_tagging::{
    AuthMethod, ClassId, Credential, Feedback, Identity, IdentityLimit, IdentityRecord, IdentityTable,
    SaIndex, SaRef, SnapshotId, StateClock, StateVersion, WorkerId,
};
use latchway_ulp_shim::{LatchDatabase, Limits, Seed, Shim};

const FLOWS: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];

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

criterion_group!(benches, lookup, turnover);
criterion_main!(benches);
