//! Numbers beyond 32 bits, with latched traffic across the border (RFC 4303 section 2.2.1 and appendix A2, T10).

use std::sync::Arc;
use std::time::Duration;

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::outer::OuterPolicy;
use latchway_datapath::sad::{Handover, Path, Role, SadEntry, Shape, Usage};
use latchway_datapath::spd::Protection;
use latchway_esp::{
    AntiReplay, EspHeader, InboundConfig, InboundSa, OutboundConfig, OutboundSa, SeqLow, SeqNum, WindowSize,
};
use latchway_tagging::{SaRef, SnapshotId};

use crate::support::gateway::{Gateway, Terms, keys};
use crate::support::net::{ALICE, BOB, Delivery, Net, Tunnel, join};
use crate::support::wire::{Faults, Wire};
use crate::{drops, open, tcp};

/// T10: the border at 2^32 is crossed in disorder, and a number from before it is known as one seen before.
#[test]
fn t10_rfc_4303_2_2_1_the_low_half_wraps_in_mid_traffic() {
    let mut net = Net::new(Protection::LATCHED);
    let tunnel = join(&mut net.alice, &mut net.bob, &Terms::default(), net.now);
    open(&mut net);
    advance(&mut net, tunnel, (1 << 32) - 100);
    net.wire = Wire::new(10, Faults { delay: Duration::from_millis(20), ..Faults::default() });
    let (mut delivered, mut kept) = (Vec::new(), None);
    for seq in 0..200 {
        let datagrams = net.alice.send(&tcp().data(1 + seq, &seq.to_be_bytes()), net.now);
        let low = EspHeader::parse(&datagrams[0].octets).unwrap().seq;
        assert_eq!(low, SeqLow((seq + 1).wrapping_sub(101)));
        kept = kept.or_else(|| Some(datagrams.clone()));
        delivered.extend(net.carry(datagrams));
        net.now = net.now + Duration::from_millis(1);
    }
    net.now = net.now + Duration::from_millis(20);
    delivered.extend(net.deliver());
    let disorder = delivered.iter().map(|delivery| delivery.packet.clone()).collect::<Vec<_>>();
    delivered.sort_by_key(|delivery| delivery.packet[24..28].to_vec());
    assert_ne!(disorder, delivered.iter().map(|delivery| delivery.packet.clone()).collect::<Vec<_>>());
    let expected = (0..200_u32).map(|seq| tcp().data(1 + seq, &seq.to_be_bytes()));
    assert_eq!(delivered, expected.map(|packet| Delivery { at: "bob", packet }).collect::<Vec<_>>());
    assert_eq!((net.alice.drops(), net.bob.drops()), (vec![], vec![]));
    net.wire = Wire::new(0, Faults::default());
    assert_eq!(net.carry(kept.unwrap()), []);
    drops(&net.bob, Direction::Inbound, DropReason::Replayed, 1);
}

/// Puts the SAs from alice to bob where `next` is the next number.
fn advance(net: &mut Net, tunnel: Tunnel, next: u64) {
    let terms = Terms::default();
    let (sender, receiver) = (net.alice.pair(tunnel.0).outbound, net.bob.pair(tunnel.1).inbound);
    let keys = keys(&terms, net.alice.pair(tunnel.0).inbound.spi, sender.spi, BOB).outbound;
    let (spi, suite, sequence) = (keys.spi, terms.suite, terms.sequence);
    let keys = &keys.material;
    let config = OutboundConfig { spi, suite, keys, sequence, reservation: None };
    let sa = OutboundSa::resume_at(config, SeqNum(next)).unwrap();
    let path = Path::udp(0, BOB.address(), 1500);
    replace(&net.alice, sender.sa, Role::Outbound { sa: Handover::new(sa), path, shape: Shape::default() });
    let anti_replay = AntiReplay::Window(WindowSize::default());
    let config = InboundConfig { spi, suite, keys, sequence, anti_replay, top: None };
    let sa = InboundSa::resume_after(config, SeqNum(next - 1)).unwrap();
    replace(
        &net.bob,
        receiver.sa,
        Role::Inbound {
            sa: Handover::new(sa),
            from: Path::udp(0, ALICE.address(), 1500).peer(),
            outer: OuterPolicy::default(),
        },
    );
}

/// Publishes a snapshot in which an SA has other cryptographic state, behind the key manager's back.
fn replace(gateway: &Gateway, sa: SaRef, role: Role) {
    let mut snapshot = gateway.keying.snapshot().as_ref().clone();
    let old = snapshot.sad.remove(sa).unwrap();
    let entry = SadEntry {
        sa: SaRef { generation: sa.generation + 1, ..sa },
        role,
        use_: Arc::default(),
        ..old.as_ref().clone()
    };
    snapshot.sad.insert(Arc::new(entry), Usage::Active).unwrap();
    snapshot.id = SnapshotId::from_raw(snapshot.id.raw() + 1);
    gateway.keying.publisher().publish(Arc::new(snapshot));
}
