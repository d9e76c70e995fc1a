//! The wire socket on loopback: runs out, runs in, and what must not stop it (T04, RFC 3948).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test or a measurement ends where something is not as it should be"
)]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use latchway_datapath::arrival::Carrier;
use latchway_datapath::low::wire::{ReceiveBuffer, SendReport, WireError, WireSocket};
use latchway_datapath::pmtu::Hint;
use latchway_datapath::send_batch::{Marks, SendBatch, Target};
use latchway_esp::{Protocol, SeqLow, Spi};
use latchway_netns::inject::{self, Injector};
use latchway_netns::testing::{namespaced, stay_on_one_processor};
use latchway_netns::{Links, Namespace, links, packet};
use rustix::net::sockopt::{Ipv6PathMtuDiscovery, set_ipv6_mtu_discover};

const DEADLINE: Duration = Duration::from_secs(20);

fn loopback() -> WireSocket {
    WireSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap()
}

fn batch(to: SocketAddr, lens: &[usize]) -> SendBatch {
    let mut batch = SendBatch::new();
    for (n, len) in lens.iter().enumerate() {
        batch.reserve(Target::new(to, 0), *len).unwrap().fill(n as u8);
        batch.commit(*len);
    }
    batch
}

/// Every datagram as it arrives, and how many receives they took.
fn receive(socket: &mut WireSocket, expected: usize, from: SocketAddr) -> (Vec<Vec<u8>>, usize) {
    let mut buffer = ReceiveBuffer::new();
    let (mut datagrams, mut calls) = (Vec::new(), 0);
    let end = Instant::now() + DEADLINE;
    while datagrams.len() < expected {
        let trains = socket.receive(&mut buffer).unwrap();
        if trains == 0 {
            assert!(Instant::now() < end, "{} of {expected} arrived", datagrams.len());
            std::thread::yield_now();
            continue;
        }
        for place in 0..trains {
            let (octets, received) = buffer.train(place).unwrap();
            assert_eq!(received.from, from);
            datagrams.extend(received.datagrams().map(|range| octets[range].to_vec()));
        }
        calls += 1;
    }
    (datagrams, calls)
}

/// What is there once there is something: loopback delivers soon, and not always at once.
fn trains(socket: &mut WireSocket, buffer: &mut ReceiveBuffer) -> usize {
    let end = Instant::now() + DEADLINE;
    loop {
        match socket.receive(buffer).unwrap() {
            0 => assert!(Instant::now() < end, "nothing arrived"),
            trains => return trains,
        }
        std::thread::yield_now();
    }
}

fn assert_crosses(a: &mut WireSocket, b: &mut WireSocket, lens: &[usize]) -> usize {
    let report = a.send(&batch(b.local_addr(), lens), 0);
    assert_eq!((report.sent, report.dropped_full, report.errors), (lens.len(), 0, 0));
    let (datagrams, calls) = receive(b, lens.len(), a.local_addr());
    for (n, (datagram, len)) in datagrams.iter().zip(lens).enumerate() {
        assert_eq!(datagram, &vec![n as u8; *len], "datagram {n}");
    }
    calls
}

/// Architecture section 6: a run leaves in one call and arrives in one, both families, at every size of run.
#[test]
fn runs_cross_in_few_calls() {
    stay_on_one_processor();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (mut a, mut b) = match WireSocket::bind(address.parse().unwrap()) {
            Ok(a) => (a, WireSocket::bind(address.parse().unwrap()).unwrap()),
            Err(WireError::NoFamily(_) | WireError::AddressMissing(_)) => {
                latchway_netns::skip::report("runs_cross_in_few_calls", "no IPv6 on loopback");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        assert!(b.joins_received());
        let mut long = vec![1400; 40];
        long.push(77);
        assert!(assert_crosses(&mut a, &mut b, &long) < 10);
        assert!(assert_crosses(&mut a, &mut b, &[100; 128]) < 10);
        assert_eq!(assert_crosses(&mut a, &mut b, &[9]), 1);
        assert_crosses(&mut a, &mut b, &[50, 60, 60, 10, 1400, 1400, 1]);
        assert!(a.max_segments() > 1);
    }
}

/// Only the runs of one's own number are sent.
#[test]
fn a_socket_sends_its_own_runs() {
    let (mut a, mut b) = (loopback(), loopback());
    let mut batch = SendBatch::new();
    for wire in [0, 1, 0] {
        batch.reserve(Target::new(b.local_addr(), wire), 10).unwrap().fill(wire as u8);
        batch.commit(10);
    }
    assert_eq!(a.send(&batch, 1).sent, 1);
    assert_eq!(receive(&mut b, 1, a.local_addr()).0, [vec![1; 10]]);
}

/// T04: empty datagrams, and ones larger than the caller's buffer, are survived and counted.
#[test]
fn odd_datagrams_do_not_stop_it() {
    stay_on_one_processor();
    let (mut a, mut b) = (loopback(), loopback());
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(&[], b.local_addr()).unwrap();
    let mut buffer = ReceiveBuffer::with_slots(100);
    assert_eq!(trains(&mut b, &mut buffer), 1);
    let (_, empty) = buffer.train(0).unwrap();
    assert_eq!((empty.len, empty.segment_size, empty.datagrams().count()), (0, 1, 0));
    stranger.send_to(&[7; 101], b.local_addr()).unwrap();
    stranger.send_to(&[8; 100], b.local_addr()).unwrap();
    assert_eq!(trains(&mut b, &mut buffer), 1);
    let (octets, fits) = buffer.train(0).unwrap();
    assert_eq!((fits.len, fits.segment_size, &*octets), (100, 100, &[8; 100][..]));
    assert_eq!((b.take_truncated(), b.take_truncated()), (1, 0));
    assert_crosses(&mut a, &mut b, &[65_507]);
}

/// T04: datagrams of every length arrive as they were sent, from nothing to the longest, singly and with their neighbours.
#[test]
fn t04_every_length_crosses() {
    stay_on_one_processor();
    let mut b = loopback();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let lens = (0..=600).chain((601..65_000).step_by(1009)).chain(65_480..=65_507);
    let mut buffer = ReceiveBuffer::new();
    for lens in lens.collect::<Vec<usize>>().chunks(40) {
        for len in lens {
            stranger.send_to(&vec![*len as u8; *len], b.local_addr()).unwrap();
        }
        let mut arrived = Vec::new();
        while arrived.len() < lens.len() {
            for place in 0..b.receive(&mut buffer).unwrap() {
                let (octets, received) = buffer.train(place).unwrap();
                if received.len == 0 {
                    arrived.push(0);
                }
                for range in received.datagrams() {
                    assert!(octets[range.clone()].iter().all(|octet| *octet == range.len() as u8));
                    arrived.push(range.len());
                }
            }
        }
        assert_eq!(arrived, lens);
    }
    assert_eq!(b.take_truncated(), 0);
}

/// What ICMP reports of one peer must not stop the others.
#[test]
fn a_closed_port_does_not_stop_it() {
    stay_on_one_processor();
    let (mut a, mut b) = (loopback(), loopback());
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for _ in 0..3 {
        a.send(&batch(closed, &[10; 3]), 0);
        assert_eq!(a.receive(&mut ReceiveBuffer::with_slots(100)).unwrap(), 0);
        assert_crosses(&mut a, &mut b, &[500; 5]);
    }
}

/// Architecture section 2: a second daemon is refused, and told why.
#[test]
fn errors_say_what_to_do() {
    let a = loopback();
    let busy = WireSocket::bind(a.local_addr()).unwrap_err();
    assert!(matches!(busy, WireError::Busy(_)));
    let text = busy.to_string();
    assert!(text.contains(&a.local_addr().port().to_string()) && text.contains("ss -uapn"), "{text}");
    let missing = WireSocket::bind("192.0.2.77:4500".parse().unwrap()).unwrap_err();
    assert!(matches!(missing, WireError::AddressMissing(_)));
    assert!(missing.to_string().contains("192.0.2.77"), "{missing}");
}

/// RFC 4301 section 8.2.1: what is too long for the link is an error of that datagram; segmentation stays on.
#[test]
fn what_is_too_long_for_the_link_is_counted() {
    namespaced("what_is_too_long_for_the_link_is_counted", || {
        stay_on_one_processor();
        let namespace = Namespace::create("wire").unwrap();
        Links::of(&namespace).unwrap().set_mtu("lo", 1300).unwrap();
        namespace
            .run(|| {
                let (mut a, mut b) = (loopback(), loopback());
                let report = a.send(&batch(b.local_addr(), &[1400; 3]), 0);
                assert_eq!((report.sent, report.dropped_full, report.errors), (0, 0, 3));
                assert_crosses(&mut a, &mut b, &[1200; 30]);
                assert_eq!(a.max_segments(), 128);
            })
            .unwrap();
    });
}

/// T18, RFC 8201: a forged Packet Too Big neither stops nor shrinks what an IPv6 wire socket sends. That the forgery would
/// work is shown by a socket that believes it.
#[test]
fn t18_a_forged_packet_too_big_changes_nothing() {
    namespaced("t18_a_forged_packet_too_big_changes_nothing", || {
        stay_on_one_processor();
        let (a, b) = (Namespace::create("a").unwrap(), Namespace::create("b").unwrap());
        links::veth(&a, "wire", &b, "wire").unwrap();
        for (namespace, address) in [(&a, "fd00::1/64"), (&b, "fd00::2/64")] {
            let links = Links::of(namespace).unwrap();
            links.add_address("wire", address.parse().unwrap()).unwrap();
            links.set_up("wire").unwrap();
        }
        for namespace in [&a, &b] {
            Links::of(namespace).unwrap().wait_ready("wire", DEADLINE).unwrap();
        }
        let bind = |namespace: &Namespace, address: &str| {
            namespace.run(|| WireSocket::bind(address.parse().unwrap()).unwrap()).unwrap()
        };
        let (mut near, mut far) = (bind(&a, "[fd00::1]:4500"), bind(&b, "[fd00::2]:4500"));
        assert_crosses(&mut near, &mut far, &[1400]);

        let victim = a.run(|| UdpSocket::bind("[fd00::1]:5000").unwrap()).unwrap();
        set_ipv6_mtu_discover(&victim, Ipv6PathMtuDiscovery::DO).unwrap();
        victim.connect("[fd00::2]:5001").unwrap();
        victim.send(&[7; 1400]).unwrap();
        forge(&b, &a, victim.local_addr().unwrap(), victim.peer_addr().unwrap());
        let end = Instant::now() + DEADLINE;
        while victim.send(&[7; 1400]).is_ok() {
            assert!(Instant::now() < end, "nobody believes the forgery");
        }

        forge(&b, &a, near.local_addr(), far.local_addr());
        for _ in 0..10 {
            assert_crosses(&mut near, &mut far, &[1400; 20]);
        }
    });
}

/// A message from a stranger on the link that only 1280 octets fit, of a datagram from one address to another.
fn forge(from: &Namespace, victim: &Namespace, source: SocketAddr, destination: SocketAddr) {
    let mac = |namespace: &Namespace| Links::of(namespace).unwrap().mac("wire").unwrap();
    let about = packet::udp(source, destination, &[7; 1400]).unwrap();
    let forged = too_big("fd00::99".parse().unwrap(), &about, 1280);
    let frame = packet::ethernet(mac(from), mac(victim), &forged).unwrap();
    Injector::open(from, "wire").unwrap().send(&frame).unwrap();
}

/// RFC 6040, RFC 2983: what a datagram's outer header is to say leaves with it, and is told where it arrives; runs and
/// single datagrams, both families.
#[test]
fn the_traffic_class_crosses() {
    stay_on_one_processor();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let bind = || WireSocket::bind(address.parse().unwrap()).unwrap();
        let (mut a, mut b) = (bind(), bind());
        let mut batch = SendBatch::new();
        let sent = [(0, 5), (0xb9, 5), (0xb9, 1), (3, 2), (0, 1)];
        for &(traffic_class, count) in &sent {
            for _ in 0..count {
                let marks = Marks { traffic_class, may_fragment: false };
                let target = Target { marks, ..Target::new(b.local_addr(), 0) };
                batch.reserve(target, 100).unwrap();
                batch.commit(100);
            }
        }
        assert_eq!(a.send(&batch, 0), SendReport { sent: 14, ..SendReport::default() });
        let mut classes = Vec::new();
        let mut buffer = ReceiveBuffer::new();
        let end = Instant::now() + DEADLINE;
        while classes.len() < 14 {
            assert!(Instant::now() < end, "{classes:?}");
            for place in 0..b.receive(&mut buffer).unwrap() {
                let (_, received) = buffer.train(place).unwrap();
                let arrival = received.arrival(3);
                assert_eq!((arrival.wire, arrival.carrier), (3, Carrier::Udp));
                classes.extend(received.datagrams().map(|_| arrival.traffic_class));
            }
        }
        let expected = sent.iter().flat_map(|&(class, count)| std::iter::repeat_n(class, count));
        assert_eq!(classes, expected.collect::<Vec<u8>>(), "{address}");
    }
}

/// RFC 4301 section 8.2.1: what may be cut crosses a link that is too short for it; what may not is refused, before and after.
#[test]
fn what_may_be_cut_crosses_a_short_link() {
    namespaced("what_may_be_cut_crosses_a_short_link", || {
        stay_on_one_processor();
        let namespace = Namespace::create("wire").unwrap();
        Links::of(&namespace).unwrap().set_mtu("lo", 1300).unwrap();
        namespace
            .run(|| {
                for address in ["127.0.0.1:0", "[::1]:0"] {
                    let bind = || WireSocket::bind(address.parse().unwrap()).unwrap();
                    let (mut a, mut b) = (bind(), bind());
                    for may_fragment in [false, true, false] {
                        let mut batch = SendBatch::new();
                        let marks = Marks { traffic_class: 0, may_fragment };
                        for n in 0..4 {
                            let target = Target { marks, ..Target::new(b.local_addr(), 0) };
                            batch.reserve(target, 1400).unwrap().fill(n);
                            batch.commit(1400);
                        }
                        let report = a.send(&batch, 0);
                        let (sent, errors) = if may_fragment { (4, 0) } else { (0, 4) };
                        assert_eq!((report.sent, report.errors), (sent, errors), "{address}");
                        let arrived = receive(&mut b, sent, a.local_addr()).0;
                        assert!(arrived.iter().zip(0..).all(|(one, n)| *one == [n; 1400]));
                    }
                    assert_crosses(&mut a, &mut b, &[1200; 30]);
                    assert_eq!(a.max_segments(), 128);
                }
            })
            .unwrap();
    });
}

/// Architecture section 6: a peer that sends no UDP checksum (RFC 3948 section 2.1) is not joined by the kernel; its
/// datagrams are taken many per call, and become trains all the same.
#[test]
fn what_has_no_checksum_is_taken_many_per_call() {
    namespaced("what_has_no_checksum_is_taken_many_per_call", || {
        stay_on_one_processor();
        let namespace = Namespace::create("wire").unwrap();
        Links::of(&namespace).unwrap().set_up("lo").unwrap();
        let mut b = namespace.run(loopback).unwrap();
        let from: SocketAddr = "127.0.0.1:4500".parse().unwrap();
        for n in 0..100u8 {
            let mut udp = [from.port(), b.local_addr().port(), 708, 0].map(u16::to_be_bytes).concat();
            udp.extend([n; 700]);
            let packet = packet::raw(from.ip(), b.local_addr().ip(), 17, &udp).unwrap();
            inject::as_application(&namespace, &packet).unwrap();
        }
        let mut buffer = ReceiveBuffer::new();
        let (mut calls, mut next) = (0, 0);
        while next < 100 {
            assert_eq!(trains(&mut b, &mut buffer), 1, "of one sender");
            let (octets, received) = buffer.train(0).unwrap();
            assert_eq!(received.from, from);
            for range in received.datagrams() {
                assert_eq!(octets[range], [next; 700]);
                next += 1;
            }
            calls += 1;
        }
        // 1, 2, 4, 8, 16, 32, 32 and 5 where all are there at the beginning.
        assert!((8..40).contains(&calls), "{calls}");
    });
}

/// T18: an ICMP error that speaks of a size is handed on as a hint, whoever wrote it, and stops nothing.
#[test]
fn t18_errors_of_the_path_are_hints_and_stop_nothing() {
    namespaced("t18_errors_of_the_path_are_hints_and_stop_nothing", || {
        stay_on_one_processor();
        let [a, b] = link();
        for v6 in [false, true] {
            let [near, far] = ends(v6);
            let mut near = a.run(|| WireSocket::bind(SocketAddr::new(near, 4500)).unwrap()).unwrap();
            let mut far = b.run(|| WireSocket::bind(SocketAddr::new(far, 4500)).unwrap()).unwrap();
            let esp = [&[0, 0, 0x10, 1, 0, 0, 0, 7][..], &[0; 100]].concat();
            let about = packet::udp(near.local_addr(), far.local_addr(), &esp).unwrap();
            let forged = too_big(far.local_addr().ip(), &about, 1290);
            let mut hints = Vec::new();
            let end = Instant::now() + DEADLINE;
            while hints.len() < 3 {
                assert!(Instant::now() < end, "{hints:?}");
                inject::as_application(&b, &forged).unwrap();
                assert_crosses(&mut near, &mut far, &[1400; 20]);
                assert_eq!(near.max_segments(), 128);
                assert_eq!(near.receive(&mut ReceiveBuffer::new()).unwrap(), 0);
                hints.extend(std::iter::from_fn(|| near.next_hint()));
            }
            let expected = Hint {
                spi: Spi::new(0x1001).unwrap(),
                protocol: Protocol::Esp,
                low_seq: Some(SeqLow(7)),
                claimed: 1290,
                reporter: far.local_addr().ip(),
            };
            assert!(hints.iter().all(|hint| *hint == expected), "{hints:?}");
        }
    });
}

/// Two namespaces and a link between them, with the addresses of [`ends`].
fn link() -> [Namespace; 2] {
    let both = [Namespace::create("a").unwrap(), Namespace::create("b").unwrap()];
    let [a, b] = &both;
    links::veth(a, "wire", b, "wire").unwrap();
    for (place, namespace) in both.iter().enumerate() {
        let links = Links::of(namespace).unwrap();
        links.set_up("lo").unwrap();
        for v6 in [false, true] {
            let address = format!("{}/{}", ends(v6)[place], if v6 { 64 } else { 24 });
            links.add_address("wire", address.parse().unwrap()).unwrap();
        }
        links.set_up("wire").unwrap();
    }
    for namespace in &both {
        Links::of(namespace).unwrap().wait_ready("wire", DEADLINE).unwrap();
    }
    both
}

fn ends(v6: bool) -> [IpAddr; 2] {
    if v6 { ["fd00::1", "fd00::2"] } else { ["192.0.2.1", "192.0.2.2"] }
        .map(|address| address.parse().unwrap())
}

/// A message that the path takes `mtu` octets and no more, about a packet, to who sent that.
fn too_big(from: IpAddr, about: &[u8], mtu: u16) -> Vec<u8> {
    let [high, low] = mtu.to_be_bytes();
    let quoted = &about[..about.len().min(1232)];
    let address = |range: std::ops::Range<usize>| about[range].to_vec();
    match from {
        IpAddr::V4(_) => {
            let to = <[u8; 4]>::try_from(address(12..16)).unwrap();
            let mut icmp = [&[3, 4, 0, 0, 0, 0, high, low], quoted].concat();
            let sum = checksum(&icmp);
            icmp[2..4].copy_from_slice(&sum);
            packet::raw(from, to.into(), 1, &icmp).unwrap()
        }
        IpAddr::V6(stranger) => {
            let to = <[u8; 16]>::try_from(address(8..24)).unwrap();
            let mut icmp = [&[2, 0, 0, 0, 0, 0, high, low], quoted].concat();
            let len = u32::try_from(icmp.len()).unwrap().to_be_bytes();
            let sum = checksum(&[&stranger.octets()[..], &to, &len, &[0, 0, 0, 58], &icmp].concat());
            icmp[2..4].copy_from_slice(&sum);
            packet::raw(from, to.into(), 58, &icmp).unwrap()
        }
    }
}

fn checksum(octets: &[u8]) -> [u8; 2] {
    let pair = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let sum = octets.chunks(2).map(pair).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()).to_be_bytes()
}
