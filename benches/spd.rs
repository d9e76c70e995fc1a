//! What it costs to find the rule that speaks of a packet, with ten rules and with ten thousand, and to build the search
//! for a new policy (RFC 4301 section 4.4.1).
//!
//! Packets are of flows that some rule speaks of, of flows that only the last one does, and of ICMP errors. Linear search
//! is beside it for comparison.

#![expect(clippy::unwrap_used, reason = "a measurement ends where something is not as it should be")]

use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use latchway_datapath::drop::Direction;
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::selector::{AddressRange, PortRange, Selector};
use latchway_datapath::spd::{Action, Protection, Rule, Spd};
use latchway_datapath::traffic::Traffic;

const SIZES: [u32; 4] = [10, 100, 1_000, 10_000];

/// Packets that are looked up in turn.
const PACKETS: u32 = 256;

fn network(number: u32) -> AddressRange {
    let (first, last) = (10 << 24 | number << 8, 10 << 24 | number << 8 | 0xff);
    AddressRange::new(Ipv4Addr::from_bits(first).into(), Ipv4Addr::from_bits(last).into()).unwrap()
}

/// One peer's network for each rule, after a rule for key exchange and before one for everything else.
fn policy(size: u32) -> Vec<Rule> {
    let any = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
    let exchange = PortRange::new(&(500..=500));
    let exchange = Selector { protocol: Some(protocol::UDP), remote_ports: exchange, ..any.clone() };
    let peer = |number| {
        let selector = Selector::between(network(0xffff), network(number));
        Rule::new(selector, None, Action::Protect(Protection::UNLATCHED))
    };
    let first = Rule::new(exchange, None, Action::Bypass);
    let rest = Rule::new(any, None, Action::Discard);
    std::iter::once(first).chain((2..size).map(peer)).chain([rest]).collect()
}

fn packets(size: u32) -> Vec<Traffic> {
    let traffic = |number: u32| {
        let spread = number.wrapping_mul(2_654_435_761) % size;
        let remote = 10 << 24 | spread << 8 | number & 0xff;
        let protocol = if number.is_multiple_of(8) { protocol::ICMP } else { protocol::TCP };
        let local = (Ipv4Addr::from_bits(10 << 24 | 0xffff << 8 | 7), 40_000);
        Traffic::of(&FlowKey::new(protocol, local.into(), (Ipv4Addr::from_bits(remote), 443).into()))
    };
    (0..PACKETS).map(traffic).collect()
}

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spd/find");
    group.throughput(Throughput::Elements(PACKETS.into()));
    for size in SIZES {
        let (spd, packets) = (Spd::new(policy(size)), packets(size));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let found = packets.iter().filter(|packet| spd.find(packet, Direction::Outbound).is_some());
                black_box(found.count())
            });
        });
        let linear =
            |packet: &&Traffic| spd.rules().iter().any(|rule| rule.speaks_of(packet, Direction::Outbound));
        group.bench_function(BenchmarkId::new("linear", size), |bencher| {
            bencher.iter(|| black_box(packets.iter().filter(linear).count()));
        });
    }
    group.finish();
}

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spd/build");
    for size in SIZES {
        let rules = policy(size);
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| Spd::new(black_box(rules.clone())));
        });
    }
    group.finish();
}

criterion_group!(benches, find, build);
criterion_main!(benches);
