//! Connections are latched by their first packet, at both ends, and held to that (latching-04 sections 2 and 2.2).

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::latching::{LatchTerms, OnPolicyChange};
use latchway_datapath::spd::{Action, Latching, Protection};
use latchway_esp::{EspHeader, Suite};
use latchway_tagging::ClassId;
use latchway_ulp_shim::{LatchState, LatchView, Progress};

use crate::support::gateway::Terms;
use crate::support::net::{ALICE, BOB, MALLORY, Net, join};
use crate::support::packet::{Flow, Segment, with_header};
use crate::support::wire::Datagram;
use crate::{drops, no_drops, only, open, tcp, udp};

/// L-15: nobody asks for the latch. L-4, L-95, L-96: the side that begins asks for feedback and records the class. L-5, L-97:
/// the other side records it from the tag. L-98: what comes later passes under it, and only so.
#[test]
fn l_4_l_5_l_95_to_l_98_the_first_packet_latches_both_ends() {
    let mut net = Net::new(Protection::LATCHED);
    let tunnel = join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    for (flow, first) in [(tcp(), tcp().syn()), (udp(), udp().datagram(b"who is there"))] {
        let back = flow.reversed();
        assert_eq!((net.alice.latch(flow), net.bob.latch(back)), (None, None));
        assert_eq!(net.send(ALICE, &first), only("bob", first));
        let (ours, theirs) = (net.alice.latch(flow).unwrap(), net.bob.latch(back).unwrap());
        assert_eq!((ours.state, theirs.state), (LatchState::Established, LatchState::Established));
        assert_eq!((ours.progress, theirs.progress), (Progress::LocalOnly, Progress::RemoteOnly));
        assert_eq!(ours.class, Some(net.alice.pair(tunnel.0).class));
        let pair = net.bob.pair(tunnel.1);
        assert_eq!((theirs.class, theirs.last_inbound.unwrap().sa), (Some(pair.class), pair.inbound.sa));
        assert_eq!(ours.last_inbound, None);
    }
    let (answer, reply) = (tcp().reversed().syn_ack(), udp().reversed().datagram(b"it is bob"));
    let third = tcp().data(1, b"");
    assert_eq!(net.send(BOB, &answer), only("alice", answer));
    assert_eq!(net.send(ALICE, &third), only("bob", third));
    assert_eq!(net.send(BOB, &reply), only("alice", reply));
    for flow in [tcp(), udp()] {
        let latch = net.alice.latch(flow).unwrap();
        assert_eq!(latch.progress, Progress::Both);
        assert_eq!(latch.last_inbound.unwrap().sa, net.alice.pair(tunnel.0).inbound.sa);
    }
    no_drops(&net);
}

/// L-99: data, retransmissions, pure acknowledgments, FIN and RST carry the latched class, though a newer SA of another
/// class would serve. A flow that begins now is latched to that one.
#[test]
fn l_99_every_outbound_packet_of_a_latched_flow_carries_its_class() {
    let mut net = Net::new(Protection::LATCHED_BY_TAG);
    let first = join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    open(&mut net);
    let better = Terms { suite: Suite::CHACHA20_POLY1305, ..Terms::default() };
    let second = join(&mut net.alice, &mut net.bob, &better, net.now);
    let (old, new) = (net.alice.pair(first.0), net.alice.pair(second.0));
    assert_ne!(old.class, new.class);
    let ack = Segment { seq: 1, ack: Some(1), ..Segment::default() };
    for segment in [
        Segment { payload: b"data", ..ack },
        Segment { payload: b"data", ..ack },
        ack,
        Segment { seq: 5, fin: true, ..ack },
        Segment { seq: 6, rst: true, ..ack },
    ] {
        let packet = tcp().segment(segment);
        let datagrams = net.alice.send(&packet, net.now);
        assert_eq!(spis(&datagrams), [old.outbound.spi.get()], "{segment:?}");
        assert_eq!(net.carry(datagrams), only("bob", packet));
    }
    let later = Flow::tcp("10.0.1.10:40001", "10.0.2.20:80");
    assert_eq!(spis(&net.alice.send(&later.syn(), net.now)), [new.outbound.spi.get()]);
    no_drops(&net);
}

/// L-26, T37 c: nothing in the clear reaches a latched flow, though the policy is BYPASS by now. L-24: nor does it make
/// anything leave in the clear. C-19: the latch is none the worse for it, since anyone can forge such a packet.
#[test]
fn l_24_l_26_l_77_policy_turned_bypass_opens_nothing_to_a_latched_flow() {
    let preserved = LatchTerms { on_policy_change: OnPolicyChange::Preserve, ..LatchTerms::default() };
    let mut net = Net::new(Protection { latching: Latching::On(preserved), ..Protection::LATCHED });
    join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    open(&mut net);
    let before = net.alice.latch(tcp()).unwrap();
    net.alice.set_policy(&[(BOB, Action::Bypass)], net.now);
    let forged = tcp().reversed().data(1, b"trust me");
    assert!(!net.alice.receive_unprotected(&forged, net.now));
    drops(&net.alice, Direction::Inbound, DropReason::LatchUnprotected, 1);
    assert!(net.alice.receive_unprotected(&Flow::tcp("10.0.2.20:1", "10.0.1.10:2").syn(), net.now));
    let data = tcp().data(1, b"still protected");
    assert_eq!(net.send(ALICE, &data), only("bob", data));
    let answer = tcp().reversed().data(1, b"and so is this");
    assert_eq!(net.send(BOB, &answer), only("alice", answer));
    let after = net.alice.latch(tcp()).unwrap();
    let kept = |latch: LatchView| (latch.id, latch.state, latch.class, latch.changed_at, latch.reason);
    assert_eq!(kept(after), kept(before));
    assert_eq!(net.alice.events(), []);
    drops(&net.alice, Direction::Inbound, DropReason::LatchUnprotected, 1);
}

/// L-71, L-37: a LARVAL latch comes into force by its own terms, and not by those that the rule has meanwhile: a strict
/// one not beside SAs of two peers, though the rule latches by tag now.
#[test]
fn l_71_l_37_a_larval_latch_is_barred_by_the_terms_it_was_born_with() {
    let mut net = Net::new(Protection::LATCHED);
    assert_eq!(net.send(ALICE, &tcp().syn()), vec![]);
    assert_eq!(net.alice.latch(tcp()).map(|latch| latch.state), Some(LatchState::Larval));
    let by_tag = Action::Protect(Protection::LATCHED_BY_TAG);
    net.alice.set_policy(&[(BOB, by_tag), (MALLORY, by_tag)], net.now);
    join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    join(&mut net.alice, &mut net.mallory, &Terms::default(), net.now);
    assert_eq!(net.send(ALICE, &tcp().syn()), vec![]);
    let latch = net.alice.latch(tcp()).unwrap();
    assert_eq!((latch.state, latch.class, latch.terms), (LatchState::Larval, None, LatchTerms::default()));
    let later = Flow::tcp("10.0.1.10:40001", "10.0.2.20:80");
    assert_eq!(net.alice.send(&later.syn(), net.now).len(), 1, "and a new one is latched by tag");
}

/// L-92: given the same keys and numbers, what leaves with latching is octet for octet what leaves without.
#[test]
fn l_92_tags_never_appear_on_the_wire() {
    let [latched, unlatched] = [Protection::LATCHED, Protection::UNLATCHED].map(everything_sent);
    assert_eq!(latched.len(), 4 + 20 + 20);
    assert!(latched == unlatched);
    let tagged = |datagram: &Datagram| datagram.octets.windows(4).any(|octets| octets == b"data");
    assert!(!latched.iter().any(tagged), "sealed");
}

/// What alice and bob send each other, in several suites and sizes.
fn everything_sent(protection: Protection) -> Vec<Datagram> {
    let mut net = Net::new(protection);
    let mut sent = Vec::new();
    join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    let back = tcp().reversed();
    for (from, packet) in [
        (ALICE, tcp().syn()),
        (BOB, back.syn_ack()),
        (ALICE, udp().datagram(b"data")),
        (BOB, udp().reversed().datagram(b"data")),
    ] {
        let datagrams = net.seal(from, &mut with_header(&packet));
        sent.extend(datagrams.iter().cloned());
        net.carry(datagrams);
    }
    for seq in [1, 30_000] {
        let datagrams = net.alice.send_super_packet(&mut tcp().super_packet(seq, 20, 1348), net.now);
        sent.extend(datagrams.iter().cloned());
        assert_eq!(net.carry(datagrams).len(), 20);
    }
    no_drops(&net);
    assert_eq!(net.alice.latch(tcp()).is_some(), protection == Protection::LATCHED);
    sent
}

/// Where latching is off, and only there, a connection may change its protection: as a check on the tests above.
#[test]
fn r_4_an_unlatched_connection_goes_by_the_newest_sa() {
    let mut net = Net::new(Protection::UNLATCHED);
    let mut classes = Vec::<ClassId>::new();
    for suite in Suite::RECOMMENDED {
        let tunnel = join(&mut net.alice, &mut net.bob, &Terms { suite, ..Terms::default() }, net.now);
        let datagrams = net.alice.send(&tcp().data(1, b"hello"), net.now);
        let pair = net.alice.pair(tunnel.0);
        assert_eq!(spis(&datagrams), [pair.outbound.spi.get()]);
        assert_eq!(net.carry(datagrams), only("bob", tcp().data(1, b"hello")));
        classes.push(pair.class);
    }
    classes.dedup();
    assert_eq!(classes.len(), Suite::RECOMMENDED.len());
    assert_eq!((net.alice.latch(tcp()), net.bob.latch(tcp().reversed())), (None, None));
    no_drops(&net);
}

fn spis(datagrams: &[Datagram]) -> Vec<u32> {
    datagrams.iter().map(|datagram| EspHeader::parse(&datagram.octets).unwrap().spi.get()).collect()
}
