//! Who may see what when: pending SAs, versions of latches, slots that are used again (latching-04 section 2.1).

use std::time::Duration;

use latchway_datapath::arrival::Arrival;
use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::sad::Usage;
use latchway_datapath::spd::Protection;
use latchway_esp::Suite;
use latchway_keying::Op;
use latchway_ulp_shim::{BreakReason, LatchState};

use crate::support::gateway::{Terms, keys};
use crate::support::net::{ALICE, BOB, Net, join};
use crate::{drops, only, open, tcp};

/// L-74: an SA is published as pending first. Until every worker has seen it so, nothing comes or goes by it.
#[test]
fn l_74_nothing_passes_a_pending_sa() {
    let mut net = Net::new(Protection::LATCHED);
    let (terms, now) = (Terms::default(), net.now);
    let (spi, other_spi) = (net.alice.draw_spi(), net.bob.draw_spi());
    let offer = net.alice.offer(BOB, &terms, now);
    net.alice.keying.install(offer.ticket, keys(&terms, spi, other_spi, BOB), now).unwrap();
    assert_eq!(net.alice.settle(now).len(), 1);
    // Bob's worker is in the middle of a batch.
    net.bob.datapath.begin(now);
    let offer = net.bob.offer(ALICE, &terms, now);
    let pair = net.bob.keying.install(offer.ticket, keys(&terms, other_spi, spi, ALICE), now).unwrap();
    let progress = net.bob.keying.poll(now);
    assert!(progress.settled.is_empty() && progress.settling, "the worker has not seen it");
    assert_eq!(net.bob.pair(pair).usage, Usage::Pending);

    assert_eq!(net.send(ALICE, &tcp().syn()), []);
    drops(&net.bob, Direction::Inbound, DropReason::SaPending, 1);
    assert_eq!(net.send(BOB, &tcp().reversed().syn()), []);
    let pending = (Direction::Inbound, DropReason::SaPending, 1);
    assert_eq!(net.bob.drops(), [pending, (Direction::Outbound, DropReason::NoOutboundSa, 1)]);
    let state = net.bob.latch(tcp().reversed()).map(|latch| latch.state);
    assert_eq!(state, Some(LatchState::Larval), "and no latch is established by it");

    assert_eq!(net.bob.settle(now), [pair]);
    assert_eq!(net.send(ALICE, &tcp().syn()), only("bob", tcp().syn()));
    assert_eq!(net.bob.drops().len(), 2);
}

/// C-31: a packet opened before its latch last changed is dropped; another flow's packet of the same batch is not.
#[test]
fn c_31_l_88_a_packet_opened_before_its_latch_changed_is_stale_and_only_that() {
    let mut net = Net::new(Protection::LATCHED);
    join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    let other = crate::support::packet::Flow::tcp("10.0.1.10:40001", "10.0.2.20:80");
    for flow in [tcp(), other] {
        net.send(ALICE, &flow.syn());
        net.send(BOB, &flow.reversed().syn_ack());
    }
    let datagrams: Vec<_> =
        [tcp(), other, tcp()].map(|flow| net.alice.send(&flow.data(1, b"data"), net.now).remove(0)).into();
    let latch = net.bob.latch(tcp().reversed()).unwrap();
    net.bob.datapath.begin(net.now);
    assert!(net.bob.database.suspend(latch.id, BreakReason::Conflict, None, net.now));
    assert!(net.bob.database.restore(latch.id, net.now));
    net.bob.units.clear();
    for datagram in &datagrams[..2] {
        let mut octets = datagram.octets.clone();
        let arrival = Arrival::udp(octets.len(), ALICE.address());
        net.bob.datapath.inbound(&mut octets, &arrival, &mut net.bob.units);
    }
    assert_eq!(net.bob.units.units().count(), 1);
    drops(&net.bob, Direction::Inbound, DropReason::StaleVersion, 1);
    // The next batch knows of the change.
    assert_eq!(net.carry(datagrams[2..].to_vec()), only("bob", tcp().data(1, b"data")));
    drops(&net.bob, Direction::Inbound, DropReason::StaleVersion, 1);
}

/// Tags are copied, never looked up again: a slot is not used again while a batch is in hand, and what was opened
/// before keeps the class it was opened under whoever has the slot later.
#[test]
fn l_88_l_91_a_slot_that_is_used_again_cannot_lie_about_a_packet_opened_before() {
    let mut net = Net::new(Protection::LATCHED);
    let tunnel = join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    open(&mut net);
    let old = net.bob.pair(tunnel.1);
    let sent: Vec<_> =
        (0..2).map(|seq| net.alice.send(&tcp().data(1 + seq, b"x"), net.now).remove(0)).collect();

    // A batch is in hand while the SA goes and all rest is over.
    net.bob.datapath.begin(net.now);
    net.bob.commit(vec![Op::Remove(tunnel.1)], net.now);
    net.now = net.now + Duration::from_secs(600);
    net.bob.keying.poll(net.now);
    let other = Terms { suite: Suite::CHACHA20_POLY1305, ..Terms::default() };
    let (spi, other_spi) = (net.alice.draw_spi(), net.bob.draw_spi());
    let offer = net.bob.offer(ALICE, &other, net.now);
    let beside = net.bob.keying.install(offer.ticket, keys(&other, other_spi, spi, ALICE), net.now).unwrap();
    let taken = net.bob.pair(beside);
    let slots = [old.inbound.sa.index, old.outbound.sa.index];
    assert!(!slots.contains(&taken.inbound.sa.index) && !slots.contains(&taken.outbound.sa.index));
    let mut octets = sent[0].octets.clone();
    let arrival = Arrival::udp(octets.len(), ALICE.address());
    net.bob.datapath.inbound(&mut octets, &arrival, &mut net.bob.units);
    assert_eq!(net.bob.drops(), []);
    let opened = net.bob.latch(tcp().reversed()).unwrap().last_inbound.unwrap();
    assert_eq!((opened.sa, opened.class), (old.inbound.sa, old.class));

    // The batch ends, and the slot is used again, for SAs of another class.
    assert_eq!(net.bob.settle(net.now), [beside]);
    net.bob.keying.poll(net.now);
    let tunnel = join(&mut net.alice, &mut net.bob, &other, net.now);
    let recycled = net.bob.pair(tunnel.1).inbound.sa;
    assert!(slots.contains(&recycled.index) && recycled.generation > old.inbound.sa.generation);
    assert_eq!(net.carry(sent[1..].to_vec()), []);
    drops(&net.bob, Direction::Inbound, DropReason::NoSa, 1);
    let latch = net.bob.latch(tcp().reversed()).unwrap();
    assert_eq!((latch.class, latch.last_inbound), (Some(old.class), Some(opened)));
}
