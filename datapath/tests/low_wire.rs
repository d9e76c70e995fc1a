//! The wire socket on loopback: runs out, runs in, and what must not stop it (T04, RFC 3948).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test or a measurement ends where something is not as it should be"
)]

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use latchway_datapath::low::wire::{RECEIVE_BUFFER_LEN, WireError, WireSocket};
use latchway_datapath::send_batch::SendBatch;
use latchway_netns::testing::namespaced;
use latchway_netns::{Links, Namespace};

const DEADLINE: Duration = Duration::from_secs(10);

fn loopback() -> WireSocket {
    WireSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap()
}

fn batch(to: SocketAddr, lens: &[usize]) -> SendBatch {
    let mut batch = SendBatch::new();
    for (n, len) in lens.iter().enumerate() {
        batch.reserve(to, 0, *len).unwrap().fill(n as u8);
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
        batch.reserve(b.local_addr(), wire, 10).unwrap().fill(wire as u8);
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
