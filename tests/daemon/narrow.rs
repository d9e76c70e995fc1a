//! A path with a router in its middle that takes less than the gateways' own links, and says so by ICMP (RFC 4301 section 8.2).

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::gateway::Gateway;
use crate::routed::between;
use crate::site::{Place, Side, Site, TUN, Terms, key};
use crate::{PATIENCE, eventually, scenario};

/// What the middle takes.
const NARROW: u32 = 1300;

/// Octets that TCP carries each way.
const LENGTH: usize = 200_000;

/// How two gateways talk over the narrow path.
#[derive(Clone, Copy)]
struct Form {
    /// Without a prefix, in UDP.
    carrier: &'static str,
    /// The addresses of the gateways and of their hosts: `N` is the end's number.
    outer: &'static str,
    inner: &'static str,
    /// Keys of the pair of SAs.
    terms: &'static str,
}

const OUTER_V6: &str = "2001:db8::N";
const UDP: Form = Form { carrier: "", outer: "192.0.2.N", inner: "10.N.0.1", terms: "" };
const NATIVE: Form = Form { carrier: "native:", terms: "encapsulation = \"none\"", ..UDP };
const AH: Form = Form { terms: "suite = \"ah-hmac-sha-256\"", ..NATIVE };
const TRANSPORT: Form =
    Form { inner: NATIVE.outer, terms: "encapsulation = \"none\"\nmode = \"transport\"", ..NATIVE };

/// RFC 4301 8.2, T18: either gateway finds what a real path takes, from nothing but what its router says; TCP passes.
#[test]
fn rfc_4301_8_2_what_a_router_says_is_found_to_be_so_over_udp() {
    scenario("narrow::rfc_4301_8_2_what_a_router_says_is_found_to_be_so_over_udp", || {
        UDP.is_learnt();
    });
}

/// RFC 4301 8.2, T18: the same of ESP in IP.
#[test]
fn rfc_4301_8_2_what_a_router_says_is_found_to_be_so_without_udp() {
    scenario("narrow::rfc_4301_8_2_what_a_router_says_is_found_to_be_so_without_udp", || {
        NATIVE.is_learnt();
    });
}

/// RFC 4301 8.2, T18: the same of AH.
#[test]
fn rfc_4301_8_2_what_a_router_says_is_found_to_be_so_with_ah() {
    scenario("narrow::rfc_4301_8_2_what_a_router_says_is_found_to_be_so_with_ah", || {
        AH.is_learnt();
    });
}

/// RFC 4301 8.2, T18: the same of packets that keep their header.
#[test]
fn rfc_4301_8_2_what_a_router_says_is_found_to_be_so_in_transport_mode() {
    scenario("narrow::rfc_4301_8_2_what_a_router_says_is_found_to_be_so_in_transport_mode", || {
        TRANSPORT.is_learnt();
    });
}

/// RFC 4301 8.2, T18: the same where the router says Packet Too Big (RFC 4443 3.2).
#[test]
fn rfc_4301_8_2_what_a_router_says_is_found_to_be_so_over_udp_and_ipv6() {
    scenario("narrow::rfc_4301_8_2_what_a_router_says_is_found_to_be_so_over_udp_and_ipv6", || {
        UDP.over_ipv6().is_learnt();
    });
}

/// RFC 4301 8.2, T18: the same of ESP in IP.
#[test]
fn rfc_4301_8_2_what_a_router_says_is_found_to_be_so_over_ipv6_without_udp() {
    scenario("narrow::rfc_4301_8_2_what_a_router_says_is_found_to_be_so_over_ipv6_without_udp", || {
        NATIVE.over_ipv6().is_learnt();
    });
}

/// RFC 4301 8.2: of AH over IPv6 the kernel does not tell what a router says, so that it takes a gateway that asks by itself.
#[test]
fn rfc_4301_8_2_what_a_path_takes_is_found_with_ah_over_ipv6() {
    scenario("narrow::rfc_4301_8_2_what_a_path_takes_is_found_with_ah_over_ipv6", || {
        Form { terms: "suite = \"ah-hmac-sha-256\"\npmtu = \"probe\"", ..AH.over_ipv6() }.is_learnt();
    });
}

/// RFC 4301 8.2, RFC 8200 5, T18: the same of packets that keep their header, and are cut where they have 1280 octets.
#[test]
fn rfc_4301_8_2_what_a_router_says_is_found_to_be_so_in_transport_mode_over_ipv6() {
    scenario("narrow::rfc_4301_8_2_what_a_router_says_is_found_to_be_so_in_transport_mode_over_ipv6", || {
        Form { inner: OUTER_V6, ..TRANSPORT.over_ipv6() }.is_learnt();
    });
}

/// RFC 2473 7.1 b, RFC 8200 5: what no sender of IPv6 makes shorter is longer than the path once it is sealed, and passes all the
/// same: in UDP over IPv4, where routers cut.
#[test]
fn rfc_8200_5_hosts_of_ipv6_get_their_1280_octets_through_over_udp() {
    scenario("narrow::rfc_8200_5_hosts_of_ipv6_get_their_1280_octets_through_over_udp", || {
        UDP.with_ipv6_inside().is_learnt();
    });
}

/// The same in UDP over IPv6, where the gateway's kernel cuts.
#[test]
fn rfc_8200_5_hosts_of_ipv6_get_their_1280_octets_through_over_udp_and_ipv6() {
    scenario("narrow::rfc_8200_5_hosts_of_ipv6_get_their_1280_octets_through_over_udp_and_ipv6", || {
        UDP.over_ipv6().with_ipv6_inside().is_learnt();
    });
}

/// The same in IPv6, where the gateway cuts.
#[test]
fn rfc_8200_5_hosts_of_ipv6_get_their_1280_octets_through_over_ipv6_without_udp() {
    scenario("narrow::rfc_8200_5_hosts_of_ipv6_get_their_1280_octets_through_over_ipv6_without_udp", || {
        NATIVE.over_ipv6().with_ipv6_inside().is_learnt();
    });
}

impl Form {
    /// The same where the gateways have IPv6.
    fn over_ipv6(self) -> Self {
        Self { outer: OUTER_V6, ..self }
    }

    /// The same where the hosts have IPv6.
    fn with_ipv6_inside(self) -> Self {
        Self { inner: "fd00:N::1", ..self }
    }

    /// Has hosts talk over the narrow path in both directions, and looks at what the gateways found.
    fn is_learnt(self) {
        let site = Site::prepare(&Terms::default());
        let _routers = between(&site, NARROW);
        for side in [Side::A, Side::B] {
            let gateway = gateway(&site, side);
            gateway.configure(&self.text(side, site.at(side)));
            for end in [1, 2] {
                gateway.write(&format!("{end}.key"), &key(end, 1)[..self.key_digits()]);
            }
        }
        let (from, to) = (address(self.inner, Side::A), address(self.inner, Side::B));
        let site = site.started_between(from, to);
        exchange(site.at(Side::A), site.at(Side::B), to);
        for side in [Side::A, Side::B] {
            eventually("a gateway knows what its path takes", || {
                let (in_force, suspected) = path(gateway(&site, side));
                !suspected && (NARROW - 24..=NARROW).contains(&in_force)
            });
        }
    }

    fn text(&self, side: Side, place: &Place) -> String {
        let (own, far) = (side.number(), side.other().number());
        let [listen, endpoint] =
            [side, side.other()].map(|side| socket(self.outer, side, self.carrier.is_empty()));
        let [ours, theirs] = [side, side.other()].map(|side| address(self.inner, side));
        format!(
            "name = \"gateway{own}\"\nidentity = \"{own}.example\"\ninner = {{ path = \"{}\" }}\n\
             addresses = [\"{ours}/{}\"]\nlisten = [\"{}{listen}\"]\ncontrol = \"control.sock\"\n\n\
             [tun]\nname = \"{TUN}\"\n\n[[peer]]\nidentity = \"{far}.example\"\nendpoint = \"{endpoint}\"\n\
             inner = [\"{theirs}\"]\n\n[[peer.sa]]\npmtu_floor = {FLOOR}\n\
             inbound = {{ spi = 0x{far}001, key_file = \"{far}.key\" }}\n\
             outbound = {{ spi = 0x{own}001, key_file = \"{own}.key\" }}\n{}\n",
            place.inner.proc_path().display(),
            if ours.is_ipv4() { 32 } else { 128 },
            self.carrier,
            self.terms
        )
    }

    /// HMAC-SHA-256 takes 32 octets, and AES-256 with it 64.
    fn key_digits(&self) -> usize {
        if self.terms.contains("ah-") { 64 } else { 128 }
    }
}

/// What fits into the middle is not too little to be believed.
const FLOOR: u32 = 1100;

fn address(pattern: &str, side: Side) -> IpAddr {
    pattern.replace('N', &side.number().to_string()).parse().unwrap()
}

/// With a port, or without.
fn socket(pattern: &str, side: Side, port: bool) -> String {
    let address = address(pattern, side);
    if port { SocketAddr::new(address, 4500).to_string() } else { address.to_string() }
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
fn path(gateway: &Gateway) -> (u32, bool) {
    let path = &gateway.rows("sa list")[0]["path"];
    (path["in_force"].as_u64().unwrap().try_into().unwrap(), path["suspected"].as_bool().unwrap())
}
