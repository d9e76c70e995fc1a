//! A quieted interface sends nothing that nobody asked for.

use std::{thread, time::Duration};

use latchway_netns::{
    Links, Namespace, Result,
    links::veth,
    ping::{self, Echo},
    skip::{self, Need},
    sysctl,
    testing::namespaced,
    watch::{Direction, Frame, Sniffer},
};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::support::{SOON, net4, net6, pair};

#[test]
fn a_quiet_tun_sends_nothing_forwarding_or_not() {
    let name = "quiet::a_quiet_tun_sends_nothing_forwarding_or_not";
    namespaced(name, || {
        if !skip::require(name, &[Need::Tun]) {
            return;
        }
        for forwarding in ["0", "1"] {
            let (space, _device) = with_tun(forwarding).unwrap();
            Links::of(&space).unwrap().quiet_ipv6("tun9").unwrap();
            assert_eq!(sent_when_up(&space, "tun9").unwrap(), []);
            assert_eq!(sysctl::read(&space, "net/ipv6/conf/tun9/forwarding").unwrap(), forwarding);
        }
    });
}

/// Without this, the test above could not fail.
#[test]
fn an_untouched_tun_solicits_routers() {
    let name = "quiet::an_untouched_tun_solicits_routers";
    namespaced(name, || {
        if !skip::require(name, &[Need::Tun]) {
            return;
        }
        let (space, _device) = with_tun("0").unwrap();
        let sent = sent_when_up(&space, "tun9").unwrap();
        assert!(sent.iter().any(|frame| frame.head.first() == Some(&ROUTER_SOLICITATION)), "{sent:?}");
    });
}

#[test]
fn a_quiet_veth_sends_listener_reports_only() {
    namespaced("quiet::a_quiet_veth_sends_listener_reports_only", || {
        let (space, other) = (Namespace::create("space").unwrap(), Namespace::create("other").unwrap());
        veth(&space, "va", &other, "vb").unwrap();
        Links::of(&other).unwrap().set_up("vb").unwrap();
        Links::of(&space).unwrap().quiet_ipv6("va").unwrap();
        let sent = sent_when_up(&space, "va").unwrap();
        assert!(sent.iter().all(|frame| frame.head.first() == Some(&LISTENER_REPORT)), "{sent:?}");
    });
}

/// A router between two quiet links resolves neighbours for what it forwards.
#[test]
fn a_router_on_quiet_links_forwards() {
    namespaced("quiet::a_router_on_quiet_links_forwards", || {
        let joined = pair().unwrap();
        let beyond = Namespace::create("beyond").unwrap();
        veth(&joined.b, "vc", &beyond, "vd").unwrap();
        let links = Links::of(&beyond).unwrap();
        let far = [("10.10.0.1/24", "10.10.0.2/24"), ("2001:db8:10::1/64", "2001:db8:10::2/64")];
        for (links, name) in [(&joined.links_b, "vc"), (&links, "vd")] {
            links.quiet_ipv6(name).unwrap();
            links.set_up(name).unwrap();
        }
        sysctl::write(&joined.b, "net/ipv6/conf/all/forwarding", "1").unwrap();
        sysctl::write(&joined.b, "net/ipv4/ip_forward", "1").unwrap();
        for ((near, end), net) in far.into_iter().zip([net4, net6]) {
            let (near, end): (latchway_netns::IpNet, latchway_netns::IpNet) =
                (near.parse().unwrap(), end.parse().unwrap());
            joined.links_b.add_address("vc", near).unwrap();
            links.add_address("vd", end).unwrap();
            links.add_route(net(0).trunc(), Some(near.addr()), "vd", 1).unwrap();
            joined.links_a.add_route(end.trunc(), Some(net(2).addr()), "va", 1).unwrap();
            joined.links_b.wait_ready("vc", SOON).unwrap();
            links.wait_ready("vd", SOON).unwrap();
            let echo = Echo { destination: end.addr(), count: 3, timeout: SOON, ..Echo::default() };
            let report = ping::echo(&joined.a, &echo).unwrap();
            assert_eq!(report.received, 3, "{report:?}");
        }
    });
}

/// A namespace with a TUN that is open and down.
fn with_tun(forwarding: &str) -> Result<(Namespace, std::io::Result<SyncDevice>)> {
    let space = Namespace::create("space")?;
    sysctl::write(&space, "net/ipv6/conf/all/forwarding", forwarding)?;
    let device = space.run(|| DeviceBuilder::new().name("tun9").enable(false).build_sync())?;
    Ok((space, device))
}

/// What the kernel sends on an interface that is set up and given addresses. Proving silence takes time: three seconds,
/// within which an untouched interface sends several packets.
fn sent_when_up(space: &Namespace, interface: &str) -> Result<Vec<Frame>> {
    let links = Links::of(space)?;
    let sniffer = Sniffer::start(space, interface)?;
    links.set_up(interface)?;
    links.wait_ready(interface, SOON)?;
    links.add_address(interface, net4(1))?;
    links.add_address(interface, net6(1))?;
    thread::sleep(Duration::from_secs(3));
    let captured = sniffer.stop()?;
    Ok(captured.complete()?.iter().filter(|frame| frame.direction == Direction::Outbound).cloned().collect())
}

const ROUTER_SOLICITATION: u8 = 133;
const LISTENER_REPORT: u8 = 143;
