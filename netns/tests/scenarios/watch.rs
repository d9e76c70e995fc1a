//! Captures: what is seen, what is searched, and that nothing missed goes unsaid.

use std::{
    io::{Read, Write},
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use latchway_netns::{
    Error, Namespace,
    inject::Injector,
    packet::{self, Mac},
    ping::{self, Echo},
    testing::namespaced,
    watch::{Direction, Options, Sniffer},
};

use crate::support::{Pair, SOON, net4, net6, pair};

#[test]
fn both_ends_see_a_datagram_with_direction_and_ports() {
    namespaced("watch::both_ends_see_a_datagram_with_direction_and_ports", || {
        let joined = pair().unwrap();
        let (near, far) = (watch(&joined.a, "va"), watch(&joined.b, "vb"));
        for (from, to) in
            [("10.9.0.1:4001", "10.9.0.2:4002"), ("[2001:db8:9::1]:4001", "[2001:db8:9::2]:4002")]
        {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let (near_mark, far_mark) = (near.mark(), far.mark());
            send(&joined.a, from, to, b"0123456789");
            for (sniffer, mark, direction) in
                [(&near, near_mark, Direction::Outbound), (&far, far_mark, Direction::Inbound)]
            {
                let frame = sniffer.wait_for(mark, |frame| frame.ports == Some((4001, 4002)), SOON).unwrap();
                assert_eq!(frame.direction, direction);
                assert_eq!((frame.source_socket(), frame.destination_socket()), (Some(from), Some(to)));
                assert_eq!((frame.protocol, &*frame.head), (Some(17), &b"01234567"[..]));
                assert_eq!(frame.bytes.len(), frame.length);
                assert!(frame.bytes.ends_with(b"0123456789"));
                assert_eq!(frame.esp(), None);
            }
        }
    });
}

#[test]
fn esp_shows_its_spi_and_sequence_number_bare_and_in_udp() {
    namespaced("watch::esp_shows_its_spi_and_sequence_number_bare_and_in_udp", || {
        let joined = pair().unwrap();
        let far = watch(&joined.b, "vb");
        let esp = [0x11, 0x22, 0x33, 0x44, 0, 0, 0, 9, 1, 2, 3, 4];
        let ike = [0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4];
        for (one, other) in [(net4(1).addr(), net4(2).addr()), (net6(1).addr(), net6(2).addr())] {
            let (from, to) = (SocketAddr::new(one, 4500), SocketAddr::new(other, 4500));
            let cases = [
                (packet::raw(one, other, 50, &esp).unwrap(), 50, Some((0x1122_3344, 9))),
                (packet::raw(one, other, 51, &[4, 4, 0, 0, 0x11, 0x22, 0x33, 0x44]).unwrap(), 51, None),
                (packet::udp(from, to, &esp).unwrap(), 17, Some((0x1122_3344, 9))),
                // RFC 3948 §2.2: the Non-ESP marker.
                (packet::udp(from, to, &ike).unwrap(), 17, None),
            ];
            for (packet, protocol, expected) in cases {
                let mark = far.mark();
                inject(&joined, &packet);
                let frame = far.wait_for(mark, |frame| frame.source == Some(one), SOON).unwrap();
                assert_eq!((frame.protocol, frame.esp()), (Some(protocol), expected), "{frame:?}");
            }
        }
    });
}

/// What was sent before the question is in the answer, however late the capture's own thread is.
#[test]
fn an_answer_includes_everything_before_the_question() {
    namespaced("watch::an_answer_includes_everything_before_the_question", || {
        let joined = pair().unwrap();
        let patterns: Vec<Vec<u8>> =
            (0..200u32).map(|number| format!("number {number};").into_bytes()).collect();
        let options = Options { patterns: patterns.clone(), ..Options::default() };
        let sniffer = Sniffer::start_with(&joined.a, "va", options).unwrap();
        // Without the neighbour's address, the first datagram would wait for it.
        let echo = Echo { destination: net4(2).addr(), timeout: SOON, ..Echo::default() };
        assert_eq!(ping::echo(&joined.a, &echo).unwrap().received, 1);
        for pattern in patterns {
            assert!(!sniffer.contains(&pattern).unwrap());
            send(&joined.a, "10.9.0.1:4001".parse().unwrap(), "10.9.0.2:4002".parse().unwrap(), &pattern);
            assert!(sniffer.contains(&pattern).unwrap());
        }
    });
}

#[test]
fn waiting_ends_at_its_deadline() {
    namespaced("watch::waiting_ends_at_its_deadline", || {
        let joined = pair().unwrap();
        let sniffer = watch(&joined.a, "va");
        let started = Instant::now();
        let waited = sniffer.wait_for(sniffer.mark(), |frame| frame.length == 0, Duration::from_millis(50));
        assert!(matches!(waited, Err(Error::Deadline(_))), "{waited:?}");
        assert!(started.elapsed() >= Duration::from_millis(50));
    });
}

#[test]
fn frames_of_other_interfaces_are_not_seen() {
    namespaced("watch::frames_of_other_interfaces_are_not_seen", || {
        let joined = pair().unwrap();
        let sniffer = watch(&joined.a, "va");
        let to_itself = Echo { destination: net4(1).addr(), count: 5, timeout: SOON, ..Echo::default() };
        assert_eq!(ping::echo(&joined.a, &to_itself).unwrap().received, 5);
        let seen = sniffer.stop().unwrap();
        assert!(seen.complete().unwrap().iter().all(|frame| frame.protocol != Some(1)));
        let loopback = watch(&joined.a, "lo");
        assert_eq!(ping::echo(&joined.a, &to_itself).unwrap().received, 5);
        assert_eq!(loopback.stop().unwrap().complete().unwrap().len(), 20);
    });
}

#[test]
fn a_pattern_is_found_in_any_byte_of_any_frame() {
    namespaced("watch::a_pattern_is_found_in_any_byte_of_any_frame", || {
        let joined = pair().unwrap();
        // Keeps almost nothing: the search must not depend on it.
        let options = Options { snap: 16, frames: 16, ..Options::searching(&[b"needle", b"absent"]) };
        let sniffer = Sniffer::start_with(&joined.b, "vb", options).unwrap();
        let start = sniffer.mark();
        let mut payload = vec![0x55; 1300];
        payload.extend_from_slice(b"needle");
        for number in 0..50u16 {
            let content = if number == 7 { &payload } else { &payload[..1300] };
            let (mark, port) = (sniffer.mark(), 5000 + number);
            send(&joined.a, "10.9.0.1:4001".parse().unwrap(), SocketAddr::new(net4(2).addr(), port), content);
            sniffer.wait_for(mark, |frame| frame.ports == Some((4001, port)), SOON).unwrap();
        }
        assert!(sniffer.contains(b"needle").unwrap());
        assert!(!sniffer.contains(b"absent").unwrap());
        // Not named at the start, and not every frame is still kept.
        assert!(matches!(sniffer.contains(b"other"), Err(Error::Incomplete(_))));
        assert!(matches!(sniffer.frames_since(start), Err(Error::Incomplete(_))));
        let captured = sniffer.stop().unwrap();
        assert_eq!(captured.pattern_hits, [1, 0]);
        assert_eq!((captured.frames.len(), captured.dropped, captured.truncated), (16, 0, 0));
        assert!(captured.total >= 50 && captured.bytes > 50 * 1300);
        assert!(captured.complete().is_err());
    });
}

#[test]
fn super_packets_are_searched_to_their_end() {
    namespaced("watch::super_packets_are_searched_to_their_end", || {
        let joined = pair().unwrap();
        let sniffer = Sniffer::start_with(&joined.b, "vb", Options::searching(&[b"the very end"])).unwrap();
        let listener = joined.b.run(|| std::net::TcpListener::bind("10.9.0.2:4444")).unwrap().unwrap();
        let mut client = joined.a.run(|| std::net::TcpStream::connect("10.9.0.2:4444")).unwrap().unwrap();
        let mut server = listener.accept().unwrap().0;
        let mut data = vec![0xaa; 32 << 10];
        let mut received = vec![0; data.len()];
        for round in 0..100 {
            if round == 99 {
                data.truncate(data.len() - 12);
                data.extend_from_slice(b"the very end");
            }
            client.write_all(&data).unwrap();
            server.read_exact(&mut received).unwrap();
            // In step: an unprivileged capture has little room in the kernel.
            sniffer.mark();
        }
        let captured = sniffer.stop().unwrap();
        assert_eq!(captured.pattern_hits, [1]);
        assert_eq!((captured.dropped, captured.truncated), (0, 0));
        assert!(captured.frames.iter().any(|frame| frame.length > 9000), "no super-packet was seen");
    });
}

/// The interface going down and coming back does not end a capture (T13: "TUN down/up").
#[test]
fn a_capture_survives_its_interface_going_down() {
    namespaced("watch::a_capture_survives_its_interface_going_down", || {
        let joined = pair().unwrap();
        let sniffer = watch(&joined.a, "va");
        joined.links_a.set_down("va").unwrap();
        joined.links_a.set_up("va").unwrap();
        joined.links_a.wait_ready("va", SOON).unwrap();
        let mark = sniffer.mark();
        let echo = Echo { destination: net4(2).addr(), count: 20, ..Echo::default() };
        assert!(ping::echo(&joined.a, &echo).unwrap().received > 0);
        sniffer.wait_for(mark, |frame| frame.protocol == Some(1), SOON).unwrap();
    });
}

#[test]
fn an_interface_that_is_not_there_is_an_error() {
    namespaced("watch::an_interface_that_is_not_there_is_an_error", || {
        let space = Namespace::create("empty").unwrap();
        let missing = Sniffer::start(&space, "nope").unwrap_err();
        assert!(missing.to_string().contains("looking up nope in empty"), "{missing}");
    });
}

fn watch(space: &Namespace, interface: &str) -> Sniffer {
    Sniffer::start(space, interface).unwrap_or_else(|error| unreachable!("{error}"))
}

fn send(space: &Namespace, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
    let sent = space.run(|| UdpSocket::bind(from)?.send_to(payload, to));
    assert!(matches!(sent, Ok(Ok(_))), "{sent:?}");
}

fn inject(joined: &Pair, packet: &[u8]) {
    let frame = packet::ethernet(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]), packet);
    let sent = Injector::open(&joined.a, "va").and_then(|injector| injector.send(&frame?));
    assert!(sent.is_ok(), "{sent:?}");
}
