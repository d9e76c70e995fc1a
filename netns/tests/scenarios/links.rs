//! Interfaces, addresses and routes through netlink.

use std::{net::UdpSocket, time::Duration};

use crate::support::{SOON, net4, net6, pair};
use latchway_netns::{
    Error, IpNet, Links, Namespace,
    links::{Family, Route, Rule, Way, veth},
    ping,
    testing::namespaced,
};

#[test]
fn a_veth_pair_ends_in_two_namespaces() {
    namespaced("links::a_veth_pair_ends_in_two_namespaces", || {
        let joined = pair().unwrap();
        let (va, vb) = (joined.links_a.link("va").unwrap(), joined.links_b.link("vb").unwrap());
        assert!(va.up && va.carrier && vb.up && vb.carrier);
        assert_eq!(joined.links_a.index("va").unwrap(), va.index);
        assert_eq!(joined.links_a.mac("va").unwrap(), va.mac.unwrap());
        assert!(!joined.links_a.exists("vb").unwrap());
        let again = veth(&joined.a, "va", &joined.b, "vc").unwrap_err();
        assert!(again.to_string().contains("making the veth pair va in a and vc in b"), "{again}");
        joined.links_b.delete("vb").unwrap();
        assert!(!joined.links_a.exists("va").unwrap());
        let gone = joined.links_a.set_up("va").unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ENODEV), "{gone}");
    });
}

#[test]
fn sizes_and_flags_take_effect() {
    namespaced("links::sizes_and_flags_take_effect", || {
        let joined = pair().unwrap();
        let links = &joined.links_a;
        links.set_mtu("va", 1400).unwrap();
        links.set_gso_max_size("va", 32768).unwrap();
        links.set_queue("va", 4000).unwrap();
        assert_eq!(links.link("va").unwrap().queue, 4000);
        assert!(links.is_quiet_ipv6("va").unwrap());
        let link = links.link("va").unwrap();
        assert_eq!((link.mtu, link.gso_max_size, link.gso_ipv4_max_size), (1400, Some(32768), Some(32768)));
        assert!(links.set_mtu("va", 1).unwrap_err().to_string().contains("setting va: its MTU to 1 in a"));
        links.set_down("va").unwrap();
        let waited = links.wait_ready("va", Duration::from_millis(20));
        assert!(matches!(waited, Err(Error::Deadline(_))), "{waited:?}");
        assert!(!links.link("va").unwrap().up);
        assert!(!joined.links_b.link("vb").unwrap().carrier);
        let flags = || joined.a.run(|| flags_of("va")).unwrap();
        assert_eq!((flags() & IFF_NOARP, flags() & IFF_MULTICAST), (0, 0));
        links.set_arp("va", false).unwrap();
        links.set_multicast("va", true).unwrap();
        assert_eq!((flags() & IFF_NOARP, flags() & IFF_MULTICAST), (IFF_NOARP, IFF_MULTICAST));
        assert!(!links.is_quiet_ipv6("va").unwrap());
    });
}

#[test]
fn addresses_are_usable_at_once_and_deleted() {
    namespaced("links::addresses_are_usable_at_once_and_deleted", || {
        let joined = pair().unwrap();
        let links = &joined.links_a;
        let global = || {
            let all = links.addresses("va").unwrap();
            all.into_iter().filter(|address| !is_link_local(*address)).collect::<Vec<_>>()
        };
        assert_eq!(global(), [net4(1), net6(1)]);
        let again = links.add_address("va", net4(1)).unwrap_err();
        assert_eq!(again.raw_os_error(), Some(libc::EEXIST), "{again}");
        // RFC 4862 §5.4: a tentative address could not be bound.
        joined.a.run(|| UdpSocket::bind("[2001:db8:9::1]:0").map(drop)).unwrap().unwrap();
        links.delete_address("va", net6(1)).unwrap();
        links.delete_address("va", net4(1)).unwrap();
        assert_eq!(global(), []);
        joined.a.run(|| UdpSocket::bind("[2001:db8:9::1]:0").map(drop)).unwrap().unwrap_err();
    });
}

#[test]
fn routes_lead_through_a_gateway_and_back() {
    namespaced("links::routes_lead_through_a_gateway_and_back", || {
        let joined = pair().unwrap();
        let behind = [("10.77.0.1/32", net4(2)), ("2001:db8:77::1/128", net6(2))];
        for (address, next_hop) in behind {
            let address: IpNet = address.parse().unwrap();
            joined.links_b.add_address("lo", address).unwrap();
            joined.links_b.wait_ready("lo", SOON).unwrap();
            let reached = |within| ping::echo(&joined.a, &to(address, within)).unwrap().received;
            assert_eq!(reached(BRIEFLY), 0);
            joined.links_a.add_route(address, Some(next_hop.addr()), "va", 100).unwrap();
            assert_eq!(reached(SOON), 1);
            joined.links_a.add_route(address, Some(next_hop.addr()), "va", 100).unwrap();
            let other = joined.links_a.add_route(address, None, "va", 100).unwrap_err();
            assert!(other.to_string().contains(&format!("adding the route {address} dev va")), "{other}");
            assert!(other.to_string().contains("Another route has this destination and metric"), "{other}");
            joined.links_a.delete_route(address, Some(next_hop.addr()), "va", 100).unwrap();
            assert_eq!(reached(BRIEFLY), 0);
        }
    });
}

/// T13: with the real route gone, a blackhole of worse metric takes over, and the default route does not.
#[test]
fn t13_a_blackhole_takes_over_when_the_route_goes() {
    namespaced("links::t13_a_blackhole_takes_over_when_the_route_goes", || {
        let joined = pair().unwrap();
        for (address, default) in [("10.77.0.1/32", "0.0.0.0/0"), ("2001:db8:77::1/128", "::/0")] {
            let (address, default): (IpNet, IpNet) = (address.parse().unwrap(), default.parse().unwrap());
            let next_hop = if address.addr().is_ipv4() { net4(2).addr() } else { net6(2).addr() };
            joined.links_b.add_address("lo", address).unwrap();
            joined.links_b.wait_ready("lo", SOON).unwrap();
            joined.links_a.add_route(default, Some(next_hop), "va", 50).unwrap();
            joined.links_a.add_route(address, Some(next_hop), "va", 100).unwrap();
            for _ in 0..2 {
                joined.links_a.add_blackhole(address, 1000).unwrap();
            }
            let reached = |within| ping::echo(&joined.a, &to(address, within)).unwrap().received;
            assert_eq!(reached(SOON), 1);
            joined.links_a.delete_route(address, Some(next_hop), "va", 100).unwrap();
            assert_eq!(reached(BRIEFLY), 0);
            joined.links_a.delete_blackhole(address, 1000).unwrap();
            assert_eq!(reached(SOON), 1);
        }
    });
}

/// Routes and rules of other tables: by the interface that a packet arrived on.
#[test]
fn a_rule_leads_to_a_table_of_its_own() {
    namespaced("links::a_rule_leads_to_a_table_of_its_own", || {
        let joined = pair().unwrap();
        let links = &joined.links_a;
        for (family, address) in [(Family::V4, "10.77.0.1/32"), (Family::V6, "2001:db8:77::1/128")] {
            let address: IpNet = address.parse().unwrap();
            joined.links_b.add_address("lo", address).unwrap();
            joined.links_b.wait_ready("lo", SOON).unwrap();
            let next_hop = if family == Family::V4 { net4(2) } else { net6(2) };
            let reached = |within| ping::echo(&joined.a, &to(address, within)).unwrap().received;
            let way = Way::Through { device: links.index("va").unwrap(), via: Some(next_hop.addr()) };
            let route = Route { destination: address, metric: 9, table: 4711, way };
            // What the namespace sends itself arrives on `lo`, as far as rules go.
            let rule = Rule {
                family,
                priority: 77,
                arriving: "lo".to_owned(),
                other: false,
                from: None,
                table: 4711,
            };
            let others = Rule { arriving: "nope".to_owned(), other: true, priority: 78, ..rule.clone() };
            for rule in [rule, others] {
                for _ in 0..2 {
                    links.add(&route).unwrap();
                    links.add_rule(&rule).unwrap();
                }
                assert!(links.routes().unwrap().contains(&route) && links.rules().unwrap().contains(&rule));
                assert_eq!(reached(SOON), 1);
                for _ in 0..2 {
                    links.delete_rule(&rule).unwrap();
                }
                assert_eq!((reached(BRIEFLY), links.rules().unwrap()), (0, vec![]));
            }
            for _ in 0..2 {
                links.remove(&route).unwrap();
            }
            let other = Route { way: Way::Other, ..route };
            assert!(
                matches!(links.add(&other), Err(Error::Malformed(_)))
                    && !links.routes().unwrap().contains(&other)
            );
        }
        let names = links.all().unwrap().into_iter().map(|link| link.name);
        assert_eq!(names.collect::<Vec<_>>(), ["lo", "va"]);
    });
}

#[test]
fn a_direct_route_needs_no_gateway() {
    namespaced("links::a_direct_route_needs_no_gateway", || {
        let joined = pair().unwrap();
        for address in ["10.88.0.1/32", "2001:db8:88::1/128"] {
            let address: IpNet = address.parse().unwrap();
            joined.links_b.add_address("vb", address).unwrap();
            joined.links_b.wait_ready("vb", SOON).unwrap();
            joined.links_a.add_route(address, None, "va", 10).unwrap();
            assert_eq!(ping::echo(&joined.a, &to(address, SOON)).unwrap().received, 1);
        }
    });
}

#[test]
fn neighbours_are_known_after_an_exchange() {
    namespaced("links::neighbours_are_known_after_an_exchange", || {
        let joined = pair().unwrap();
        for peer in [net4(2), net6(2)] {
            assert_eq!(joined.links_a.neighbour("va", peer.addr()).unwrap(), None);
            assert_eq!(ping::echo(&joined.a, &to(peer, SOON)).unwrap().received, 1);
            let mac = joined.links_b.mac("vb").unwrap();
            assert_eq!(joined.links_a.neighbour("va", peer.addr()).unwrap(), Some(mac));
        }
        assert!(Links::of(&joined.a).unwrap().neighbour("nope", net4(2).addr()).is_err());
    });
}

#[test]
fn one_handle_serves_many_threads() {
    namespaced("links::one_handle_serves_many_threads", || {
        let space = Namespace::create("busy").unwrap();
        let links = Links::of(&space).unwrap();
        std::thread::scope(|scope| {
            for thread in 1..=4u8 {
                let links = &links;
                scope.spawn(move || {
                    for host in 1..=20 {
                        links.add_address("lo", IpNet::new_assert([10, 1, thread, host].into(), 32)).unwrap();
                    }
                });
            }
        });
        assert_eq!(links.addresses("lo").unwrap().len(), 2 + 4 * 20);
    });
}

fn is_link_local(address: IpNet) -> bool {
    matches!(address, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

fn to(address: IpNet, timeout: Duration) -> ping::Echo<'static> {
    ping::Echo { destination: address.addr(), timeout, ..ping::Echo::default() }
}

/// How long an answer that must not come is waited for.
const BRIEFLY: Duration = Duration::from_millis(300);

/// An interface's flags in the calling thread's namespace.
fn flags_of(name: &str) -> i32 {
    let mut all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    all.find(|entry| entry.interface_name == name).map_or(0, |entry| entry.flags.bits())
}

const IFF_NOARP: i32 = libc::IFF_NOARP;
const IFF_MULTICAST: i32 = libc::IFF_MULTICAST;
