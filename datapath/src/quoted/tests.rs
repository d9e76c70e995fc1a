use std::net::IpAddr;

use etherparse::PacketBuilder;
use latchway_netns::packet;

use super::*;
use crate::selector::{AddressRange, Selector};
use crate::spd::{Protection, Rule};
use crate::testing::{Host, Open, SaOptions, inner, joined, outbound_entry};
use crate::time::Time;
use crate::virtio::VNET_HDR_LEN;

const HERE: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const THERE: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// Packet Too Big about a UDP datagram from here, with `extension` between the headers of what it quotes.
fn too_big(extension: &[u8]) -> Vec<u8> {
    let mut quote = Vec::new();
    PacketBuilder::ipv6(HERE, THERE, 64).udp(4000, 53).write(&mut quote, b"data").unwrap();
    quote.splice(40..40, extension.iter().copied());
    if !extension.is_empty() {
        quote[6] = FRAGMENT;
    }
    let mut octets = Vec::new();
    PacketBuilder::ipv6(THERE, HERE, 64).icmpv6_raw(2, 0, [0, 0, 5, 0]).write(&mut octets, &quote).unwrap();
    octets
}

fn found(octets: &[u8]) -> Result<Option<FlowKey>, DropReason> {
    let packet = IpPacket::parse(octets, Direction::Inbound).unwrap();
    quoted(&packet, Direction::Inbound).map(|about| about.map(|about| about.flow))
}

#[test]
fn rfc_4443_2_4_the_flow_of_a_quoted_packet_is_found_or_the_error_dropped() {
    let flow = FlowKey::from_octets(HERE, THERE, protocol::UDP, (4000, 53));
    assert_eq!(found(&too_big(&[])), Ok(Some(flow)));
    assert_eq!(found(&too_big(&[17, 0, 0, 1, 0, 0, 0, 7])), Ok(Some(flow)), "a first fragment");
    assert_eq!(found(&too_big(&[17, 0, 0, 9, 0, 0, 0, 7])), Err(DropReason::BadIpHeader), "a later one");
    assert_eq!(found(&too_big(&[60, 0, 0, 1, 0, 0, 0, 7])), Err(DropReason::BadIpHeader), "hidden");
    let echo = {
        let mut octets = Vec::new();
        PacketBuilder::ipv6(THERE, HERE, 64).icmpv6_echo_request(1, 1).write(&mut octets, &[]).unwrap();
        octets
    };
    assert_eq!(found(&echo), Ok(None));
}

#[test]
fn t21_an_error_cut_anywhere_is_dropped_or_about_the_same_flow() {
    let whole = too_big(&[]);
    let flow = found(&whole).unwrap();
    for len in 48..whole.len() {
        let mut cut = whole[..len].to_vec();
        cut[4..6].copy_from_slice(&(len as u16 - 40).to_be_bytes());
        let about = found(&cut);
        match len {
            92.. => assert_eq!(about, Ok(flow)),
            _ => assert!(about.is_err(), "{len}: {about:?}"),
        }
    }
}

const NOW: Time = Time::from_nanos(1_000_000_000);

/// Behind the first gateway, behind the second, and a router that no selector speaks of.
const NETS: [[&str; 3]; 2] =
    [["10.0.1.10", "10.0.2.20", "172.16.0.3"], ["fd00:1::10", "fd00:2::20", "2001:db8::3"]];

fn udp(from: &str, to: &str) -> Vec<u8> {
    let end = |address: &str, port| (address.parse::<IpAddr>().unwrap(), port).into();
    packet::udp(end(from, 4000), end(to, 53), &[7; 100]).unwrap()
}

/// What says so about a packet, from somebody to somebody: Destination Unreachable, or that it is too big.
fn error(from: &str, to: &str, too_big: bool, quote: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    match (from.parse().unwrap(), to.parse().unwrap()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64)
            .icmpv4_raw(3, if too_big { 4 } else { 1 }, [0, 0, 5, 0])
            .write(&mut octets, quote)
            .unwrap(),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64)
            .icmpv6_raw(if too_big { 2 } else { 1 }, if too_big { 0 } else { 3 }, [0, 0, 5, 0])
            .write(&mut octets, quote)
            .unwrap(),
        other => panic!("{other:?}"),
    }
    octets
}

fn any(v4: bool) -> AddressRange {
    if v4 { AddressRange::ANY_V4 } else { AddressRange::ANY_V6 }
}

/// The same host with other rules.
fn with_rules(host: &mut Host<Open>, rules: Vec<Rule>) {
    host.snapshot.spd = Spd::new(rules);
    host.publish();
}

fn rule(selector: Selector, action: Action) -> Rule {
    Rule::new(selector, None, action)
}

const PROTECT: Action = Action::Protect(Protection::UNLATCHED);

/// Between the two networks, for the second host.
fn nets() -> Vec<Rule> {
    [false, true].map(|v6| rule(Selector::between(inner(2, v6), inner(1, v6)), PROTECT)).into()
}

fn unprotected(host: &mut Host<Open>, packet: &[u8]) -> bool {
    host.datapath.begin(NOW);
    host.datapath.unprotected(&mut [&[0; VNET_HDR_LEN], packet].concat())
}

/// RFC 4301 6.2, T19: of a host that is not there, or of a link that is too narrow, behind the second gateway or at it,
/// the sender behind the first hears through the tunnel; from whatever address, in both families.
#[test]
fn t19_rfc_4301_6_2_errors_from_a_router_or_gateway_come_through_the_tunnel() {
    for [here, there, router] in NETS {
        for from in [router, if here.contains(':') { "2001:db8::2" } else { "192.0.2.2" }, there] {
            for too_big in [false, true] {
                let (mut one, mut two) = joined(Open, Open);
                let sent = udp(here, there);
                let (sealed, _) = one.send(&sent, NOW);
                assert_eq!(two.receive(&sealed[0], NOW), std::slice::from_ref(&sent));
                // Routers quote as much as they like.
                for len in [sent.len(), if here.contains(':') { 48 } else { 28 }] {
                    let error = error(from, here, too_big, &sent[..len]);
                    let (sealed, bypass) = two.send(&error, NOW);
                    assert!(sealed.len() == 1 && !bypass, "{from}");
                    assert_eq!(one.receive(&sealed[0], NOW), [error]);
                }
                assert_eq!((one.drops(), two.drops()), (vec![], vec![]));
            }
        }
    }
}

/// RFC 4301 6.2: an error about packets that no SA carries goes nowhere, nor does one to somebody else than who sent what
/// it quotes, nor one that quotes nothing.
#[test]
fn t19_rfc_4301_6_2_an_error_about_another_flow_is_not_sent() {
    for [here, there, router] in NETS {
        let (_, mut two) = joined(Open, Open);
        let elsewhere = if here.contains(':') { "fd00:9::9" } else { "10.0.9.9" };
        let sent = udp(here, there);
        for error in [
            error(router, elsewhere, false, &udp(elsewhere, there)),
            error(router, here, false, &udp(here, elsewhere)),
            error(router, elsewhere, false, &sent),
            error(router, here, false, &sent[..10]),
            error(router, here, false, &udp(there, here)),
        ] {
            assert_eq!(two.send(&error, NOW), (vec![], false));
        }
        assert_eq!(two.drops(), [(Direction::Outbound, DropReason::NoPolicy, 5)]);
    }
}

/// T19, strongSwan 6.0.5: a peer that sends whatever it likes under its SA ends nobody's connections with it.
#[test]
fn t19_rfc_4301_6_2_a_peer_cannot_speak_of_connections_that_are_not_its_own() {
    for [here, there, router] in NETS {
        let (mut one, mut two) = joined(Open, Open);
        // The second host's SA admits everything there.
        let mut wide =
            std::sync::Arc::into_inner(outbound_entry(2, 1, &SaOptions::new(0x1002, 7)).unwrap()).unwrap();
        wide.selectors = [true, false].map(|v4| Selector::between(any(v4), any(v4))).into();
        let old = two.snapshot.sad.iter().find(|slot| !slot.entry.is_inbound()).unwrap().entry.sa;
        two.snapshot.sad.remove(old);
        two.insert(Some(wide.into()));
        with_rules(
            &mut two,
            [true, false].map(|v4| rule(Selector::between(any(v4), any(v4)), PROTECT)).into(),
        );
        let bank = if here.contains(':') { "2001:db8:5::5" } else { "198.51.100.5" };
        let bad = [
            error(router, here, false, &udp(here, bank)),
            error(bank, here, false, &udp(here, bank)),
            error(router, here, false, &udp(there, here)),
            error(router, bank, false, &udp(here, there)),
            error(router, here, false, &udp(here, there)[..22]),
        ];
        for error in &bad {
            let (sealed, _) = two.send(error, NOW);
            assert!(one.receive(&sealed[0], NOW).is_empty());
        }
        assert_eq!(one.drops(), [(Direction::Inbound, DropReason::SelectorMismatch, 5)]);
        let (sealed, _) = two.send(&error(router, here, false, &udp(here, there)), NOW);
        assert_eq!(one.receive(&sealed[0], NOW).len(), 1);
    }
}

/// T13, T19: what is protected is not shown in the clear by an error about it, whatever a rule says of ICMP; and nobody in
/// the clear speaks of it either. Of what is in the clear, errors are, too.
#[test]
fn t13_t19_an_error_is_protected_as_what_it_quotes_is() {
    for [here, there, router] in NETS {
        let (mut one, mut two) = joined(Open, Open);
        let v4 = !here.contains(':');
        let number = if v4 { protocol::ICMP } else { protocol::ICMPV6 };
        let icmp = Selector { protocol: Some(number), ..Selector::between(any(v4), any(v4)) };
        let clear = if v4 { "198.51.100.5" } else { "2001:db8:5::5" };
        let address = AddressRange::single(clear.parse().unwrap());
        let mut rules =
            vec![rule(icmp, Action::Bypass), rule(Selector::between(any(v4), address), Action::Bypass)];
        rules.extend(nets());
        with_rules(&mut two, rules);
        let about = error(router, here, false, &udp(here, there));
        let (sealed, bypass) = two.send(&about, NOW);
        assert!(!bypass);
        assert_eq!(one.receive(&sealed[0], NOW), [about]);
        assert_eq!(two.send(&error(router, clear, false, &udp(clear, there)), NOW), (vec![], true));
        let ends = [there, here].map(|end| end.parse().unwrap());
        let echo = packet::echo_request(ends[0], ends[1], 1, 1, b"").unwrap();
        assert_eq!(two.send(&echo, NOW), (vec![], true));
        assert!(!unprotected(&mut two, &error(router, there, false, &udp(there, here))));
        assert_eq!(two.drops(), [(Direction::Inbound, DropReason::Unprotected, 1)]);
        assert!(unprotected(&mut two, &error(router, there, false, &udp(there, clear))));
        // Without an SA it does not leave either.
        let sas: Vec<_> = two.snapshot.sad.iter().map(|slot| slot.entry.sa).collect();
        sas.into_iter().for_each(|sa| drop(two.snapshot.sad.remove(sa)));
        two.publish();
        assert_eq!(two.send(&error(router, here, false, &udp(here, there)), NOW), (vec![], false));
        assert_eq!(two.dropped(Direction::Outbound, DropReason::NoOutboundSa), 1);
    }
}

/// RFC 4301 6.2: a rule that names ICMP decides about errors itself; one that discards everything else does not mean them.
#[test]
fn t19_rfc_4301_6_2_a_rule_of_its_own_decides_about_an_error() {
    for [here, there, router] in NETS {
        let v4 = !here.contains(':');
        let everything = Selector::between(any(v4), any(v4));
        let number = if v4 { protocol::ICMP } else { protocol::ICMPV6 };
        let named = Selector { protocol: Some(number), ..everything.clone() };
        for (last, leaves) in [(everything, true), (named, false)] {
            let (_, mut two) = joined(Open, Open);
            with_rules(&mut two, nets().into_iter().chain([rule(last, Action::Discard)]).collect());
            let (sealed, _) = two.send(&error(router, here, true, &udp(here, there)), NOW);
            assert_eq!(sealed.len() == 1, leaves);
            assert_eq!(two.dropped(Direction::Outbound, DropReason::PolicyDiscard), u64::from(!leaves));
        }
    }
}

/// RFC 4301 6.2: the error is return traffic: of a request that was protected, its reply is; and ICMP selectors say so.
#[test]
fn rfc_4301_6_2_an_error_about_a_request_goes_as_its_reply() {
    for ([here, there, router], [request, reply]) in NETS.into_iter().zip([[8, 0], [128, 129]]) {
        let ends = [here, there].map(|end| end.parse().unwrap());
        let quote = packet::echo_request(ends[0], ends[1], 77, 1, b"").unwrap();
        let octets = error(router, here, false, &quote);
        let packet = IpPacket::parse(&octets, Direction::Outbound).unwrap();
        let about = quoted(&packet, Direction::Outbound).unwrap().unwrap();
        assert_eq!(about.icmp, Some((reply, 0)));
        assert_eq!((about.flow.local().ip(), about.flow.remote().ip()), (ends[1], ends[0]));
        assert_eq!(about.flow.local_port(), 77);
        let mut back = quote;
        back[if here.contains(':') { 40 } else { 20 }] = reply;
        let octets = error(router, here, false, &back);
        let packet = IpPacket::parse(&octets, Direction::Outbound).unwrap();
        assert_eq!(quoted(&packet, Direction::Outbound).unwrap().unwrap().icmp, Some((request, 0)));
    }
}
