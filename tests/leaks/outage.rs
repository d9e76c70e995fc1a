//! A gateway that ends, in whatever way, and what happens to its TUN meanwhile: nothing leaves in the clear, and when it is
//! started again, everything passes as before (T13).

use latchway_netns::sysctl;
use nix::sys::signal::Signal;

use crate::site::{Mode, Side, Site, TUN, Terms};
use crate::{eventually, scenario};

/// Runs a scenario at two gateways that stand.
fn at(mode: Mode, test: &str, body: impl FnOnce(&mut Site)) {
    scenario(test, || {
        let mut site = Site::start(mode, &Terms::default());
        body(&mut site);
        site.traffic.goes_on(5);
        site.nothing_leaked();
    });
}

/// T13: killed at any moment, under traffic, and started again.
fn killed(site: &mut Site) {
    for _ in 0..2 {
        let status = site.a.end_by(Signal::SIGKILL);
        assert!(!status.success());
        site.holds_out();
        site.a.start();
        site.passes();
    }
}

/// T13: ended as an operator ends it, and started again.
fn terminated(site: &mut Site) {
    let status = site.a.end_by(Signal::SIGTERM);
    assert!(status.success(), "{status}: {}", site.a.log());
    site.holds_out();
    site.a.start();
    site.passes();
}

/// T13: the TUN is set down while the gateway runs. It stays down until it is set up; then all is as before.
fn down_and_up(site: &mut Site) {
    let links = site.links();
    links.set_down(TUN).unwrap();
    site.holds_out();
    assert!(site.a.runs(), "{}", site.a.log());
    assert!(!links.link(TUN).unwrap().up, "somebody wanted it down");
    links.set_up(TUN).unwrap();
    site.passes();
}

/// T13: the TUN is deleted under the gateway, which cannot go on without, and says so. Started again, it makes another.
fn deleted(site: &mut Site) {
    site.links().delete(TUN).unwrap();
    site.holds_out();
    let status = site.a.ended();
    assert!(!status.success(), "{}", site.a.log());
    site.holds_out();
    site.a.start();
    site.passes();
}

/// T13: routes of interfaces without carrier do not count, as some systems have it, and a TUN whose gateway is gone has no
/// carrier.
fn killed_where_routes_need_carrier(site: &mut Site) {
    let inner = site.at(Side::A).inner.clone();
    for place in ["all", "default", TUN] {
        for family in ["ipv4", "ipv6"] {
            sysctl::write(&inner, &format!("net/{family}/conf/{place}/ignore_routes_with_linkdown"), "1")
                .unwrap();
        }
    }
    site.a.end_by(Signal::SIGKILL);
    eventually("the TUN has no carrier", || !site.links().link(TUN).unwrap().carrier);
    site.holds_out();
    site.a.start();
    site.passes();
}

mod split {
    use super::*;

    #[test]
    fn t13_killed() {
        at(Mode::Split, "outage::split::t13_killed", killed);
    }

    #[test]
    fn t13_terminated() {
        at(Mode::Split, "outage::split::t13_terminated", terminated);
    }

    #[test]
    fn t13_tun_down_and_up() {
        at(Mode::Split, "outage::split::t13_tun_down_and_up", down_and_up);
    }

    #[test]
    fn t13_tun_deleted() {
        at(Mode::Split, "outage::split::t13_tun_deleted", deleted);
    }

    #[test]
    fn t13_killed_where_routes_need_carrier() {
        at(
            Mode::Split,
            "outage::split::t13_killed_where_routes_need_carrier",
            killed_where_routes_need_carrier,
        );
    }
}

mod host {
    use super::*;

    #[test]
    fn t13_killed() {
        at(Mode::Host, "outage::host::t13_killed", killed);
    }

    #[test]
    fn t13_terminated() {
        at(Mode::Host, "outage::host::t13_terminated", terminated);
    }

    #[test]
    fn t13_tun_down_and_up() {
        at(Mode::Host, "outage::host::t13_tun_down_and_up", down_and_up);
    }

    #[test]
    fn t13_tun_deleted() {
        at(Mode::Host, "outage::host::t13_tun_deleted", deleted);
    }

    #[test]
    fn t13_killed_where_routes_need_carrier() {
        at(
            Mode::Host,
            "outage::host::t13_killed_where_routes_need_carrier",
            killed_where_routes_need_carrier,
        );
    }
}
