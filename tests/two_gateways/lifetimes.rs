//! What ends with time: SAs, and latches (RFC 4301 section 4.4.2.1, latching-04 section 2, L-104).

use std::time::Duration;

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::event::Event;
use latchway_datapath::lifetime::{Bounds, Limits};
use latchway_datapath::spd::Protection;
use latchway_keying::Op;
use latchway_ulp_shim::LatchState;

use crate::support::at;
use crate::support::gateway::Terms;
use crate::support::net::{ALICE, BOB, Net, Tunnel, join};
use crate::{drops, only, open, tcp, udp};

/// A hard limit alone.
fn hard(bounds: Bounds) -> Limits {
    Limits::new(Bounds::default(), bounds).unwrap()
}

/// Of so many milliseconds.
fn time(millis: u64) -> Bounds {
    Bounds { time: Some(Duration::from_millis(millis)), ..Bounds::default() }
}

/// An open connection under SAs with these limits.
fn connected(limits: Limits) -> (Net, Tunnel) {
    let mut net = Net::new(Protection::LATCHED);
    let terms = Terms { limits, ..Terms::default() };
    let tunnel = join(&mut net.alice, &mut net.bob, &terms, net.now);
    open(&mut net);
    (net, tunnel)
}

/// L-24, T13: a latched flow without a live SA sends nothing, least of all in the clear. L-38: nor does it lose its
/// latch by that; L-60, L-93: one SA is asked for, of the latch's class; L-61: again by a later packet. When one comes, traffic goes on.
#[test]
fn l_24_l_38_l_60_t13_expiry_stops_a_latched_flow_until_a_congruent_sa_comes() {
    let (mut net, tunnel) = connected(hard(time(1000)));
    let before = net.alice.latch(tcp()).unwrap();
    let pair = net.alice.pair(tunnel.0);
    let under_way = net.bob.send(&tcp().reversed().data(1, b"late"), net.now);
    net.now = at(1000);
    let data = tcp().data(1, b"patience");
    for _ in 0..3 {
        assert_eq!(net.send(ALICE, &data), []);
    }
    assert_eq!(net.carry(under_way), []);
    let expired = [(pair.inbound.sa, Direction::Inbound), (pair.outbound.sa, Direction::Outbound)];
    let mut expected: Vec<_> = expired.map(|(sa, direction)| Event::HardExpired { sa, direction }).into();
    expected.push(Event::Acquire { flow: tcp().key(), required: before.class });
    assert_eq!(net.alice.events(), expected);
    let dropped = |direction, count| (direction, DropReason::HardExpired, count);
    assert_eq!(net.alice.drops(), [dropped(Direction::Inbound, 1), dropped(Direction::Outbound, 3)]);

    // Without the expired pair there is as little to send by.
    net.alice.commit(vec![Op::Remove(tunnel.0)], net.now);
    net.now = at(1999);
    assert_eq!(net.send(ALICE, &data), []);
    assert_eq!(net.alice.events(), [], "asked a moment ago");
    net.now = at(2000);
    assert_eq!(net.send(ALICE, &data), []);
    assert_eq!(net.alice.events(), [Event::Acquire { flow: tcp().key(), required: before.class }]);

    net.bob.events();
    net.bob.commit(vec![Op::Remove(tunnel.1)], net.now);
    let fresh = join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    assert_eq!(net.alice.pair(fresh.0).class, before.class.unwrap());
    assert_eq!(net.send(ALICE, &data), only("bob", data));
    let answer = tcp().reversed().data(1, b"here I am");
    assert_eq!(net.send(BOB, &answer), only("alice", answer));
    let latch = net.alice.latch(tcp()).unwrap();
    assert_eq!((latch.id, latch.state, latch.changed_at), (before.id, before.state, before.changed_at));
}

/// RFC 4301 4.4.2.1: the last packet that the limit allows passes, and not one more, at whichever end counts first.
#[test]
fn rfc_4301_4_4_2_1_limits_by_packets_and_octets_end_an_sa_at_the_packet() {
    // Two segments that open the connection, and three of 44 octets; of octets, one too few for the third.
    for (limits, passing) in [
        (Bounds { packets: Some(5), ..Bounds::default() }, 3),
        (Bounds { octets: Some(2 * 40 + 3 * 44 - 1), ..Bounds::default() }, 2),
    ] {
        let (mut net, tunnel) = connected(hard(limits));
        let sa = net.alice.pair(tunnel.0).outbound.sa;
        let arrived = (0..5).filter(|&n| !net.send(ALICE, &tcp().data(1 + 4 * n, b"four")).is_empty());
        assert_eq!(arrived.collect::<Vec<_>>(), Vec::from_iter(0..passing));
        drops(&net.alice, Direction::Outbound, DropReason::HardExpired, 5 - u64::from(passing));
        let told = Event::HardExpired { sa, direction: Direction::Outbound };
        assert_eq!(net.alice.events().iter().filter(|event| **event == told).count(), 1);
        assert_eq!(net.bob.drops(), []);
    }
}

/// T36, RFC 4301 4.4.2.1: the soft limit is told of once for each SA and stops nothing; then the hard one, once.
#[test]
fn t36_soft_limits_are_told_of_once_for_each_sa_and_stop_nothing() {
    let packets = |count| Bounds { packets: Some(count), ..Bounds::default() };
    // Of packets, bob sends alice as many as either of them may use, and not one that would end her SA.
    for (soft, hard, ended) in [(packets(4), packets(40), [0, 1]), (time(100), time(1000), [1, 1])] {
        let (mut net, tunnel) = connected(Limits::new(soft, hard).unwrap());
        let pair = net.alice.pair(tunnel.0);
        let sas = [(pair.inbound.sa, Direction::Inbound), (pair.outbound.sa, Direction::Outbound)];
        let mut told = Vec::new();
        for n in 0..60 {
            net.now = at(10 * (n + 1));
            let answer = tcp().reversed().data(1 + 4 * n as u32, b"four");
            let data = tcp().data(1 + 4 * n as u32, b"four");
            let passed = [net.send(BOB, &answer), net.send(ALICE, &data)].concat().len();
            net.alice.settle(net.now);
            let events = net.alice.events();
            let is_hard = |event: &&Event| matches!(event, Event::HardExpired { .. });
            assert_eq!(
                passed == 2,
                told.iter().chain(&events).filter(is_hard).count() == 0,
                "{n}: {events:?}"
            );
            told.extend(events);
        }
        net.now = at(1000);
        net.alice.settle(net.now);
        told.extend(net.alice.events());
        for ((sa, direction), ended) in sas.into_iter().zip(ended) {
            let of = |event: &&Event| **event == Event::SoftExpired { sa, direction };
            assert_eq!(told.iter().filter(of).count(), 1, "{told:?}");
            let of = |event: &&Event| **event == Event::HardExpired { sa, direction };
            assert_eq!(told.iter().filter(of).count(), ended, "{told:?}");
        }
    }
}

/// An SA that expires by time is mourned though nothing is sent by it, once.
#[test]
fn rfc_4301_4_4_2_1_an_idle_sa_expires_too() {
    let (mut net, tunnel) = connected(hard(time(1000)));
    net.alice.settle(at(999));
    assert_eq!(net.alice.events(), []);
    for _ in 0..2 {
        net.alice.settle(at(1000));
    }
    assert_eq!(net.alice.events().len(), 2);
    let pair = net.alice.pair(tunnel.0);
    assert!(pair.inbound.expired && pair.outbound.expired);
}

/// L-104, RFC 5382 and RFC 4787 REQ-5: a latch is remembered as long as its connection may live, and no longer.
#[test]
fn l_104_latches_of_silent_flows_are_forgotten_in_their_time() {
    let (mut net, _) = connected(Limits::default());
    assert_eq!(net.send(ALICE, &udp().datagram(b"query")).len(), 1);
    let half_open = crate::support::packet::Flow::tcp("10.0.1.10:40001", "10.0.2.20:80");
    assert_eq!(net.send(ALICE, &half_open.syn()).len(), 1);
    let limits = *net.alice.database.limits();
    let second = Duration::from_secs(1);
    for (flow, idle) in
        [(half_open, limits.tcp_transitory), (udp(), limits.udp), (tcp(), limits.tcp_established)]
    {
        sweep(&mut net, idle - second);
        assert_eq!(net.alice.latch(flow).map(|latch| latch.state), Some(LatchState::Established), "{flow:?}");
        sweep(&mut net, idle);
        if idle == limits.tcp_established {
            // Whether a socket has the connection yet is asked first; nobody answers.
            sweep(&mut net, idle + Duration::from_secs(60));
        }
        assert_eq!(net.alice.latch(flow), None, "{flow:?}");
    }
    // What comes of the forgotten connection later does not begin it anew.
    assert_eq!(net.send(ALICE, &tcp().data(1, b"still there?")), []);
    drops(&net.alice, Direction::Outbound, DropReason::MidStream, 1);
}

/// Batches from `idle` after the start on, for long enough to look at every latch.
fn sweep(net: &mut Net, idle: Duration) {
    for millis in 0..100 {
        net.now = at(millis) + idle;
        net.alice.datapath.begin(net.now);
        net.alice.datapath.end();
    }
}
