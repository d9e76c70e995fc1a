//! The wire socket on loopback: runs out, runs in, and what must not stop it (T04, RFC 3948).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test or a measurement ends where something is not as it should be"
)]

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use latchway_datapath::low::wire::{RECEIVE_BUFFER_LEN, WireError, WireSocket};
use latchway_datapath::send_batch::{SendBatch, Target};
use latchway_netns::inject::Injector;
use latchway_netns::testing::namespaced;
use latchway_netns::{Links, Namespace, links, packet};
use rustix::net::sockopt::{Ipv6PathMtuDiscovery, set_ipv6_mtu_discover};

const DEADLINE: Duration = Duration::from_secs(10);

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
    let mut buf = vec![0; RECEIVE_BUFFER_LEN];
    let (mut datagrams, mut calls) = (Vec::new(), 0);
    let end = Instant::now() + DEADLINE;
    while datagrams.len() < expected {
        let Some(received) = socket.recv(&mut buf).unwrap() else {
            assert!(Instant::now() < end, "{} of {expected} arrived", datagrams.len());
            std::thread::yield_now();
            continue;
        };
        assert_eq!(received.from, from);
        datagrams.extend(received.datagrams().map(|range| buf[range].to_vec()));
        calls += 1;
    }
    (datagrams, calls)
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
    let (mut a, mut b) = (loopback(), loopback());
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(&[], b.local_addr()).unwrap();
    let mut buf = [0; 100];
    let empty = b.recv(&mut buf).unwrap().unwrap();
    assert_eq!((empty.len, empty.segment_size, empty.datagrams().count()), (0, 1, 0));
    stranger.send_to(&[7; 101], b.local_addr()).unwrap();
    stranger.send_to(&[8; 100], b.local_addr()).unwrap();
    let fits = b.recv(&mut buf).unwrap().unwrap();
    assert_eq!((fits.len, fits.segment_size, buf), (100, 100, [8; 100]));
    assert_eq!((b.take_truncated(), b.take_truncated()), (1, 0));
    assert_crosses(&mut a, &mut b, &[65_507]);
}

/// What ICMP reports of one peer must not stop the others.
#[test]
fn a_closed_port_does_not_stop_it() {
    let (mut a, mut b) = (loopback(), loopback());
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for _ in 0..3 {
        a.send(&batch(closed, &[10; 3]), 0);
        assert_eq!(a.recv(&mut [0; 100]).unwrap(), None);
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
    let stranger: std::net::Ipv6Addr = "fd00::99".parse().unwrap();
    let std::net::IpAddr::V6(to) = source.ip() else { return };
    let about = packet::udp(source, destination, &[7; 1400]).unwrap();
    let mut icmp = vec![2, 0, 0, 0, 0, 0, 5, 0];
    icmp.extend_from_slice(&about[..1232]);
    let len = u32::try_from(icmp.len()).unwrap();
    let pseudo = [&stranger.octets()[..], &to.octets(), &len.to_be_bytes(), &[0, 0, 0, 58]].concat();
    let words = pseudo.chunks(2).chain(icmp.chunks(2));
    let sum = words.map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    let forged = packet::raw(stranger.into(), to.into(), 58, &icmp).unwrap();
    let frame = packet::ethernet(mac(from), mac(victim), &forged).unwrap();
    Injector::open(from, "wire").unwrap().send(&frame).unwrap();
}
