//! Every mode, carrier and family between two gateways in memory: what passes, octet for octet, what it looks like from
//! outside, and each drop by its name.

mod authenticated;
mod policy;

use std::sync::Arc;

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};
use latchway_esp::{Integrity, Protocol, Suite};
use latchway_tagging::Mode;

use super::{NOW, udp, v4, v6};
use crate::arrival::{Arrival, Carrier};
use crate::checksum::Sum;
use crate::drop::{Direction, DropReason};
use crate::outer::{Df, Dscp, OuterPolicy};
use crate::sad::{Follow, Role, SadEntry, Shape, Tfc};
use crate::segment::SuperPacket;
use crate::testing::{Host, Open, SaOptions, arrival, inbound_entry, joined_by, outer_end};
use crate::virtio::{GSO_UDP_L4, NEEDS_CSUM, VNET_HDR_LEN};

const CARRIERS: [Carrier; 2] = [Carrier::Udp, Carrier::Native];

fn options(mode: Mode, carrier: Carrier, outer_v6: bool) -> SaOptions {
    let outer = if carrier == Carrier::Native { OuterPolicy::NATIVE } else { OuterPolicy::UDP };
    let shape = Shape { outer, ..Shape::default() };
    SaOptions { mode, carrier, outer_v6, shape, ..SaOptions::new(0x1001, 0) }
}

fn all() -> Vec<SaOptions> {
    let mut all = Vec::new();
    for mode in [Mode::Tunnel, Mode::Transport] {
        for carrier in CARRIERS {
            all.extend([false, true].map(|outer_v6| options(mode, carrier, outer_v6)));
        }
    }
    all
}

/// A datagram between the outer addresses, as transport mode carries it.
fn between_ends(outer_v6: bool, payload: &[u8]) -> Vec<u8> {
    let end = |host| {
        let address = outer_end(host, outer_v6, Carrier::Native).ip();
        if outer_v6 { format!("[{address}]:7") } else { format!("{address}:7") }
    };
    udp(&end(1), &end(2), payload)
}

/// What the SA may carry: both families through a tunnel, one between its ends.
fn carried_by(options: &SaOptions, payload: &[u8]) -> Vec<Vec<u8>> {
    match options.mode {
        Mode::Tunnel => vec![
            udp("10.0.1.1:1000", "10.0.2.2:2000", payload),
            udp("[fd00:1::1]:1000", "[fd00:2::2]:2000", payload),
        ],
        Mode::Transport => vec![between_ends(options.outer_v6, payload)],
    }
}

/// Sends one packet, and gives it to the other as it would arrive.
fn sent(one: &mut Host<Open>, packet: &[u8]) -> Vec<u8> {
    let (mut datagrams, _) = one.send(packet, NOW);
    assert_eq!(datagrams.len(), 1, "{:?}", one.drops());
    datagrams.remove(0)
}

fn receive(two: &mut Host<Open>, octets: &[u8], options: &SaOptions) -> Vec<Vec<u8>> {
    two.receive_as(octets, &arrival(1, octets.len(), options), NOW)
}

/// Receives `octets` and expects exactly one drop, for `reason`.
fn refuses(two: &mut Host<Open>, octets: &[u8], arrival: &Arrival, reason: DropReason) {
    let all = |host: &Host<Open>| host.drops().iter().map(|(_, _, count)| count).sum::<u64>();
    let (before, total) = (two.dropped(Direction::Inbound, reason), all(two));
    assert_eq!(two.receive_as(octets, arrival, NOW), Vec::<Vec<u8>>::new(), "{reason}");
    assert_eq!(two.dropped(Direction::Inbound, reason), before + 1, "{reason}: {:?}", two.drops());
    assert_eq!(all(two), total + 1, "{reason} and nothing else");
}

/// What one read from the TUN brings: datagrams of 1000 octets and one that is shorter, to be cut.
fn super_packet(packet: &[u8]) -> Vec<u8> {
    let upper = if packet[0] >> 4 == 6 { 40u16 } else { 20 };
    let mut octets = vec![0; VNET_HDR_LEN];
    (octets[0], octets[1]) = (NEEDS_CSUM, GSO_UDP_L4);
    octets[4..6].copy_from_slice(&1000u16.to_ne_bytes());
    octets[6..8].copy_from_slice(&upper.to_ne_bytes());
    octets[8..10].copy_from_slice(&6u16.to_ne_bytes());
    octets.extend_from_slice(packet);
    octets
}

/// What the header that transport mode in UDP cannot carry is made to say on arrival.
fn as_restored(packet: &[u8], options: &SaOptions, delivered: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if options.mode == Mode::Transport && options.carrier == Carrier::Udp && !options.outer_v6 {
        // Identification, DF and with them the checksum.
        packet[4..8].copy_from_slice(&delivered[4..8]);
        packet[10..12].copy_from_slice(&delivered[10..12]);
        let header = Ipv4HeaderSlice::from_slice(delivered).unwrap().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
    }
    packet
}

/// RFC 4301 section 4.1, RFC 4303 section 3.1: tunnels of each family carry each family, and transport mode its own, in UDP
/// and without.
#[test]
fn rfc_4301_4_1_every_mode_carrier_and_family_passes_unchanged() {
    for options in all() {
        let (mut one, mut two) = joined_by(&options);
        for len in [0, 1, 2, 3, 64, 1000] {
            for packet in carried_by(&options, &vec![0x5a; len]) {
                let octets = sent(&mut one, &packet);
                if len > 64 {
                    assert!(!octets.windows(8).any(|window| window == [0x5a; 8]), "sealed");
                }
                let delivered = receive(&mut two, &octets, &options);
                assert_eq!(delivered.len(), 1, "{options:?} {:?}", two.drops());
                assert_eq!(delivered[0], as_restored(&packet, &options, &delivered[0]), "{options:?}");
            }
        }
        assert!(one.drops().is_empty() && two.drops().is_empty());
    }
}

/// T28, T29: what the system leaves to be cut is cut, and each part passes by itself, in order; what follows a packet in what was
/// read is no part of it in transport mode, and padding in a tunnel.
#[test]
fn t28_super_packets_pass_in_every_mode_as_what_they_mean() {
    for options in all() {
        let (mut one, mut two) = joined_by(&options);
        for packet in carried_by(&options, &[0x77; 3500]) {
            let mut octets = super_packet(&packet);
            let mut segments = SuperPacket::parse(&mut octets).unwrap().segments();
            let mut expected = Vec::new();
            let mut out = vec![0; 2000];
            while let Some(len) = segments.write_next(&mut out) {
                expected.push(out[..len].to_vec());
            }
            assert_eq!(expected.len(), 4);
            let (datagrams, _) = one.send_read(&mut octets, NOW);
            assert_eq!(datagrams.len(), 4, "{:?}", one.drops());
            for (octets, expected) in datagrams.iter().zip(&expected) {
                let delivered = receive(&mut two, octets, &options);
                assert_eq!(delivered.len(), 1, "{options:?} {:?}", two.drops());
                assert_eq!(delivered[0], as_restored(expected, &options, &delivered[0]), "{options:?}");
            }
        }
        for packet in carried_by(&options, b"and what follows") {
            let octets = sent(&mut one, &[&packet[..], &[0xee; 9]].concat());
            let delivered = receive(&mut two, &octets, &options);
            assert_eq!(delivered[0], as_restored(&packet, &options, &delivered[0]), "{options:?}");
        }
    }
}

/// RFC 4301 section 5.1.2, RFC 4303 section 3.1.2: the outer header of a tunnel says what it must, of either family.
#[test]
fn rfc_4301_5_1_2_a_native_tunnel_has_an_outer_header_of_its_own() {
    for outer_v6 in [false, true] {
        let options = options(Mode::Tunnel, Carrier::Native, outer_v6);
        let (mut one, _) = joined_by(&options);
        let mut ids = Vec::new();
        for packet in carried_by(&options, b"whatever").iter().cycle().take(8) {
            let octets = sent(&mut one, packet);
            if outer_v6 {
                let header = Ipv6HeaderSlice::from_slice(&octets).unwrap().to_header();
                assert_eq!(usize::from(header.payload_length) + 40, octets.len());
                assert_eq!((header.next_header.0, header.hop_limit), (50, 64));
                assert_ne!(header.flow_label.value(), 0, "the flow's");
            } else {
                let header = Ipv4HeaderSlice::from_slice(&octets).unwrap().to_header();
                assert_eq!(usize::from(header.total_len), octets.len());
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                assert_eq!((header.protocol.0, header.time_to_live), (50, 64));
                let inner_df = packet[0] >> 4 == 6 || packet[6] & 0x40 != 0;
                assert_eq!(header.dont_fragment, inner_df, "copied");
                assert_ne!(header.identification, 0);
                ids.push(header.identification);
            }
        }
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
    }
}

/// T27: what the traffic class becomes on the way out shows in the marks, and in the header where the gateway writes it; and
/// what became of it on the way in reaches the inner packet, super-packets and all.
#[test]
fn t27_ecn_and_dscp_go_out_and_come_back() {
    for options in all() {
        let (mut one, mut two) = joined_by(&options);
        for mut packet in carried_by(&options, b"marked") {
            set_class(&mut packet, 0x2e << 2 | 2);
            let mut octets = sent(&mut one, &packet);
            assert_eq!(one.marks()[0].traffic_class, 0x2e << 2 | 2, "{options:?}");
            let mut came = arrival(1, octets.len(), &options);
            if options.carrier == Carrier::Native {
                assert_eq!(crate::outer::traffic_class(&octets), 0x2e << 2 | 2);
                set_class(&mut octets, 0x2e << 2 | 3);
            } else {
                came.traffic_class = 0x2e << 2 | 3;
            }
            let delivered = two.receive_as(&octets, &came, NOW).remove(0);
            set_class(&mut packet, 0x2e << 2 | 3);
            assert_eq!(delivered, as_restored(&packet, &options, &delivered), "{options:?}");
        }
    }
}

fn set_class(packet: &mut [u8], class: u8) {
    if packet[0] >> 4 == 6 {
        packet[0] = 0x60 | class >> 4;
        packet[1] = class << 4 | packet[1] & 15;
    } else {
        packet[1] = class;
        packet[10..12].fill(0);
        let checksum = Sum::ZERO.bytes(&packet[..20]).checksum();
        packet[10..12].copy_from_slice(&checksum);
    }
}

/// T27, RFC 6040 section 4.2: one combination is dropped, and the unusual ones are counted.
#[test]
fn t27_rfc_6040_4_2_congestion_that_nobody_can_be_told_of_is_a_drop() {
    let options = options(Mode::Tunnel, Carrier::Udp, false);
    let (mut one, mut two) = joined_by(&options);
    let came = |octets: &[u8], traffic_class| Arrival { traffic_class, ..arrival(1, octets.len(), &options) };
    let octets = sent(&mut one, &v4());
    refuses(&mut two, &octets, &came(&octets, 3), DropReason::EcnCeNotEct);
    let octets = sent(&mut one, &v4());
    assert_eq!(two.receive_as(&octets, &came(&octets, 1), NOW), [v4()]);
    assert_eq!(two.datapath.counters().ecn_unusual.get(), 1);
}

/// T34, RFC 3948: an SA is of one carrier, and what comes by the other is dropped before anything is computed.
#[test]
fn t34_what_comes_by_another_carrier_is_an_encapsulation_mismatch() {
    let in_udp = options(Mode::Tunnel, Carrier::Udp, false);
    let native = options(Mode::Tunnel, Carrier::Native, false);
    let (mut one, mut two) = joined_by(&in_udp);
    let (mut bare, mut two_bare) = joined_by(&native);
    let octets = sent(&mut one, &v4());
    let other = sent(&mut bare, &v4());
    let came = |octets: &[u8], options| arrival(1, octets.len(), options);
    refuses(&mut two, &other, &came(&other, &native), DropReason::EncapsulationMismatch);
    refuses(&mut two_bare, &octets, &came(&octets, &in_udp), DropReason::EncapsulationMismatch);
    assert_eq!(receive(&mut two, &octets, &in_udp), [v4()]);
    assert_eq!(receive(&mut two_bare, &other, &native), [v4()]);
}

/// T34: authentic from elsewhere is a drop of its own, and no longer where the peer may move. A forged one is a forged one.
#[test]
fn t34_another_address_than_the_peers_is_an_outer_mismatch() {
    let fixed = options(Mode::Tunnel, Carrier::Udp, false);
    let moving = SaOptions { follow: Follow::Follow, ..fixed.clone() };
    for (options, passes) in [(&fixed, false), (&moving, true)] {
        let (mut one, mut two) = joined_by(options);
        let octets = sent(&mut one, &v4());
        let elsewhere = Arrival::udp(octets.len(), "203.0.113.9:4500".parse().unwrap());
        let mut forged = octets.clone();
        *forged.last_mut().unwrap() ^= 1;
        refuses(&mut two, &forged, &elsewhere, DropReason::IcvMismatch);
        if passes {
            assert_eq!(two.receive_as(&octets, &elsewhere, NOW), [v4()]);
        } else {
            refuses(&mut two, &octets, &elsewhere, DropReason::OuterMismatch);
        }
        revise(&mut two, |entry| {
            let Role::Inbound { from, .. } = &mut entry.role else { return };
            from.address = std::net::Ipv4Addr::UNSPECIFIED.into();
        });
        let octets = sent(&mut one, &v4());
        assert_eq!(two.receive_as(&octets, &elsewhere, NOW), [v4()], "no address is any address");
        let (mut one, mut two) = joined_by(options);
        let octets = sent(&mut one, &v4());
        let written_otherwise = Arrival::udp(octets.len(), "[::ffff:192.0.2.1]:999".parse().unwrap());
        assert_eq!(two.receive_as(&octets, &written_otherwise, NOW), [v4()], "the same, and another port");
    }
}

/// RFC 4301 section 4.1: transport mode is for what goes between the ends of the SA.
#[test]
fn rfc_4301_4_1_transport_mode_is_between_its_ends_only() {
    for carrier in CARRIERS {
        for outer_v6 in [false, true] {
            let options = options(Mode::Transport, carrier, outer_v6);
            let (mut one, mut two) = joined_by(&options);
            let anything = || {
                let both = [crate::selector::AddressRange::ANY_V4, crate::selector::AddressRange::ANY_V6];
                both.map(|range| crate::selector::Selector::between(range, range))
            };
            for host in [&mut one, &mut two] {
                revise(host, |entry| entry.selectors = anything().into());
            }
            let foreign = if outer_v6 { v6() } else { v4() };
            assert!(one.send(&foreign, NOW).0.is_empty());
            assert_eq!(one.dropped(Direction::Outbound, DropReason::TransportEnds), 1);
            if carrier == Carrier::Native {
                // The header is not authentic: another source address on the way.
                let mut octets = sent(&mut one, &between_ends(outer_v6, b"x"));
                let source = if outer_v6 { 8 + 15 } else { 12 + 3 };
                octets[source] ^= 0x40;
                let came = arrival(1, octets.len(), &options);
                refuses(&mut two, &octets, &came, DropReason::TransportEnds);
            }
        }
    }
}

/// RFC 4303 section 3.1.1: options and extension headers that routers look at stay in front, in the clear; what is the
/// receiver's alone is protected. In UDP they cannot travel.
#[test]
fn t21_rfc_4303_3_1_1_headers_stay_where_they_belong() {
    let mut with_options = between_ends(false, b"with options");
    with_options.splice(20..20, [0x94, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0]);
    with_options[0] = 0x48;
    let total = u16::try_from(with_options.len()).unwrap();
    with_options[2..4].copy_from_slice(&total.to_be_bytes());
    with_options[10..12].fill(0);
    let checksum = Sum::ZERO.bytes(&with_options[..32]).checksum();
    with_options[10..12].copy_from_slice(&checksum);
    let mut with_extensions = between_ends(true, b"with extensions");
    // Hop-by-hop with a router alert, a fragment header of a whole packet, and destination options.
    let chain = [44, 0, 5, 2, 0, 0, 1, 0, 60, 0, 0, 0, 1, 2, 3, 4, 17, 0, 1, 4, 0, 0, 0, 0];
    with_extensions.splice(40..40, chain);
    with_extensions[6] = 0;
    let payload = u16::try_from(with_extensions.len() - 40).unwrap();
    with_extensions[4..6].copy_from_slice(&payload.to_be_bytes());

    for (packet, in_front, protocol_at) in [(with_options, 32, 9), (with_extensions, 56, 48)] {
        let outer_v6 = packet[0] >> 4 == 6;
        let native = options(Mode::Transport, Carrier::Native, outer_v6);
        let (mut one, mut two) = joined_by(&native);
        let octets = sent(&mut one, &packet);
        assert_eq!(octets[protocol_at], 50);
        assert_eq!(octets[in_front..in_front + 4], 0x1001u32.to_be_bytes(), "the SPI");
        assert_eq!(octets[in_front - 8..in_front - 1][1..], packet[in_front - 8..in_front - 1][1..]);
        assert_eq!(receive(&mut two, &octets, &native), std::slice::from_ref(&packet));
        let in_udp = options(Mode::Transport, Carrier::Udp, outer_v6);
        let (mut one, _) = joined_by(&in_udp);
        assert!(one.send(&packet, NOW).0.is_empty());
        assert_eq!(one.dropped(Direction::Outbound, DropReason::TransportHeader), 1);
    }
}

/// T20, RFC 4303 sections 3.3.4 and 3.4.1: transport mode protects whole packets, and ESP is opened whole.
#[test]
fn t20_fragments_are_neither_protected_by_transport_mode_nor_opened() {
    for carrier in CARRIERS {
        let options = options(Mode::Transport, carrier, false);
        let (mut one, _) = joined_by(&options);
        let mut fragment = between_ends(false, &[7; 32]);
        fragment[6] |= 0x20;
        assert!(one.send(&fragment, NOW).0.is_empty());
        assert_eq!(one.dropped(Direction::Outbound, DropReason::TransportFragment), 1, "{:?}", one.drops());
    }
    let native = options(Mode::Tunnel, Carrier::Native, false);
    let (mut one, mut two) = joined_by(&native);
    let mut octets = sent(&mut one, &v4());
    octets[6] |= 0x20;
    let came = arrival(1, octets.len(), &native);
    refuses(&mut two, &octets, &came, DropReason::Fragment);
}

/// RFC 3948 section 3.1.2: what a NAT has made wrong is made right where the SA says that there is one, and is left alone
/// where there is none.
#[test]
fn rfc_3948_3_1_2_checksums_are_made_anew_behind_a_nat() {
    let is_intact = |packet: &[u8]| {
        let pseudo = Sum::ZERO.bytes(&packet[12..20]).u16(17);
        pseudo.u16(u16::from_be_bytes([packet[24], packet[25]])).bytes(&packet[20..]).is_intact()
    };
    for translated in [false, true] {
        let plain = options(Mode::Transport, Carrier::Udp, false);
        let options = SaOptions { translated, follow: Follow::Follow, ..plain };
        let (mut one, mut two) = joined_by(&options);
        let any = crate::selector::AddressRange::ANY_V4;
        revise(&mut two, |entry| entry.selectors = [crate::selector::Selector::between(any, any)].into());
        let octets = sent(&mut one, &between_ends(false, b"translated"));
        let nat = Arrival::udp(octets.len(), "198.51.100.7:61000".parse().unwrap());
        let delivered = two.receive_as(&octets, &nat, NOW).remove(0);
        assert_eq!(delivered[12..16], [198, 51, 100, 7], "as the peer is seen from here");
        assert_eq!(is_intact(&delivered), translated);
    }
}

/// RFC 3948 section 3.1.2, RFC 4443 section 2.3: and so are those behind destination options, and of ICMPv6.
#[test]
fn rfc_3948_3_1_2_checksums_over_ipv6_are_made_anew_wherever_they_stand() {
    let plain = options(Mode::Transport, Carrier::Udp, true);
    let options = SaOptions { translated: true, follow: Follow::Follow, ..plain };
    let (mut one, mut two) = joined_by(&options);
    let any = crate::selector::AddressRange::ANY_V6;
    revise(&mut two, |entry| entry.selectors = [crate::selector::Selector::between(any, any)].into());
    let whole = between_ends(true, b"translated");
    for (protocol, in_front) in [(17, 0), (17, 8), (17, 16), (58, 0), (58, 8)] {
        let mut front = vec![0; in_front];
        if let Some(units) = (in_front / 8).checked_sub(1) {
            front[..4].copy_from_slice(&[protocol, units as u8, 1, in_front as u8 - 4]);
        }
        let mut packet = [&whole[..40], &front, &whole[40..]].concat();
        packet[6] = if in_front > 0 { 60 } else { protocol };
        let len = u16::try_from(packet.len() - 40).unwrap();
        packet[4..6].copy_from_slice(&len.to_be_bytes());
        if protocol == 58 {
            packet[40 + in_front..][..4].copy_from_slice(&[128, 0, 7, 7]);
        }
        let octets = sent(&mut one, &packet);
        let nat = Arrival::udp(octets.len(), "[2001:db8:7::7]:61000".parse().unwrap());
        let delivered = two.receive_as(&octets, &nat, NOW).remove(0);
        let upper = &delivered[40 + in_front..];
        let pseudo = Sum::ZERO.bytes(&delivered[8..40]).u16(protocol.into()).u16(upper.len() as u16);
        assert!(pseudo.bytes(upper).is_intact(), "{protocol} behind {in_front} octets");
        assert_eq!(delivered[40..40 + in_front], front);
    }
}

/// T01, T02, RFC 4303 section 2.6: what a tunnel carries is what its next header says.
#[test]
fn rfc_4303_2_6_a_tunnel_carries_nothing_but_ip_packets() {
    let tunnel = options(Mode::Tunnel, Carrier::Native, false);
    let transport = options(Mode::Transport, Carrier::Native, false);
    let (mut one, _) = joined_by(&transport);
    let mut two: Host<Open> = Host::new(2, 1, Open);
    two.insert(inbound_entry(2, 1, &tunnel));
    two.publish();
    let octets = sent(&mut one, &between_ends(false, b"not tunnelled"));
    let came = arrival(1, octets.len(), &tunnel);
    refuses(&mut two, &octets, &came, DropReason::BadNextHeader);
}

/// RFC 8221: every suite of ESP and of AH in every mode, by every carrier that can carry it.
#[test]
fn every_suite_passes_in_every_mode() {
    for suite in Suite::all() {
        let can =
            |options: &SaOptions| suite.protocol() == Protocol::Esp || options.carrier == Carrier::Native;
        for options in all().into_iter().filter(can) {
            let options = SaOptions { suite, ..options };
            let (mut one, mut two) = joined_by(&options);
            for packet in carried_by(&options, b"by every suite") {
                let octets = sent(&mut one, &packet);
                let delivered = receive(&mut two, &octets, &options);
                assert_eq!(delivered.len(), 1, "{suite} {:?}", two.drops());
                assert_eq!(delivered[0], as_restored(&packet, &options, &delivered[0]), "{suite}");
            }
        }
    }
}

/// T06: the largest packet that fits is sent and is no longer than the path takes; one octet more is too big.
#[test]
fn t06_the_largest_packet_fills_the_path_and_never_passes_it() {
    for options in all() {
        let (mut one, mut two) = joined_by(&options);
        let ip_and_udp =
            if options.carrier == Carrier::Udp { if options.outer_v6 { 48 } else { 28 } } else { 0 };
        let mut longest = 0;
        for len in 1300..1480 {
            for mut packet in carried_by(&options, &vec![7; len]) {
                if packet[0] >> 4 == 4 {
                    packet[6] |= 0x40;
                }
                let (datagrams, _) = one.send(&packet, NOW);
                let Some(octets) = datagrams.first() else {
                    assert!(one.dropped(Direction::Outbound, DropReason::TooBig) > 0, "{:?}", one.drops());
                    continue;
                };
                longest = longest.max(octets.len() + ip_and_udp);
                assert_eq!(receive(&mut two, octets, &options).len(), 1);
            }
        }
        // Padding to four octets leaves up to three of the path unused.
        assert!((1497..=1500).contains(&longest), "{longest}: {options:?}");
    }
}

/// RFC 4301 section 8.1, RFC 2983: what the policy of an SA says shows in its marks and headers.
#[test]
fn rfc_4301_8_1_the_outer_policy_shows() {
    let outer = OuterPolicy { dscp: Dscp::Set(10), df: Df::Clear, ttl: 9, ..OuterPolicy::NATIVE };
    let shape = Shape { outer, ..Shape::default() };
    for carrier in CARRIERS {
        let options = SaOptions { shape: shape.clone(), ..options(Mode::Tunnel, carrier, false) };
        let (mut one, _) = joined_by(&options);
        let octets = sent(&mut one, &v6());
        assert_eq!((one.marks()[0].traffic_class, one.marks()[0].may_fragment), (10 << 2, true));
        if carrier == Carrier::Native {
            assert_eq!((octets[1], octets[6] & 0x40, octets[8]), (10 << 2, 0, 9));
        }
    }
}

/// Revises the one SA of a host.
fn revise(host: &mut Host<Open>, change: impl FnOnce(&mut SadEntry)) {
    let mut entry = host.snapshot.sad.iter().next().unwrap().entry.as_ref().clone();
    change(&mut entry);
    assert!(host.snapshot.sad.revise(Arc::new(entry)));
    host.publish();
}

/// RFC 4303 section 2.7: lengths are hidden up to the next multiple, or the path's MTU, and the inner packet is what it was.
#[test]
fn rfc_4303_2_7_padding_hides_lengths_and_is_taken_off() {
    for carrier in CARRIERS {
        for (tfc, expected) in [(Tfc::None, 5), (Tfc::Multiple(256), 3), (Tfc::Mtu, 1)] {
            let plain = options(Mode::Tunnel, carrier, false);
            let shape = Shape { tfc, ..plain.shape.clone() };
            let options = SaOptions { shape, ..plain };
            let (mut one, mut two) = joined_by(&options);
            let mut lengths = std::collections::BTreeSet::new();
            for len in [0, 60, 300, 500, 1300] {
                let packet = udp("10.0.1.1:1000", "10.0.2.2:2000", &vec![3; len]);
                let octets = sent(&mut one, &packet);
                lengths.insert(octets.len());
                assert_eq!(receive(&mut two, &octets, &options), [packet]);
            }
            // 28 and 88 octets make one multiple of 256, 328 the next, 528 the third, and 1328 the sixth.
            let expected = if tfc == Tfc::Multiple(256) { 4 } else { expected };
            assert_eq!(lengths.len(), expected, "{tfc:?} {lengths:?}");
            let headers = if carrier == Carrier::Udp { 28 } else { 0 };
            assert!(lengths.iter().all(|len| len + headers <= 1500));
        }
    }
}

/// RFC 4301 section 8.1: in transport mode the packet's own DF bit and traffic class are the outer ones, whatever the SA says
/// of outer headers.
#[test]
fn rfc_4301_8_1_transport_mode_keeps_what_the_packet_says() {
    let outer = OuterPolicy { dscp: Dscp::Set(10), df: Df::Clear, ..OuterPolicy::NATIVE };
    let shape = Shape { outer, ..Shape::default() };
    for carrier in CARRIERS {
        let options = SaOptions { shape: shape.clone(), ..options(Mode::Transport, carrier, false) };
        let (mut one, _) = joined_by(&options);
        for df in [0x40, 0] {
            let mut packet = between_ends(false, b"marked by its sender");
            packet[6] = df;
            set_class(&mut packet, 0xb8);
            sent(&mut one, &packet);
            assert_eq!((one.marks()[0].traffic_class, one.marks()[0].may_fragment), (0xb8, df == 0));
        }
    }
}

/// RFC 6864 section 4.3, RFC 4302 section 3.3.3.1.1: what may be cut on its way has an identification when it is
/// authenticated. Where it has none, the system would put one of its own, and another into each fragment.
#[test]
fn rfc_6864_4_3_what_may_be_cut_leaves_transport_mode_with_an_identification() {
    for suite in [Suite::AES_128_GCM, Suite::ah(Integrity::HmacSha256)] {
        let options = SaOptions { suite, ..options(Mode::Transport, Carrier::Native, false) };
        let (mut one, mut two) = joined_by(&options);
        for (df, id) in [(false, 0u16), (false, 7), (true, 0)] {
            let mut packet = between_ends(false, b"data");
            packet[4..6].copy_from_slice(&id.to_be_bytes());
            packet[6] = if df { 0x40 } else { 0 };
            let octets = sent(&mut one, &packet);
            let header = Ipv4HeaderSlice::from_slice(&octets).unwrap().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            let needs_one = !df && id == 0;
            assert_eq!(header.identification == id, !needs_one, "{suite} {df} {id}");
            assert_eq!(receive(&mut two, &octets, &options).len(), 1, "{:?}", two.drops());
        }
    }
}
