//! Host mode's packet filters: silent towards the outside, tight towards the inside, and in nobody else's way.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    time::Duration,
};

use latchway_guard::{HostGuard, InnerSide, QUEUE};
use latchway_netns::{
    Links, Namespace,
    inject::{self, Injector},
    netlink::Netlink,
    packet::{self, Segment},
    ping::{self, Echo},
    skip::{self, Need},
    sysctl,
    testing::namespaced,
    watch::{Direction, Frame, Options, Sniffer},
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterProtoFamily,
    nftables::{NfTablesMessage, RuleAttribute, RuleMessage, TableAttribute, TableFlags, TableMessage},
    none::ControlMessage,
};
use nix::sys::socket::{SockProtocol, setsockopt, sockopt::Mark};
use tun_rs::SyncDevice;

use crate::support::{SOON, net, received, seen, tun, wire};

/// A host with a wire to the outside and a TUN, its inner addresses on it.
struct Host {
    host: Namespace,
    outside: Namespace,
    links: Links,
    device: SyncDevice,
}

impl Host {
    fn new() -> Self {
        let (host, outside) = (Namespace::create("host").unwrap(), Namespace::create("outside").unwrap());
        wire((&host, "eth0", &OUTER), (&outside, "eth0", &OUTSIDE));
        let links = Links::of(&host).unwrap();
        links.add_route(net("0.0.0.0/0"), Some(net(OUTSIDE[0]).addr()), "eth0", 0).unwrap();
        links.add_route(net("::/0"), Some(net(OUTSIDE[1]).addr()), "eth0", 0).unwrap();
        let device = tun(&host, "tun9");
        let side = InnerSide {
            tun: "tun9".to_owned(),
            addresses: INNER.map(net).to_vec(),
            mtu: 1400,
            queue: QUEUE,
            gso_max_size: 60_000,
            routes: PROTECTED.map(net).to_vec(),
        };
        side.prepare(&host).unwrap();
        Self { host, outside, links, device }
    }

    /// Sends frames to the host from the outside, and says what the host answered.
    fn answers(&self, packets: &[Vec<u8>]) -> Vec<Frame> {
        let macs = [(&self.outside, "eth0"), (&self.host, "eth0")];
        let [from, to] = macs.map(|(space, name)| Links::of(space).unwrap().mac(name).unwrap());
        let (injector, sniffer) =
            (Injector::open(&self.outside, "eth0").unwrap(), Sniffer::start(&self.outside, "eth0").unwrap());
        let mark = sniffer.mark();
        for packet in packets {
            injector.send(&packet::ethernet(from, to, packet).unwrap()).unwrap();
        }
        // What comes after them on the same wire was answered after them.
        assert_eq!(reached(&self.outside, OUTER[0]) + reached(&self.outside, OUTER[1]), 2);
        let frames = sniffer.frames_since(mark).unwrap();
        let other = |frame: &Frame| {
            frame.direction == Direction::Inbound
                && !frame.source.is_some_and(|source| OUTER.map(|outer| net(outer).addr()).contains(&source))
        };
        frames.into_iter().filter(other).collect()
    }
}

/// T16: a clear packet for an inner address gets no answer of any kind, whether the address is there or not, the port
/// open or closed, the connection known or not. Without the filters it does.
#[test]
fn t16_nothing_tells_from_outside_whether_an_inner_address_is_there() {
    let name = "host::t16_nothing_tells_from_outside_whether_an_inner_address_is_there";
    scenario(name, |it| {
        let open = INNER.map(|inner| {
            let at = SocketAddr::new(net(inner).addr(), 7000);
            let listening = it.host.run(|| (UdpSocket::bind(at), TcpListener::bind(at))).unwrap();
            (listening.0.unwrap(), listening.1.unwrap())
        });
        let probes = probes();
        // Otherwise the sources, for which the host has a route into the TUN, would not be answered on the wire.
        for (outside, protected) in OUTSIDE.into_iter().zip(["10.77.2.7/32", "fd77:77:2::7/128"]) {
            it.links.add_route(net(protected), Some(net(outside).addr()), "eth0", 0).unwrap();
        }
        let without = it.answers(&probes);
        assert!(without.len() >= 8, "{without:#?}");
        for (udp, _) in &open {
            udp.set_nonblocking(true).unwrap();
            udp.recv(&mut [0; 9]).unwrap();
        }
        guard().install(&it.host).unwrap();
        assert_eq!(it.answers(&probes), []);
        for (udp, tcp) in &open {
            udp.recv(&mut [0; 9]).unwrap_err();
            tcp.set_nonblocking(true).unwrap();
        }
        let discarded = guard().discarded(&it.host).unwrap();
        let arriving = discarded.iter().filter(|found| found.filter.starts_with("arriving: to "));
        assert_eq!(arriving.map(|found| found.packets).sum::<u64>(), probes.len() as u64, "{discarded:?}");
    });
}

/// T16: nor does ARP tell, which by default answers on any interface for any address of the host.
#[test]
fn t16_arp_does_not_answer_for_an_inner_address_outside() {
    scenario("host::t16_arp_does_not_answer_for_an_inner_address_outside", |it| {
        let outside = Links::of(&it.outside).unwrap();
        let resolves = |inner: &str| {
            let address = net(inner).addr();
            let _ =
                ping::echo(&it.outside, &Echo { destination: address, timeout: BRIEF, ..Echo::default() });
            outside.neighbour("eth0", address).unwrap().is_some()
        };
        for inner in INNER {
            outside.add_route(net(inner).trunc(), None, "eth0", 1).unwrap();
        }
        assert!(resolves("10.77.1.1/24") && !resolves("10.77.1.2/24") && !resolves(INNER[1]));
        outside.set_down("eth0").unwrap();
        outside.set_up("eth0").unwrap();
        outside.wait_ready("eth0", SOON).unwrap();
        outside.add_route(net(INNER[0]).trunc(), None, "eth0", 1).unwrap();
        guard().install(&it.host).unwrap();
        assert!(!resolves("10.77.1.1/24"));
        let discarded = guard().discarded(&it.host).unwrap();
        assert!(discarded.iter().any(|found| found.filter == "asked: for 10.77.1.0/24" && found.packets > 0));
    });
}

/// T13, T17: whatever becomes of the TUN and the routes, nothing from an inner address or for a protected prefix leaves
/// by another interface. Without the filters it does.
#[test]
fn t13_nothing_leaks_with_the_tun_down_gone_or_the_routes_changed() {
    scenario("host::t13_nothing_leaks_with_the_tun_down_gone_or_the_routes_changed", |it| {
        let patterns = PATTERNS.map(|pattern| pattern.to_vec());
        let watch = || {
            let options = Options { patterns: patterns.to_vec(), ..Options::default() };
            Sniffer::start_with(&it.outside, "eth0", options).unwrap()
        };
        // More specific than ours, as from a rogue DHCP server or a mistaken operator.
        for (outside, part) in OUTSIDE.into_iter().zip(["10.77.2.0/25", "fd77:77:2::/65"]) {
            it.links.add_route(net(part), Some(net(outside).addr()), "eth0", 0).unwrap();
        }
        let sniffer = watch();
        try_to_leak(&it.host, "protected ");
        seen(&sniffer, b"protected ");
        guard().install(&it.host).unwrap();

        let sniffer = watch();
        try_to_leak(&it.host, "protected ");
        sysctl::write(&it.host, "net/ipv4/conf/all/ignore_routes_with_linkdown", "1").unwrap();
        it.links.set_down("tun9").unwrap();
        try_to_leak(&it.host, "protected ");
        for prefix in PROTECTED {
            it.links.delete_blackhole(net(prefix), latchway_guard::BLACKHOLE_METRIC).unwrap();
        }
        try_to_leak(&it.host, "protected ");
        it.links.delete("tun9").unwrap();
        try_to_leak(&it.host, "protected ");
        assert_eq!(reached(&it.host, OUTSIDE[0]) + reached(&it.host, OUTSIDE[1]), 2);
        let captured = sniffer.stop().unwrap();
        assert_eq!((captured.dropped, captured.pattern_hits), (0, vec![0; PATTERNS.len()]));
    });
}

/// What passes by the TUN, within the host, or has nothing to do with the gateway is as before.
#[test]
fn what_is_not_ours_and_what_passes_by_the_tun_is_unharmed() {
    scenario("host::what_is_not_ours_and_what_passes_by_the_tun_is_unharmed", |it| {
        guard().install(&it.host).unwrap();
        // Out by the TUN, in by the TUN.
        for (inner, protected) in INNER.into_iter().zip(["10.77.2.7:7", "[fd77:77:2::7]:7"]) {
            let (inner, protected): (IpAddr, SocketAddr) = (net(inner).addr(), protected.parse().unwrap());
            let socket = it.host.run(|| UdpSocket::bind((inner, 7001))).unwrap().unwrap();
            socket.send_to(b"outbound", protected).unwrap();
            let mut buffer = [0; 2000];
            assert!(received(&it.device).0.ends_with(b"outbound"));
            let to = SocketAddr::new(inner, 7001);
            it.device.send(&packet::udp(protected, to, b"inbound").unwrap()).unwrap();
            socket.set_read_timeout(Some(SOON)).unwrap();
            assert_eq!(socket.recv_from(&mut buffer).unwrap(), (7, protected));
            // Within the host.
            let local = it.host.run(|| UdpSocket::bind("[::]:0")).unwrap().unwrap();
            let to = if inner.is_ipv4() { SocketAddr::new(mapped(inner), 7001) } else { to };
            local.send_to(b"local", to).unwrap();
            assert_eq!(socket.recv_from(&mut buffer).unwrap().0, 5);
        }
        // By the wire, both ways.
        for (outer, outside) in OUTER.into_iter().zip(OUTSIDE) {
            assert_eq!((reached(&it.outside, outer), reached(&it.host, outside)), (1, 1));
        }
        assert!(guard().discarded(&it.host).unwrap().iter().all(|found| found.packets == 0));
    });
}

/// With everything protected, the link still works, and so does what the wire sockets mark; an inner source does not,
/// even marked.
#[test]
fn with_everything_protected_only_what_is_marked_leaves() {
    scenario("host::with_everything_protected_only_what_is_marked_leaves", |it| {
        let everything = ["0.0.0.0/0", "::/0"].map(net);
        let guard = HostGuard::new("gw", "tun9", &INNER.map(net), &everything).unwrap().with_mark(0x1a7c);
        guard.install(&it.host).unwrap();
        assert_eq!(guard.missing(&it.host).unwrap(), Vec::<String>::new());
        let sniffer =
            Sniffer::start_with(&it.outside, "eth0", Options::searching(&[b"clear", b"wire", b"inner"]))
                .unwrap();
        let send = |source: &str, to: &str, mark: u32, text: &[u8]| {
            let source = SocketAddr::new(net(source).addr(), 0);
            let socket = it.host.run(|| UdpSocket::bind(source)).unwrap().unwrap();
            setsockopt(&socket, Mark, &mark).unwrap();
            socket.connect(SocketAddr::new(net(to).addr(), 9)).and_then(|()| socket.send(text)).is_ok()
        };
        for (outer, outside) in OUTER.into_iter().zip(OUTSIDE) {
            assert!(!send(outer, outside, 0, b"clear") && send(outer, outside, 0x1a7c, b"wire"));
        }
        for (inner, outside) in INNER.into_iter().zip(OUTSIDE) {
            assert!(!send(inner, outside, 0x1a7c, b"inner"));
        }
        seen(&sniffer, b"wire");
        let hits = sniffer.stop().unwrap().pattern_hits;
        // Two, and as often quoted in the refusals of the host outside.
        assert!((hits[0], hits[2]) == (0, 0) && hits[1] >= 2, "{hits:?}");
        // A neighbour unknown so far was found: link-local traffic passes.
        assert!(it.links.neighbour("eth0", net(OUTSIDE[1]).addr()).unwrap().is_some());
    });
}

/// Filters are replaced as a whole, and what somebody took away or put in between is found.
#[test]
fn filters_are_replaced_verified_and_removed() {
    namespaced("host::filters_are_replaced_verified_and_removed", || {
        let space = Namespace::create("host").unwrap();
        let (one, none) = (guard(), Vec::<String>::new());
        let absent = ["the packet filter table inet latchway-gw", "the packet filter table arp latchway-gw"];
        assert_eq!(one.missing(&space).unwrap(), absent);
        assert_eq!(one.discarded(&space).unwrap(), []);
        one.remove(&space).unwrap();
        for _ in 0..2 {
            one.install(&space).unwrap();
            assert_eq!(one.missing(&space).unwrap(), none);
        }
        // Another gateway's stand beside, and other prefixes in place of ours.
        let neighbour = HostGuard::new("other", "tun8", &INNER.map(net), &PROTECTED.map(net)).unwrap();
        neighbour.install(&space).unwrap();
        assert_eq!(
            (one.missing(&space).unwrap(), neighbour.missing(&space).unwrap()),
            (none.clone(), none.clone())
        );
        let changed = HostGuard::new("gw", "tun9", &INNER.map(net), &[net("10.99.0.0/16")]).unwrap();
        assert!(
            changed.missing(&space).unwrap()[0]
                .starts_with("the rule 'to 10.99.0.0/16' in the chain leaving")
        );
        changed.install(&space).unwrap();
        assert_eq!(changed.missing(&space).unwrap(), none);
        assert_eq!(one.missing(&space).unwrap().len(), 2, "both protected prefixes");

        one.install(&space).unwrap();
        tamper(&space, rules_of("leaving"));
        let missing = one.missing(&space).unwrap();
        assert_eq!(missing.len(), 6, "{missing:?}");
        one.install(&space).unwrap();
        tamper(&space, dormant());
        assert!(one.missing(&space).unwrap()[0].ends_with("it is dormant"));
        one.install(&space).unwrap();
        one.remove(&space).unwrap();
        assert_eq!(one.missing(&space).unwrap(), absent);
        assert_eq!(neighbour.missing(&space).unwrap(), none);
    });
}

/// Many prefixes are one transaction too.
#[test]
fn a_thousand_prefixes_are_guarded() {
    namespaced("host::a_thousand_prefixes_are_guarded", || {
        let space = Namespace::create("host").unwrap();
        let prefix = |block: u16| net(&format!("10.{}.{}.0/24", block >> 8, block & 0xff));
        let protected: Vec<_> = (0..1000).map(prefix).collect();
        let guard = HostGuard::new("gw", "tun9", &[net("172.16.0.0/16")], &protected).unwrap();
        for _ in 0..2 {
            guard.install(&space).unwrap();
            assert_eq!(guard.missing(&space).unwrap(), Vec::<String>::new());
        }
    });
}

fn scenario(name: &str, scenario: impl FnOnce(Host)) {
    namespaced(name, || {
        if skip::require(name, &[Need::Tun]) {
            scenario(Host::new());
        }
    });
}

fn guard() -> HostGuard {
    HostGuard::new("gw", "tun9", &INNER.map(net), &PROTECTED.map(net)).unwrap()
}

/// What a stranger would send to find out (CVE-2019-14899): of each kind, to an address that is there and to one that is not.
fn probes() -> Vec<Vec<u8>> {
    let mut probes = Vec::new();
    for (from, hit, miss) in
        [("10.77.2.7", "10.77.1.1", "10.77.1.99"), ("fd77:77:2::7", "fd77:77:1::1", "fd77:77:1::99")]
    {
        let from: IpAddr = from.parse().unwrap();
        for to in [hit, miss] {
            let to: IpAddr = to.parse().unwrap();
            for port in [7000, 7009] {
                let (source, target) = (SocketAddr::new(from, 5000), SocketAddr::new(to, port));
                let syn = Segment { syn: true, window: 1000, ..Segment::default() };
                let ack = Segment { acknowledgement: Some(1), window: 1000, ..Segment::default() };
                probes.push(packet::udp(source, target, b"probe").unwrap());
                probes.push(packet::tcp(source, target, &syn).unwrap());
                probes.push(packet::tcp(source, target, &ack).unwrap());
            }
            probes.push(packet::raw(from, to, 200, b"of an unknown protocol").unwrap());
        }
    }
    probes
}

/// Every way by which applications might send what must not leave in the clear.
fn try_to_leak(host: &Namespace, text: &str) {
    for (inner, protected, elsewhere) in
        [("10.77.1.1", "10.77.2.7", "198.51.100.1"), ("fd77:77:1::1", "fd77:77:2::7", "2001:db8:ff::1")]
    {
        for to in [protected, elsewhere] {
            let (inner, to): (IpAddr, IpAddr) = (inner.parse().unwrap(), to.parse().unwrap());
            let (from, to) = (SocketAddr::new(inner, 7), SocketAddr::new(to, 7));
            let bare = packet::udp(from, to, text.as_bytes()).unwrap();
            let reset = packet::tcp(from, to, &Segment { rst: true, ..Segment::default() }).unwrap();
            // An error is as good as silence: it did not leave.
            let _ = inject::as_application(host, &bare);
            let _ = inject::as_application(host, &reset);
        }
        let unbound = host.run(|| UdpSocket::bind(if inner.contains(':') { "[::]:0" } else { "0.0.0.0:0" }));
        let _ = unbound.unwrap().unwrap().send_to(text.as_bytes(), (protected, 7));
    }
}

fn reached(from: &Namespace, to: &str) -> u16 {
    let echo = Echo { destination: net(to).addr(), timeout: SOON, ..Echo::default() };
    ping::echo(from, &echo).unwrap().received
}

fn mapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        IpAddr::V6(_) => address,
    }
}

/// Changes the packet filter as its owner would not.
fn tamper(space: &Namespace, message: NfTablesMessage) {
    let mut netlink: Netlink<NetfilterMessage> =
        space.run(|| Netlink::open_for(SockProtocol::NetlinkNetFilter)).unwrap().unwrap();
    let control =
        |message| NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 10), message);
    let message = NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0), message);
    let batch =
        vec![(control(ControlMessage::BatchBegin), 0), (message, 0), (control(ControlMessage::BatchEnd), 0)];
    netlink.transact(batch).unwrap();
}

fn rules_of(chain: &str) -> NfTablesMessage {
    let attributes =
        vec![RuleAttribute::Table("latchway-gw".to_owned()), RuleAttribute::Chain(chain.to_owned())];
    NfTablesMessage::DeleteRule(RuleMessage { attributes })
}

fn dormant() -> NfTablesMessage {
    let attributes =
        vec![TableAttribute::Name("latchway-gw".to_owned()), TableAttribute::Flags(TableFlags::Dormant)];
    NfTablesMessage::NewTable(TableMessage { attributes })
}

const OUTER: [&str; 2] = ["192.0.2.1/24", "2001:db8::1/64"];
const OUTSIDE: [&str; 2] = ["192.0.2.2/24", "2001:db8::2/64"];
const INNER: [&str; 2] = ["10.77.1.1/24", "fd77:77:1::1/64"];
const PROTECTED: [&str; 2] = ["10.77.2.0/24", "fd77:77:2::/64"];

/// What no frame on the wire may contain: what was sent, and the addresses of the inside, in ARP and ICMP as well.
const PATTERNS: [&[u8]; 5] = [
    b"protected ",
    &[10, 77, 1, 1],
    &[10, 77, 2, 7],
    &[0xfd, 0x77, 0, 0x77, 0, 1, 0, 0, 0, 0],
    &[0xfd, 0x77, 0, 0x77, 0, 2, 0, 0, 0, 0],
];

const BRIEF: Duration = Duration::from_millis(300);
