//! AH, alone and around ESP (RFC 4302, RFC 4301 section 4.3).

use etherparse::{PacketBuilder, TcpOptionElement};
use latchway_esp::{AesKey, Integrity, Suite};
use latchway_tagging::{ClassId, Feedback, Mode, OutboundTag};

use super::super::{NOW, v4};
use super::{all, between_ends, carried_by, options, receive, refuses, sent};
use crate::arrival::Carrier;
use crate::audit::Auditor;
use crate::drop::{Direction, DropReason};
use crate::flow::FlowKey;
use crate::lifetime::{Bounds, Limits};
use crate::packet::{Authenticated, IpPacket, Unprotected};
use crate::sad::{SadEntry, Shape};
use crate::spd::Action;
use crate::testing::{Host, Open, SaOptions, arrival, inbound_entry, joined_by, outbound_entry};
use crate::ulp::{Context, Ulp};

/// The two kinds of AH suite.
const AH: [Suite; 2] = [Suite::ah(Integrity::HmacSha256), Suite::ah_gmac(AesKey::Aes128)];

/// AH around ESP, as one bundle: ESP in slot 0, AH in slot 1.
fn bundle(esp: &SaOptions, suite: Suite) -> [SaOptions; 2] {
    let within = SaOptions { nested: Some(1), ..esp.clone() };
    let around =
        SaOptions { mode: Mode::Transport, suite, nested: Some(0), spi: 0x2002, index: 1, ..esp.clone() };
    [within, SaOptions { class: 9, ..around }]
}

fn joined_by_both(bundle: &[SaOptions; 2]) -> (Host<Open>, Host<Open>) {
    let (mut one, mut two) = (Host::new(1, 2, Open), Host::new(2, 1, Open));
    // The SA of AH is in force, too, and the newest: it is never chosen for a packet by itself.
    for options in bundle {
        one.insert(outbound_entry(1, 2, options));
        two.insert(inbound_entry(2, 1, options));
    }
    one.publish();
    two.publish();
    (one, two)
}

/// RFC 4301 section 4.3: AH around ESP, in tunnel and transport mode, both families.
#[test]
fn rfc_4301_4_3_a_bundle_passes_and_shows_ah_outside() {
    for suite in AH {
        for options in all().into_iter().filter(|options| options.carrier == Carrier::Native) {
            let (mut one, mut two) = joined_by_both(&bundle(&options, suite));
            for packet in carried_by(&options, b"within two") {
                let octets = sent(&mut one, &packet);
                let ah_at = if options.outer_v6 { 40 } else { 20 };
                assert_eq!(octets[if options.outer_v6 { 6 } else { 9 }], 51);
                assert_eq!(octets[ah_at], 50, "ESP follows");
                assert_eq!(octets[ah_at + 4..ah_at + 8], 0x2002u32.to_be_bytes());
                assert_eq!(receive(&mut two, &octets, &options), [packet], "{:?}", two.drops());
                for slot in two.snapshot.sad.iter() {
                    assert!(slot.entry.use_.packets.get() > 0 && slot.entry.use_.octets.get() > 0);
                }
            }
            let used = |host: &Host<Open>| -> Vec<(u64, u64)> {
                let slots = host.snapshot.sad.iter();
                slots.map(|slot| (slot.entry.use_.packets.get(), slot.entry.use_.octets.get())).collect()
            };
            assert_eq!(used(&one), used(&two), "both ends count alike");
            assert!(one.drops().is_empty() && two.drops().is_empty());
        }
    }
}

/// RFC 4301 sections 4.3 and 5.2: half of a bundle is none of it. What is authentic and bare, or within another, is dropped.
#[test]
fn rfc_4301_5_2_half_of_a_bundle_is_a_drop_of_its_own_name() {
    let tunnel = options(Mode::Tunnel, Carrier::Native, false);
    let both = bundle(&tunnel, AH[0]);
    let came = |octets: &[u8]| arrival(1, octets.len(), &tunnel);
    // ESP alone, to one that wants it within AH.
    let (mut alone, _) = joined_by(&tunnel);
    let (mut one, mut two) = joined_by_both(&both);
    let octets = sent(&mut alone, &v4());
    refuses(&mut two, &octets, &came(&octets), DropReason::BundleMismatch);
    // Within AH, to one that wants it alone.
    let mut plain: Host<Open> = Host::new(2, 1, Open);
    plain.insert(inbound_entry(2, 1, &tunnel));
    plain.insert(inbound_entry(2, 1, &both[1]));
    plain.publish();
    let octets = sent(&mut one, &v4());
    refuses(&mut plain, &octets, &came(&octets), DropReason::BundleMismatch);
    // AH alone, of an SA that goes around another.
    let ah_alone = SaOptions { nested: None, ..both[1].clone() };
    let (mut alone, _) = joined_by(&SaOptions { index: 0, ..ah_alone.clone() });
    let octets = sent(&mut alone, &between_ends(false, b"authentic, and in the clear"));
    refuses(&mut two, &octets, &came(&octets), DropReason::BundleMismatch);
    // Within an AH SA that is another bundle's.
    let (mut one, _) = joined_by_both(&both);
    let other = SaOptions { index: 2, nested: Some(3), spi: 0x1001, ..tunnel.clone() };
    let mut swapped: Host<Open> = Host::new(2, 1, Open);
    swapped.insert(inbound_entry(2, 1, &other));
    swapped.insert(inbound_entry(2, 1, &both[1]));
    swapped.publish();
    let octets = sent(&mut one, &v4());
    refuses(&mut swapped, &octets, &came(&octets), DropReason::BundleMismatch);
}

/// RFC 4301 section 4.3: without the other half nothing leaves.
#[test]
fn rfc_4301_4_3_half_of_a_bundle_sends_nothing() {
    let both = bundle(&options(Mode::Tunnel, Carrier::Native, false), AH[0]);
    let mut one: Host<Open> = Host::new(1, 2, Open);
    one.insert(outbound_entry(1, 2, &both[0]));
    one.publish();
    assert!(one.send(&v4(), NOW).0.is_empty());
    assert_eq!(one.dropped(Direction::Outbound, DropReason::NoOutboundSa), 1);
    let mut one: Host<Open> = Host::new(1, 2, Open);
    one.insert(outbound_entry(1, 2, &both[1]));
    one.publish();
    assert!(one.send(&between_ends(false, b"x"), NOW).0.is_empty(), "AH of a bundle carries nothing alone");
    assert_eq!(one.dropped(Direction::Outbound, DropReason::NoOutboundSa), 1);
}

/// RFC 4302 section 3.4: what AH covers cannot be changed, and what routers change can (T22). Nothing of it is hidden.
#[test]
fn t22_rfc_4302_3_3_3_what_routers_change_passes_and_nothing_else() {
    for outer_v6 in [false, true] {
        for mode in [Mode::Tunnel, Mode::Transport] {
            let options = SaOptions { suite: AH[0], ..options(mode, Carrier::Native, outer_v6) };
            let came = |octets: &[u8]| arrival(1, octets.len(), &options);
            let (mut one, mut two) = joined_by(&options);
            let packet = carried_by(&options, b"for all to read").remove(0);
            let octets = sent(&mut one, &packet);
            assert!(octets.windows(15).any(|window| window == b"for all to read"));
            for place in 0..octets.len() {
                let mut changed = octets.clone();
                changed[place] ^= 0x20;
                let mutable = if outer_v6 {
                    (1..4).contains(&place) || place == 7
                } else {
                    matches!(place, 1 | 6..=8 | 10 | 11)
                };
                if !mutable {
                    let before: u64 = two.drops().iter().map(|(_, _, count)| count).sum();
                    assert_eq!(
                        two.receive_as(&changed, &came(&changed), NOW),
                        Vec::<Vec<u8>>::new(),
                        "{place}"
                    );
                    assert_eq!(two.drops().iter().map(|(_, _, count)| count).sum::<u64>(), before + 1);
                }
            }
            let mut routed = octets.clone();
            routed[if outer_v6 { 7 } else { 8 }] -= 1;
            let mut delivered = receive(&mut two, &routed, &options).remove(0);
            if mode == Mode::Transport {
                let ttl = if outer_v6 { 7 } else { 8 };
                delivered[ttl] = packet[ttl];
                if !outer_v6 {
                    delivered[10..12].copy_from_slice(&packet[10..12]);
                }
            }
            assert_eq!(delivered, packet);
            refuses(&mut two, &octets, &came(&octets), DropReason::Replayed);
        }
    }
}

/// The class of a bundle is the ESP SA's, which includes AH: the tag that the upper layer sees.
#[test]
fn l_6_what_a_bundle_brings_is_of_the_bundles_class() {
    let both = bundle(&options(Mode::Tunnel, Carrier::Native, false), AH[0]);
    let (mut one, _) = joined_by_both(&both);
    let mut two = Host::new(2, 1, Classes::default());
    for options in &both {
        two.insert(inbound_entry(2, 1, options));
    }
    two.publish();
    let octets = sent(&mut one, &v4());
    let came = arrival(1, octets.len(), &both[0]);
    assert_eq!(two.receive_as(&octets, &came, NOW), [v4()]);
    assert_eq!(two.datapath.ulp().0, [ClassId::from_raw(1)]);
}

/// An upper layer that remembers the classes of what came.
#[derive(Debug, Default)]
struct Classes(Vec<ClassId>);

impl Ulp for Classes {
    fn outbound(&mut self, packet: &IpPacket<'_>, context: &Context<'_>) -> Result<OutboundTag, DropReason> {
        Open.outbound(packet, context)
    }

    fn feedback(
        &mut self,
        flow: &FlowKey,
        feedback: Feedback,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        Open.feedback(flow, feedback, context)
    }

    fn inbound(&mut self, packet: &Authenticated<'_>, _: &Context<'_>) -> Result<(), DropReason> {
        self.0.push(packet.tag().class);
        Ok(())
    }

    fn unprotected(
        &mut self,
        packet: &Unprotected<'_>,
        policy: Option<Action>,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        Open.unprotected(packet, policy, context)
    }
}

/// RFC 4301 section 4.4.2.1: a bundle ends with either of its SAs, and says so.
#[test]
fn rfc_4301_4_4_2_1_a_bundle_ends_with_either_of_its_sas() {
    for ends in [0, 1] {
        let mut both = bundle(&options(Mode::Tunnel, Carrier::Native, false), AH[0]);
        let hard = Bounds { packets: Some(2), ..Bounds::default() };
        both[ends].limits = Limits::new(Bounds::default(), hard).unwrap();
        let (mut one, _) = joined_by_both(&both);
        for sends in [true, true, false, false] {
            assert_eq!(one.send(&v4(), NOW).0.len(), usize::from(sends), "{ends} {:?}", one.drops());
        }
        assert_eq!(one.drops(), [(Direction::Outbound, DropReason::HardExpired, 2)]);
        let asked =
            one.events.try_iter().filter(|event| matches!(event, crate::event::Event::Acquire { .. }));
        assert_eq!(asked.count(), 1, "a successor is asked for, whichever half it is");
    }
}

/// RFC 4302 sections 3.4.1 to 3.4.4 and 4: a fragment, a packet of no SA, one whose ICV is wrong and a replay are dropped by
/// name, and all but the replay are on record. What passes says one number after the other (section 2.5).
#[test]
fn rfc_4302_3_4_what_ah_refuses_has_its_name_and_is_auditable() {
    for outer_v6 in [false, true] {
        let options = SaOptions { suite: AH[0], ..options(Mode::Transport, Carrier::Native, outer_v6) };
        let (mut one, mut two) = joined_by(&options);
        let (auditor, records) = Auditor::open();
        two.datapath = two.datapath.audited(auditor);
        let ah_at = if outer_v6 { 40 } else { 20 };
        let packet = between_ends(outer_v6, b"on record");
        let came = |octets: &[u8]| arrival(1, octets.len(), &options);
        for seq in 1..=3u32 {
            let octets = sent(&mut one, &packet);
            assert_eq!(octets[ah_at + 8..ah_at + 12], seq.to_be_bytes());
            let changed = |place: usize, bits: u8| {
                let mut octets = octets.clone();
                octets[place] ^= bits;
                octets
            };
            let mut bad = vec![
                (changed(ah_at + 4, 0x40), DropReason::NoSa),
                (changed(octets.len() - 1, 1), DropReason::IcvMismatch),
            ];
            if !outer_v6 {
                bad.push((changed(6, 0x20), DropReason::Fragment));
            }
            for (octets, reason) in bad {
                refuses(&mut two, &octets, &came(&octets), reason);
                let record = records.try_recv().unwrap();
                assert_eq!((record.reason, record.outer.unwrap().seq.unwrap().0), (reason, seq));
            }
            assert_eq!(receive(&mut two, &octets, &options).len(), 1);
            refuses(&mut two, &octets, &came(&octets), DropReason::Replayed);
            assert!(records.try_recv().is_err());
        }
    }
}

/// RFC 9293 section 3.7.1: what fits a bundle is less by AH, and SYNs say so, both ways.
#[test]
fn rfc_9293_3_7_1_syns_are_clamped_to_what_a_bundle_leaves() {
    let tcp = |(from, to), payload: &[u8]| {
        let (mut octets, most) = (Vec::new(), TcpOptionElement::MaximumSegmentSize(8960));
        let builder = PacketBuilder::ipv4(from, to, 64).tcp(1000, 80, 1, 1000);
        let builder = if payload.is_empty() { builder.syn().options(&[most]).unwrap() } else { builder };
        builder.write(&mut octets, payload).unwrap();
        octets
    };
    let announced = |packet: &[u8]| usize::from(u16::from_be_bytes([packet[42], packet[43]]));
    let mut options = options(Mode::Tunnel, Carrier::Native, false);
    options.shape.sizing.clamp_mss = true;
    let (mut one, mut two) = joined_by_both(&bundle(&options, AH[0]));
    let back = SaOptions { spi: 0x3003, index: 2, ..options.clone() };
    let inbound = inbound_entry(1, 2, &back).unwrap();
    let partner = one.snapshot.sad.iter().next().map(|slot| slot.entry.sa);
    one.insert(Some(SadEntry { partner, ..(*inbound).clone() }.into()));
    two.insert(outbound_entry(2, 1, &SaOptions { shape: Shape::default(), ..back.clone() }));
    one.publish();
    two.publish();

    let (there, here) = (([10, 0, 1, 1], [10, 0, 2, 2]), ([10, 0, 2, 2], [10, 0, 1, 1]));
    let octets = sent(&mut one, &tcp(there, &[]));
    let most = announced(&receive(&mut two, &octets, &options)[0]);
    assert!(sent(&mut one, &tcp(there, &vec![1; most])).len() <= 1500);
    assert!(one.send(&tcp(there, &vec![1; most + 1]), NOW).0.is_empty(), "no less than fits");
    let octets = sent(&mut two, &tcp(here, &[]));
    let arrival = arrival(2, octets.len(), &back);
    assert_eq!(announced(&one.receive_as(&octets, &arrival, NOW)[0]), most);
}
