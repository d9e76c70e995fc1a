//! Reloads and restarts of the key manager while traffic flows: nothing is dropped, no latch moves (latching-04 2.1,
//! L-74, RFC 5660 section 2).

use std::time::Duration;

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::event::Event;
use latchway_datapath::lifetime::{Bounds, Limits};
use latchway_datapath::sad::{Path, Shape, Tfc, Usage};
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::spd::{Action, Protection, Rule};
use latchway_esp::EspHeader;
use latchway_keying::{Change, NewPair, PairId, PairView, RevisedPair};

use crate::rekey::exchange;
use crate::support::gateway::{Gateway, Host, Terms, keys, proposal};
use crate::support::net::{ALICE, BOB, Net, Tunnel, join, rekey};
use crate::{drops, no_drops, only, open, tcp};

/// T14, R-2: a reload that replaces the pair at both ends, first at one and then at the other.
#[test]
fn r_2_t14_a_reload_that_replaces_the_pair_drops_nothing_and_moves_no_latch() {
    let (mut net, terms) = (Net::new(Protection::LATCHED), Terms::default());
    let mut tunnel = join(&mut net.alice, &mut net.bob, &terms, net.now);
    open(&mut net);
    exchange(&mut net, 1);
    let before = latches(&net);
    for round in 0..4 {
        let seq = 1 + 10 * round;
        let under_way = net.alice.send(&tcp().data(seq, b"by the old SA"), net.now);
        let back = net.bob.send(&tcp().reversed().data(seq, b"and back"), net.now);
        // Bob receives by the new pair before alice sends by it.
        let next = rekey(&mut net.alice, &mut net.bob, tunnel, &terms, net.now);
        exchange(&mut net, seq + 1);
        let mut switches = [(ALICE, tunnel.0, next.0), (BOB, tunnel.1, next.1)];
        switches.rotate_left(round as usize % 2);
        for (host, old, new) in switches {
            let change = Change {
                rules: Some(rules(round)),
                activate: vec![new],
                remove: vec![old],
                ..Change::default()
            };
            apply(&mut net, host, change);
            exchange(&mut net, seq + 2);
        }
        assert_eq!(net.carry(under_way), only("bob", tcp().data(seq, b"by the old SA")));
        assert_eq!(net.carry(back), only("alice", tcp().reversed().data(seq, b"and back")));
        net.now = net.now + Duration::from_secs(10);
        for gateway in [&mut net.alice, &mut net.bob] {
            gateway.datapath.begin(net.now);
            assert_eq!(gateway.keying.poll(net.now).drained.len(), 1);
        }
        exchange(&mut net, seq + 3);
        tunnel = next;
    }
    assert_eq!(latches(&net), before);
    assert_eq!((net.alice.events(), net.bob.events()), (vec![], vec![]));
    no_drops(&net);
}

/// A peer that the reload does not speak of notices nothing of it, and what it adds is of the class that waits for it.
#[test]
fn r_2_a_reload_that_adds_a_pair_on_the_same_terms_serves_the_latches_that_are_there() {
    let (mut net, terms) = (Net::new(Protection::LATCHED), Terms::default());
    let old = join(&mut net.alice, &mut net.bob, &terms, net.now);
    open(&mut net);
    let before = latches(&net);
    let (spi, other_spi) = (net.alice.draw_spi(), net.bob.draw_spi());
    for (host, peer, inbound, outbound) in [(BOB, ALICE, other_spi, spi), (ALICE, BOB, spi, other_spi)] {
        let pair =
            NewPair { proposal: proposal(host, peer, &terms), keys: keys(&terms, inbound, outbound, peer) };
        let leaving = if host == ALICE { old.0 } else { old.1 };
        // Bob goes on receiving by the old pair, by which alice sends until she has the new one.
        apply(&mut net, host, Change { add: vec![pair], remove: vec![leaving], ..Change::default() });
        if host == ALICE {
            exchange(&mut net, 1);
        }
    }
    assert_eq!(latches(&net), before);
    let alice = net.alice.keying.pairs();
    assert_eq!((alice[0].usage, alice[1].usage), (Usage::Retired, Usage::Active));
    assert_eq!(alice[0].class, alice[1].class);
    no_drops(&net);
}

/// T14, C-17: a reload that revises the pair at both ends, one after the other: SPIs, numbers, windows and latches go on, and
/// packets are what is said of them now.
#[test]
fn t14_c_17_a_reload_that_revises_a_pair_goes_on_with_its_numbers_window_and_latches() {
    let (mut net, terms) = (Net::new(Protection::LATCHED), Terms::default());
    let tunnel = join(&mut net.alice, &mut net.bob, &terms, net.now);
    open(&mut net);
    exchange(&mut net, 1);
    let (before, pair) = (latches(&net), net.alice.pair(tunnel.0));
    for round in 0..4 {
        let seq = 1 + 10 * round;
        let sealed = net.alice.send(&tcp().data(seq, b"as before"), net.now);
        let last = EspHeader::parse(&sealed[0].octets).unwrap();
        assert_eq!(net.carry(sealed.clone()), only("bob", tcp().data(seq, b"as before")));
        let tfc = if round % 2 == 0 { Tfc::Multiple(512) } else { Tfc::None };
        let mut ends = [(ALICE, tunnel.0), (BOB, tunnel.1)];
        ends.rotate_left(round as usize % 2);
        for (host, pair) in ends {
            let PairView { path, follow, .. } = net.gateway(host).pair(pair);
            let packets = |packets| Bounds { packets: Some(packets), ..Bounds::default() };
            let limits = Limits::new(packets(1000 + u64::from(round)), packets(2000)).unwrap();
            let shape = Shape { tfc, ..Shape::default() };
            let path = Path { mtu: 1400 + round as u16, ..path };
            let revise = vec![RevisedPair { pair, path, shape, follow, limits }];
            apply(&mut net, host, Change { rules: Some(rules(round)), revise, ..Change::default() });
            exchange(&mut net, seq + 1);
        }
        let next = net.alice.send(&tcp().data(seq + 2, b"as said now"), net.now);
        let header = EspHeader::parse(&next[0].octets).unwrap();
        // Two flows went each way after each revision.
        assert_eq!((header.spi, header.seq.0), (last.spi, last.seq.0 + 5));
        assert_eq!(next[0].octets.len() > 512, round % 2 == 0);
        assert_eq!(net.carry(next), only("bob", tcp().data(seq + 2, b"as said now")));
        assert_eq!(net.carry(sealed), [], "the window goes on, too");
        drops(&net.bob, Direction::Inbound, DropReason::Replayed, u64::from(round) + 1);
    }
    let after = net.alice.pair(tunnel.0);
    assert_eq!((after.outbound.sa, after.inbound.sa), (pair.outbound.sa, pair.inbound.sa));
    assert!(after.outbound.packets > pair.outbound.packets);
    assert_eq!(latches(&net), before);
    assert_eq!((net.alice.events(), net.bob.events()), (vec![], vec![]));
}

/// RFC 4301 4.4.2.1: limits that are revised count what was used, and the soft one is told anew.
#[test]
fn rfc_4301_4_4_2_1_revised_limits_count_what_was_used_and_are_told_anew() {
    let packets = |packets| Bounds { packets: Some(packets), ..Bounds::default() };
    let limits = |soft, hard| Limits::new(packets(soft), packets(hard)).unwrap();
    let terms = Terms { limits: limits(2, 100), ..Terms::default() };
    let mut net = Net::new(Protection::LATCHED);
    let tunnel = join(&mut net.alice, &mut net.bob, &terms, net.now);
    open(&mut net);
    let soft = |net: &Net| net.alice.pair(tunnel.0).outbound.soft_expired;
    net.alice.datapath.begin(net.now);
    assert!(soft(&net) && !net.alice.events().is_empty());
    let revise = |net: &mut Net, limits| {
        let PairView { path, shape, follow, .. } = net.alice.pair(tunnel.0);
        let revise = vec![RevisedPair { pair: tunnel.0, path, shape, follow, limits }];
        apply(net, ALICE, Change { revise, ..Change::default() });
    };
    revise(&mut net, limits(4, 5));
    assert!(!soft(&net), "it is further than that");
    assert_eq!(net.alice.events(), []);
    for (seq, passes) in [(1, true), (2, true), (3, true), (4, false)] {
        assert_eq!(net.send(ALICE, &tcp().data(seq, b"one more")).len(), usize::from(passes), "{seq}");
        net.alice.datapath.begin(net.now);
        assert_eq!(soft(&net), seq >= 2, "{seq}");
    }
    let told = net.alice.events();
    assert!(matches!(told[..], [Event::SoftExpired { .. }, Event::HardExpired { .. }]), "{told:?}");
}

/// RFC 4303 3.4.3: numbers that were passed are lost until their packets come.
#[test]
fn rfc_4303_3_4_3_what_was_passed_unreceived_is_shown_until_it_comes() {
    let mut net = Net::new(Protection::LATCHED);
    let tunnel = join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    open(&mut net);
    let lost = |net: &Net| net.bob.pair(tunnel.1).inbound.lost;
    assert_eq!((lost(&net), net.bob.pair(tunnel.1).outbound.lost), (Some(0), None));
    let late = net.alice.send(&tcp().data(1, b"late"), net.now);
    net.alice.send(&tcp().data(2, b"never"), net.now);
    net.send(ALICE, &tcp().data(3, b"on time"));
    assert_eq!(lost(&net), Some(2));
    assert_eq!(net.carry(late).len(), 1);
    assert_eq!(lost(&net), Some(1));
}

/// Latching-04 2.1: whatever the key manager was about, it goes on with, and no worker and no latch sees anything.
#[test]
fn a_key_manager_that_is_rebuilt_in_mid_traffic_drops_nothing_and_moves_no_latch() {
    let (mut net, terms) = (Net::new(Protection::LATCHED), Terms::default());
    let mut tunnel = join(&mut net.alice, &mut net.bob, &terms, net.now);
    open(&mut net);
    exchange(&mut net, 1);
    let (before, class) = (latches(&net), net.alice.pair(tunnel.0).class);
    let mut spis = vec![];
    for round in 0..6 {
        let seq = 1 + 10 * round;
        rebuild(&mut net, seq);
        let next = half_way(&mut net, tunnel, &terms, seq);
        for (host, old, new) in [(BOB, tunnel.1, next.1), (ALICE, tunnel.0, next.0)] {
            let change = Change { activate: vec![new], remove: vec![old], ..Change::default() };
            let now = net.now;
            net.gateway(host).keying.begin_change(change, now).unwrap();
            rebuild(&mut net, seq + 4);
            net.gateway(host).datapath.begin(now);
            assert!(net.gateway(host).keying.poll(now).changed.is_some(), "the change is not forgotten");
            exchange(&mut net, seq + 5);
        }
        // On its way out, it is rebuilt, too.
        rebuild(&mut net, seq + 6);
        net.now = net.now + Duration::from_secs(10);
        let now = net.now;
        for gateway in [&mut net.alice, &mut net.bob] {
            gateway.datapath.begin(now);
            assert_eq!(gateway.keying.poll(now).drained.len(), 1);
        }
        tunnel = next;
        spis.push(net.alice.pair(tunnel.0).inbound.spi);
        assert_eq!(net.alice.pair(tunnel.0).class, class);
    }
    assert_eq!(latches(&net), before);
    spis.dedup();
    assert_eq!(spis.len(), 6);
    no_drops(&net);
}

/// A successor at both ends, with the key managers rebuilt while it is pending.
fn half_way(net: &mut Net, old: Tunnel, terms: &Terms, seq: u32) -> Tunnel {
    let (spi, other_spi, now) = (net.alice.draw_spi(), net.bob.draw_spi(), net.now);
    let mut renew = |host: Host, old: PairId, inbound, outbound| {
        let peer = if host == ALICE { BOB } else { ALICE };
        net.gateway(host).keying.rekey(old, keys(terms, inbound, outbound, peer), now).unwrap()
    };
    let there = renew(ALICE, old.0, spi, other_spi);
    let next = Tunnel(there, renew(BOB, old.1, other_spi, spi));
    rebuild(net, seq + 2);
    assert_eq!((net.alice.settle(now), net.bob.settle(now)), (vec![next.0], vec![next.1]));
    assert_eq!(net.alice.pair(next.0).usage, Usage::Standby, "as its keys asked before");
    exchange(net, seq + 3);
    next
}

/// Both key managers start anew from what is published, and traffic goes on.
fn rebuild(net: &mut Net, seq: u32) {
    let shown =
        |gateway: &Gateway| (gateway.keying.pairs(), gateway.keying.counts(), gateway.keying.policy());
    let before = (shown(&net.alice), shown(&net.bob));
    let snapshots = [net.alice.keying.snapshot().id, net.bob.keying.snapshot().id];
    net.alice.keying.recover(net.now);
    net.bob.keying.recover(net.now);
    assert_eq!((shown(&net.alice), shown(&net.bob)), before);
    assert_eq!(
        [net.alice.keying.snapshot().id, net.bob.keying.snapshot().id],
        snapshots,
        "nothing is published"
    );
    exchange(net, seq);
}

/// Carries a change out at one gateway, whose worker meets it with its next batch.
fn apply(net: &mut Net, at: Host, change: Change) {
    let now = net.now;
    let gateway = net.gateway(at);
    gateway.keying.begin_change(change, now).unwrap();
    gateway.datapath.begin(now);
    assert!(gateway.keying.poll(now).changed.is_some());
    gateway.datapath.begin(now);
}

/// Policy that differs from round to round, and protects all the same.
fn rules(round: u32) -> Vec<Rule> {
    let elsewhere = AddressRange::single([10, 77, 0, round as u8].into());
    let other = Selector::between(AddressRange::ANY_V4, elsewhere);
    let discard = Rule::new(other, None, Action::Discard);
    let protect = [AddressRange::ANY_V4, AddressRange::ANY_V6].map(|any| {
        let selector = Selector::between(any, any);
        Rule::new(selector, None, Action::Protect(Protection::LATCHED))
    });
    std::iter::once(discard).chain(protect).collect()
}

/// All that must not be touched.
fn latches(net: &Net) -> Vec<impl PartialEq + std::fmt::Debug + use<>> {
    let ours = net.alice.latch(tcp()).unwrap();
    let theirs = net.bob.latch(tcp().reversed()).unwrap();
    [ours, theirs].map(|latch| (latch.id, latch.state, latch.class, latch.changed_at, latch.opened)).into()
}
