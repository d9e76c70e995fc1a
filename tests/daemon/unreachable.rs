//! ICMP errors about packets that went through the tunnel (RFC 4301 section 6, T19): routers before, between and behind the
//! gateways say that a host is not there or a link too narrow, and who sent the packet hears of it. The situations are those
//! of Linux's `xfrm_state.sh`, and are named like there.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use etherparse::{SlicedPacket, TransportSlice};
use latchway_netns::ping::{self, Echo};
use latchway_netns::watch::{Captured, Frame, Options, Sniffer};
use latchway_netns::{Links, Namespace, sysctl};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use crate::gateway::Gateway;
use crate::routed::{Behind, HOSTS, between};
use crate::site::{Side, Site, TUN, Terms, WIRE};
use crate::{PATIENCE, eventually, scenario};

/// Where the packets that errors are about are sent, and what is in them.
const PORT: u16 = 7777;
const CONTENT: &[u8] = b"what errors are about";

/// Longer than what is narrow takes, and than nothing else.
const LONG: usize = 1330;

/// What is narrow takes.
const NARROW: u32 = 1300;

/// RFC 792: Destination Unreachable, host unreachable; RFC 4443 3.1: address unreachable.
const NOBODY: [(u8, u8); 2] = [(3, 1), (1, 3)];

/// RFC 1191: fragmentation needed; RFC 4443 3.2: Packet Too Big.
const TOO_BIG: [(u8, u8); 2] = [(3, 4), (2, 0)];

/// Two gateways, hosts behind them with routers or without, and somebody who watches host a and the wire.
struct Scene {
    site: Site,
    a: Behind,
    b: Behind,
    _between: Option<[Namespace; 2]>,
    at_host: Sniffer,
    on_wire: Sniffer,
}

/// Where the narrow link or the missing host is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Behind a router behind the second gateway: r3.
    Router,
    /// Right behind the second gateway: s2.
    Gateway,
    /// Between the gateways: r2.
    Between,
}

/// T19, RFC 4301 6.2: r3 has an address that no selector speaks of.
#[test]
fn t19_unreachable_ipv4() {
    scenario("unreachable::t19_unreachable_ipv4", || nobody_is_there(Where::Router, false));
}

/// T19, RFC 4301 6.2.
#[test]
fn t19_unreachable_ipv6() {
    scenario("unreachable::t19_unreachable_ipv6", || nobody_is_there(Where::Router, true));
}

/// T19, RFC 4301 6.2: the second gateway's own kernel says so, in the name of its TUN.
#[test]
fn t19_unreachable_gw_ipv4() {
    scenario("unreachable::t19_unreachable_gw_ipv4", || nobody_is_there(Where::Gateway, false));
}

/// T19, RFC 4301 6.2.
#[test]
fn t19_unreachable_gw_ipv6() {
    scenario("unreachable::t19_unreachable_gw_ipv6", || nobody_is_there(Where::Gateway, true));
}

/// T19, RFC 4301 6.2 and 8.2.1.
#[test]
fn t19_mtu_ipv4_s2() {
    scenario("unreachable::t19_mtu_ipv4_s2", || a_link_is_narrow(Where::Gateway, false));
}

/// T19, RFC 4301 6.2 and 8.2.1.
#[test]
fn t19_mtu_ipv6_s2() {
    scenario("unreachable::t19_mtu_ipv6_s2", || a_link_is_narrow(Where::Gateway, true));
}

/// T19, RFC 4301 6.2 and 8.2.1.
#[test]
fn t19_mtu_ipv4_r3() {
    scenario("unreachable::t19_mtu_ipv4_r3", || a_link_is_narrow(Where::Router, false));
}

/// T19, RFC 4301 6.2 and 8.2.1.
#[test]
fn t19_mtu_ipv6_r3() {
    scenario("unreachable::t19_mtu_ipv6_r3", || a_link_is_narrow(Where::Router, true));
}

/// T18, T19, RFC 4301 8.2.1: what r2 says outside of the tunnel is only a reason to ask (Linux believes it), and the sender
/// hears what that proved.
#[test]
fn t18_t19_mtu_ipv4_r2() {
    scenario("unreachable::t18_t19_mtu_ipv4_r2", || the_path_is_narrow(1300, false));
}

/// T18, T19, RFC 4301 8.2.1: the same. Linux tells the sender 1230 of a path of 1300 octets; here no sender of IPv6 is told
/// less than every link takes (RFC 8200 5), so that the path is wider.
#[test]
fn t18_t19_mtu_ipv6_r2() {
    scenario("unreachable::t18_t19_mtu_ipv6_r2", || the_path_is_narrow(1400, true));
}

/// T13, T19: no error that quotes protected traffic leaves in the clear, not even where a rule lets errors bypass: the error
/// shows what it quotes.
#[test]
fn t13_t19_unreachable_is_protected_even_under_bypass() {
    scenario("unreachable::t13_t19_unreachable_is_protected_even_under_bypass", || {
        let bypass = "[[policy]]\naction = \"bypass\"\nprotocol = \"icmp\"\nicmp = { type = 3 }\n\n";
        let scene = Scene::new(Where::Router, |side| match side {
            Side::A => String::new(),
            Side::B => bypass.to_owned(),
        });
        scene.tells_of_nobody(Where::Router, false);
        scene.hides_it();
    });
}

/// Somebody sends to a host that is not there.
fn nobody_is_there(place: Where, v6: bool) {
    let scene = Scene::new(place, |_| String::new());
    scene.tells_of_nobody(place, v6);
    scene.hides_it();
}

/// Somebody sends what does not fit the link to the far host.
fn a_link_is_narrow(place: Where, v6: bool) {
    let scene = Scene::new(place, |_| String::new());
    Links::of(scene.teller(place)).unwrap().set_mtu(HOSTS, NARROW).unwrap();
    let error = scene.tells_of_too_much(v6);
    assert_eq!(error.source, Some(scene.address_of(place, v6)), "{error:?}");
    assert_eq!(told(&error), (TOO_BIG[usize::from(v6)], NARROW));
    scene.hides_it();
}

/// Somebody sends what does not fit the path between the gateways.
fn the_path_is_narrow(narrow: u32, v6: bool) {
    let scene = Scene::over(narrow);
    let error = scene.tells_of_too_much(v6);
    // The gateway has no address of its own that the host knows: it speaks for the far host (RFC 4301 8.2.1 says what, and
    // not in whose name).
    assert_eq!(error.source, Some(host(Side::B, v6)), "{error:?}");
    let (what, mtu) = told(&error);
    assert_eq!(what, TOO_BIG[usize::from(v6)]);
    let path = &scene.site.a.rows("sa list")[1]["path"];
    assert_eq!(path["suspected"], false, "it is proven: {path}");
    let in_force = u32::try_from(path["in_force"].as_u64().unwrap()).unwrap();
    assert!((narrow - 24..=narrow).contains(&in_force), "{path}");
    // Of ESP in UDP over IPv4 with this suite: 20, 8, 8, 16 and 16 octets, and at least 2 of trailer.
    assert!((in_force - 70 - 16..=in_force - 70).contains(&mtu), "{mtu} of {in_force}");
}

impl Scene {
    /// Gateways with hosts of which the packets pass. `rules` are rules of the policy before those that protect.
    fn new(place: Where, rules: impl Fn(Side) -> String) -> Self {
        let site = Site::prepare(&Terms::default());
        Self::started(site, place, None, rules)
    }

    /// The same over a path that takes so much.
    fn over(narrow: u32) -> Self {
        let site = Site::prepare(&Terms::default());
        let routers = between(&site, narrow);
        Self::started(site, Where::Between, Some(routers), |_| String::new())
    }

    fn started(
        mut site: Site,
        place: Where,
        between: Option<[Namespace; 2]>,
        rules: impl Fn(Side) -> String,
    ) -> Self {
        for (side, gateway) in [(Side::A, &site.a), (Side::B, &site.b)] {
            configure(gateway, side, &site.at(side).inner, &rules(side));
        }
        let a = Behind::new(&site.at(Side::A).inner, Side::A, true);
        let b = Behind::new(&site.at(Side::B).inner, Side::B, place != Where::Gateway);
        site.a.start();
        site.b.start();
        for v6 in [false, true] {
            let (source, destination) = (Some(host(Side::A, v6)), host(Side::B, v6));
            let echo = Echo { source, destination, timeout: Duration::from_millis(300), ..Echo::default() };
            eventually("an echo returns", || {
                ping::echo(&a.host, &echo).is_ok_and(|report| report.received == 1)
            });
        }
        let at_host = Sniffer::start(&a.host, HOSTS).unwrap();
        let on_wire =
            Sniffer::start_with(&site.at(Side::B).outer, WIRE, Options::searching(&[CONTENT])).unwrap();
        Self { site, a, b, _between: between, at_host, on_wire }
    }

    /// Has host a send to a host that is not there until it hears of it, and looks at what it hears.
    fn tells_of_nobody(&self, place: Where, v6: bool) {
        // It takes the kernel three seconds to be sure, and less where it lets itself be told so.
        let neighbours = if v6 { "net/ipv6/neigh" } else { "net/ipv4/neigh" };
        let _ = sysctl::write(self.teller(place), &format!("{neighbours}/{HOSTS}/retrans_time_ms"), "50");
        let nobody: IpAddr = if v6 { "fd00:2::3" } else { "10.2.0.3" }.parse().unwrap();
        let error = self.hears((nobody, 64), Errno::EHOSTUNREACH);
        assert_eq!(error.source, Some(self.address_of(place, v6)), "{error:?}");
        assert_eq!(told(&error), (NOBODY[usize::from(v6)], 0));
    }

    /// Has host a send what is too long until it hears of it. From then on what it sends arrives, whole.
    fn tells_of_too_much(&self, v6: bool) -> Frame {
        let there = SocketAddr::new(host(Side::B, v6), PORT);
        let receiver = self.b.host.run(|| UdpSocket::bind(there)).unwrap().unwrap();
        let error = self.hears((there.ip(), LONG), Errno::EMSGSIZE);
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let sender = self.sender(there);
        eventually("a datagram is taken", || sender.send(&content(LONG)).is_ok());
        let mut received = [0; 2 * LONG];
        let len = receiver.recv(&mut received).unwrap();
        assert!(received[..len] == content(LONG), "it came otherwise than it was sent");
        error
    }

    /// Has host a send datagrams to an address until its kernel says that one failed so. Returns the error that came.
    fn hears(&self, (to, len): (IpAddr, usize), wanted: Errno) -> Frame {
        let start = self.at_host.mark();
        let socket = self.sender(SocketAddr::new(to, PORT));
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let (payload, wanted) = (content(len), Some(wanted as i32));
        eventually("the sender hears of it", || {
            let outcome = socket.send(&payload).and_then(|_| socket.recv(&mut [0; 9]));
            outcome.is_err_and(|error| error.raw_os_error() == wanted)
        });
        let from_elsewhere = |frame: &Frame| {
            matches!(frame.protocol, Some(1 | 58)) && [TOO_BIG, NOBODY].concat().contains(&told(frame).0)
        };
        self.at_host.wait_for(start, from_elsewhere, PATIENCE).unwrap()
    }

    /// A socket of host a that is told of errors.
    fn sender(&self, to: SocketAddr) -> UdpSocket {
        let from = SocketAddr::new(host(Side::A, to.is_ipv6()), 0);
        let socket = self.a.host.run(|| UdpSocket::bind(from)).unwrap().unwrap();
        if to.is_ipv6() {
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true).unwrap();
        } else {
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true).unwrap();
        }
        socket.connect(to).unwrap();
        socket
    }

    /// Nothing of what was sent, and of what was said about it, was to be seen between the gateways.
    fn hides_it(self) {
        let Captured { pattern_hits, frames, dropped, .. } = self.on_wire.stop().unwrap();
        assert_eq!((pattern_hits, dropped), (vec![0], 0));
        let protected = frames.iter().filter(|frame| frame.ports == Some((4500, 4500))).count();
        let clear = frames.iter().filter(|frame| frame.protocol == Some(1)).count();
        assert!(protected >= 2 && clear == 0, "{protected} protected, {clear} clear");
        for gateway in [&self.site.a, &self.site.b] {
            assert_eq!(gateway.drops("inbound", "selector_mismatch"), 0);
        }
    }

    /// Who tells that there is nobody, or that the link is narrow.
    fn teller(&self, place: Where) -> &Namespace {
        match place {
            Where::Router | Where::Between => self.b.router.as_ref().unwrap(),
            Where::Gateway => &self.site.at(Side::B).inner,
        }
    }

    /// In whose name: an address that no selector and no policy speaks of.
    fn address_of(&self, place: Where, v6: bool) -> IpAddr {
        let address = match (place, v6) {
            (Where::Router | Where::Between, false) => "10.2.5.2",
            (Where::Router | Where::Between, true) => "fd00:2:5::2",
            (Where::Gateway, false) => "172.16.2.1",
            (Where::Gateway, true) => "fd16:2::1",
        };
        address.parse().unwrap()
    }
}

/// Protects what is between the networks of the hosts, and nothing else.
fn configure(gateway: &Gateway, side: Side, inner: &Namespace, rules: &str) {
    let (own, far) = (side.number(), side.other().number());
    gateway.configure(&format!(
        "name = \"gateway{own}\"\nidentity = \"{own}.example\"\ninner = {{ path = \"{}\" }}\n\
         addresses = [\"172.16.{own}.1/32\", \"fd16:{own}::1/128\"]\nlisten = [\"192.0.2.{own}:4500\"]\n\
         control = \"control.sock\"\nbypass_port = \"clear\"\n\n[tun]\nname = \"{TUN}\"\n\n\
         [[peer]]\nidentity = \"{far}.example\"\nendpoint = \"192.0.2.{far}:4500\"\n\
         inner = [\"10.{far}.0.0/24\", \"fd00:{far}::/64\"]\n\n\
         [[peer.sa]]\ninbound = {{ spi = 0x{far}001, key_file = \"{far}1.key\" }}\n\
         outbound = {{ spi = 0x{own}001, key_file = \"{own}1.key\" }}\npmtu_floor = 1100\n\
         selectors = [{{ local = \"10.{own}.0.0/24\", remote = \"10.{far}.0.0/24\" }}, \
         {{ local = \"fd00:{own}::/64\", remote = \"fd00:{far}::/64\" }}]\n\n\
         {rules}[[policy]]\naction = \"protect\"\npeer = \"{far}.example\"\n\
         local = [\"10.{own}.0.0/24\", \"fd00:{own}::/64\"]\n",
        inner.proc_path().display()
    ));
}

fn host(side: Side, v6: bool) -> IpAddr {
    let n = side.number();
    if v6 { format!("fd00:{n}::2") } else { format!("10.{n}.0.2") }.parse().unwrap()
}

fn content(len: usize) -> Vec<u8> {
    CONTENT.iter().copied().cycle().take(len).collect()
}

/// Type and code of an ICMP message, and its last field, where RFC 1191 and RFC 4443 have the MTU.
fn told(frame: &Frame) -> ((u8, u8), u32) {
    let sliced = SlicedPacket::from_ethernet(&frame.bytes).unwrap();
    let (kind, code, rest) = match sliced.transport {
        Some(TransportSlice::Icmpv4(icmp)) => (icmp.type_u8(), icmp.code_u8(), icmp.bytes5to8()),
        Some(TransportSlice::Icmpv6(icmp)) => (icmp.type_u8(), icmp.code_u8(), icmp.bytes5to8()),
        other => panic!("{other:?}"),
    };
    ((kind, code), u32::from_be_bytes(rest))
}
