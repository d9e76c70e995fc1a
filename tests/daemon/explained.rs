//! `latchway explain`, compared with what packets then meet.

use std::net::UdpSocket;

use latchway_netns::{Links, Namespace, links};
use serde_json::Value;

use crate::gateway::bound;
use crate::shown::connection;
use crate::site::{Side, Site, TUN, Terms};
use crate::{PATIENCE, eventually, scenario};

/// What is explained is what happens: protected, in the clear by the bypass port, discarded by a rule, matched by none,
/// without an SA, too large; outbound and inbound; with a latch.
#[test]
fn explain_says_what_packets_then_meet() {
    scenario("explained::explain_says_what_packets_then_meet", || {
        let mut site = Site::prepare(&Terms::default());
        let outside = outside(&site);
        site.configure(Side::A, &terms());
        site.a.start();
        site.b.start();
        site.passes();
        let links = Links::of(&site.at(Side::A).inner).unwrap();
        links.add_route("10.9.0.0/24".parse().unwrap(), None, TUN, 0).unwrap();

        for (to, verdict, drop) in [
            ("10.2.0.1:9", "protect", None),
            ("10.2.0.66:9", "drop", Some("policy_discard")),
            ("10.4.0.1:9", "drop", Some("no_outbound_sa")),
            ("10.9.0.1:9", "drop", Some("no_policy")),
            ("198.51.100.9:53", "bypass", None),
            ("198.51.100.9:54", "drop", Some("no_policy")),
        ] {
            let explained = site.a.shown(&format!("explain udp 10.1.0.1:7000 {to}"));
            assert_eq!(explained["verdict"], verdict, "{to}: {explained}");
            assert_eq!(explained["drop"].as_str(), drop, "{to}: {explained}");
            assert!(!explained["why"].as_array().unwrap().is_empty(), "{to}");
            let before = seen(&site, drop);
            send(&site, to, 8);
            eventually(&format!("{to} meets {verdict}"), || seen(&site, drop) > before);
            if verdict == "bypass" {
                let mut octets = [0; 16];
                assert_eq!(outside.recv(&mut octets).unwrap(), 8);
            }
        }
        fits(&site);
        latched(&site);
    });
}

/// RFC 4301 5.1: without a bypass port, a rule that says BYPASS lets nothing pass, and nothing else is explained.
#[test]
fn explain_says_that_there_is_no_bypass_port() {
    scenario("explained::explain_says_that_there_is_no_bypass_port", || {
        let site = Site::start(&Terms::default());
        site.a.shown("policy add bypass --local 10.1.0.0/24 --remote 10.2.0.66/32");
        let explained = site.a.shown("explain udp 10.1.0.1:7000 10.2.0.66:9");
        assert_eq!((&explained["verdict"], &explained["drop"]), (&"drop".into(), &"no_bypass_port".into()));
        send(&site, "10.2.0.66:9", 8);
        eventually("it is dropped so", || seen(&site, Some("no_bypass_port")) > 0);
    });
}

/// What does not fit is told to the sender, and so it was explained.
fn fits(site: &Site) {
    let explained = site.a.shown("explain udp 10.1.0.1:7000 10.2.0.1:9 size 1400");
    let mtu = explained["mtu"].as_u64().unwrap();
    assert!(mtu < 1400 && mtu > 1200, "{explained}");
    assert!(explained["why"].to_string().contains("1400 octets are more"), "{explained}");
    let before = seen(site, Some("too_big"));
    send(site, "10.2.0.1:9", 1400 - 28);
    eventually("it is dropped as too big", || seen(site, Some("too_big")) > before);
    let before = seen(site, None);
    send(site, "10.2.0.1:9", usize::try_from(mtu).unwrap() - 28);
    eventually("what just fits is carried", || seen(site, None) > before);
}

/// A connection's latch decides, in either direction; what comes in for it in the clear is dropped.
fn latched(site: &Site) {
    let (stream, _accepted) = connection(site);
    let port = stream.local_addr().unwrap().port();
    for words in
        [format!("tcp 10.1.0.1:{port} 10.2.0.1:80"), format!("--inbound tcp 10.2.0.1:80 10.1.0.1:{port}")]
    {
        let explained = site.a.shown(&format!("explain {words}"));
        assert_eq!(
            (&explained["verdict"], &explained["latch"]),
            (&"protect".into(), &"established".into()),
            "{explained}"
        );
        assert_eq!(explained["policy"], Value::Null, "the latch decides: {explained}");
    }
    let explained = site.a.shown("explain --inbound udp 10.4.0.1:9 10.1.0.1:9");
    assert_eq!(explained["verdict"], "drop", "{explained}");
}

/// Every rule that there can be.
fn terms() -> Terms {
    let mut terms = Terms::default().with_head("bypass_port = \"out0\"").with_tail(
        "[[peer]]\nidentity = \"4.example\"\ninner = [\"10.4.0.0/24\"]\n\n\
         [[policy]]\naction = \"discard\"\nremote = \"10.2.0.66\"\n\n\
         [[policy]]\naction = \"protect\"\npeer = \"2.example\"\nlocal = \"10.1.0.0/24\"\n\n\
         [[policy]]\naction = \"protect\"\npeer = \"4.example\"\nlocal = \"10.1.0.0/24\"\n\n\
         [[policy]]\naction = \"bypass\"\nlocal = \"10.1.0.0/24\"\nremote = \"198.51.100.9\"\nprotocol = \"udp\"\nremote_ports = 53",
    );
    terms.tun = "mtu = 1500".into();
    terms.sas = vec![(1, "mtu = 1400".into())];
    terms
}

/// A host behind the outer namespace, and where it listens.
fn outside(site: &Site) -> UdpSocket {
    let (host, outer) = (Namespace::create("outside").unwrap(), &site.at(Side::A).outer);
    links::veth(&host, "net", outer, "net").unwrap();
    for (namespace, own) in [(&host, "198.51.100.9/24"), (outer, "198.51.100.1/24")] {
        let links = Links::of(namespace).unwrap();
        links.set_up("net").unwrap();
        links.add_address("net", own.parse().unwrap()).unwrap();
    }
    let links = Links::of(&host).unwrap();
    links.wait_ready("net", PATIENCE).unwrap();
    let via = "198.51.100.1".parse().unwrap();
    links.add_route("0.0.0.0/0".parse().unwrap(), Some(via), "net", 0).unwrap();
    let socket = host.run(|| UdpSocket::bind("198.51.100.9:53")).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends a datagram from a's hosts, which the kernel lets nobody fragment until it knows of a smaller path.
fn send(site: &Site, to: &str, length: usize) {
    let socket = bound(&site.at(Side::A).inner, (Side::A.address(), 7000));
    socket.send_to(&vec![0; length], to).unwrap();
}

/// How many packets left, or were dropped for a reason.
fn seen(site: &Site, drop: Option<&str>) -> u64 {
    match drop {
        Some(reason) => site.a.drops("outbound", reason),
        None => site.a.shown("status")["outbound"]["packets"].as_u64().unwrap(),
    }
}
