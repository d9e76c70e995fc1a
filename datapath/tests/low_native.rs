//! The wire without UDP, between two namespaces: whole packets of IP protocols 50 and 51 out and in, and what must not stop
//! it (RFC 4303, RFC 4302, T03, T18, T20).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test or a measurement ends where something is not as it should be"
)]

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use etherparse::{IpNumber, Ipv4Header, Ipv6Header};
use latchway_datapath::arrival::Carrier;
use latchway_datapath::low::wire::{NativeSocket, ReceiveBuffer, SendReport, WireError, WireSocket};
use latchway_datapath::pmtu::Hint;
use latchway_datapath::send_batch::{Marks, SendBatch, Target};
use latchway_esp::{Protocol, SeqLow, Spi};
use latchway_netns::skip::{Need, require};
use latchway_netns::testing::{namespaced, stay_on_one_processor};
use latchway_netns::{Links, Namespace, inject, links, packet};

const DEADLINE: Duration = Duration::from_secs(20);
const FAMILIES: [bool; 2] = [false, true];

/// Two namespaces and a link between them, which takes so much.
struct Bed {
    spaces: [Namespace; 2],
}

impl Bed {
    fn new(mtu: u32) -> Self {
        stay_on_one_processor();
        let spaces = [Namespace::create("a").unwrap(), Namespace::create("b").unwrap()];
        links::veth(&spaces[0], "wire", &spaces[1], "wire").unwrap();
        for (place, namespace) in spaces.iter().enumerate() {
            let links = Links::of(namespace).unwrap();
            links.set_up("lo").unwrap();
            links.set_mtu("wire", mtu).unwrap();
            for v6 in FAMILIES {
                let address = format!("{}/{}", ends(v6)[place], if v6 { 64 } else { 24 });
                links.add_address("wire", address.parse().unwrap()).unwrap();
            }
            links.set_up("wire").unwrap();
        }
        for namespace in &spaces {
            Links::of(namespace).unwrap().wait_ready("wire", DEADLINE).unwrap();
        }
        Self { spaces }
    }

    fn bind(&self, place: usize, address: IpAddr) -> Result<NativeSocket, WireError> {
        self.spaces[place].run(|| NativeSocket::bind(address)).unwrap()
    }

    fn both(&self, v6: bool) -> [NativeSocket; 2] {
        [0, 1].map(|place| self.bind(place, ends(v6)[place]).unwrap())
    }
}

fn ends(v6: bool) -> [IpAddr; 2] {
    if v6 { ["fd00::1", "fd00::2"] } else { ["192.0.2.1", "192.0.2.2"] }
        .map(|address| address.parse().unwrap())
}

/// What the fields of a header are, beside the addresses and lengths.
#[derive(Clone, Copy)]
struct Outer {
    protocol: u8,
    traffic_class: u8,
    dont_fragment: bool,
    hops: u8,
}

const ESP: Outer = Outer { protocol: 50, traffic_class: 0xb9, dont_fragment: true, hops: 61 };

/// A whole packet from one end to the other, of `len` octets behind the header.
fn whole(v6: bool, outer: Outer, len: usize, fill: u8) -> Vec<u8> {
    let [from, to] = ends(v6);
    let mut octets = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let len = u16::try_from(len).unwrap();
            let number = IpNumber(outer.protocol);
            let mut header = Ipv4Header::new(len, outer.hops, number, from.octets(), to.octets()).unwrap();
            header.dont_fragment = outer.dont_fragment;
            header.identification = 4711;
            header.dscp = (outer.traffic_class >> 2).try_into().unwrap();
            header.ecn = (outer.traffic_class & 3).try_into().unwrap();
            header.header_checksum = header.calc_header_checksum();
            header.write(&mut octets).unwrap();
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Header {
                traffic_class: outer.traffic_class,
                flow_label: 0x91234.try_into().unwrap(),
                payload_length: u16::try_from(len).unwrap(),
                next_header: IpNumber(outer.protocol),
                hop_limit: outer.hops,
                source: from.octets(),
                destination: to.octets(),
            };
            header.write(&mut octets).unwrap();
        }
        _ => unreachable!(),
    }
    // What would be an SPI and a number.
    octets.extend([0, 0, 0x10, 1, 0, 0, 0, 7].iter().take(len));
    octets.resize(octets.len() + len.saturating_sub(8), fill);
    octets
}

fn batch(packets: &[Vec<u8>], to: IpAddr, may_fragment: bool) -> SendBatch {
    let mut batch = SendBatch::new();
    for packet in packets {
        let marks = Marks { traffic_class: 0, may_fragment };
        let target = Target { marks, ..Target::new((to, 0).into(), 0) };
        batch.reserve(target, packet.len()).unwrap().copy_from_slice(packet);
        batch.commit(packet.len());
    }
    batch
}

/// The packets as they arrive.
fn receive(socket: &mut NativeSocket, expected: usize) -> Vec<Vec<u8>> {
    let mut buffer = ReceiveBuffer::new();
    let mut packets = Vec::new();
    let end = Instant::now() + DEADLINE;
    while packets.len() < expected {
        let trains = socket.receive(&mut buffer).unwrap();
        if trains == 0 {
            assert!(Instant::now() < end, "{} of {expected} arrived", packets.len());
            std::thread::yield_now();
            continue;
        }
        for place in 0..trains {
            let (octets, received) = buffer.train(place).unwrap();
            let arrival = received.arrival(0);
            assert_eq!((arrival.carrier, arrival.segment_size), (Carrier::Native, octets.len()));
            assert_eq!(arrival.from.port(), 0);
            packets.push(octets.to_vec());
        }
    }
    packets
}

/// The same packets, as they are once the last hop is behind them: nothing between these namespaces changes anything.
fn assert_crosses(sockets: &mut [NativeSocket; 2], v6: bool, packets: &[Vec<u8>], may_fragment: bool) {
    let [near, far] = sockets;
    let report = near.send(&batch(packets, ends(v6)[1], may_fragment), 0);
    assert_eq!(report, SendReport { sent: packets.len(), ..SendReport::default() });
    assert!(receive(far, packets.len()) == packets);
}

/// Architecture section 6: ESP and AH leave and arrive as whole packets, headers as they were written, both families.
#[test]
fn whole_packets_cross_as_they_are() {
    namespaced("whole_packets_cross_as_they_are", || {
        let bed = Bed::new(1500);
        for v6 in FAMILIES {
            let mut sockets = bed.both(v6);
            let header = if v6 { 40 } else { 20 };
            let esp: Vec<_> = (0..100).map(|n| whole(v6, ESP, 9 + usize::from(n), n)).collect();
            assert_crosses(&mut sockets, v6, &esp, false);
            let ah = whole(
                v6,
                Outer { protocol: 51, traffic_class: 0, dont_fragment: false, hops: 1 },
                1500 - header,
                1,
            );
            assert_crosses(&mut sockets, v6, &[ah], false);
            let counters = sockets[1].counters();
            assert_eq!((counters.received_units.get(), counters.received_datagrams.get()), (101, 101));
        }
    });
}

/// T03: whatever is behind the header, down to nothing, arrives as a packet and stops nothing; other protocols do not arrive.
#[test]
fn t03_runts_arrive_and_other_protocols_do_not() {
    namespaced("t03_runts_arrive_and_other_protocols_do_not", || {
        let bed = Bed::new(1500);
        for v6 in FAMILIES {
            let mut sockets = bed.both(v6);
            inject::as_application(&bed.spaces[0], &whole(v6, Outer { protocol: 253, ..ESP }, 100, 1))
                .unwrap();
            let runts: Vec<_> = (0..12).map(|len| whole(v6, ESP, len, 0xee)).collect();
            assert_crosses(&mut sockets, v6, &runts, false);
            let runts: Vec<_> =
                (0..12).map(|len| whole(v6, Outer { protocol: 51, ..ESP }, len, 0xee)).collect();
            assert_crosses(&mut sockets, v6, &runts, false);
        }
    });
}

/// RFC 4303 section 3.4.1, T20: what came in fragments is whole when it gets here.
#[test]
fn t20_a_packet_in_fragments_arrives_whole() {
    namespaced("t20_a_packet_in_fragments_arrives_whole", || {
        let bed = Bed::new(1400);
        for v6 in FAMILIES {
            let mut sockets = bed.both(v6);
            let outer = Outer { dont_fragment: false, ..ESP };
            for len in [1340, 1361, 1400, 3000, 40_000] {
                let packets: Vec<_> = (0..5).map(|n| whole(v6, outer, len, n)).collect();
                assert_crosses(&mut sockets, v6, &packets, true);
            }
            // The order stays where only some are cut.
            let packets: Vec<_> =
                (0..9).map(|n| whole(v6, outer, if n % 3 == 1 { 2000 } else { 100 }, n)).collect();
            assert_crosses(&mut sockets, v6, &packets, true);
        }
    });
}

/// RFC 4301 section 8.2.1: what is too long for the link and may not be cut is refused, and counted; DF in the header counts,
/// too.
#[test]
fn what_is_too_long_for_the_link_is_counted() {
    namespaced("what_is_too_long_for_the_link_is_counted", || {
        let bed = Bed::new(1400);
        for v6 in FAMILIES {
            let mut sockets = bed.both(v6);
            let fits = whole(v6, ESP, 100, 1);
            let long = whole(v6, ESP, 1400, 2);
            let mixed = [fits.clone(), long.clone(), fits.clone(), long.clone(), fits.clone()];
            let report = sockets[0].send(&batch(&mixed, ends(v6)[1], false), 0);
            assert_eq!(report, SendReport { sent: 3, errors: 2, ..SendReport::default() });
            assert_eq!(receive(&mut sockets[1], 3), vec![fits.clone(); 3]);
            if !v6 {
                let report = sockets[0].send(&batch(&[long], ends(v6)[1], true), 0);
                assert_eq!(report, SendReport { errors: 1, ..SendReport::default() });
            }
            assert_crosses(&mut sockets, v6, &[fits], false);
        }
    });
}

/// RFC 8200 section 4, RFC 4302 section 3.3.3.1.2: extension headers arrive in front of ESP and AH as they were sent.
#[test]
fn extension_headers_are_kept() {
    namespaced("extension_headers_are_kept", || {
        let bed = Bed::new(1500);
        let mut sockets = bed.both(true);
        let options = |next: u8, fill: u8| [next, 1, 0x3e, 12, fill, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        for protocol in [50, 51] {
            for (first, headers) in [
                (60, options(protocol, 1).to_vec()),
                (0, options(protocol, 2).to_vec()),
                (0, [options(60, 3), options(protocol, 4)].concat()),
            ] {
                let mut packet = whole(true, Outer { protocol: first, ..ESP }, headers.len() + 100, 7);
                packet[40..40 + headers.len()].copy_from_slice(&headers);
                assert_crosses(&mut sockets, true, &[packet], false);
            }
        }
    });
}

/// Architecture section 2: a second gateway is refused, also where one of them has all addresses; one at another address is not.
#[test]
fn a_second_gateway_is_refused() {
    namespaced("a_second_gateway_is_refused", || {
        let bed = Bed::new(1500);
        for v6 in FAMILIES {
            let address = ends(v6)[0];
            let all: IpAddr = if v6 { "::" } else { "0.0.0.0" }.parse().unwrap();
            let other: IpAddr = if v6 { "::1" } else { "127.0.0.1" }.parse().unwrap();
            let one = bed.bind(0, address).unwrap();
            for again in [address, all] {
                let refused = bed.bind(0, again).unwrap_err();
                assert!(matches!(refused, WireError::Taken { protocol: Protocol::Esp, .. }), "{refused}");
                assert!(refused.to_string().contains("ss -wapn"), "{refused}");
            }
            let beside = bed.bind(0, other).unwrap();
            drop((one, beside));
            let everywhere = bed.bind(0, all).unwrap();
            assert!(matches!(bed.bind(0, address), Err(WireError::Taken { .. })));
            drop(everywhere);
            bed.bind(0, address).unwrap();
            let missing =
                bed.bind(0, if v6 { "fd00::77" } else { "192.0.2.77" }.parse().unwrap()).unwrap_err();
            assert!(matches!(missing, WireError::AddressMissing(_)), "{missing}");
        }
    });
}

/// A wire at all addresses receives at each.
#[test]
fn all_addresses_are_received_at() {
    namespaced("all_addresses_are_received_at", || {
        let bed = Bed::new(1500);
        for v6 in FAMILIES {
            let all: IpAddr = if v6 { "::" } else { "0.0.0.0" }.parse().unwrap();
            let mut sockets = [bed.bind(0, all).unwrap(), bed.bind(1, all).unwrap()];
            assert_crosses(&mut sockets, v6, &[whole(v6, ESP, 500, 1)], false);
        }
    });
}

/// T18: an ICMP error that speaks of a size is handed on as a hint, whoever wrote it; it neither shrinks nor stops what is
/// sent. So does one that says that nobody is there.
#[test]
fn t18_errors_of_the_path_are_hints_and_stop_nothing() {
    namespaced("t18_errors_of_the_path_are_hints_and_stop_nothing", || {
        let bed = Bed::new(1500);
        for v6 in FAMILIES {
            let mut sockets = bed.both(v6);
            let long = whole(v6, ESP, 1450, 1);
            for protocol in [Protocol::Esp, Protocol::Ah] {
                let mut about = whole(v6, Outer { protocol: protocol.number(), ..ESP }, 100, 1);
                if protocol == Protocol::Ah {
                    // Around ESP: of AH over IPv6, Linux looks only behind it for who is to be told.
                    let at = about.len() - 100;
                    about[at..at + 12].copy_from_slice(&[50, 4, 0, 0, 0, 0, 0x10, 1, 0, 0, 0, 7]);
                }
                let mut hints = Vec::new();
                let end = Instant::now() + DEADLINE;
                while hints.len() < 3 {
                    assert!(Instant::now() < end, "{hints:?}");
                    for (kind, code) in [if v6 { (2, 0) } else { (3, 4) }, if v6 { (1, 4) } else { (3, 2) }] {
                        let forged = icmp_error(ends(v6)[1], (kind, code), &about, 1290);
                        inject::as_application(&bed.spaces[1], &forged).unwrap();
                    }
                    assert_crosses(&mut sockets, v6, &vec![long.clone(); 20], false);
                    assert_eq!(sockets[0].receive(&mut ReceiveBuffer::new()).unwrap(), 0);
                    hints.extend(std::iter::from_fn(|| sockets[0].next_hint()));
                }
                let expected = Hint {
                    spi: Spi::new(0x1001).unwrap(),
                    protocol,
                    low_seq: Some(SeqLow(7)),
                    claimed: 1290,
                    reporter: ends(v6)[1],
                };
                assert!(hints.iter().all(|hint| *hint == expected), "{hints:?}");
            }
        }
    });
}

/// T32: what the kernel has no room for is dropped and counted, each once, and nothing else is; with room again, all is as before.
#[test]
fn t32_a_full_queue_is_counted_and_passes() {
    let test = "t32_a_full_queue_is_counted_and_passes";
    namespaced(test, || {
        if !require(test, &[Need::Program("tc")]) {
            return;
        }
        let bed = Bed::new(1500);
        let queue = |words: &str| {
            let run = || Command::new("tc").args(words.split(' ')).status().unwrap();
            assert!(bed.spaces[0].run(run).unwrap().success(), "tc {words}");
        };
        for v6 in FAMILIES {
            let mut sockets = bed.both(v6);
            let mut udp = [0, 1].map(|place| {
                let bind = || WireSocket::bind((ends(v6)[place], 4500).into()).unwrap();
                bed.spaces[place].run(bind).unwrap()
            });
            queue("qdisc add dev wire root tbf rate 8kbit burst 2000 limit 6000");
            let packets: Vec<_> = (0..100).map(|n| whole(v6, ESP, 1400, n)).collect();
            let report = sockets[0].send(&batch(&packets, ends(v6)[1], false), 0);
            assert_eq!((report.sent + report.dropped_full, report.errors), (100, 0));
            assert!(report.dropped_full > 80, "{report:?}");
            let mut datagrams = SendBatch::new();
            for len in (0..100).map(|n| 1300 + n) {
                datagrams.reserve(Target::new(udp[1].local_addr(), 0), len).unwrap();
                datagrams.commit(len);
            }
            let report = udp[0].send(&datagrams, 0);
            assert_eq!((report.sent + report.dropped_full, report.errors), (100, 0));
            assert!(report.dropped_full > 80, "{report:?}");
            queue("qdisc del dev wire root");
            // What got through meanwhile is nobody's.
            while sockets[1].receive(&mut ReceiveBuffer::new()).unwrap() > 0 {}
            assert_crosses(&mut sockets, v6, &packets[..50], false);
            assert_eq!(udp[0].send(&datagrams, 0), SendReport { sent: 100, ..SendReport::default() });
        }
    });
}

/// An ICMP error about a packet, to who sent that.
fn icmp_error(from: IpAddr, (kind, code): (u8, u8), about: &[u8], mtu: u16) -> Vec<u8> {
    let [high, low] = mtu.to_be_bytes();
    let mut icmp = [&[kind, code, 0, 0, 0, 0, high, low], about].concat();
    let (to, number, sum): (IpAddr, u8, [u8; 2]) = match from {
        IpAddr::V4(_) => {
            let to = <[u8; 4]>::try_from(&about[12..16]).unwrap();
            (to.into(), 1, checksum(&icmp))
        }
        IpAddr::V6(from) => {
            let to = <[u8; 16]>::try_from(&about[8..24]).unwrap();
            let len = u32::try_from(icmp.len()).unwrap().to_be_bytes();
            (to.into(), 58, checksum(&[&from.octets()[..], &to, &len, &[0, 0, 0, 58], &icmp].concat()))
        }
    };
    icmp[2..4].copy_from_slice(&sum);
    packet::raw(from, to, number, &icmp).unwrap()
}

fn checksum(octets: &[u8]) -> [u8; 2] {
    let pair = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let sum = octets.chunks(2).map(pair).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()).to_be_bytes()
}
