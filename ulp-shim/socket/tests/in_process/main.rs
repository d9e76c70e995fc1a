//! Gateways in one program, each over a UDP socket of its own on the loopback: no root, no TUN, no namespace.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by a panic")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use latchway_keying::{Op, Transaction};
use latchway_socket::in_process::{Builder, Gateway, Pair, Peer, Sa, TcpListener, TcpStream, UdpSocket};
use latchway_socket::{
    Answer, DatagramTag, ErrorKind, Identity, PeerIdentity, Protected, Requirement, Strength, Unlatched,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn name(host: u8) -> Identity {
    format!("host{host}.example").parse().unwrap()
}

fn inner(host: u8) -> IpAddr {
    [10, host, 0, 1].into()
}

/// A gateway that knows others by name, each with the addresses of the host of that number, and has no SA yet.
fn gateway(host: u8, peers: &[(u8, u8)]) -> Gateway {
    let loopback = "127.0.0.1:0".parse().unwrap();
    let builder = Builder::new(name(host), loopback).address(inner(host));
    let peer =
        |&(peer, at): &(u8, u8)| Peer::new(name(peer)).inner(format!("10.{at}.0.0/24").parse().unwrap());
    peers.iter().map(peer).fold(builder, Builder::peer).start().unwrap()
}

/// The pair of two hosts, as the first has it.
fn pair(us: u8, them: u8, suite: &str, key_len: u8, to: SocketAddr) -> Pair {
    let sa = |from: u8, to: u8| {
        let key: Vec<u8> = (0..key_len).map(|octet| octet ^ (from << 4) ^ to).collect();
        Sa::new(0x1000 + u32::from(from) * 16 + u32::from(to), &key)
    };
    Pair::new(suite, sa(them, us), sa(us, them), to).ephemeral()
}

fn join((one, first): (&Gateway, u8), (two, second): (&Gateway, u8)) {
    let (suite, key_len) = ("aes-256-gcm", 36);
    one.install(&name(second), &pair(first, second, suite, key_len, two.local())).unwrap();
    two.install(&name(first), &pair(second, first, suite, key_len, one.local())).unwrap();
}

/// Hosts 1 and 2, with SAs between them.
fn two() -> (Gateway, Gateway) {
    let (one, two) = (gateway(1, &[(2, 2)]), gateway(2, &[(1, 1)]));
    join((&one, 1), (&two, 2));
    (one, two)
}

fn is(host: u8) -> Requirement {
    Requirement::new().peer(&PeerIdentity::asserting(&name(host)).unwrap())
}

fn port(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(inner(host), port)
}

/// Whoever comes is told what he says.
fn echoing(listener: TcpListener) -> thread::JoinHandle<Answer> {
    thread::spawn(move || {
        let (mut stream, _, answer) = listener.accept_within(PATIENCE).unwrap();
        let mut room = [0; 16 * 1024];
        while let Ok(len @ 1..) = stream.read(&mut room) {
            stream.write_all(&room[..len]).unwrap();
        }
        answer
    })
}

/// L-12: both ends know each other and how well they are protected, and a megabyte comes back as it was.
#[test]
fn q44_l12_an_echo_between_two_programs_that_know_each_other() {
    let (one, two) = two();
    let listener = TcpListener::bind(&two, port(2, 7), &is(1)).unwrap();
    let echoing = echoing(listener);
    let wanted = is(2).protection(Protected::Confidential).key_bits(256).suites(["aes-256-gcm"]);
    let (stream, protection) = TcpStream::connect(&one, port(2, 7), &wanted).unwrap();
    assert_eq!(*protection.peer_identity().asserted(), name(2));
    assert_eq!((protection.confidential(), protection.integrity()), (Strength::High, Strength::Medium));
    assert!(protection.options_protected() && protection.replay_checked() && protection.latch().is_some());
    stream.set_read_timeout(Some(PATIENCE));
    let said: Vec<u8> = (0..1_000_000_u32).map(|octet| (octet / 251) as u8).collect();
    let heard = thread::scope(|scope| {
        let reads = scope.spawn(|| {
            let mut heard = vec![0; said.len()];
            (&stream).read_exact(&mut heard).unwrap();
            heard
        });
        (&stream).write_all(&said).unwrap();
        reads.join().unwrap()
    });
    assert!(heard == said);
    let now = stream.protection().unwrap();
    assert!(now.latched().unwrap().equivalent(&protection) && now.latched().unwrap().congruent(&protection));
    stream.shutdown_write();
    assert_eq!((&stream).read(&mut [0; 1]).unwrap(), 0);
    let theirs = echoing.join().unwrap();
    assert_eq!(*theirs.latched().unwrap().peer_identity().asserted(), name(1));
}

/// N-16, L-37, C-17: a connection outlives the keys that it began with, and what is known of it stays the same.
#[test]
fn n16_c17_new_keys_change_nothing_for_a_connection() {
    let (one, two) = two();
    let echoing = echoing(TcpListener::bind(&two, port(2, 7), &is(1)).unwrap());
    let (mut stream, before) = TcpStream::connect(&one, port(2, 7), &is(2)).unwrap();
    stream.set_read_timeout(Some(PATIENCE));
    let old = [&one, &two].map(|gateway| (gateway.keying(), gateway.keying().pairs().unwrap()[0].id));
    let (there, back) = (Sa::new(0x2001, &[0x77; 36]), Sa::new(0x2002, &[0x88; 36]));
    let of = |inbound: &Sa, outbound: &Sa, to| {
        Pair::new("aes-256-gcm", inbound.clone(), outbound.clone(), to).ephemeral()
    };
    two.install(&name(1), &of(&there, &back, one.local())).unwrap();
    one.install(&name(2), &of(&back, &there, two.local())).unwrap();
    for (keying, old) in old {
        keying.commit(Transaction::new(vec![Op::Remove(old)])).unwrap().unwrap();
    }
    for _ in 0..3 {
        let mut heard = [0; 5];
        stream.write_all(b"again").unwrap();
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"again");
    }
    let after = stream.protection().unwrap();
    assert!(after.latched().unwrap().congruent(&before));
    assert_eq!(after.latched().unwrap().latch(), before.latch());
    drop(stream);
    echoing.join().unwrap();
}

/// L-13, L-46: a requirement that is not met is an error with a kind, at once, at whichever end it was made.
#[test]
fn l13_l46_what_is_not_as_required_does_not_come_about() {
    let (one, two) = two();
    let _anybody = TcpListener::bind(&two, port(2, 80), &Requirement::new()).unwrap();
    let _nobody = TcpListener::bind(&two, port(2, 81), &is(3)).unwrap();
    for unmet in [is(3), is(2).suites(["aes-128-gcm"]), is(2).mode(latchway_socket::Mode::Transport)] {
        let begun = Instant::now();
        let error = TcpStream::connect(&one, port(2, 80), &unmet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
        assert!(begun.elapsed() < PATIENCE, "it is not waited for");
    }
    let within = Duration::from_millis(300);
    let error = TcpStream::connect_within(&one, port(2, 81), &Requirement::new(), within).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    let error = TcpStream::connect(&one, port(2, 82), &is(2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::System(111), "nobody listens: {error}");
}

/// L-74, L-109, R-17: when another peer's SA comes for the same address, the connection ends with an error that says so, at
/// whichever call.
#[test]
fn l74_l109_a_broken_latch_ends_the_connection_with_an_error_that_says_so() {
    let (one, two) = (gateway(1, &[(2, 2), (3, 2)]), gateway(2, &[(1, 1)]));
    join((&one, 1), (&two, 2));
    let listener = TcpListener::bind(&two, port(2, 7), &Requirement::new()).unwrap();
    let (stream, _) = TcpStream::connect(&one, port(2, 7), &is(2)).unwrap();
    let (_there, ..) = listener.accept_within(PATIENCE).unwrap();
    let reading = thread::scope(|scope| {
        let reads = scope.spawn(|| (&stream).read(&mut [0; 16]));
        one.install(&name(3), &pair(1, 3, "aes-256-gcm", 36, two.local())).unwrap();
        reads.join().unwrap()
    });
    let error = reading.unwrap_err();
    let inner = error.get_ref().and_then(|error| error.downcast_ref::<latchway_socket::Error>());
    assert_eq!(inner.map(latchway_socket::Error::kind), Some(ErrorKind::Suspended), "{error}");
    assert!(error.to_string().contains("conflict"), "{error}");
    (&stream).write_all(b"lost").unwrap_err();
    let answer = stream.protection().unwrap();
    assert!(matches!(answer, Answer::Unlatched(Unlatched::Suspended { reason: Some(_) })), "{answer}");
}

/// N-6: each datagram has the tag of its own packet, whoever sent the one before, and none is sent to who is not as
/// required.
#[test]
fn q48_q49_n6_each_datagram_knows_who_sent_it() {
    let one = gateway(1, &[(2, 2), (3, 3)]);
    let (two, three) = (gateway(2, &[(1, 1)]), gateway(3, &[(1, 1)]));
    join((&one, 1), (&two, 2));
    join((&one, 1), (&three, 3));
    let server = UdpSocket::bind(&one, port(1, 53)).unwrap();
    let clients =
        [(2, &two), (3, &three)].map(|(host, gateway)| UdpSocket::bind(gateway, port(host, 0)).unwrap());
    let mut room = [0; 1500];
    for round in 0..20_u8 {
        for (client, host) in clients.iter().zip([2, 3]) {
            client.send_to(&[host, round], port(1, 53), Some(&is(1))).unwrap();
        }
        for _ in 0..2 {
            let (len, from, tag) = server.recv_from_within(&mut room, PATIENCE).unwrap();
            let DatagramTag::Certain(protection) = tag else { panic!("{tag:?}") };
            assert_eq!((len, room[1]), (2, round));
            assert_eq!(from.ip(), inner(room[0]));
            assert_eq!(*protection.peer_identity().asserted(), name(room[0]));
            server.send_to(&room[..len], from, Some(&is(room[0]))).unwrap();
            // There is a latch by now, and what is required is compared with that.
            let other = is(5 - room[0]);
            assert_eq!(
                server.send_to(&room[..len], from, Some(&other)).unwrap_err().kind(),
                ErrorKind::Forbidden
            );
        }
        for (client, host) in clients.iter().zip([2, 3]) {
            let (len, from, tag) = client.recv_from_within(&mut room, PATIENCE).unwrap();
            assert_eq!((&room[..len], from), (&[host, round][..], port(1, 53)));
            assert!(matches!(tag, DatagramTag::Certain(_)));
        }
    }
    // Where the first datagram would begin a flow, it is judged there.
    let fresh = UdpSocket::bind(&two, port(2, 0)).unwrap();
    assert_eq!(fresh.send_to(b"x", port(1, 53), Some(&is(3))).unwrap_err().kind(), ErrorKind::Forbidden);
    assert_eq!(fresh.send_to(&[0; 1300], port(1, 53), None).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(
        server.recv_from_within(&mut room, Duration::from_millis(200)).unwrap_err().kind(),
        ErrorKind::TimedOut
    );
}

/// RFC 8221 section 3: keys that are kept are not used in a counter mode.
#[test]
fn t12_kept_keys_are_refused_in_a_counter_mode() {
    let kept =
        |key: &[u8]| Pair::new("aes-128-gcm", Sa::new(0x1001, key), Sa::new(0x1002, key), port(2, 4500));
    let peer = Peer::new(name(2)).inner("10.2.0.0/24".parse().unwrap()).pair(kept(&[7; 20]));
    let builder = Builder::new(name(1), "127.0.0.1:0".parse().unwrap()).address(inner(1));
    let error = builder.clone().peer(peer).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("RFC 8221"), "{error}");
    assert!(!format!("{:?}", kept(&[7; 20])).contains("7, 7"), "keys are not shown");
    let nobody = Builder::new(name(1), "127.0.0.1:0".parse().unwrap()).start().unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Invalid, "{nobody}");
    let nowhere = builder.peer(Peer::new(name(2))).start().unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::Invalid, "{nowhere}");
}

/// The example of the documentation runs, as anybody, and says what it should.
#[test]
fn the_example_runs() {
    let test = std::env::current_exe().unwrap();
    let example: PathBuf = test.ancestors().nth(2).unwrap().join("examples/in_process");
    let done = Command::new(example).output().unwrap_or_else(|error| {
        panic!("the example is not there ({error}); build it, as a test run of the whole package does")
    });
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stderr));
    assert!(said.contains("hello, fqdn:client.example"), "{said}");
}
