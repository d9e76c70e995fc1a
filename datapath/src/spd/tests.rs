use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::flow::{FlowKey, protocol};
use crate::selector::{AddressRange, IcmpRange, PortRange};

#[test]
fn rfc_4301_4_4_1_the_first_matching_rule_decides_and_no_match_is_discard() {
    let any = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
    let ssh = Selector { remote_ports: PortRange::new(&(22..=22)), ..any.clone() };
    let out = Some(Direction::Outbound);
    let spd = Spd::new(vec![
        Rule::new(ssh, out, Action::Bypass),
        Rule::new(any, None, Action::Protect(Protection::LATCHED)),
    ]);
    let flow = |remote: &str| {
        Traffic::of(&FlowKey::new(protocol::TCP, "10.0.0.1:9".parse().unwrap(), remote.parse().unwrap()))
    };
    assert_eq!(spd.action(&flow("10.0.0.2:22"), Direction::Outbound), Some(Action::Bypass));
    assert!(matches!(spd.action(&flow("10.0.0.2:22"), Direction::Inbound), Some(Action::Protect(_))));
    assert!(matches!(spd.action(&flow("10.0.0.2:23"), Direction::Outbound), Some(Action::Protect(_))));
    let v6 = FlowKey::new(protocol::TCP, "[::2]:9".parse().unwrap(), "[::3]:22".parse().unwrap());
    assert_eq!(spd.action(&Traffic::of(&v6), Direction::Outbound), None);
}

/// What any search must find: the first rule in order.
fn by_looking_at_each(spd: &Spd, traffic: &Traffic, direction: Direction) -> Option<usize> {
    spd.rules().iter().position(|rule| rule.speaks_of(traffic, direction))
}

fn assert_equal(spd: &Spd, traffic: &Traffic, direction: Direction) {
    let found = spd.find(traffic, direction).map(|(place, _)| place);
    assert_eq!(found, by_looking_at_each(spd, traffic, direction), "{traffic:?} {direction:?} in {spd:?}");
}

/// A few addresses of each family, close together and at the ends, so that ranges meet, nest and just miss.
fn an_address() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0..24_u32, 1 => Just(u32::MAX - 1), 1 => Just(u32::MAX)]
}

fn address(v4: bool, number: u32) -> IpAddr {
    if v4 {
        Ipv4Addr::from_bits(number).into()
    } else if number > u32::MAX / 2 {
        Ipv6Addr::from_bits(u128::MAX - u128::from(u32::MAX - number)).into()
    } else if number.is_multiple_of(5) {
        // Of several networks, at their ends and behind those.
        let (network, host) = (u128::from(number / 10), number.is_multiple_of(2));
        Ipv6Addr::from_bits(network << 64 | if host { 1 } else { u128::from(u64::MAX) }).into()
    } else {
        // On both sides of those that stand for IPv4 addresses.
        let base: u128 = if number.is_multiple_of(2) { 0xfffe_ffff_fff0 } else { 0x1_0000_0000_0000 };
        Ipv6Addr::from_bits(base + u128::from(number / 2)).into()
    }
}

fn a_range(v4: bool) -> impl Strategy<Value = AddressRange> {
    let any = if v4 { AddressRange::ANY_V4 } else { AddressRange::ANY_V6 };
    let between = (an_address(), an_address()).prop_map(move |(one, other)| {
        let (one, other) = (address(v4, one), address(v4, other));
        AddressRange::new(one.min(other), one.max(other)).unwrap()
    });
    prop_oneof![1 => Just(any), 4 => between]
}

fn a_port_range() -> impl Strategy<Value = PortRange> {
    // Some are empty.
    let some = (a_port(), a_port()).prop_map(|(first, last)| PortRange::new(&(first..=last)));
    prop_oneof![6 => Just(PortRange::ANY), 4 => some, 1 => Just(PortRange::OPAQUE)]
}

fn a_range_of_messages() -> impl Strategy<Value = IcmpRange> {
    let some = (a_message(), a_message()).prop_map(|((t, c), (u, d))| IcmpRange::new(&(t..=u), &(c..=d)));
    prop_oneof![4 => some, 1 => Just(IcmpRange::OPAQUE)]
}

fn a_port() -> impl Strategy<Value = u16> {
    prop_oneof![4 => 0..6_u16, 1 => Just(u16::MAX)]
}

fn a_message() -> impl Strategy<Value = (u8, u8)> {
    let octet = || prop_oneof![0..4_u8, Just(255)];
    (octet(), octet())
}

fn a_protocol() -> impl Strategy<Value = u8> {
    let known =
        [protocol::TCP, protocol::UDP, protocol::SCTP, protocol::ICMP, protocol::ICMPV6, protocol::MOBILITY];
    prop_oneof![4 => prop::sample::select(known.to_vec()), 1 => prop::sample::select(vec![0, 47, 255])]
}

fn a_selector() -> impl Strategy<Value = Selector> {
    let addresses = (any::<bool>(), prop::bool::weighted(0.05))
        .prop_flat_map(|(v4, mixed)| (a_range(v4), a_range(v4 != mixed)));
    let ports = (a_port_range(), a_port_range());
    (addresses, prop::option::of(a_protocol()), ports, prop::option::weighted(0.2, a_range_of_messages()))
        .prop_map(|((local, remote), protocol, (local_ports, remote_ports), icmp)| Selector {
            local,
            remote,
            protocol,
            local_ports,
            remote_ports,
            icmp,
        })
}

fn a_rule() -> impl Strategy<Value = Rule> {
    let direction = prop::sample::select(vec![None, Some(Direction::Inbound), Some(Direction::Outbound)]);
    (a_selector(), direction).prop_map(|(selector, direction)| Rule::new(selector, direction, Action::Bypass))
}

fn some_traffic() -> impl Strategy<Value = Traffic> {
    let ends = (any::<bool>(), an_address(), an_address(), a_port(), a_port());
    (ends, a_protocol(), prop::option::of(a_message())).prop_map(
        |((v4, local, remote, local_port, remote_port), protocol, icmp)| Traffic {
            flow: FlowKey::new(
                protocol,
                (address(v4, local), local_port).into(),
                (address(v4, remote), remote_port).into(),
            ),
            icmp,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// T30: whatever the policy and the packet, the rule is the first in order that speaks of it.
    #[test]
    fn t30_the_search_finds_what_a_look_at_each_rule_finds(
        rules in prop::collection::vec(a_rule(), 0..120),
        packets in prop::collection::vec(some_traffic(), 100),
    ) {
        let spd = Spd::new(rules);
        for traffic in &packets {
            for direction in [Direction::Inbound, Direction::Outbound] {
                assert_equal(&spd, traffic, direction);
            }
        }
    }
}

/// A number below another, from a seed.
fn draw(state: &mut u64, below: u32) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 33) as u32) % below
}

const MANY: u32 = 10_000;

fn v4(first: u32, last: u32) -> AddressRange {
    AddressRange::new(Ipv4Addr::from_bits(first).into(), Ipv4Addr::from_bits(last).into()).unwrap()
}

/// Policies of 10,000 rules: by shape, what is usual and what is made to be awkward.
fn many(shape: &str) -> Vec<Rule> {
    let state = &mut 7_u64;
    let selector = |number: u32, state: &mut u64| match shape {
        "a network for each peer" => {
            Selector::between(v4(10 << 24, (10 << 24) + 0xffff), v4(number << 10, (number << 10) + 0x3ff))
        }
        "crossing stripes" if number.is_multiple_of(2) => {
            Selector::between(v4(number << 8, (number << 8) + 0xff), AddressRange::ANY_V4)
        }
        "crossing stripes" => Selector::between(AddressRange::ANY_V4, v4(number << 8, (number << 8) + 0xff)),
        "nested" => Selector::between(v4(number, 0x7fff_ffff - number), v4(number, 0x7fff_ffff - number)),
        "nested, the inner first" => {
            let inner = MANY - number;
            Selector::between(v4(inner, 0x7fff_ffff - inner), v4(inner, 0x7fff_ffff - inner))
        }
        "alike" => Selector::between(v4(5, 9), v4(5, 9)),
        "boxes anywhere" => {
            let mut range = || {
                let (first, size) = (draw(state, MANY), draw(state, MANY / 4));
                v4(first, first + size)
            };
            Selector::between(range(), range())
        }
        "ports of two hosts" => Selector {
            protocol: Some(protocol::TCP),
            remote_ports: PortRange::new(&(number as u16..=number as u16)),
            ..Selector::between(v4(1, 1), v4(2, 2))
        },
        _ => panic!("{shape}"),
    };
    (0..MANY).map(|number| Rule::new(selector(number, state), None, Action::Bypass)).collect()
}

const SHAPES: [&str; 7] = [
    "a network for each peer",
    "crossing stripes",
    "nested",
    "nested, the inner first",
    "alike",
    "boxes anywhere",
    "ports of two hosts",
];

/// T30: with very many rules, too; and memory is bounded whatever they are.
#[test]
fn t30_ten_thousand_rules_are_searched_exactly_and_in_bounded_memory() {
    for shape in SHAPES {
        let spd = Spd::new(many(shape));
        let (places, nodes) = spd.table.classifier.size();
        assert!(
            places <= 17 * MANY as usize + 64 && nodes <= 40 * MANY as usize,
            "{shape}: {places} {nodes}"
        );
        let state = &mut 3_u64;
        for _ in 0..300 {
            let rule = &spd.rules()[draw(state, MANY) as usize];
            // At the edges of some rule, or just beyond.
            let near = |range: &AddressRange, state: &mut u64| {
                let (first, last) = range.numbers();
                let number = if draw(state, 2) == 0 { first } else { last };
                let moved = number.wrapping_add(u128::from(draw(state, 3))).wrapping_sub(1);
                IpAddr::V4(Ipv4Addr::from_bits(moved as u32))
            };
            let (local, remote) = (near(&rule.selector.local, state), near(&rule.selector.remote, state));
            let port = draw(state, MANY) as u16;
            let flow = FlowKey::new(protocol::TCP, (local, 1).into(), (remote, port).into());
            assert_equal(&spd, &Traffic::of(&flow), Direction::Outbound);
        }
    }
}

/// The rules that a search looks at: for usual policies a few, however many there are.
#[test]
fn t30_ten_thousand_rules_cost_what_ten_do() {
    for shape in ["a network for each peer", "crossing stripes", "ports of two hosts", "alike"] {
        let spd = Spd::new(many(shape));
        let state = &mut 5_u64;
        for _ in 0..300 {
            let [local, remote] = [(); 2].map(|()| Ipv4Addr::from_bits(draw(state, MANY << 10)));
            let port = draw(state, 1 << 16) as u16;
            let flow = FlowKey::new(protocol::TCP, (local, 1).into(), (remote, port).into());
            let looked_at = spd.table.classifier.looked_at(&Traffic::of(&flow), Direction::Inbound);
            assert!(looked_at <= 16, "{shape}: {looked_at}");
        }
    }
}
