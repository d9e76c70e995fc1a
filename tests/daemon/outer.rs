//! What the path sees of packets, as the file says it: DSCP, ECN, TTL and flow label, lengths, and what keeps a NAT open.

use std::net::IpAddr;

use latchway_netns::Links;
use latchway_netns::inject::Injector;
use latchway_netns::watch::{Frame, Sniffer};
use socket2::SockRef;

use crate::gateway::bound;
use crate::site::{Side, Site, TUN, Terms, WIRE};
use crate::{PATIENCE, eventually, scenario};

/// Where the datagrams go.
const PORT: u16 = 7777;

/// ECT(0), CE (RFC 3168 section 5).
const ECT_0: u8 = 2;
const CE: u8 = 3;

/// RFC 2983, RFC 6040 4.1, RFC 4303 2.7: DSCP set to one value, the other end taking it over; no ECN outside; lengths that
/// are multiples of 256; and RFC 3948 4: an octet where nothing else is sent.
#[test]
fn rfc_2983_rfc_6040_rfc_4303_2_7_the_path_sees_what_the_file_says() {
    scenario("outer::rfc_2983_rfc_6040_rfc_4303_2_7_the_path_sees_what_the_file_says", || {
        let shaped = "dscp = 10\necn = \"compatibility\"\ntfc = 256\nkeepalive = \"1s\"\n";
        let site = Site::prepare(&with(shaped));
        site.configure(Side::B, &with("decapsulate_dscp = true\n"));
        let site = site.started();
        let (wire, tun) = watched(&site);
        let mut lengths = Vec::new();
        for (payload, inner) in [(100, 46 << 2 | ECT_0), (200, 0)] {
            let (start, arrives) = (wire.mark(), tun.mark());
            send(&site, inner, payload);
            let sealed = wire.wait_for(start, |frame| esp_of(frame, Side::A), PATIENCE).unwrap();
            assert_eq!(sealed.bytes[15], 10 << 2, "of {inner}");
            lengths.push(sealed.length);
            let opened = tun.wait_for(arrives, is_datagram, PATIENCE).unwrap();
            // RFC 6040 4.2: what is Not-ECT outside leaves the inner field as it was.
            assert_eq!(opened.bytes[1], 10 << 2 | inner & CE, "of {inner}");
        }
        assert_eq!(lengths[0], lengths[1], "of 128 and 228 octets");
        let keeps = |frame: &Frame| frame.ports == Some((4500, 4500)) && frame.head[..] == [0xff];
        let first = wire.wait_for(wire.mark(), keeps, PATIENCE).unwrap();
        let second = wire.wait_for(wire.mark(), keeps, PATIENCE).unwrap();
        assert_eq!([first.source, second.source], [Some(outer(Side::A)); 2]);
        eventually("they have arrived", || site.b.drops("inbound", "keepalive") >= 2);
    });
}

/// RFC 2983 and RFC 6040 by default: the outer field is the inner one.
#[test]
fn rfc_6040_4_1_by_default_the_path_sees_the_inner_class() {
    scenario("outer::rfc_6040_4_1_by_default_the_path_sees_the_inner_class", || {
        let site = Site::start(&Terms::default());
        let (wire, tun) = watched(&site);
        for class in [0, 46 << 2, 46 << 2 | ECT_0, 1, CE] {
            let (start, arrives) = (wire.mark(), tun.mark());
            send(&site, class, 100);
            let sealed = wire.wait_for(start, |frame| esp_of(frame, Side::A), PATIENCE).unwrap();
            let opened = tun.wait_for(arrives, is_datagram, PATIENCE).unwrap();
            assert_eq!([sealed.bytes[15], opened.bytes[1]], [class; 2]);
        }
    });
}

/// RFC 6040 4.2: congestion that the path tells of is told on, and drops what knows nothing of ECN.
#[test]
fn rfc_6040_4_2_what_the_path_marks_arrives_marked_or_not() {
    scenario("outer::rfc_6040_4_2_what_the_path_marks_arrives_marked_or_not", || {
        let mut site = Site::prepare(&Terms::default());
        site.a.start();
        // As long as nobody takes them, they are there to be marked, and no replays.
        let wire = Sniffer::start(&site.at(Side::B).outer, WIRE).unwrap();
        let sealed = [ECT_0, 0].map(|class| {
            let start = wire.mark();
            send(&site, class, 100);
            wire.wait_for(start, |frame| esp_of(frame, Side::A), PATIENCE).unwrap()
        });
        site.b.start();
        site.passes();
        let tun = Sniffer::start(&site.at(Side::B).inner, TUN).unwrap();
        let injector = Injector::open(&site.at(Side::A).outer, WIRE).unwrap();
        let start = tun.mark();
        for frame in &sealed {
            injector.send(&marked(&frame.bytes)).unwrap();
        }
        let opened = tun.wait_for(start, is_datagram, PATIENCE).unwrap();
        assert_eq!(opened.bytes[1], CE);
        eventually("the other is dropped", || site.b.drops("inbound", "ecn_ce_not_ect") == 1);
        let arrived = tun.frames_since(start).unwrap().iter().filter(|frame| is_datagram(frame)).count();
        assert_eq!(arrived, 1);
    });
}

/// RFC 4301 5.1.2.1, RFC 6438: of native tunnels over IPv6, the hop limit that the file says, and a label for each flow.
#[test]
fn rfc_6438_native_tunnels_have_the_ttl_and_the_flow_label_of_the_file() {
    scenario("outer::rfc_6438_native_tunnels_have_the_ttl_and_the_flow_label_of_the_file", || {
        let terms = with("encapsulation = \"none\"\nttl = 9\nflow_label = \"hash\"\n");
        let site = Site::prepare(&terms);
        for (side, gateway) in [(Side::A, &site.a), (Side::B, &site.b)] {
            let links = Links::of(&site.at(side).outer).unwrap();
            links.add_address(WIRE, format!("2001:db8::{}/64", side.number()).parse().unwrap()).unwrap();
            links.wait_ready(WIRE, PATIENCE).unwrap();
            let text = terms.text(side, &site.at(side).inner);
            let listen = text.replace("listen = [\"192.0.2.", "listen = [\"native:2001:db8::");
            let endpoint = listen.replace("endpoint = \"192.0.2.", "endpoint = \"2001:db8::");
            gateway.configure(&endpoint.replace(":4500", ""));
        }
        let site = site.started();
        let (wire, _) = watched(&site);
        let label = |port: u16| {
            let start = wire.mark();
            send_to(&site, port, 0, 100);
            let native = |frame: &Frame| frame.protocol == Some(50) && frame.source == Some(address(1));
            let sealed = wire.wait_for(start, native, PATIENCE).unwrap();
            let header: [u8; 8] = sealed.bytes[14..22].try_into().unwrap();
            assert_eq!(header[7], 9, "the hop limit");
            u32::from_be_bytes(header[..4].try_into().unwrap()) & 0xf_ffff
        };
        let labels: Vec<u32> = (0..4).map(|n| label(PORT + n)).collect();
        assert!(labels.iter().all(|label| *label != 0), "{labels:x?}");
        assert!(labels.windows(2).any(|two| two[0] != two[1]), "{labels:x?}");
    });
}

fn with(lines: &str) -> Terms {
    Terms { sas: vec![(1, lines.to_owned())], ..Terms::default() }
}

/// The wire where a's packets leave, and the TUN where they arrive at b.
fn watched(site: &Site) -> (Sniffer, Sniffer) {
    let wire = Sniffer::start(&site.at(Side::A).outer, WIRE).unwrap();
    (wire, Sniffer::start(&site.at(Side::B).inner, TUN).unwrap())
}

/// Sends one datagram of this class from a's hosts to b's.
fn send(site: &Site, class: u8, len: usize) {
    send_to(site, PORT, class, len);
}

fn send_to(site: &Site, port: u16, class: u8, len: usize) {
    let socket = bound(&site.at(Side::A).inner, (Side::A.address(), PORT));
    SockRef::from(&socket).set_tos_v4(class.into()).unwrap();
    socket.send_to(&vec![7; len], (Side::B.address(), port)).unwrap();
}

/// Whether it is a protected packet of one end, with its Ethernet header.
fn esp_of(frame: &Frame, side: Side) -> bool {
    frame.esp().is_some() && frame.source == Some(outer(side))
}

/// Whether it is one of the datagrams, without an Ethernet header.
fn is_datagram(frame: &Frame) -> bool {
    frame.ports.is_some_and(|(from, _)| from == PORT) && frame.protocol == Some(17)
}

fn outer(side: Side) -> IpAddr {
    [192, 0, 2, side.number()].into()
}

fn address(n: u16) -> IpAddr {
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, n].into()
}

/// The same frame, marked with congestion on its way. It has no UDP checksum, which is the sender's offload's to write.
fn marked(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[15] |= CE;
    frame[24..26].fill(0);
    let sum: u32 = frame[14..34].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame[40..42].fill(0);
    frame
}
