//! Rekeying while traffic flows: nothing is dropped, no latch moves (RFC 5660 section 2, R-2).

use std::time::Duration;

use latchway_datapath::spd::Protection;
use latchway_esp::{EspHeader, Suite};
use latchway_keying::Op;

use crate::support::gateway::Terms;
use crate::support::net::{ALICE, BOB, Delivery, Net, join, rekey};
use crate::{no_drops, only, open, tcp, udp};

/// R-2, T14: whoever switches first, and whatever is still under way by the old SA.
#[test]
fn r_2_t14_rekeying_in_mid_traffic_drops_nothing_and_moves_no_latch() {
    for suite in Suite::RECOMMENDED {
        let (mut net, terms) = (Net::new(Protection::LATCHED), Terms { suite, ..Terms::default() });
        let mut tunnel = join(&mut net.alice, &mut net.bob, &terms, net.now);
        open(&mut net);
        exchange(&mut net, 1);
        let before = latches(&net);
        for round in 0..6 {
            let seq = 1 + 10 * round;
            let under_way = net.alice.send(&tcp().data(seq, b"by the old SA"), net.now);
            let back = net.bob.send(&tcp().reversed().data(seq, b"and back"), net.now);
            let next = rekey(&mut net.alice, &mut net.bob, tunnel, &terms, net.now);
            let mut switches = [(ALICE, tunnel.0, next.0), (BOB, tunnel.1, next.1)];
            switches.rotate_left(round as usize % 2);
            for (host, old, new) in switches {
                exchange(&mut net, seq + 1);
                net.commit(host, vec![Op::Activate(new), Op::Retire(old)]);
                exchange(&mut net, seq + 2);
            }
            assert_eq!(net.carry(under_way), only("bob", tcp().data(seq, b"by the old SA")));
            assert_eq!(net.carry(back), only("alice", tcp().reversed().data(seq, b"and back")));
            let spi = net.alice.pair(next.0).outbound.spi;
            let sealed = net.alice.send(&tcp().data(seq + 3, b"by the new SA"), net.now).remove(0);
            assert_eq!(EspHeader::parse(&sealed.octets).unwrap().spi, spi);
            assert_eq!(net.carry(vec![sealed]).len(), 1);
            net.now = net.now + Duration::from_secs(10);
            net.alice.commit(vec![Op::Remove(tunnel.0)], net.now);
            net.bob.commit(vec![Op::Remove(tunnel.1)], net.now);
            exchange(&mut net, seq + 4);
            tunnel = next;
        }
        assert_eq!(latches(&net), before);
        assert_eq!((net.alice.events(), net.bob.events()), (vec![], vec![]));
        no_drops(&net);
    }
}

/// A segment and a datagram each way.
pub fn exchange(net: &mut Net, seq: u32) {
    let text = seq.to_be_bytes();
    for (from, at, flows) in
        [(ALICE, "bob", [tcp(), udp()]), (BOB, "alice", [tcp().reversed(), udp().reversed()])]
    {
        for packet in [flows[0].data(seq, &text), flows[1].datagram(&text)] {
            let expected = vec![Delivery { at, packet: packet.clone() }];
            assert_eq!(net.send(from, &packet), expected);
        }
    }
}

/// All that a rekey must not touch.
fn latches(net: &Net) -> Vec<impl PartialEq + std::fmt::Debug + use<>> {
    let flows = [tcp(), udp()];
    let ours = flows.map(|flow| net.alice.latch(flow).unwrap());
    let theirs = flows.map(|flow| net.bob.latch(flow.reversed()).unwrap());
    let kept = ours.into_iter().chain(theirs);
    kept.map(|latch| (latch.id, latch.state, latch.class, latch.changed_at, latch.opened, latch.progress))
        .collect()
}
