//! What applications learn of their connections over a tunnel.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use latchway_netns::skip::report;
use latchway_netns::{Links, Namespace};
use latchway_socket::{Answer, ErrorKind, Gateway, NoGateway, Protection, Strength, Unlatched};
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};

use crate::gateway::end_listening;
use crate::pair::{Side, Site, Terms};
use crate::programs::{Program, app, in_c};
use crate::{PATIENCE, eventually, scenario};

fn there() -> SocketAddr {
    SocketAddr::new(Side::B.address(), 80)
}

fn gateway(site: &Site, side: Side) -> Gateway {
    Gateway::at(&app(if side == Side::A { &site.a } else { &site.b })).with_timeout(PATIENCE)
}

fn latched(gateway: &Gateway, socket: impl AsFd) -> Protection {
    match gateway.protection(socket).unwrap() {
        Answer::Latched(protection) => protection,
        other => panic!("{other}"),
    }
}

/// Answers one connection with what it says.
fn echo_once(namespace: &Namespace) -> JoinHandle<()> {
    let listener = namespace.run(|| TcpListener::bind(there())).unwrap().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut octets = [0; 8];
        stream.read_exact(&mut octets).unwrap();
        stream.write_all(&octets).unwrap();
        // Until the other side is done.
        let _ = stream.read(&mut octets);
    })
}

/// A connection and its other end.
fn connection(site: &Site) -> (TcpStream, TcpStream) {
    let listener = site.at(Side::B).inner.run(|| TcpListener::bind(there())).unwrap().unwrap();
    let stream = site.at(Side::A).inner.run(|| TcpStream::connect(there())).unwrap().unwrap();
    let accepted = listener.accept().unwrap().0;
    end_listening(&listener);
    (stream, accepted)
}

/// Q-46, N-7, N-15, N-18, L-12: all that a program in C without privilege learns of a connection, of a copy of its descriptor, in
/// a child, and in a process that it was passed to.
#[test]
fn q_46_a_program_in_c_without_privilege_learns_who_is_there() {
    const TEST: &str = "answers::q_46_a_program_in_c_without_privilege_learns_who_is_there";
    scenario(TEST, || {
        let site = Site::start(&Terms::default());
        let echo = echo_once(&site.at(Side::B).inner);
        let (host, port) = (there().ip().to_string(), there().port().to_string());
        let asks = in_c("tests/socket/c/asks.c", &site.a);
        let Some(program) = Program::start(&asks, &[&host, &port], &site.at(Side::A).inner, &site.a) else {
            return report(TEST, "no other user can be had here");
        };
        let said = program.succeeded();
        let of = |what: &str| {
            let line = said.iter().find_map(|line| line.strip_prefix(&format!("{what}: ")));
            line.unwrap_or_else(|| panic!("{what}: {said:#?}"))
        };
        assert_eq!(of("state"), "1");
        assert!(of("audit").contains("2.example"), "{said:#?}");
        assert!(of("policy").starts_with("rule ") && of("information").contains("esp"), "{said:#?}");
        assert_eq!((of("privacy"), of("integrity"), of("compression")), ("48", "32", "0"), "{said:#?}");
        assert_eq!((of("tunnel"), of("options"), of("replay")), ("1", "1", "1"));
        assert_eq!(of("peer"), "latchway-itoken:1;id=fqdn:2.example;method=manual");
        assert_eq!(of("own"), "latchway-itoken:1;id=fqdn:1.example");
        assert_eq!(of("binding"), format!("errno {}", nix::libc::ENOTSUP), "nobody has proven a key here");
        assert_eq!((of("child"), of("passed on")), (of("audit"), of("audit")));
        echo.join().unwrap();
    });
}

/// N-15, N-16, C-16: both ends of a connection in Rust; another to the same peer is alike; what was accepted says who
/// came.
#[test]
fn n_15_n_16_both_ends_learn_who_the_other_is() {
    scenario("answers::n_15_n_16_both_ends_learn_who_the_other_is", || {
        let site = Site::start(&Terms::default());
        let (at_a, at_b) = (gateway(&site, Side::A), gateway(&site, Side::B));
        let (stream, accepted) = connection(&site);
        let (here, far) = (latched(&at_a, &stream), latched(&at_b, &accepted));
        assert_eq!(here.peer_identity().asserted().to_string(), "fqdn:2.example");
        assert_eq!(far.peer_identity().asserted().to_string(), "fqdn:1.example");
        assert_eq!(here.local_identity().unwrap().asserted(), far.peer_identity().asserted());
        assert_eq!((here.confidential(), here.integrity()), (Strength::High, Strength::Medium));
        assert!(here.channel_binding().is_err(), "nobody has proven a key here");
        assert_eq!(latched(&at_a, &stream), here);
        assert_eq!(latched(&at_a, stream.try_clone().unwrap()), here, "a copy is the same socket");
        drop(accepted);
        drop(stream);
        let (again, _accepted) = connection(&site);
        let second = latched(&at_a, &again);
        assert!(second.equivalent(&here) && here.congruent(&second) && second.latch() != here.latch());
        // The one gateway knows nothing of the other's.
        let elsewhere = at_b.protection(&again).unwrap();
        assert_eq!(elsewhere, Answer::NoGateway(NoGateway::OtherNamespace));
    });
}

/// N-18, K-3: a socket without another end, one that listens, one in the clear, and what is none: each its own answer.
#[test]
fn n_18_every_other_socket_has_an_answer_of_its_own() {
    scenario("answers::n_18_every_other_socket_has_an_answer_of_its_own", || {
        let site = Site::start(&Terms::default());
        let (at_a, inner) = (gateway(&site, Side::A), &site.at(Side::A).inner);
        Links::of(inner).unwrap().set_up("lo").unwrap();
        let unlatched = |socket: &Socket| match at_a.protection(socket).unwrap() {
            Answer::Unlatched(unlatched) => unlatched,
            other => panic!("{other}"),
        };
        inner
            .run(|| {
                let tcp = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                assert_eq!(unlatched(&tcp), Unlatched::NotConnected);
                let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
                tcp.bind(&address.into()).unwrap();
                tcp.listen(1).unwrap();
                assert_eq!(unlatched(&tcp), Unlatched::NotConnected);
                let local = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                local.connect(&address.into()).unwrap();
                assert_eq!(unlatched(&local), Unlatched::Clear);
                let raw = Socket::new(Domain::IPV4, Type::RAW, Some(1.into())).unwrap();
                assert_eq!(at_a.protection(&raw).unwrap_err().kind(), ErrorKind::WrongSocket);
                let (unix, _) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
                assert_eq!(at_a.protection(&unix).unwrap_err().kind(), ErrorKind::NotInternet);
                let pipe = std::fs::File::open("/dev/null").unwrap();
                assert_eq!(at_a.protection(&pipe).unwrap_err().kind(), ErrorKind::NotASocket);
            })
            .unwrap();
    });
}

/// K-3, N-18: a gateway that is gone is none, at once, and the same handle finds the next one.
#[test]
fn k_3_a_gateway_that_goes_and_comes_back_is_found_again() {
    scenario("answers::k_3_a_gateway_that_goes_and_comes_back_is_found_again", || {
        let mut site = Site::start(&Terms::default());
        let (at_a, (stream, _accepted)) = (gateway(&site, Side::A), connection(&site));
        let before = latched(&at_a, &stream);
        site.a.end_by(Signal::SIGKILL);
        let begun = Instant::now();
        let answer = at_a.protection(&stream).unwrap();
        assert!(matches!(answer, Answer::NoGateway(_)), "{answer}");
        assert!(begun.elapsed() < PATIENCE, "at once");
        site.a.start();
        let socket = site.at(Side::A).inner.run(|| Socket::new(Domain::IPV4, Type::STREAM, None));
        let socket = socket.unwrap().unwrap();
        eventually("the gateway answers again", || {
            at_a.protection(&socket).is_ok_and(|answer| answer == Answer::Unlatched(Unlatched::NotConnected))
        });
        // What was learnt before stays what it was, and is not taken for what another start says.
        assert_eq!(before.peer_identity().asserted().to_string(), "fqdn:2.example");
        site.passes();
        let (again, _accepted) = connection(&site);
        assert!(!latched(&at_a, &again).equivalent(&before));
    });
}

/// A gateway that stands still keeps nobody longer than the timeout.
#[test]
fn t_39_a_gateway_that_stands_still_keeps_nobody_waiting() {
    scenario("answers::t_39_a_gateway_that_stands_still_keeps_nobody_waiting", || {
        let site = Site::start(&Terms::default());
        let (stream, _accepted) = connection(&site);
        latched(&gateway(&site, Side::A), &stream);
        let at_a = gateway(&site, Side::A).with_timeout(Duration::from_millis(300));
        site.a.signal(Signal::SIGSTOP);
        let begun = Instant::now();
        assert_eq!(at_a.protection(&stream).unwrap_err().kind(), ErrorKind::TimedOut);
        let took = begun.elapsed();
        site.a.signal(Signal::SIGCONT);
        assert!(took >= Duration::from_millis(300) && took < PATIENCE, "{took:?}");
        eventually("it answers again", || {
            at_a.protection(&stream).is_ok_and(|answer| answer.latched().is_some())
        });
    });
}
