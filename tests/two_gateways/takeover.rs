//! Another peer, or other protection, on the 5-tuple of a latched connection (latching-04 sections 2.2 and 2.4).

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::event::Event;
use latchway_datapath::spd::Protection;
use latchway_esp::Suite;
use latchway_ulp_shim::{BreakReason, LatchState, resets};

use crate::support::gateway::{Gateway, Terms};
use crate::support::net::{ALICE, BOB, MALLORY, Net, Tunnel, join};
use crate::support::packet::Flow;
use crate::{drops, no_drops, only, tcp};

/// Alice's SAs with bob and with mallory, and a connection between alice's host and bob's.
fn connected(protection: Protection) -> (Net, Tunnel, Tunnel) {
    let mut net = Net::new(protection);
    let bob = join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    accept(&mut net);
    let mallory = join(&mut net.alice, &mut net.mallory, &Terms::default(), net.now);
    (net, bob, mallory)
}

/// Bob's host begins a connection, and alice's accepts it.
fn accept(net: &mut Net) {
    let (syn, answer) = (tcp().reversed().syn(), tcp().syn_ack());
    assert_eq!(net.send(BOB, &syn), only("alice", syn));
    assert_eq!(net.send(ALICE, &answer), only("bob", answer));
}

/// L-106: mallory's SYN does not match bob's latch. L-100, L-109: nothing of it is delivered, bob is taken to be gone,
/// and whoever must end the connection is told once.
#[test]
fn l_100_l_106_l_109_a_packet_of_another_peer_breaks_the_latch_and_is_not_delivered() {
    let (mut net, bob, mallory) = connected(Protection::LATCHED_BY_TAG);
    let before = net.alice.latch(tcp()).unwrap();
    assert_eq!((before.state, before.class), (LatchState::Established, Some(net.alice.pair(bob.0).class)));
    assert_eq!(net.send(MALLORY, &tcp().reversed().syn()), []);
    drops(&net.alice, Direction::Inbound, DropReason::LatchMismatch, 1);
    let latch = net.alice.latch(tcp()).unwrap();
    assert_eq!((latch.id, latch.class), (before.id, before.class));
    assert_eq!((latch.state, latch.reason), (LatchState::Broken, Some(BreakReason::OtherPeer)));
    assert!(latch.changed_at > before.changed_at);
    let offender = latch.offender.unwrap();
    let pair = net.alice.pair(mallory.0);
    assert_eq!((offender.class, offender.sa), (pair.class, Some(pair.inbound.sa)));
    let (latch, flow, reason) = (latch.id, tcp().key(), BreakReason::OtherPeer);
    let told = Event::LatchBroken { latch, flow, latched: before.class, reason, offender: Some(offender) };
    assert_eq!(net.alice.events(), [told]);
    // nothing passes a broken latch, either way, from whomever; and nobody is told again.
    assert_eq!(net.send(MALLORY, &tcp().reversed().data(1, b"psst")), []);
    assert_eq!(net.send(BOB, &tcp().reversed().data(1, b"what happened")), []);
    assert_eq!(net.send(ALICE, &tcp().syn_ack()), []);
    net.alice.datapath.end();
    assert_eq!(net.alice.events(), []);
    let expected = [
        (Direction::Inbound, DropReason::LatchMismatch, 1),
        (Direction::Inbound, DropReason::LatchBroken, 2),
        (Direction::Outbound, DropReason::LatchBroken, 1),
    ];
    assert_eq!(net.alice.drops(), expected);
}

/// L-99, D.5: what ends bob's connection goes to bob under his SA. Where he has none any more nothing leaves, though
/// mallory's SA admits the very same flow.
#[test]
fn l_99_the_newcomers_sa_carries_nothing_of_the_connection_that_it_broke() {
    let (mut net, bob, mallory) = connected(Protection::LATCHED_BY_TAG);
    assert_eq!(net.send(MALLORY, &tcp().reversed().syn()), []);
    let latch = net.alice.latch(tcp()).unwrap();
    assert_eq!(latch.state, LatchState::Broken);
    let resets = resets(&net.alice.database, latch.id).unwrap();
    let (to_bob, class) = resets.to_remote.unwrap();
    assert_eq!(class, net.alice.pair(bob.0).class);
    let sent = |net: &mut Net| {
        net.alice.datapath.begin(net.now);
        net.alice.batch.clear();
        net.alice.datapath.send_under(class, to_bob.octets(), &mut net.alice.batch);
        let runs = net.alice.batch.runs();
        runs.map(|run| (run.to, run.len())).collect::<Vec<_>>()
    };
    let before = net.alice.pair(mallory.0).outbound.packets;
    assert_eq!(sent(&mut net), [(BOB.address(), 1)]);
    // what bob says is answered, to bob; what mallory says is not.
    assert_eq!(net.send(BOB, &tcp().reversed().data(1, b"what happened")), []);
    net.alice.batch.clear();
    assert!(net.alice.datapath.reply(&mut net.alice.batch));
    assert!(net.alice.batch.runs().all(|run| run.to == BOB.address()));
    assert_eq!(net.send(MALLORY, &tcp().reversed().data(1, b"psst")), []);
    assert!(!net.alice.datapath.reply(&mut net.alice.batch));
    net.alice.commit(vec![latchway_keying::Op::Remove(bob.0)], net.now);
    assert_eq!(sent(&mut net), []);
    assert_eq!(net.alice.pair(mallory.0).outbound.packets, before);
}

/// The connection is the latch's business, the peer is not: what mallory begins herself is hers.
#[test]
fn l_107_another_connection_of_the_other_peer_is_none_of_the_latchs_business() {
    let (mut net, bob, mallory) = connected(Protection::LATCHED_BY_TAG);
    let hers = Flow::tcp("10.0.2.20:80", "10.0.1.10:40001");
    assert_eq!(net.send(MALLORY, &hers.syn()), only("alice", hers.syn()));
    let classes = [tcp(), hers.reversed()].map(|flow| net.alice.latch(flow).unwrap().class);
    assert_eq!(classes, [bob, mallory].map(|tunnel| Some(net.alice.pair(tunnel.0).class)));
    // L-99: each answer goes to the peer that its connection began with.
    for (packet, peer) in [(tcp().data(1, b"hello"), "bob"), (hers.reversed().syn_ack(), "mallory")] {
        assert_eq!(net.send(ALICE, &packet), only(peer, packet));
    }
    no_drops(&net);
}

/// what latching is for is seen where it is off.
#[test]
fn r_4_without_latching_the_other_peer_is_let_in() {
    let (mut net, _, _) = connected(Protection::UNLATCHED);
    let hijack = tcp().reversed().data(1, b"psst");
    assert_eq!(net.send(MALLORY, &hijack), only("alice", hijack));
    assert_eq!(net.alice.events(), []);
    no_drops(&net);
}

/// C-19: the same peer with other protection is dropped, and no more than that.
#[test]
fn c_19_other_protection_of_the_same_peer_is_dropped_and_the_latch_unchanged() {
    let mut net = Net::new(Protection::LATCHED_BY_TAG);
    // A peer that does not keep its side of the connection to the protection that it began with.
    net.bob = Gateway::new(BOB, &[ALICE], Protection::UNLATCHED);
    join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    accept(&mut net);
    let before = net.alice.latch(tcp()).unwrap();
    let other = Terms { suite: Suite::AES_256_GCM, ..Terms::default() };
    let second = join(&mut net.alice, &mut net.bob, &other, net.now);
    let data = tcp().reversed().data(1, b"one");
    assert_eq!(net.send(BOB, &data), []);
    drops(&net.alice, Direction::Inbound, DropReason::LatchMismatch, 1);
    assert_eq!((net.alice.latch(tcp()), net.alice.events()), (Some(before), vec![]));
    // Back under the class of the latch, the connection goes on.
    net.bob.commit(vec![latchway_keying::Op::Remove(second.1)], net.now);
    assert_eq!(net.send(BOB, &data), only("alice", data));
    drops(&net.alice, Direction::Inbound, DropReason::LatchMismatch, 1);
}
