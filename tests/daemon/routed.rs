//! Routers, which are the kernel's own: between the gateways, and between a gateway and its hosts. Both families.

use latchway_netns::{Links, Namespace, links, sysctl};

use crate::PATIENCE;
use crate::site::{Side, Site, WIRE};

/// The interface of each router between the gateways that leads to the other.
pub const MIDDLE: &str = "middle";

/// The interface that leads to the hosts.
pub const HOSTS: &str = "hosts";

/// The interface of a router that leads to its gateway.
const GATE: &str = "gate";

/// What one end of the gateways has behind it: 10.N.0.0/24 and fd00:N::/64.
pub struct Behind {
    /// Has the numbers 2 in these networks.
    pub host: Namespace,
    /// Has the numbers 1, and 2 in the networks between it and the gateway, 10.N.5.0/24 and fd00:N:5::/64; where there is no
    /// router, the gateway itself has the numbers 1.
    pub router: Option<Namespace>,
}

impl Behind {
    /// A host behind a gateway, with a router in front of it or without.
    pub fn new(gateway: &Namespace, side: Side, routed: bool) -> Self {
        let n = side.number();
        let host = Namespace::create(&format!("host {n}")).unwrap();
        forward(gateway);
        let router = routed.then(|| {
            let router = Namespace::create(&format!("router {n}")).unwrap();
            forward(&router);
            let gate = [format!("10.{n}.5.1/24"), format!("fd00:{n}:5::1/64")];
            let far = [format!("10.{n}.5.2/24"), format!("fd00:{n}:5::2/64")];
            join([(gateway, HOSTS, &gate), (&router, GATE, &far)]);
            lead(gateway, HOSTS, &format!("10.{n}.0.0/24"), &format!("10.{n}.5.2"));
            lead(gateway, HOSTS, &format!("fd00:{n}::/64"), &format!("fd00:{n}:5::2"));
            lead(&router, GATE, "0.0.0.0/0", &format!("10.{n}.5.1"));
            lead(&router, GATE, "::/0", &format!("fd00:{n}:5::1"));
            router
        });
        let near = [format!("10.{n}.0.1/24"), format!("fd00:{n}::1/64")];
        let own = [format!("10.{n}.0.2/24"), format!("fd00:{n}::2/64")];
        join([(router.as_ref().unwrap_or(gateway), HOSTS, &near), (&host, HOSTS, &own)]);
        lead(&host, HOSTS, "0.0.0.0/0", &format!("10.{n}.0.1"));
        lead(&host, HOSTS, "::/0", &format!("fd00:{n}::1"));
        Self { host, router }
    }
}

/// Puts two routers between the gateways, which have 192.0.2.N and 2001:db8::N: all takes 1500 octets but what is between the
/// two, which takes `narrow`.
pub fn between(site: &Site, narrow: u32) -> [Namespace; 2] {
    let routers = ["router of a", "router of b"].map(|label| Namespace::create(label).unwrap());
    Links::of(&site.at(Side::A).outer).unwrap().delete(WIRE).unwrap();
    let [near, far] = &routers;
    let middle = |n: u8| [format!("203.0.113.{n}/24"), format!("2001:db8:2::{n}/64")];
    routers.iter().for_each(forward);
    join([(near, MIDDLE, &middle(1)), (far, MIDDLE, &middle(2))]);
    for (router, side) in routers.iter().zip([Side::A, Side::B]) {
        Links::of(router).unwrap().set_mtu(MIDDLE, narrow).unwrap();
        let (own, far, outer) = (side.number(), side.other().number(), &site.at(side).outer);
        let gateway = [format!("192.0.2.{own}/32"), format!("2001:db8::{own}/128")];
        let at_router = [format!("198.51.100.{own}/32"), format!("2001:db8:1::{own}/128")];
        join([(outer, WIRE, &gateway), (router, WIRE, &at_router)]);
        let (links, forwards) = (Links::of(outer).unwrap(), Links::of(router).unwrap());
        for (gateway, at_router) in gateway.iter().zip(&at_router) {
            links.add_route(at_router.parse().unwrap(), None, WIRE, 0).unwrap();
            forwards.add_route(gateway.parse().unwrap(), None, WIRE, 0).unwrap();
        }
        lead(outer, WIRE, "192.0.2.0/24", &format!("198.51.100.{own}"));
        lead(outer, WIRE, "2001:db8::/64", &format!("2001:db8:1::{own}"));
        lead(router, MIDDLE, &format!("192.0.2.{far}/32"), &format!("203.0.113.{far}"));
        lead(router, MIDDLE, &format!("2001:db8::{far}/128"), &format!("2001:db8:2::{far}"));
    }
    routers
}

/// Lets a namespace forward whatever there is a way for: the sender of an ICMP error may be of a network that nobody can reach.
fn forward(namespace: &Namespace) {
    for (setting, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/ipv6/conf/all/forwarding", "1"),
    ] {
        sysctl::write(namespace, setting, value).unwrap();
    }
}

/// Joins two namespaces, each by an interface with an address of each family.
fn join(ends: [(&Namespace, &str, &[String; 2]); 2]) {
    let [(one, its, _), (other, others, _)] = ends;
    links::veth(one, its, other, others).unwrap();
    for (namespace, interface, addresses) in ends {
        let links = Links::of(namespace).unwrap();
        links.quiet_ipv6(interface).unwrap();
        for address in addresses {
            links.add_address(interface, address.parse().unwrap()).unwrap();
        }
        links.set_up(interface).unwrap();
    }
    for (namespace, interface, _) in ends {
        Links::of(namespace).unwrap().wait_ready(interface, PATIENCE).unwrap();
    }
}

/// Adds a route by way of a router.
fn lead(namespace: &Namespace, interface: &str, to: &str, via: &str) {
    let (to, via) = (to.parse().unwrap(), Some(via.parse().unwrap()));
    Links::of(namespace).unwrap().add_route(to, via, interface, 0).unwrap();
}
