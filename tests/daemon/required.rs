//! What an application requires of its own sockets, with real sockets, tunnels and wires (Q-44, L-33): not one packet of a flow
//! passes that is not what is required, from the very first.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use latchway_netns::watch::{Frame, Mark, Sniffer};
use latchway_netns::{Links, Namespace, links};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use crate::gateway::Gateway;
use crate::site::{Side, Site, TUN, Terms, WIRE};
use crate::{PATIENCE, eventually, scenario};

/// A peer that policy and PAD know, and that nobody is.
pub const ABSENT: &str = "3.example";
/// The one on the other side.
pub const PRESENT: &str = "2.example";

/// Says something on app.sock about a socket.
pub fn said(gateway: &Gateway, method: &str, parameters: &Value, socket: BorrowedFd<'_>) -> Value {
    let mut stream = UnixStream::connect(gateway.control().with_file_name("app.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let call = json!({"method": format!("org.latchway.App.{method}"), "parameters": parameters});
    let (call, number) = (format!("{call}\0"), [socket.as_raw_fd()]);
    let rights = [ControlMessage::ScmRights(&number)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(call.as_bytes())], &rights, MsgFlags::empty(), None)
        .unwrap();
    let (mut said, mut octet) = (Vec::new(), [1]);
    while stream.read(&mut octet).unwrap() == 1 && octet != [0] {
        said.extend(octet);
    }
    serde_json::from_slice(&said).unwrap()
}

fn require(gateway: &Gateway, peer: &str, socket: impl AsFd) -> Value {
    let parameters = json!({"requirement": {"peer": peer}});
    said(gateway, "Require", &parameters, socket.as_fd())
}

/// Requires something, which is taken up.
pub fn required(gateway: &Gateway, peer: &str, socket: impl AsFd) {
    let answer = require(gateway, peer, socket);
    assert!(answer.get("error").is_none(), "{answer}");
}

pub fn protection(gateway: &Gateway, socket: impl AsFd) -> Value {
    said(gateway, "Protection", &json!({}), socket.as_fd())["parameters"].clone()
}

fn site() -> Site {
    Site::start(&Terms::default().with_third_peer(7))
}

/// Where the sockets of the other side are.
fn there(port: u16) -> SocketAddr {
    (Side::B.address(), port).into()
}

fn socket(namespace: &Namespace, kind: Type) -> Socket {
    namespace.run(|| Socket::new(Domain::IPV4, kind, None)).unwrap().unwrap()
}

/// What leaves a's side, as whoever is between the two sees it.
pub fn watched(site: &Site) -> Sniffer {
    Sniffer::start(&site.at(Side::A).outer, WIRE).unwrap()
}

/// Whether nothing that a seals is on the wire since then.
pub fn is_silent(wire: &Sniffer, since: Mark) -> bool {
    let sealed = |frame: &Frame| frame.esp().is_some() && frame.source == Some("192.0.2.1".parse().unwrap());
    !wire.frames_since(since).unwrap().iter().any(sealed)
}

/// Q-44, L-33: connect() to a peer of another identity than is required fails at once, and not one packet is on the wire; to
/// the right one it connects, and the first packet is latched.
#[test]
fn q_44_l_33_the_first_syn_is_to_whom_is_required_or_does_not_leave() {
    scenario("required::q_44_l_33_the_first_syn_is_to_whom_is_required_or_does_not_leave", || {
        let site = site();
        let listener = site.at(Side::B).inner.run(|| TcpListener::bind(there(80))).unwrap().unwrap();
        let wire = watched(&site);
        let stranger = socket(&site.at(Side::A).inner, Type::STREAM);
        required(&site.a, ABSENT, &stranger);
        assert_eq!(protection(&site.a, &stranger)["required"], true);
        let start = wire.mark();
        for _ in 0..3 {
            let refused = stranger.connect(&there(80).into()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{refused}");
        }
        assert_eq!(site.a.drops("outbound", "requirement_unmet"), 3);
        assert!(is_silent(&wire, start));

        let friend = socket(&site.at(Side::A).inner, Type::STREAM);
        required(&site.a, PRESENT, &friend);
        friend.connect(&there(80).into()).unwrap();
        let view = protection(&site.a, &friend);
        assert_eq!((&view["answer"], &view["required"]), (&"latched".into(), &true.into()), "{view}");
        assert_eq!(view["held"]["peer"]["asserted"], "fqdn:2.example");
        let (mut accepted, _) = listener.accept().unwrap();
        (&friend).write_all(b"latchway").unwrap();
        accepted.read_exact(&mut [0; 8]).unwrap();

        // Of whom nothing is required, policy alone decides, and who forgets is as before.
        site.at(Side::A).inner.run(|| TcpStream::connect(there(80))).unwrap().unwrap();
        let forgets = socket(&site.at(Side::A).inner, Type::STREAM);
        required(&site.a, ABSENT, &forgets);
        assert!(said(&site.a, "Forget", &json!({}), forgets.as_fd()).get("error").is_none());
        forgets.connect(&there(80).into()).unwrap();
    });
}

/// what cannot be is refused, and changes nothing: a peer that the PAD does not have, a connection that is another's
/// already, a port that is not known.
#[test]
fn q_44_what_cannot_be_required_is_refused() {
    scenario("required::q_44_what_cannot_be_required_is_refused", || {
        let site = site();
        let a = &site.at(Side::A).inner;
        let listener = site.at(Side::B).inner.run(|| TcpListener::bind(there(80))).unwrap().unwrap();
        let fresh = socket(a, Type::STREAM);
        let error = |answer: Value| answer["error"].as_str().unwrap().rsplit_once('.').unwrap().1.to_owned();
        assert_eq!(error(require(&site.a, "nobody.example", &fresh)), "PolicyForbids");
        let spec = json!({"requirement": {"protection": "bypass"}});
        assert_eq!(error(said(&site.a, "Require", &spec, fresh.as_fd())), "BadCall");
        assert_eq!(protection(&site.a, &fresh)["required"], false);
        fresh.connect(&there(80).into()).unwrap();
        assert_eq!(error(require(&site.a, ABSENT, &fresh)), "PolicyForbids", "the PAD has it elsewhere");
        let spec = json!({"requirement": {"mode": "transport"}});
        assert_eq!(error(said(&site.a, "Require", &spec, fresh.as_fd())), "Unsatisfied");
        let view = require(&site.a, PRESENT, &fresh);
        assert_eq!(view["parameters"]["view"]["answer"], "latched", "{view}");
        // Nobody answers there.
        let opening = socket(a, Type::STREAM);
        opening.set_nonblocking(true).unwrap();
        let _ = opening.connect(&"10.2.0.9:80".parse::<SocketAddr>().unwrap().into());
        assert_eq!(error(require(&site.a, PRESENT, &opening)), "WrongSocket");
        let shared = socket(a, Type::DGRAM);
        shared.set_reuse_port(true).unwrap();
        assert_eq!(error(require(&site.a, PRESENT, &shared)), "WrongSocket");
        drop(listener);
    });
}

/// Q-44, L-80: who comes to a listening socket is what it requires, or gets no answer.
#[test]
fn q_44_l_80_a_listening_socket_has_no_connection_that_is_less() {
    scenario("required::q_44_l_80_a_listening_socket_has_no_connection_that_is_less", || {
        let site = site();
        let listen = || TcpListener::bind(there(80));
        let listener = site.at(Side::B).inner.run(listen).unwrap().unwrap();
        required(&site.b, ABSENT, &listener);
        let at_a = &site.at(Side::A).inner;
        let connect = |patience| at_a.run(|| TcpStream::connect_timeout(&there(80), patience)).unwrap();
        let late = connect(Duration::from_millis(400)).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut, "{late}");
        eventually("its SYN was dropped", || site.b.drops("inbound", "requirement_unmet") >= 1);
        required(&site.b, "1.example", &listener);
        connect(PATIENCE).unwrap();
        listener.accept().unwrap();
    });
}

/// the first datagram of a socket that is connected, of one that is not, and one that comes.
#[test]
fn q_44_datagrams_are_held_to_what_is_required() {
    scenario("required::q_44_datagrams_are_held_to_what_is_required", || {
        let site = site();
        let (at_a, at_b) = (&site.at(Side::A).inner, &site.at(Side::B).inner);
        let far = at_b.run(|| UdpSocket::bind(there(53))).unwrap().unwrap();
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        let wire = watched(&site);
        let start = wire.mark();
        for connects in [true, false] {
            // Not bound yet: it is known by itself alone.
            let near = socket(at_a, Type::DGRAM);
            required(&site.a, ABSENT, &near);
            let sent = if connects {
                near.connect(&there(53).into()).unwrap();
                near.send(b"never")
            } else {
                near.send_to(b"never", &there(53).into())
            };
            sent.unwrap();
        }
        // Those that are closed before their datagram is looked at are not to be found any more.
        eventually("they were dropped", || dropped(&site.a) == 2);
        assert!(is_silent(&wire, start));

        let near = at_a.run(|| UdpSocket::bind((Side::A.address(), 4000))).unwrap().unwrap();
        near.set_read_timeout(Some(PATIENCE)).unwrap();
        near.send_to(b"before", there(53)).unwrap();
        assert_eq!(far.recv_from(&mut [0; 64]).unwrap().0, 6);
        // The flow that stands is asked about again, either way.
        required(&site.a, ABSENT, &near);
        let before = site.a.drops("inbound", "requirement_unmet");
        far.send_to(b"comes", near.local_addr().unwrap()).unwrap();
        eventually("it was dropped", || site.a.drops("inbound", "requirement_unmet") > before);
        required(&site.a, PRESENT, &near);
        far.send_to(b"passes", near.local_addr().unwrap()).unwrap();
        let mut octets = [0; 64];
        assert_eq!(near.recv(&mut octets).unwrap(), 6, "and nothing before it");
        assert_eq!(&octets[..6], b"passes");
        assert_eq!(protection(&site.a, &near)["answer"], "unconnected");
    });
}

/// L-33: a socket that is bound to the device, and one whose SYN is its last word.
#[test]
fn l_33_neither_the_device_nor_the_end_of_a_socket_is_a_way_out() {
    scenario("required::l_33_neither_the_device_nor_the_end_of_a_socket_is_a_way_out", || {
        let site = site();
        let _listener = site.at(Side::B).inner.run(|| TcpListener::bind(there(80))).unwrap().unwrap();
        let far = site.at(Side::B).inner.run(|| UdpSocket::bind(there(53))).unwrap().unwrap();
        let wire = watched(&site);
        let start = wire.mark();
        let at_a = &site.at(Side::A).inner;
        let bound = socket(at_a, Type::STREAM);
        bound.bind_device(Some(TUN.as_bytes())).unwrap();
        required(&site.a, ABSENT, &bound);
        assert_eq!(bound.connect(&there(80).into()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        for _ in 0..16 {
            let brief = socket(at_a, Type::STREAM);
            required(&site.a, ABSENT, &brief);
            brief.set_nonblocking(true).unwrap();
            let _ = brief.connect(&there(80).into());
            drop(brief);
            let brief =
                at_a.run(|| Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))).unwrap().unwrap();
            required(&site.a, ABSENT, &brief);
            brief.send_to(b"never", &there(53).into()).unwrap();
            drop(brief);
        }
        eventually("they were dropped", || dropped(&site.a) >= 33);
        assert!(is_silent(&wire, start));
        drop(far);
    });
}

/// L-33: where a namespace has another way out than the TUN, what is required of a socket is not gone around by routes; what is
/// required of nobody takes them as ever.
#[test]
fn l_33_routes_do_not_lead_around_the_gateway() {
    scenario("required::l_33_routes_do_not_lead_around_the_gateway", || {
        let site = site();
        let at_a = &site.at(Side::A).inner;
        let elsewhere = Namespace::create("elsewhere").unwrap();
        links::veth(at_a, "side", &elsewhere, "side").unwrap();
        for (namespace, address) in [(at_a, "198.51.100.1/24"), (&elsewhere, "198.51.100.2/24")] {
            let links = Links::of(namespace).unwrap();
            links.add_address("side", address.parse().unwrap()).unwrap();
            links.set_up("side").unwrap();
        }
        let there: SocketAddr = "198.51.100.2:80".parse().unwrap();
        let listener = elsewhere.run(|| TcpListener::bind(there)).unwrap().unwrap();
        let far = elsewhere.run(|| UdpSocket::bind(there)).unwrap().unwrap();
        let free = socket(at_a, Type::STREAM);
        free.connect(&there.into()).unwrap();
        listener.accept().unwrap();

        let held = socket(at_a, Type::STREAM);
        required(&site.a, PRESENT, &held);
        held.connect_timeout(&there.into(), Duration::from_secs(3)).unwrap_err();
        let held = socket(at_a, Type::DGRAM);
        // Again, as whoever requires something else does.
        required(&site.a, ABSENT, &held);
        required(&site.a, PRESENT, &held);
        let _ = held.send_to(b"held", &there.into());
        let free = socket(at_a, Type::DGRAM);
        free.send_to(b"free", &there.into()).unwrap();
        let mut octets = [0; 8];
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(far.recv(&mut octets).unwrap(), 4);
        assert_eq!(&octets[..4], b"free", "and nothing before it");
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);

        // What the requirement lets pass, passes.
        let listener = site.at(Side::B).inner.run(|| TcpListener::bind(self::there(80))).unwrap().unwrap();
        let held = socket(at_a, Type::STREAM);
        required(&site.a, PRESENT, &held);
        held.connect(&self::there(80).into()).unwrap();
        assert_eq!(protection(&site.a, &held)["answer"], "latched");
        drop(listener);
    });
}

/// L-37: a program that is killed leaves nothing behind.
#[test]
fn l_37_a_program_that_is_killed_leaves_no_requirement() {
    scenario("required::l_37_a_program_that_is_killed_leaves_no_requirement", || {
        let site = site();
        let at_a = &site.at(Side::A).inner;
        let first = socket(at_a, Type::STREAM);
        required(&site.a, ABSENT, &first);
        // Another process has it, too, and is the last.
        let child = at_a
            .run(|| Command::new("sleep").arg("60").stdin(OwnedFd::from(first.try_clone().unwrap())).spawn());
        let mut child = child.unwrap().unwrap();
        drop(first);
        assert_eq!(requirements(&site.a), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        eventually("nothing is left", || requirements(&site.a) == 0);
    });
}

/// L-33: what is required holds for the next packet though the gateway was killed and started anew meanwhile, and nobody
/// noticed; and goes with its socket as ever.
#[test]
fn l_33_what_is_required_outlives_the_gateway() {
    scenario("required::l_33_what_is_required_outlives_the_gateway", || {
        let mut site = site();
        let _listener = site.at(Side::B).inner.run(|| TcpListener::bind(there(80))).unwrap().unwrap();
        let sockets = [(); 3].map(|()| socket(&site.at(Side::A).inner, Type::STREAM));
        let [stranger, friend, forgets] = &sockets;
        required(&site.a, ABSENT, stranger);
        required(&site.a, PRESENT, friend);
        required(&site.a, ABSENT, forgets);
        said(&site.a, "Forget", &json!({}), forgets.as_fd());
        site.a.end_by(Signal::SIGKILL);
        site.b.end_by(Signal::SIGTERM);
        site.a.start();
        site.b.start();
        let soon = Duration::from_millis(300);
        eventually("an echo returns", || site.reaches(Side::B.address(), soon));
        assert_eq!(requirements(&site.a), 2);
        let wire = watched(&site);
        let start = wire.mark();
        let refused = stranger.connect(&there(80).into()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{refused}");
        assert!(is_silent(&wire, start));
        friend.connect(&there(80).into()).unwrap();
        assert_eq!(protection(&site.a, friend)["required"], true);
        forgets.connect(&there(80).into()).unwrap();
        drop(sockets);
        eventually("nothing is left", || requirements(&site.a) == 0);
    });
}

/// What was dropped because of a requirement.
pub fn dropped(gateway: &Gateway) -> u64 {
    ["requirement_unmet", "owner_unknown"].iter().map(|reason| gateway.drops("outbound", reason)).sum()
}

pub fn requirements(gateway: &Gateway) -> u64 {
    gateway.shown("status")["latches"]["requirements"].as_u64().unwrap()
}
