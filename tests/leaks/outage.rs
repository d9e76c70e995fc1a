//! A gateway that ends, in whatever way, and what happens to its TUN meanwhile: nothing leaves in the clear, and when it is
//! started again, everything passes as before (T13).

use ipnet::IpNet;
use latchway_guard::{BLACKHOLE_METRIC, ROUTE_METRIC};
use latchway_netns::sysctl;
use nix::sys::signal::Signal;

use crate::site::{Mode, Side, Site, TUN, Terms, WIRE};
use crate::{eventually, oom, scenario};

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

/// T13: killed by the kernel for want of memory.
fn out_of_memory(site: &mut Site) {
    oom::kill(&mut site.a);
    site.holds_out();
    site.a.start();
    site.passes();
}

/// T13: the routes into the TUN are deleted, and where nothing else is to hold, the blackholes behind them; the gateway puts
/// them back.
fn routes_deleted(site: &mut Site) {
    let links = site.links();
    let before = links.routes().unwrap();
    for prefix in ["10.2.0.0/24", "fd00:2::/64"].map(|prefix| prefix.parse().unwrap()) {
        if site.mode != Mode::Split {
            links.delete_blackhole(prefix, BLACKHOLE_METRIC).unwrap();
        }
        links.delete_route(prefix, None, TUN, ROUTE_METRIC).unwrap();
    }
    eventually("the routes are back", || {
        let now = links.routes().unwrap();
        before.iter().all(|route| now.contains(route))
    });
    assert!(site.a.runs(), "{}", site.a.log());
    site.passes();
}

/// T17: somebody on the link offers better ways to the other side, by a gateway and directly, as a DHCP server can.
fn better_routes(site: &mut Site) {
    let links = site.links();
    let rogue = [("10.2.0.0/25", "192.0.2.2"), ("fd00:2::/80", "2001:db8::2")];
    let direct: [IpNet; 2] = ["10.2.0.1/32", "fd00:2::1/128"].map(|prefix| prefix.parse().unwrap());
    for (prefix, via) in rogue {
        links.add_route(prefix.parse().unwrap(), Some(via.parse().unwrap()), WIRE, 1).unwrap();
    }
    site.holds_out();
    assert!(!site.echo(Side::A, false) && !site.echo(Side::A, true));
    for prefix in direct {
        links.add_route(prefix, None, WIRE, 1).unwrap();
    }
    site.holds_out();
    for prefix in direct {
        links.delete_route(prefix, None, WIRE, 1).unwrap();
    }
    for (prefix, via) in rogue {
        links.delete_route(prefix.parse().unwrap(), Some(via.parse().unwrap()), WIRE, 1).unwrap();
    }
    site.passes();
}

mod split {
    use super::*;

    #[test]
    fn t13_out_of_memory() {
        at(Mode::Split, "outage::split::t13_out_of_memory", out_of_memory);
    }

    #[test]
    fn t13_routes_deleted() {
        at(Mode::Split, "outage::split::t13_routes_deleted", routes_deleted);
    }

    #[test]
    fn t13_routes_and_blackholes_deleted() {
        at(Mode::Alone, "outage::split::t13_routes_and_blackholes_deleted", routes_deleted);
    }

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
    fn t13_out_of_memory() {
        at(Mode::Host, "outage::host::t13_out_of_memory", out_of_memory);
    }

    #[test]
    fn t13_routes_and_blackholes_deleted() {
        at(Mode::Host, "outage::host::t13_routes_and_blackholes_deleted", routes_deleted);
    }

    #[test]
    fn t17_better_routes() {
        at(Mode::Host, "outage::host::t17_better_routes", better_routes);
    }

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
