//! What policy says of the SAs by which packets come and go (RFC 4301 sections 5.1 and 5.2).

use latchway_esp::{Integrity, Protocol, Suite};
use latchway_tagging::Mode;

use super::super::{NOW, udp, v4};
use super::{options, refuses, sent};
use crate::arrival::Carrier;
use crate::drop::DropReason;
use crate::flow::protocol;
use crate::sad::{SadEntry, Scope};
use crate::selector::{PortRange, Selector};
use crate::spd::{Action, Around, Protection, Reqid, Rule, Spd, Template};
use crate::testing::{Host, Open, SaOptions, arrival, inbound_entry, joined_by, outbound_entry, selectors};

/// RFC 4301 section 5.2, and what `ip xfrm` means by it: under an SA of this scope arrives only what a rule says that it
/// must, under what the rule's template asks for.
#[test]
fn rfc_4301_5_2_what_arrives_protected_is_what_policy_says() {
    let plain = options(Mode::Tunnel, Carrier::Udp, false);
    let options = SaOptions { scope: Scope::Policy, reqid: 7, ..plain };
    let protect = |reqid, template| {
        Action::Protect(Protection { reqid: Some(Reqid(reqid)), template, ..Protection::UNLATCHED })
    };
    let template = |protocol, mode, ours: &str| Template {
        ends: Some((ours.parse().unwrap(), "192.0.2.1".parse().unwrap())),
        protocol: Some(protocol),
        mode: Some(mode),
        around: None,
    };
    let good = template(Protocol::Esp, Mode::Tunnel, "192.0.2.2");
    for (action, reason) in [
        (protect(7, None), None),
        (protect(7, Some(good)), None),
        (protect(8, None), Some(DropReason::PolicyMismatch)),
        (
            protect(7, Some(template(Protocol::Ah, Mode::Tunnel, "192.0.2.2"))),
            Some(DropReason::PolicyMismatch),
        ),
        (
            protect(7, Some(template(Protocol::Esp, Mode::Transport, "192.0.2.2"))),
            Some(DropReason::PolicyMismatch),
        ),
        (
            protect(7, Some(template(Protocol::Esp, Mode::Tunnel, "192.0.2.3"))),
            Some(DropReason::PolicyMismatch),
        ),
        // RFC 4301 section 4.3: nothing bare where AH must be around.
        (
            protect(7, Some(Template { around: Some(Around { reqid: None }), ..good })),
            Some(DropReason::PolicyMismatch),
        ),
        (Action::Bypass, Some(DropReason::PolicyMismatch)),
        (Action::Discard, Some(DropReason::PolicyDiscard)),
    ] {
        let (mut one, mut two) = joined_by(&options);
        let rules = selectors(2, 1).into_iter().map(|selector| Rule::new(selector, None, action));
        two.snapshot.spd = Spd::new(rules.collect());
        two.publish();
        let octets = sent(&mut one, &v4());
        let came = arrival(1, octets.len(), &options);
        match reason {
            None => assert_eq!(two.receive_as(&octets, &came, NOW), [v4()]),
            Some(reason) => refuses(&mut two, &octets, &came, reason),
        }
        two.snapshot.spd = Spd::default();
        two.publish();
        let octets = sent(&mut one, &v4());
        refuses(&mut two, &octets, &came, DropReason::NoPolicy);
    }
}

/// RFC 4301 section 5.1: a rule's template chooses among SAs that carry the same.
#[test]
fn rfc_4301_5_1_a_template_chooses_the_sa() {
    let tunnel = options(Mode::Tunnel, Carrier::Native, false);
    let ah = SaOptions {
        suite: Suite::ah(Integrity::HmacSha256),
        spi: 0x2002,
        index: 1,
        class: 2,
        ..tunnel.clone()
    };
    for (protocol, number) in [(Protocol::Esp, 50), (Protocol::Ah, 51)] {
        let mut one: Host<Open> = Host::new(1, 2, Open);
        one.insert(outbound_entry(1, 2, &tunnel));
        one.insert(outbound_entry(1, 2, &ah));
        let template =
            Template { ends: None, protocol: Some(protocol), mode: Some(Mode::Tunnel), around: None };
        let protection = Protection { template: Some(template), ..Protection::UNLATCHED };
        let rules = selectors(1, 2)
            .into_iter()
            .map(|selector| Rule::new(selector, None, Action::Protect(protection)));
        one.snapshot.spd = Spd::new(rules.collect());
        one.publish();
        assert_eq!(sent(&mut one, &v4())[9], number);
    }
}

/// RFC 4301 sections 4.4.1.1 and 7.2: a peer may keep later fragments to an SA of their own, whose ports are OPAQUE. That SA
/// brings nothing else, and one for certain ports does not bring them.
#[test]
fn rfc_4301_7_2_later_fragments_may_come_by_an_sa_of_opaque_ports() {
    let options = options(Mode::Tunnel, Carrier::Udp, false);
    let for_fragments = SaOptions { spi: 0x2002, index: 1, ..options.clone() };
    let whole = udp("10.0.1.1:1000", "10.0.2.2:2000", &[7; 24]);
    let fragment = |from: usize, to: usize| {
        let mut octets = whole[..20].to_vec();
        octets.extend(&whole[20 + from..20 + to]);
        octets[2..4].copy_from_slice(&((20 + to - from) as u16).to_be_bytes());
        let more = if 20 + to < whole.len() { 0x2000 } else { 0 };
        octets[6..8].copy_from_slice(&(more | (from as u16 / 8)).to_be_bytes());
        octets
    };
    let (first, later) = (fragment(0, 16), fragment(16, 32));
    let of_ports = |ports| {
        let narrow = |selector| Selector {
            protocol: Some(protocol::UDP),
            local_ports: ports,
            remote_ports: ports,
            ..selector
        };
        selectors(2, 1).into_iter().map(narrow).collect::<Box<[_]>>()
    };
    for (ports, passes) in
        [(PortRange::OPAQUE, true), (PortRange::new(&(0..=65534)), true), (PortRange::new(&(0..=999)), false)]
    {
        let (mut one, mut two) = (Host::new(1, 2, Open), Host::new(2, 1, Open));
        let mut other: Host<Open> = Host::new(1, 2, Open);
        one.insert(outbound_entry(1, 2, &options));
        other.insert(outbound_entry(1, 2, &for_fragments));
        two.insert(inbound_entry(2, 1, &options));
        let entry = inbound_entry(2, 1, &for_fragments).and_then(std::sync::Arc::into_inner).unwrap();
        two.insert(Some(SadEntry { selectors: of_ports(ports), ..entry }.into()));
        for host in [&mut one, &mut other, &mut two] {
            host.publish();
        }
        let sealed_first = sent(&mut one, &first);
        let [first_on_other, later_on_other] = [&first, &later].map(|octets| sent(&mut other, octets));
        let came = |octets: &[u8]| arrival(1, octets.len(), &options);
        assert_eq!(two.receive_as(&sealed_first, &came(&sealed_first), NOW), [&first[..]]);
        if ports == PortRange::OPAQUE {
            refuses(&mut two, &first_on_other, &came(&first_on_other), DropReason::SelectorMismatch);
        }
        if passes {
            assert_eq!(
                two.receive_as(&later_on_other, &came(&later_on_other), NOW),
                [&later[..]],
                "{ports:?}"
            );
        } else {
            refuses(&mut two, &later_on_other, &came(&later_on_other), DropReason::SelectorMismatch);
        }
    }
}
