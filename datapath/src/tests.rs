//! The two streets, end to end in memory: each drop by its name, and what passes, octet for octet.

use std::net::SocketAddr;
use std::time::Duration;

use etherparse::PacketBuilder;
use latchway_esp::{NextHeader, SequenceKind, Suite};
use latchway_tagging::{ClassId, Demand, Feedback, OutboundTag};

use crate::drop::{Direction, DropReason};
use crate::event::Event;
use crate::flow::FlowKey;
use crate::outbound::Outbound;
use crate::oversize::Oversize;
use crate::packet::{Authenticated, IpPacket, Unprotected};
use crate::sad::{Role, Usage};
use crate::segment::SuperPacket;
use crate::selector::{AddressRange, Selector};
use crate::send_batch::SendBatch;
use crate::spd::{Action, Rule, Spd};
use crate::testing::{
    Host, Open, SaOptions, inbound_entry, inner, joined, joined_by, outbound_entry, selectors,
};
use crate::time::Time;
use crate::ulp::{Context, Ulp};
use crate::virtio::{GSO_UDP_L4, NEEDS_CSUM, VNET_HDR_LEN};

mod corpus;
mod ends;
mod hostile;
mod modes;
mod replays;
mod sizes;

const NOW: Time = Time::from_nanos(1_000_000);

fn udp(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let mut octets = Vec::new();
    let builder = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), 64)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            PacketBuilder::ipv6(from.ip().octets(), to.ip().octets(), 64)
        }
        _ => panic!("two families"),
    };
    builder.udp(from.port(), to.port()).write(&mut octets, payload).unwrap();
    octets
}

fn v4() -> Vec<u8> {
    udp("10.0.1.1:1000", "10.0.2.2:2000", b"over ipv4")
}

fn v6() -> Vec<u8> {
    udp("[fd00:1::1]:1000", "[fd00:2::2]:2000", b"over ipv6")
}

#[test]
fn rfc_4303_3_1_2_both_families_pass_the_tunnel_unchanged_and_unreadable() {
    let (mut one, mut two) = joined(Open, Open);
    for packet in [v4(), v6()] {
        let (datagrams, _) = one.send(&packet, NOW);
        assert_eq!(datagrams.len(), 1);
        assert!(!datagrams[0].windows(8).any(|window| window == b"over ipv"), "sealed");
        assert_eq!(two.receive(&datagrams[0], NOW), [packet]);
    }
    assert!(one.drops().is_empty() && two.drops().is_empty());
}

/// Every suite and both widths of sequence numbers.
#[test]
fn every_suite_passes_the_tunnel() {
    for suite in Suite::RECOMMENDED {
        for sequence in [SequenceKind::Seq32, SequenceKind::Extended] {
            let options = SaOptions { suite, sequence, ..SaOptions::new(0x2000, 0) };
            let (mut one, mut two) = (Host::new(1, 2, Open), Host::new(2, 1, Open));
            one.insert(outbound_entry(1, 2, &options));
            two.insert(inbound_entry(2, 1, &options));
            one.publish();
            two.publish();
            for _ in 0..3 {
                let (datagrams, _) = one.send(&v4(), NOW);
                assert_eq!(two.receive(&datagrams[0], NOW), [v4()], "{suite} {sequence:?}");
            }
        }
    }
}

/// Receives `datagram` and expects exactly one drop, for `reason`.
fn refuses(host: &mut Host<Open>, datagram: &[u8], reason: DropReason) {
    let before = host.dropped(Direction::Inbound, reason);
    let all = |host: &Host<Open>| host.drops().iter().map(|(_, _, count)| count).sum::<u64>();
    let total = all(host);
    assert!(host.receive(datagram, NOW).is_empty(), "{reason}");
    assert_eq!(host.dropped(Direction::Inbound, reason), before + 1, "{reason}: {:?}", host.drops());
    assert_eq!(all(host), total + 1, "{reason} and nothing else");
}

/// RFC 4303 2.4.
#[test]
fn a_packet_of_broken_blocks_is_a_drop_of_its_own_name() {
    let options = SaOptions { suite: Suite::AES_128_CBC_HMAC_SHA_256, ..SaOptions::new(0x2000, 0) };
    let (mut one, mut two) = (Host::new(1, 2, Open), Host::new(2, 1, Open));
    one.insert(outbound_entry(1, 2, &options));
    two.insert(inbound_entry(2, 1, &options));
    one.publish();
    two.publish();
    let sealed = one.send(&v4(), NOW).0.remove(0);
    refuses(&mut two, &sealed[..sealed.len() - 1], DropReason::BadLength);
    refuses(&mut two, &sealed[..sealed.len() - 16], DropReason::IcvMismatch);
    assert_eq!(two.receive(&sealed, NOW), [v4()]);
}

#[test]
fn each_hostile_datagram_is_a_drop_of_its_own_name() {
    let (mut one, mut two) = joined(Open, Open);
    let sealed = one.send(&v4(), NOW).0.remove(0);
    let mut forged = sealed.clone();
    *forged.last_mut().unwrap() ^= 1;
    refuses(&mut two, &forged, DropReason::IcvMismatch);
    let mut unknown = sealed.clone();
    unknown[..4].copy_from_slice(&0x7777_7777u32.to_be_bytes());
    refuses(&mut two, &unknown, DropReason::NoSa);
    for spi in [1u32, 255] {
        let mut reserved = sealed.clone();
        reserved[..4].copy_from_slice(&spi.to_be_bytes());
        refuses(&mut two, &reserved, DropReason::ReservedSpi);
    }
    refuses(&mut two, &[0xff], DropReason::Keepalive);
    refuses(&mut two, &[0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8], DropReason::NonEsp);
    for len in [0, 1, 4, 7] {
        refuses(&mut two, &sealed[..len], DropReason::Runt);
    }
    refuses(&mut two, &sealed[..sealed.len() - 1], DropReason::IcvMismatch);
    assert_eq!(two.receive(&sealed, NOW), [v4()], "none of these spent its number");
    refuses(&mut two, &sealed, DropReason::Replayed);
}

/// T10: with extended numbers, too, where the window alone takes a late packet for one far ahead.
#[test]
fn rfc_4303_3_4_3_late_is_counted_apart_from_seen_before_and_forged() {
    for sequence in [SequenceKind::Seq32, SequenceKind::Extended] {
        let options = SaOptions { sequence, ..SaOptions::new(0x2000, 0) };
        let (mut one, mut two) = (Host::new(1, 2, Open), Host::new(2, 1, Open));
        one.insert(outbound_entry(1, 2, &options));
        two.insert(inbound_entry(2, 1, &options));
        one.publish();
        two.publish();
        let early = one.send(&v4(), NOW).0.remove(0);
        for _ in 0..5000 {
            let datagram = one.send(&v4(), NOW).0.remove(0);
            assert_eq!(two.receive(&datagram, NOW).len(), 1);
        }
        refuses(&mut two, &early, DropReason::TooOld);
        if sequence == SequenceKind::Extended {
            let mut forged = early;
            *forged.last_mut().unwrap() ^= 1;
            refuses(&mut two, &forged, DropReason::IcvMismatch);
        }
    }
}

#[test]
fn t15_an_inner_source_that_its_sa_does_not_admit_is_a_selector_mismatch() {
    let (mut one, mut two) = joined(Open, Open);
    one.snapshot.spd = Spd::new(vec![Rule::new(
        Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4),
        None,
        Action::Protect(crate::spd::Protection::LATCHED),
    )]);
    let wide = vec![Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4)];
    let slot = one.snapshot.sad.iter().find(|slot| !slot.entry.is_inbound()).unwrap().entry.sa;
    let old = one.snapshot.sad.remove(slot).unwrap();
    drop(old);
    let mut entry = outbound_entry(1, 2, &SaOptions::new(0x1001, 0)).unwrap();
    std::sync::Arc::get_mut(&mut entry).unwrap().selectors = wide.into();
    one.insert(Some(entry));
    one.publish();
    for foreign in ["10.0.3.1:1", "10.0.2.9:1"] {
        let (datagrams, _) = one.send(&udp(foreign, "10.0.2.2:2", b"spoofed"), NOW);
        refuses(&mut two, &datagrams[0], DropReason::SelectorMismatch);
    }
}

#[test]
fn rfc_4301_5_1_policy_decides_and_no_match_is_discard() {
    let (mut one, _) = joined(Open, Open);
    let outside = udp("10.0.1.1:1", "203.0.113.1:2", b"elsewhere");
    assert!(one.send(&outside, NOW).0.is_empty());
    assert_eq!(one.dropped(Direction::Outbound, DropReason::NoPolicy), 1);
    let rule = |action| Rule::new(Selector::between(inner(1, false), AddressRange::ANY_V4), None, action);
    one.snapshot.spd = Spd::new(vec![rule(Action::Discard)]);
    one.publish();
    assert!(one.send(&outside, NOW).0.is_empty());
    assert_eq!(one.dropped(Direction::Outbound, DropReason::PolicyDiscard), 1);
    one.snapshot.spd = Spd::new(vec![rule(Action::Bypass)]);
    one.publish();
    assert_eq!(one.send(&outside, NOW), (vec![], true));
}

/// An upper layer that wants to know how each packet leaves, and demands what it is told to.
#[derive(Debug, Default)]
struct Asking {
    demand: Demand,
    told: Vec<Feedback>,
}

impl Ulp for Asking {
    fn outbound(&mut self, _: &IpPacket<'_>, _: &Context<'_>) -> Result<OutboundTag, DropReason> {
        Ok(OutboundTag { demand: self.demand, feedback: true, hint: None })
    }

    fn feedback(&mut self, _: &FlowKey, feedback: Feedback, _: &Context<'_>) -> Result<(), DropReason> {
        self.told.push(feedback);
        Ok(())
    }

    fn inbound(&mut self, _: &Authenticated<'_>, _: &Context<'_>) -> Result<(), DropReason> {
        Ok(())
    }

    fn unprotected(
        &mut self,
        _: &Unprotected<'_>,
        policy: Option<Action>,
        _: &Context<'_>,
    ) -> Result<(), DropReason> {
        crate::bypass::admit(policy)
    }
}

/// L-93, L-94: what a tag demands is found, or asked for and nothing leaves; what it asks is answered with the SA, or with
/// that there was none.
#[test]
fn l_93_l_94_outbound_tags_demand_parameters_and_are_told_protected_from_not_protected() {
    let (mut one, _) = joined(Asking::default(), Asking::default());
    assert_eq!(one.send(&v4(), NOW).0.len(), 1);
    let entry = one.snapshot.sad.iter().find(|slot| slot.entry.spi.get() == 0x1001).unwrap().entry.sa;
    let class = ClassId::from_raw(1);
    let [Feedback::Protected { class: told, sa, .. }] = one.datapath.ulp.told[..] else { panic!() };
    assert_eq!((told, sa), (class, entry));

    one.datapath.ulp.demand = Demand::Class(ClassId::from_raw(9));
    assert!(one.send(&v4(), NOW).0.is_empty());
    assert_eq!(one.dropped(Direction::Outbound, DropReason::NoOutboundSa), 1);
    let required = Some(ClassId::from_raw(9));
    assert!(
        one.events
            .try_iter()
            .any(|event| matches!(event, Event::Acquire { required: of, .. } if of == required))
    );
    one.insert(outbound_entry(1, 2, &SaOptions { class: 9, ..SaOptions::new(0x1003, 2) }));
    one.publish();
    assert_eq!(one.send(&v4(), NOW).0.len(), 1);
    assert!(
        matches!(one.datapath.ulp.told.last(), Some(Feedback::Protected { class, .. }) if class.raw() == 9)
    );

    one.datapath.ulp.demand = Demand::Policy;
    one.snapshot.spd = Spd::new(vec![Rule::new(selectors(1, 2).remove(0), None, Action::Bypass)]);
    one.publish();
    assert_eq!(one.send(&v4(), NOW), (vec![], true));
    assert_eq!(one.datapath.ulp.told.last(), Some(&Feedback::NotProtected));
}

#[test]
fn rfc_4301_5_2_what_comes_in_the_clear_passes_only_where_policy_says_bypass() {
    let (mut one, _) = joined(Open, Open);
    let mut clear = vec![0; crate::virtio::VNET_HDR_LEN];
    clear.extend_from_slice(&udp("10.0.2.2:2000", "10.0.1.1:1000", b"clear"));
    one.datapath.begin(NOW);
    assert!(!one.datapath.unprotected(&mut clear));
    assert_eq!(one.dropped(Direction::Inbound, DropReason::Unprotected), 1);
    let selector = selectors(1, 2).remove(0);
    one.snapshot.spd = Spd::new(vec![Rule::new(selector, None, Action::Bypass)]);
    one.publish();
    one.datapath.begin(NOW);
    assert!(one.datapath.unprotected(&mut clear));
}

/// RFC 4301 5.2: ESP and AH between others than the gateways are traffic like any other.
#[test]
fn rfc_4301_5_2_protected_traffic_of_others_is_judged_by_policy() {
    for number in [50, 51] {
        let (mut one, _) = joined(Open, Open);
        let mut clear = vec![0; VNET_HDR_LEN];
        clear.extend_from_slice(&udp("10.0.2.2:2000", "10.0.1.1:1000", b"clear"));
        clear[VNET_HDR_LEN + 9] = number;
        one.datapath.begin(NOW);
        assert!(!one.datapath.unprotected(&mut clear));
        assert_eq!(one.dropped(Direction::Inbound, DropReason::Unprotected), 1, "{:?}", one.drops());
        let selector = Selector { protocol: Some(number), ..selectors(1, 2).remove(0) };
        one.snapshot.spd = Spd::new(vec![Rule::new(selector, None, Action::Bypass)]);
        one.publish();
        one.datapath.begin(NOW);
        assert!(one.datapath.unprotected(&mut clear));
    }
}

#[test]
fn without_an_sa_one_acquire_is_sent_and_every_packet_is_counted() {
    let mut one = Host::new(1, 2, Open);
    for _ in 0..100 {
        assert!(one.send(&v4(), NOW).0.is_empty());
    }
    assert_eq!(one.dropped(Direction::Outbound, DropReason::NoOutboundSa), 100);
    let events: Vec<_> = one.events.try_iter().collect();
    assert!(matches!(events[..], [Event::Acquire { required: None, .. }]), "L-60: {events:?}");
    one.send(&v4(), NOW + Duration::from_secs(2));
    assert_eq!(one.events.try_iter().count(), 1, "and one more after a while");
}

#[test]
fn r_2_a_rekey_changes_spis_and_loses_nothing() {
    let (mut one, mut two) = joined(Open, Open);
    let renewed = SaOptions::new(0x3001, 2);
    let in_flight = one.send(&v4(), NOW).0.remove(0);
    two.insert(inbound_entry(2, 1, &renewed));
    two.publish();
    let old = one.snapshot.sad.iter().find(|slot| !slot.entry.is_inbound()).unwrap().entry.sa;
    one.insert(outbound_entry(1, 2, &renewed));
    assert!(one.snapshot.sad.set_usage(old, Usage::Retired));
    one.publish();
    let fresh = one.send(&v4(), NOW).0.remove(0);
    assert_ne!(in_flight[..4], fresh[..4], "another SPI");
    assert_eq!(two.receive(&fresh, NOW), [v4()]);
    assert_eq!(two.receive(&in_flight, NOW), [v4()], "what was under way still arrives");
    assert!(one.drops().is_empty() && two.drops().is_empty());
}

#[test]
fn l_74_a_pending_sa_neither_receives_nor_sends() {
    let (mut one, mut two) = joined(Open, Open);
    let inbound = two.snapshot.sad.iter().find(|slot| slot.entry.is_inbound()).unwrap().entry.sa;
    let outbound = one.snapshot.sad.iter().find(|slot| !slot.entry.is_inbound()).unwrap().entry.sa;
    let sealed = one.send(&v4(), NOW).0.remove(0);
    assert!(two.snapshot.sad.set_usage(inbound, Usage::Pending));
    two.publish();
    refuses(&mut two, &sealed, DropReason::SaPending);
    assert!(one.snapshot.sad.set_usage(outbound, Usage::Pending));
    one.publish();
    assert!(one.send(&v4(), NOW).0.is_empty());
    assert!(two.snapshot.sad.set_usage(inbound, Usage::Active));
    two.publish();
    assert_eq!(two.receive(&sealed, NOW), [v4()], "the pending time spent no number");
}

#[test]
fn link_local_traffic_of_the_inner_host_goes_no_further_and_is_no_error() {
    let (mut one, _) = joined(Open, Open);
    assert!(one.send(&udp("[fe80::1]:1", "[ff02::16]:2", b"mld"), NOW).0.is_empty());
    assert_eq!(one.drops(), [(Direction::Outbound, DropReason::LinkLocal, 1)]);
}

/// RFC 4291 2.5.6: what means something on one link only is heard from no peer, whatever its SA admits.
#[test]
fn rfc_4291_2_5_6_link_local_traffic_of_a_peer_goes_no_further() {
    let options = SaOptions::new(0x1001, 0);
    let (_, mut two) = joined_by(&options);
    let entry = outbound_entry(1, 2, &options).unwrap();
    let Role::Outbound { sa, .. } = &entry.role else { panic!("{entry:?}") };
    let mut sa = sa.take().unwrap();
    let packet = udp("[fe80::1]:1", "[fd00:2::2]:2", b"another router");
    let mut sealed = vec![0; sa.sealed_len(packet.len())];
    sealed[sa.payload_offset()..][..packet.len()].copy_from_slice(&packet);
    let number = sa.take(1).unwrap().next_seq().unwrap();
    sa.seal(number, NextHeader::IPV6, &mut sealed, packet.len()).unwrap();
    assert!(two.receive(&sealed, NOW).is_empty());
    assert_eq!(two.drops(), [(Direction::Inbound, DropReason::LinkLocal, 1)]);
}

/// T28: what leaves by the bypass port is parsed twice, and its checksum is completed once.
#[test]
fn t28_a_checksum_left_to_the_gateway_is_completed_once_however_often_it_is_parsed() {
    let whole = v4();
    let mut octets = vec![0; VNET_HDR_LEN];
    octets.extend_from_slice(&whole);
    // NEEDS_CSUM, begun at the UDP header, to be stored six octets into it.
    octets[0] = NEEDS_CSUM;
    octets[6..8].copy_from_slice(&20u16.to_ne_bytes());
    octets[8..10].copy_from_slice(&6u16.to_ne_bytes());
    let (ip, udp) = whole.split_at(20);
    let words = ip[12..20].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum = words.sum::<u32>() + 17 + u32::try_from(udp.len()).unwrap();
    let partial = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    octets[VNET_HDR_LEN + 26..VNET_HDR_LEN + 28].copy_from_slice(&partial.to_be_bytes());
    for _ in 0..2 {
        assert_eq!(SuperPacket::parse(&mut octets).unwrap().packet(), whole);
    }
}

/// The longest inner packet that leaves in an outer IPv4 packet of 1500 octets.
const MOST: usize = 1500 - 20 - 8 - 8 - 8 - 16 - 2;

#[test]
fn rfc_4301_8_2_1_what_fits_the_path_passes_and_of_what_does_not_the_sender_is_told() {
    let (mut one, mut two) = joined(Open, Open);
    for (from, to, headers) in [("10.0.1.1:1", "10.0.2.2:2", 28), ("[fd00:1::1]:1", "[fd00:2::2]:2", 48)] {
        let (drops, told) = (one.dropped(Direction::Outbound, DropReason::TooBig), one.told());
        let fits = udp(from, to, &vec![7; MOST - headers]);
        let (datagrams, _) = one.send(&fits, NOW);
        assert_eq!(28 + datagrams[0].len(), 1500);
        assert_eq!(two.receive(&datagrams[0], NOW), [fits]);
        assert_eq!((one.dropped(Direction::Outbound, DropReason::TooBig), one.told()), (drops, told));
        let longer = udp(from, to, &vec![7; MOST - headers + 1]);
        assert!(one.send(&longer, NOW).0.is_empty());
        assert_eq!((one.dropped(Direction::Outbound, DropReason::TooBig), one.told()), (drops + 1, told + 1));
        let answer = one.datapath.answer();
        let place = if headers == 28 { 26..28 } else { 46..48 };
        assert_eq!(answer[place], u16::try_from(MOST).unwrap().to_be_bytes(), "{from}");
        assert!(answer.windows(headers).any(|window| window == &longer[..headers]), "it quotes the packet");
    }
    assert_eq!(one.drops(), [(Direction::Outbound, DropReason::TooBig, 2)]);
}

/// RFC 4301 8.2.1 case 2: where DF is clear, the packet is fragmented, and its sender is told nothing.
#[test]
fn rfc_4301_8_2_1_an_ipv4_packet_that_may_be_fragmented_is_and_each_fragment_is_sealed() {
    let (mut one, mut two) = joined(Open, Open);
    let mut packet = udp("10.0.1.1:1", "10.0.2.2:2", &(0..4000).map(|n| n as u8).collect::<Vec<_>>());
    (packet[5], packet[6]) = (9, 0);
    let (datagrams, _) = one.send(&packet, NOW);
    assert_eq!(datagrams.len(), 3);
    let mut data = Vec::new();
    for datagram in &datagrams {
        assert!(28 + datagram.len() <= 1500);
        let fragments = two.receive(datagram, NOW);
        data.extend_from_slice(&fragments[0][20..]);
    }
    assert_eq!(data, packet[20..]);
    assert!(one.drops().is_empty() && two.drops().is_empty());
    let counters = one.datapath.counters();
    assert_eq!((counters.fragmented.get(), one.told()), (1, 0));
    assert_eq!(counters.street(Direction::Outbound).packets.get(), 3);
    let slot = one.snapshot.sad.iter().find(|slot| !slot.entry.is_inbound()).unwrap();
    assert_eq!(slot.entry.use_.packets.get(), 3, "each was charged");
}

/// What lies behind a packet's own end becomes nobody's data.
#[test]
fn rfc_791_3_1_what_follows_a_packet_is_no_part_of_its_fragments() {
    let (mut one, mut two) = joined(Open, Open);
    for len in [10, 2000] {
        let mut packet = udp("10.0.1.1:1", "10.0.2.2:2", &vec![7; len]);
        packet[6] = 0;
        let whole = packet.len();
        packet.resize(whole + 2000, 0xee);
        let fragments =
            one.send(&packet, NOW).0.iter().flat_map(|one| two.receive(one, NOW)).collect::<Vec<_>>();
        let data: Vec<u8> = fragments.iter().flat_map(|fragment| fragment[20..].to_vec()).collect();
        assert_eq!(data, packet[20..whole]);
    }
    assert!(one.drops().is_empty() && two.drops().is_empty());
}

/// RFC 4301 5.1: fragmenting can be disabled. Then the packet is dropped, and still its sender is told nothing.
#[test]
fn rfc_4301_5_1_fragmenting_before_sealing_can_be_disabled() {
    let (one, _) = joined(Open, Open);
    let mut one = one.with_oversize(Oversize { fragments: false, ..Oversize::default() });
    let mut packet = udp("10.0.1.1:1", "10.0.2.2:2", &[7; 4000]);
    packet[6] = 0;
    assert!(one.send(&packet, NOW).0.is_empty());
    assert_eq!(one.drops(), [(Direction::Outbound, DropReason::TooBig, 1)]);
    assert_eq!(one.told(), 0);
}

/// Of a super-packet every packet is dropped, and the sender hears of the first.
#[test]
fn rfc_4301_8_2_1_a_super_packet_that_does_not_fit_is_answered_once() {
    let (mut one, _) = joined(Open, Open);
    let mut octets = vec![0; VNET_HDR_LEN];
    (octets[0], octets[1]) = (NEEDS_CSUM, GSO_UDP_L4);
    octets[4..6].copy_from_slice(&2000u16.to_ne_bytes());
    octets[6..8].copy_from_slice(&20u16.to_ne_bytes());
    octets[8..10].copy_from_slice(&6u16.to_ne_bytes());
    octets.extend_from_slice(&udp("10.0.1.1:1", "10.0.2.2:2", &[7; 5000]));
    one.datapath.begin(NOW);
    let outcome = one.datapath.outbound(&mut octets, &mut SendBatch::new());
    assert_eq!(outcome, Outbound::Answered);
    assert_eq!(one.drops(), [(Direction::Outbound, DropReason::TooBig, 3)]);
    let quoted = &one.datapath.answer()[28..];
    assert_eq!(quoted[2..4], 2028u16.to_be_bytes(), "a packet, not the super-packet");
    // With DF clear, each packet is fragmented: two of 2028 octets and one of 1028.
    octets[VNET_HDR_LEN + 6] = 0;
    let mut batch = SendBatch::new();
    assert_eq!(one.datapath.outbound(&mut octets, &mut batch), Outbound::Sealed);
    assert_eq!(batch.runs().map(|run| run.len()).sum::<usize>(), 5);
    assert_eq!(one.datapath.counters().fragmented.get(), 2);
}
