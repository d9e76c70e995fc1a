//! The port of what is bypassed, with a stand-in for the gateway on its TUN.

use std::net::IpAddr;

use latchway_guard::{BypassPort, QUEUE};
use latchway_netns::{
    Links, Namespace, inject, packet,
    ping::{self, Echo},
    skip::{self, Need},
    sysctl,
    testing::namespaced,
    watch::{Direction, Options, Sniffer},
};
use tun_rs::SyncDevice;

use crate::support::{SOON, net, received, tun, wire};

/// An inner host's echo request leaves in the clear by the port, and the reply returns by it; the outside may ask in
/// turn. The kernel itself says nothing on the port.
#[test]
fn what_the_gateway_bypasses_leaves_and_returns_by_the_port() {
    scenario("bypass::what_the_gateway_bypasses_leaves_and_returns_by_the_port", |it| {
        let sniffer = Sniffer::start(&it.outer, "tun8").unwrap();
        // A strict reverse path filter is in nobody's way.
        sysctl::write(&it.outer, "net/ipv4/conf/all/rp_filter", "1").unwrap();
        let changes = it.port().prepare(&it.outer).unwrap();
        let keys: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
        for expected in [
            "net/ipv4/conf/eth0/forwarding",
            "net/ipv4/conf/tun8/forwarding",
            "net/ipv6/conf/all/forwarding",
            "net/ipv6/conf/eth1/accept_ra",
        ] {
            assert!(keys.contains(&expected), "{keys:?}");
        }
        assert!(!keys.iter().any(|key| key.contains("eth1/forwarding")), "{keys:?}");
        assert_eq!(it.port().prepare(&it.outer).unwrap(), [], "a second time nothing is changed");
        for (inner, outside) in [("10.77.1.5", "192.0.2.2"), ("fd77:77:1::5", "2001:db8::2")] {
            let (inner, outside): (IpAddr, IpAddr) = (inner.parse().unwrap(), outside.parse().unwrap());
            it.device
                .send(&packet::echo_request(inner, outside, 7, 1, b"from an inner host").unwrap())
                .unwrap();
            assert_eq!(received(&it.device).addresses(), (outside, inner));
            let udp = packet::udp((outside, 9).into(), (inner, 9).into(), b"from outside").unwrap();
            inject::as_application(&it.outside, &udp).unwrap();
            assert_eq!(received(&it.device).addresses(), (outside, inner));
        }
        let captured = sniffer.stop().unwrap();
        let sent = captured.complete().unwrap().iter().filter(|frame| frame.direction == Direction::Outbound);
        assert_eq!(sent.count(), 4, "two replies, two questions, and nothing of the kernel's own");
    });
}

/// A host that was no router is none afterwards: it forwards for the port, and not between its other interfaces.
#[test]
fn the_port_makes_no_router_of_the_host() {
    scenario("bypass::the_port_makes_no_router_of_the_host", |it| {
        let changes = it.port().prepare(&it.outer).unwrap();
        let outside = Links::of(&it.outside).unwrap();
        for (beyond, via) in [("198.51.100.2/32", "192.0.2.1"), ("2001:db8:1::2/128", "2001:db8::1")] {
            outside.add_route(net(beyond), Some(via.parse().unwrap()), "eth0", 1).unwrap();
        }
        let sniffer = Sniffer::start_with(&it.beyond, "eth1", Options::searching(&[b"through"])).unwrap();
        let through = || {
            for (from, to) in [("192.0.2.2:7", "198.51.100.2:7"), ("[2001:db8::2]:7", "[2001:db8:1::2]:7")] {
                let udp = packet::udp(from.parse().unwrap(), to.parse().unwrap(), b"through").unwrap();
                inject::as_application(&it.outside, &udp).unwrap();
            }
            // What the host itself sends there comes after.
            for to in ["198.51.100.2", "2001:db8:1::2"] {
                assert_eq!(reached(&it.outer, to), 1);
            }
        };
        through();
        assert!(!sniffer.contains(b"through").unwrap());

        // With the port taken away, everything is as it was before.
        it.port().remove(&it.outer, &changes).unwrap();
        for change in &changes {
            assert_eq!(sysctl::read(&it.outer, &change.key).unwrap(), change.before, "{change}");
        }
        assert_eq!(Links::of(&it.outer).unwrap().rules().unwrap(), []);

        // A router remains one.
        sysctl::write(&it.outer, "net/ipv4/ip_forward", "1").unwrap();
        sysctl::write(&it.outer, "net/ipv6/conf/all/forwarding", "1").unwrap();
        let changes = it.port().prepare(&it.outer).unwrap();
        assert!(changes.iter().all(|change| change.key.ends_with("accept_ra")), "{changes:?}");
        through();
        assert!(sniffer.contains(b"through").unwrap());
    });
}

/// After a run that was killed, the TUN is made anew; what returns finds it.
#[test]
fn the_port_is_found_again_by_the_next_run() {
    scenario("bypass::the_port_is_found_again_by_the_next_run", |mut it| {
        it.port().prepare(&it.outer).unwrap();
        Links::of(&it.outer).unwrap().delete("tun8").unwrap();
        it.device = tun(&it.outer, "tun8");
        it.port().prepare(&it.outer).unwrap();
        for (inner, outside) in [("10.77.1.5", "192.0.2.2"), ("fd77:77:1::5", "2001:db8::2")] {
            let (inner, outside): (IpAddr, IpAddr) = (inner.parse().unwrap(), outside.parse().unwrap());
            it.device.send(&packet::echo_request(inner, outside, 7, 1, b"again").unwrap()).unwrap();
            assert_eq!(received(&it.device).addresses(), (outside, inner));
        }
    });
}

/// Without the TUN, what is for inner hosts goes nowhere, and what is wrong with the description is said.
#[test]
fn a_wrong_port_is_refused() {
    scenario("bypass::a_wrong_port_is_refused", |it| {
        let refused = |port: BypassPort| port.prepare(&it.outer).unwrap_err().to_string();
        let with = |outside: &str| BypassPort { outside: vec![outside.to_owned()], ..it.port() };
        assert!(refused(with("tun8")).contains("tun8 is no interface to the outside"));
        assert!(refused(with("lo")).contains("lo is no interface to the outside"));
        assert!(refused(with("eth7")).contains("looking up eth7 in outer"));
        assert!(
            refused(BypassPort { tun: "tun7".to_owned(), ..it.port() }).contains("looking up tun7 in outer")
        );
    });
}

struct Outer {
    outer: Namespace,
    outside: Namespace,
    beyond: Namespace,
    device: SyncDevice,
}

impl Outer {
    fn new() -> Self {
        let [outer, outside, beyond] =
            ["outer", "outside", "beyond"].map(|name| Namespace::create(name).unwrap());
        wire(
            (&outer, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]),
            (&outside, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]),
        );
        wire(
            (&outer, "eth1", &["198.51.100.1/24", "2001:db8:1::1/64"]),
            (&beyond, "eth1", &["198.51.100.2/24", "2001:db8:1::2/64"]),
        );
        // As it is unless somebody changes it.
        sysctl::write(&outer, "net/ipv6/conf/eth1/accept_ra", "1").unwrap();
        let links = Links::of(&outside).unwrap();
        for (inner, via) in [("10.77.1.0/24", "192.0.2.1"), ("fd77:77:1::/64", "2001:db8::1")] {
            links.add_route(net(inner), Some(via.parse().unwrap()), "eth0", 1).unwrap();
        }
        let device = tun(&outer, "tun8");
        Self { outer, outside, beyond, device }
    }

    fn port(&self) -> BypassPort {
        BypassPort {
            tun: "tun8".to_owned(),
            mtu: 1400,
            queue: QUEUE,
            inner: vec![net("10.77.1.0/24"), net("fd77:77:1::/64")],
            outside: vec!["eth0".to_owned()],
        }
    }
}

fn reached(from: &Namespace, to: &str) -> u16 {
    let echo = Echo { destination: to.parse().unwrap(), timeout: SOON, ..Echo::default() };
    ping::echo(from, &echo).unwrap().received
}

fn scenario(name: &str, scenario: impl FnOnce(Outer)) {
    namespaced(name, || {
        if skip::require(name, &[Need::Tun]) {
            scenario(Outer::new());
        }
    });
}
