//! What is required of sockets that share something with others: a port, a 5-tuple of before, a descriptor (L-33, Q-44); over IPv4
//! and over IPv6.

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use latchway_netns::{Namespace, sockets, sysctl};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::required::{
    ABSENT, PRESENT, dropped, is_silent, protection, required, requirements, said, watched,
};
use crate::site::{Side, Site, Terms};
use crate::{PATIENCE, eventually, scenario};

/// How long nobody answers before that is believed.
const SILENCE: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn address(self, side: Side) -> IpAddr {
        match self {
            Self::V4 => side.address(),
            Self::V6 => format!("fd00:{}::1", side.number()).parse().unwrap(),
        }
    }

    fn at(self, side: Side, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(side), port)
    }

    fn socket(self, site: &Site, side: Side, kind: Type) -> Socket {
        let domain = if self == Self::V4 { Domain::IPV4 } else { Domain::IPV6 };
        site.at(side).inner.run(|| Socket::new(domain, kind, None)).unwrap().unwrap()
    }

    /// A socket at a port, which others may have, too.
    fn bound(self, site: &Site, side: Side, kind: Type, port: u16) -> Socket {
        let socket = self.socket(site, side, kind);
        socket.set_reuse_address(true).unwrap();
        socket.bind(&self.at(side, port).into()).unwrap();
        socket
    }

    /// One of several sockets at one port.
    fn one_of_many(self, site: &Site, side: Side, kind: Type, port: u16) -> Socket {
        let socket = self.socket(site, side, kind);
        socket.set_reuse_port(true).unwrap();
        socket.bind(&self.at(side, port).into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        if kind == Type::STREAM {
            socket.listen(16).unwrap();
        }
        socket
    }

    /// Connects from a to b, or finds that nobody answers.
    fn answered(self, site: &Site, port: u16) -> bool {
        let refused = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        let socket = self.socket(site, Side::A, Type::STREAM);
        socket.connect_timeout(&self.at(Side::B, port).into(), SILENCE).map_err(refused).is_ok()
    }

    /// Connects from a to b.
    fn connected(self, site: &Site, port: u16) -> Socket {
        let socket = self.socket(site, Side::A, Type::STREAM);
        socket.connect_timeout(&self.at(Side::B, port).into(), PATIENCE).unwrap();
        socket
    }
}

/// Hosts with addresses of both families.
fn site() -> Site {
    let terms = Terms::default().with_third_peer(7);
    let site = Site::prepare(&terms);
    for (side, gateway) in [(Side::A, &site.a), (Side::B, &site.b)] {
        let mut text = terms.text(side, &site.at(side).inner);
        for (number, length) in [(side.number(), ".1/24"), (side.other().number(), ".0/24"), (3, ".0/24")] {
            let narrow = format!("[\"10.{number}.0{length}\"]");
            let last = if length == ".1/24" { "1" } else { "" };
            let wide = format!("[\"10.{number}.0{length}\", \"fd00:{number}::{last}/64\"]");
            assert!(text.contains(&narrow), "{narrow}: {text}");
            text = text.replace(&narrow, &wide);
        }
        gateway.configure(&text);
    }
    let site = site.started_between(Family::V6.address(Side::A), Family::V6.address(Side::B));
    site.passes();
    site
}

fn forget(site: &Site, side: Side, socket: &Socket) {
    let gateway = if side == Side::A { &site.a } else { &site.b };
    let answer = said(gateway, "Forget", &json!({}), socket.as_fd());
    assert!(answer.get("error").is_none(), "{answer}");
}

/// Q-44, L-33, L-80: first packets over IPv6, of whoever connects, listens and sends datagrams; and those of an IPv6 socket that
/// are of IPv4.
#[test]
fn q_44_l_33_first_packets_over_ipv6_are_held_to_what_is_required() {
    scenario("sharing::q_44_l_33_first_packets_over_ipv6_are_held_to_what_is_required", || {
        let (site, v6) = (site(), Family::V6);
        let listener = v6.one_of_many(&site, Side::B, Type::STREAM, 80);
        let _far = v6.bound(&site, Side::B, Type::DGRAM, 53);
        let _mapped_listener = Family::V4.one_of_many(&site, Side::B, Type::STREAM, 80);
        let wire = watched(&site);
        let start = wire.mark();
        let mapped = SocketAddr::new("::ffff:10.2.0.1".parse().unwrap(), 80);
        for to in [v6.at(Side::B, 80), mapped] {
            let stranger = v6.socket(&site, Side::A, Type::STREAM);
            required(&site.a, ABSENT, &stranger);
            let refused = stranger.connect(&to.into()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{to}: {refused}");
        }
        let datagrams = v6.socket(&site, Side::A, Type::DGRAM);
        required(&site.a, ABSENT, &datagrams);
        datagrams.send_to(b"never", &v6.at(Side::B, 53).into()).unwrap();
        eventually("all were dropped", || dropped(&site.a) >= 3);
        assert!(is_silent(&wire, start));
        for to in [v6.at(Side::B, 80), mapped] {
            let friend = v6.socket(&site, Side::A, Type::STREAM);
            required(&site.a, PRESENT, &friend);
            friend.connect_timeout(&to.into(), PATIENCE).unwrap();
            let view = protection(&site.a, &friend);
            assert_eq!((&view["answer"], &view["required"]), (&"latched".into(), &true.into()), "{view}");
        }
        required(&site.b, ABSENT, &listener);
        assert!(!v6.answered(&site, 80), "L-80");
        required(&site.b, "1.example", &listener);
        v6.connected(&site, 80);
    });
}

/// Q-44, L-33: sockets that listen at one port, by SO_REUSEPORT: who comes to any of them is what one of them requires.
#[test]
fn q_44_l_33_listeners_of_one_port_are_held_to_what_any_of_them_requires() {
    scenario("sharing::q_44_l_33_listeners_of_one_port_are_held_to_what_any_of_them_requires", || {
        let site = site();
        for family in Family::BOTH {
            let first = family.one_of_many(&site, Side::B, Type::STREAM, 80);
            let second = family.one_of_many(&site, Side::B, Type::STREAM, 80);
            required(&site.b, ABSENT, &second);
            // The kernel gives each connection to either, by its ports.
            assert!((0..8).all(|_| !family.answered(&site, 80)), "{family:?}");
            assert!(first.accept().is_err() && second.accept().is_err());
            required(&site.b, "1.example", &second);
            let streams: Vec<_> = (0..8).map(|_| family.connected(&site, 80)).collect();
            assert_eq!(streams.len(), 8);
            required(&site.b, ABSENT, &second);
            drop(second);
            family.connected(&site, 80);
        }
    });
}

/// Q-44, L-33: datagrams of sockets at one port, by SO_REUSEPORT, in and out: which of them has sent one cannot be told.
#[test]
fn q_44_l_33_datagrams_of_one_port_are_held_to_what_any_of_its_sockets_requires() {
    scenario("sharing::q_44_l_33_datagrams_of_one_port_are_held_to_what_any_of_its_sockets_requires", || {
        let site = site();
        for family in Family::BOTH {
            let group = [(); 2].map(|()| family.one_of_many(&site, Side::B, Type::DGRAM, 53));
            let near = family.bound(&site, Side::A, Type::DGRAM, 4000);
            near.set_read_timeout(Some(PATIENCE)).unwrap();
            required(&site.b, ABSENT, &group[1]);
            let before = site.b.drops("inbound", "requirement_unmet");
            let senders: Vec<_> = (0..8).map(|_| family.socket(&site, Side::A, Type::DGRAM)).collect();
            let send = || {
                for sender in &senders {
                    sender.send_to(b"latchway", &family.at(Side::B, 53).into()).unwrap();
                }
            };
            send();
            eventually("all were dropped", || site.b.drops("inbound", "requirement_unmet") == before + 8);
            for socket in &group {
                let octets = &mut [MaybeUninit::uninit(); 8];
                assert_eq!(socket.recv(octets).unwrap_err().kind(), ErrorKind::WouldBlock, "{family:?}");
            }
            let left = dropped(&site.b);
            group[0].send_to(b"never", &family.at(Side::A, 4000).into()).unwrap();
            eventually("what the other sends is dropped", || dropped(&site.b) == left + 1);

            forget(&site, Side::B, &group[1]);
            send();
            let mut came = 0;
            eventually("all came", || {
                let octets = &mut [MaybeUninit::uninit(); 8];
                came += group.iter().filter(|socket| socket.recv(octets).is_ok()).count();
                came == 8
            });
            group[0].send_to(b"passes", &family.at(Side::A, 4000).into()).unwrap();
            let octets = &mut [MaybeUninit::uninit(); 16];
            assert_eq!(near.recv(octets).unwrap(), 6, "and nothing before it");
        }
    });
}

/// Q-44, L-33, T37: the 5-tuple of a connection that is over, which its end still keeps in TIME_WAIT, is another's: of a socket that
/// connects, and of one that listens.
#[test]
fn q_44_t37_a_5_tuple_in_time_wait_is_held_to_what_its_next_socket_requires() {
    scenario("sharing::q_44_t37_a_5_tuple_in_time_wait_is_held_to_what_its_next_socket_requires", || {
        let site = site();
        sysctl::write(&site.at(Side::A).inner, "net/ipv4/tcp_tw_reuse", "1").unwrap();
        for (family, [one, two]) in [(Family::V4, [40_000, 40_001]), (Family::V6, [40_002, 40_003])] {
            let listener = family.bound(&site, Side::B, Type::STREAM, 80);
            listener.listen(16).unwrap();
            let dial = |port| {
                let socket = family.bound(&site, Side::A, Type::STREAM, port);
                socket.connect_timeout(&family.at(Side::B, 80).into(), PATIENCE).unwrap();
                (socket, listener.accept().unwrap().0)
            };
            // a ends it first, and keeps it.
            let (near, mut far) = dial(one);
            drop(near);
            assert_eq!(far.read(&mut [0; 8]).unwrap(), 0);
            drop(far);
            eventually("b has none of it", || !has(&site.at(Side::B).inner, one));
            assert!(has(&site.at(Side::A).inner, one), "in TIME_WAIT");
            let wire = watched(&site);
            let start = wire.mark();
            let stranger = family.bound(&site, Side::A, Type::STREAM, one);
            required(&site.a, ABSENT, &stranger);
            let mut kind = ErrorKind::AddrNotAvailable;
            eventually("the kernel gives the port away", || {
                kind = stranger.connect(&family.at(Side::B, 80).into()).unwrap_err().kind();
                kind != ErrorKind::AddrNotAvailable
            });
            assert_eq!(kind, ErrorKind::ConnectionRefused, "{family:?}");
            assert!(is_silent(&wire, start));
            drop(stranger);
            let friend = family.bound(&site, Side::A, Type::STREAM, one);
            required(&site.a, PRESENT, &friend);
            friend.connect_timeout(&family.at(Side::B, 80).into(), PATIENCE).unwrap();
            let _far = listener.accept().unwrap();

            // b ends it first, and keeps it.
            let (mut near, far) = dial(two);
            drop(far);
            assert_eq!(near.read(&mut [0; 8]).unwrap(), 0);
            drop(near);
            eventually("a has none of it", || !has(&site.at(Side::A).inner, two));
            assert!(has(&site.at(Side::B).inner, two), "in TIME_WAIT");
            required(&site.b, ABSENT, &listener);
            let before = site.b.drops("inbound", "requirement_unmet");
            let stranger = family.bound(&site, Side::A, Type::STREAM, two);
            let refused = stranger.connect_timeout(&family.at(Side::B, 80).into(), SILENCE).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::TimedOut, "{refused}");
            eventually("it was dropped", || site.b.drops("inbound", "requirement_unmet") > before);
            drop(stranger);
            required(&site.b, "1.example", &listener);
            dial(two);
        }
    });
}

/// Whether a namespace has a connection at, or with, a port.
fn has(namespace: &Namespace, port: u16) -> bool {
    let is = |end: Option<SocketAddr>| end.is_some_and(|end| end.port() == port);
    let found = sockets::of(namespace).unwrap();
    found.iter().any(|socket| socket.remote.is_some() && (is(Some(socket.local)) || is(socket.remote)))
}

/// L-33, L-37: what is required is of the socket, whichever of its descriptors it was said by, and whoever has them: a copy, and one
/// that was passed on.
#[test]
fn l_33_what_is_required_is_of_the_socket_and_not_of_a_descriptor() {
    scenario("sharing::l_33_what_is_required_is_of_the_socket_and_not_of_a_descriptor", || {
        let (site, family) = (site(), Family::V4);
        let listener = family.bound(&site, Side::B, Type::STREAM, 80);
        listener.listen(16).unwrap();
        let refused = |socket: &Socket| {
            let error = socket.connect(&family.at(Side::B, 80).into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        };
        let socket = family.socket(&site, Side::A, Type::STREAM);
        let copy = socket.try_clone().unwrap();
        required(&site.a, ABSENT, &copy);
        refused(&socket);
        drop(copy);
        refused(&socket);
        assert_eq!(requirements(&site.a), 1);

        let (here, there) = UnixStream::pair().unwrap();
        pass(&here, &socket);
        drop(socket);
        // In nobody's hands, it is there all the same.
        assert_eq!(requirements(&site.a), 1);
        let received = Socket::from(received(&there));
        assert_eq!(protection(&site.a, &received)["required"], true);
        refused(&received);
        forget(&site, Side::A, &received);
        received.connect_timeout(&family.at(Side::B, 80).into(), PATIENCE).unwrap();
        required(&site.a, PRESENT, &received);
        pass(&here, &received);
        drop(received);
        assert_eq!(requirements(&site.a), 1);
        drop((here, there));
        eventually("it goes with the last of them", || requirements(&site.a) == 0);
    });
}

fn pass(to: &UnixStream, socket: &Socket) {
    let descriptors = [socket.as_fd()];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    assert_eq!(sendmsg(to, &[IoSlice::new(&[0])], &mut control, SendFlags::empty()).unwrap(), 1);
}

fn received(from: &UnixStream) -> OwnedFd {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    recvmsg(from, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let passed = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    passed.unwrap()
}
