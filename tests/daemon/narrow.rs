//! A path with a router in its middle that takes less than the gateways' own links, and says so by ICMP (RFC 4301 section 8.2).

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use latchway_netns::{IpNet, Links, Namespace, links, sysctl};

use crate::gateway::Gateway;
use crate::site::{Place, Side, Site, Terms, WIRE};
use crate::{PATIENCE, eventually, scenario};

/// What the middle takes.
const NARROW: u64 = 1300;

/// The interface of each router that leads to the other.
const MIDDLE: &str = "middle";

/// Octets that TCP carries each way.
const LENGTH: usize = 200_000;

/// Keys of an SA for which less than the middle takes is not too little to be believed.
const LOW_FLOOR: &str = "pmtu_floor = 1200\n";

/// RFC 4301 8.2, T18: either gateway finds what a real path takes, from nothing but what its router says; TCP passes.
#[test]
fn rfc_4301_8_2_what_a_router_says_is_found_to_be_so_over_udp() {
    scenario("narrow::rfc_4301_8_2_what_a_router_says_is_found_to_be_so_over_udp", || {
        is_learnt(false, LOW_FLOOR);
    });
}

/// RFC 4301 8.2, T18: the same of ESP in IP.
#[test]
fn rfc_4301_8_2_what_a_router_says_is_found_to_be_so_without_udp() {
    scenario("narrow::rfc_4301_8_2_what_a_router_says_is_found_to_be_so_without_udp", || {
        is_learnt(true, &format!("encapsulation = \"none\"\n{LOW_FLOOR}"));
    });
}

/// Has hosts talk over the narrow path in both directions, and looks at what the gateways found.
fn is_learnt(native: bool, lines: &str) {
    let terms = Terms { sas: vec![(1, lines.to_owned())], ..Terms::default() };
    let (site, _routers) = behind_routers(&terms, native);
    exchange(site.at(Side::A), site.at(Side::B), Side::B.address());
    for side in [Side::A, Side::B] {
        eventually("a gateway knows what its path takes", || {
            let (in_force, suspected) = path(gateway(&site, side));
            !suspected && (NARROW - 24..=NARROW).contains(&in_force)
        });
    }
}

/// Sends octets over TCP from one host to another, and back when all are there: meanwhile nothing goes the other way but
/// acknowledgements. One connection, since the next one would begin with segments that fit.
fn exchange(one: &Place, other: &Place, address: IpAddr) {
    let listener = other.inner.run(|| TcpListener::bind(SocketAddr::new(address, 0))).unwrap().unwrap();
    let at = listener.local_addr().unwrap();
    let ours = one.inner.run(|| TcpStream::connect_timeout(&at, PATIENCE)).unwrap().unwrap();
    let (theirs, _) = listener.accept().unwrap();
    let octets: Vec<u8> = (0..LENGTH).map(|n| (n % 251) as u8).collect();
    for (mut sending, mut receiving) in [(&ours, &theirs), (&theirs, &ours)] {
        sending.set_write_timeout(Some(PATIENCE)).unwrap();
        receiving.set_read_timeout(Some(PATIENCE)).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| sending.write_all(&octets).unwrap());
            let mut received = vec![0; LENGTH];
            receiving.read_exact(&mut received).unwrap();
            assert!(received == octets, "what arrived is not what was sent");
        });
    }
}

const fn gateway(site: &Site, side: Side) -> &Gateway {
    match side {
        Side::A => &site.a,
        Side::B => &site.b,
    }
}

/// What a gateway sends, and whether it doubts it.
fn path(gateway: &Gateway) -> (u64, bool) {
    let path = &gateway.rows("sa list")[0]["path"];
    (path["in_force"].as_u64().unwrap(), path["suspected"].as_bool().unwrap())
}

/// Gateways that stand on either side of two routers: 1500 octets to each router, and fewer between them.
fn behind_routers(terms: &Terms, native: bool) -> (Site, [Namespace; 2]) {
    let routers = ["router of a", "router of b"].map(|label| Namespace::create(label).unwrap());
    let [near, far] = &routers;
    links::veth(near, MIDDLE, far, MIDDLE).unwrap();
    let site = Site::prepare(terms);
    Links::of(&site.at(Side::A).outer).unwrap().delete(WIRE).unwrap();
    for (side, router) in [(Side::A, near), (Side::B, far)] {
        stand(side, &site.at(side).outer, router);
        let text = terms.text(side, &site.at(side).inner);
        if native {
            let text = text.replace("listen = [\"", "listen = [\"native:").replace(":4500", "");
            gateway(&site, side).configure(&text);
        }
    }
    for (router, side) in routers.iter().zip([Side::A, Side::B]) {
        for (namespace, name) in [(router, MIDDLE), (router, WIRE), (&site.at(side).outer, WIRE)] {
            Links::of(namespace).unwrap().wait_ready(name, PATIENCE).unwrap();
        }
    }
    (site.started(), routers)
}

/// Joins a gateway's place to its router, and gives both addresses and routes.
fn stand(side: Side, outer: &Namespace, router: &Namespace) {
    let (own, far) = (side.number(), side.other().number());
    links::veth(outer, WIRE, router, WIRE).unwrap();
    let (host, forwards) = (Links::of(outer).unwrap(), Links::of(router).unwrap());
    forwards.set_mtu(MIDDLE, u32::try_from(NARROW).unwrap()).unwrap();
    sysctl::write(router, "net/ipv4/ip_forward", "1").unwrap();
    for (links, name, address) in [
        (&host, WIRE, format!("192.0.2.{own}/32")),
        (&forwards, WIRE, format!("198.51.100.{own}/32")),
        (&forwards, MIDDLE, format!("203.0.113.{own}/24")),
    ] {
        links.set_up(name).unwrap();
        links.add_address(name, address.parse().unwrap()).unwrap();
    }
    let router: IpAddr = format!("198.51.100.{own}").parse().unwrap();
    host.add_route(IpNet::from(router), None, WIRE, 0).unwrap();
    host.add_route("192.0.2.0/24".parse().unwrap(), Some(router), WIRE, 0).unwrap();
    forwards.add_route(format!("192.0.2.{own}/32").parse().unwrap(), None, WIRE, 0).unwrap();
    let next = format!("203.0.113.{far}").parse().unwrap();
    forwards.add_route(format!("192.0.2.{far}/32").parse().unwrap(), Some(next), MIDDLE, 0).unwrap();
}
