//! app.sock under applications of every kind (P-67, T40).

use std::fs::{self, File};
use std::io::{IoSlice, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use latchway_control::app::{MAX_APP_MESSAGE, MAX_APP_SOCKETS};
use latchway_datapath::low::socket_facts::bound_device;
use latchway_netns::Namespace;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::*;
use crate::gateway::app::descriptor::{Facts, Stage};
use crate::gateway::serve::{Server, Serving};
use crate::gateway::state::testing::World;

/// A gateway that applications may ask, in a folder that goes with it.
struct Stand {
    folder: PathBuf,
    _serving: Serving,
    world: World,
}

impl Stand {
    /// One that speaks of the sockets of this namespace.
    fn new(name: &str) -> Self {
        Self::of(name, here())
    }

    fn of(name: &str, spaces: Spaces) -> Self {
        let folder = std::env::temp_dir().join(format!("latchway-app-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let world = World::new();
        let applications =
            Applications::new(Arc::clone(&world.state), inner(spaces), &folder.join("app.sock")).unwrap();
        let serving = Server::bind_for_all(&folder.join("app.sock")).unwrap().start(applications).unwrap();
        Self { folder, _serving: serving, world }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.folder.join("app.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn ask(&self, call: &str, passed: &[BorrowedFd<'_>]) -> Value {
        let stream = self.connect();
        pass(&stream, format!("{call}\0").as_bytes(), passed);
        answer(&stream).unwrap()
    }

    /// What is said of a socket, or which error.
    fn protection(&self, passed: &[BorrowedFd<'_>]) -> Value {
        let answer = self.ask(PROTECTION, passed);
        answer.get("error").unwrap_or(&answer["parameters"]["answer"]).clone()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

const PROTECTION: &str = r#"{"method":"org.latchway.App.Protection"}"#;
const GATEWAY: &str = r#"{"method":"org.latchway.App.Gateway"}"#;

fn here() -> Spaces {
    Spaces::of(&Namespace::current().unwrap(), "lo").unwrap()
}

fn inner(spaces: Spaces) -> Inner {
    let owners = SocketOwners::open(spaces.inner(), 1).unwrap();
    Inner { spaces, ends: SocketsGone::open().unwrap(), owners, run: run_of_system().unwrap() }
}

fn pass(stream: &UnixStream, octets: &[u8], passed: &[BorrowedFd<'_>]) {
    let numbers: Vec<_> = passed.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights = if passed.is_empty() { &[][..] } else { &rights[..] };
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(octets)], rights, MsgFlags::empty(), None).unwrap();
}

/// The next answer; `None` where the connection was closed instead.
fn answer(mut stream: &UnixStream) -> Option<Value> {
    let (mut said, mut octet) = (Vec::new(), [0]);
    while stream.read(&mut octet).is_ok_and(|read| read == 1) {
        if octet == [0] {
            return Some(serde_json::from_slice(&said).unwrap());
        }
        said.extend(octet);
    }
    None
}

/// A connection within this host.
fn connected() -> (TcpStream, TcpListener) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    (TcpStream::connect(listener.local_addr().unwrap()).unwrap(), listener)
}

#[test]
fn an_application_is_answered_as_varlink_has_it_and_only_what_is_for_it() {
    let stand = Stand::new("varlink");
    let info = stand.ask(r#"{"method":"org.varlink.service.GetInfo"}"#, &[]);
    assert_eq!(info["parameters"]["interfaces"], json!(["org.varlink.service", "org.latchway.App"]));
    let (one, other) = (stand.ask(GATEWAY, &[]), stand.ask(GATEWAY, &[]));
    assert_eq!(one, other);
    assert_eq!(one["parameters"]["name"], "here");
    assert!(one["parameters"]["boot"].as_u64().is_some_and(|boot| boot <= MOST_BOOT));
    for (call, error) in [
        (r#"{"method":"org.latchway.Control.Stop"}"#, "org.varlink.service.InterfaceNotFound"),
        (r#"{"method":"org.latchway.App.Dance"}"#, "org.varlink.service.MethodNotFound"),
        (
            r#"{"method":"org.latchway.App.Protection","parameters":{"latch":"1.1"}}"#,
            "org.latchway.App.BadCall",
        ),
        (r#"{"method":"org.latchway.App.Gateway","upgrade":true}"#, "org.latchway.App.BadCall"),
        ("nonsense", "org.latchway.App.BadCall"),
        (PROTECTION, "org.latchway.App.NotASocket"),
    ] {
        assert_eq!(stand.ask(call, &[])["error"], error, "{call}");
    }
}

#[test]
fn q_46_a_socket_without_another_end_and_one_within_this_host_have_no_protection() {
    let stand = Stand::new("plain");
    let (stream, listener) = connected();
    let (udp, bound) = (UdpSocket::bind("[::1]:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    udp.connect(udp.local_addr().unwrap()).unwrap();
    assert_eq!(stand.protection(&[stream.as_fd()]), "clear");
    assert_eq!(stand.protection(&[udp.as_fd()]), "clear");
    assert_eq!(stand.protection(&[listener.as_fd()]), "unconnected");
    assert_eq!(stand.protection(&[bound.as_fd()]), "unconnected");
    let whole = stand.ask(PROTECTION, &[stream.as_fd()]);
    let view: latchway_control::app::ProtectionView =
        serde_json::from_value(whole["parameters"].clone()).unwrap();
    assert!(view.held.is_none() && view.class.is_none() && view.latch.is_none() && view.binding.is_none());
}

/// One that no packet was seen of is not said to be protected, whatever the policy would do with its packets.
#[test]
fn p_67_of_a_flow_that_is_not_known_nothing_is_claimed() {
    let stand = Stand::new("unknown");
    let applications =
        Applications::new(Arc::clone(&stand.world.state), inner(here()), &stand.folder.join("other.sock"))
            .unwrap();
    let (local, remote) = ("10.1.0.1:4000".parse().unwrap(), "10.2.0.1:80".parse().unwrap());
    let view = applications.protection(&facts(local, remote)).unwrap();
    assert_eq!(view.answer, latchway_control::app::AnswerKind::Clear);
    assert!(view.reason.unwrap().contains("no packet"));
}

/// T40: whatever is passed, it is looked at and closed, and the next call is answered.
#[test]
fn t40_descriptors_that_are_no_sockets_of_connections_are_named() {
    let stand = Stand::new("descriptors");
    let (file, unix) = (File::open("/dev/null").unwrap(), UnixDatagram::unbound().unwrap());
    let (reader, writer) = std::io::pipe().unwrap();
    let (stream, _listener) = connected();
    assert_eq!(stand.protection(&[file.as_fd()]), "org.latchway.App.NotASocket");
    assert_eq!(stand.protection(&[reader.as_fd()]), "org.latchway.App.NotASocket");
    assert_eq!(stand.protection(&[unix.as_fd()]), "org.latchway.App.WrongSocket");
    assert_eq!(stand.protection(&[stand.connect().as_fd()]), "org.latchway.App.WrongSocket");
    assert_eq!(stand.protection(&[stream.as_fd(), stream.as_fd()]), "org.latchway.App.BadCall");
    assert_eq!(stand.ask(GATEWAY, &[writer.as_fd()])["error"], "org.latchway.App.BadCall");
    drop(writer);
    assert_eq!({ reader }.read(&mut [0]).unwrap(), 0, "nobody has the other end any more");
}

/// A namespace of one's own may have anybody's addresses (P-67).
#[test]
fn p_67_a_socket_of_another_namespace_is_not_spoken_of() {
    let stand = Stand::of("elsewhere", here().with_cookie(1));
    let (stream, listener) = connected();
    assert_eq!(stand.protection(&[stream.as_fd()]), "org.latchway.App.NotHere");
    assert_eq!(stand.protection(&[listener.as_fd()]), "org.latchway.App.NotHere");
}

/// T40: whose call a descriptor came with is never guessed.
#[test]
fn t40_descriptors_in_the_wrong_place_or_too_many_end_the_connection() {
    let stand = Stand::new("places");
    let (socket, _listener) = connected();
    let call = format!("{PROTECTION}\0");
    let (first, rest) = call.split_at(7);

    // Nothing is read together with what follows a descriptor.
    let stream = stand.connect();
    pass(&stream, first.as_bytes(), &[socket.as_fd()]);
    pass(&stream, rest.as_bytes(), &[socket.as_fd()]);
    assert_eq!(answer(&stream), None, "in the middle of a call");

    let stream = stand.connect();
    pass(&stream, format!("{call}{call}").as_bytes(), &[socket.as_fd()]);
    assert_eq!(answer(&stream), None, "with two calls");

    let stream = stand.connect();
    pass(&stream, call.as_bytes(), &[socket.as_fd(); MAX_APP_SOCKETS + 1]);
    assert_eq!(answer(&stream), None, "too many");

    let stream = stand.connect();
    pass(&stream, first.as_bytes(), &[socket.as_fd()]);
    (&stream).write_all(rest.as_bytes()).unwrap();
    assert_eq!(answer(&stream).unwrap()["parameters"]["answer"], "clear", "with the first octet");
    pass(&stream, call.as_bytes(), &[socket.as_fd()]);
    assert_eq!(answer(&stream).unwrap()["parameters"]["answer"], "clear", "and once more");
}

#[test]
fn t40_a_call_that_is_too_long_is_refused() {
    let stand = Stand::new("long");
    let stream = stand.connect();
    let long = vec![b' '; usize::try_from(MAX_APP_MESSAGE).unwrap() * 4];
    // It need not be read to its end.
    let _ = (&stream).write_all(&long);
    assert_eq!(answer(&stream).unwrap()["error"], "org.latchway.App.BadCall");
    assert_eq!(stand.ask(GATEWAY, &[])["parameters"]["name"], "here");
}

/// K-12: what cannot be watched is named, and what can be is until the gateway ends.
#[test]
fn k_12_sockets_are_watched_until_the_gateway_ends() {
    let stand = Stand::new("watch");
    let (socket, listener) = connected();
    let watch = r#"{"method":"org.latchway.App.Watch","more":true}"#;
    let once = r#"{"method":"org.latchway.App.Watch"}"#;
    assert_eq!(stand.ask(once, &[socket.as_fd()])["error"], "org.varlink.service.ExpectedMore");
    assert_eq!(stand.ask(watch, &[])["error"], "org.latchway.App.NotASocket");
    let with_listener = [socket.as_fd(), listener.as_fd()];
    assert_eq!(stand.ask(watch, &with_listener)["error"], "org.latchway.App.WrongSocket");
    let stream = stand.connect();
    pass(&stream, format!("{watch}\0").as_bytes(), &[socket.as_fd()]);
    assert_eq!(answer(&stream).unwrap()["parameters"]["event"], "watching");
    stand.world.state.watched().end();
    let last = answer(&stream).unwrap();
    assert_eq!((&last["parameters"]["event"], &last["continues"]), (&"ending".into(), &Value::Null));
    assert_eq!(stand.ask(GATEWAY, &[])["parameters"]["name"], "here");
}

/// A connected socket with these ends.
fn facts(local: std::net::SocketAddr, remote: std::net::SocketAddr) -> Facts {
    let cookie = latchway_ulp_shim::Cookie { space: 1, socket: 1 };
    let (remote, stage) = (Some(remote), Stage::Connected);
    Facts { cookie, protocol: 6, local, remote, stage, shares: false, astray: None }
}

/// P-67: anybody may bind to an address of IPv6 that this host does not have, so to that of a host behind it.
#[test]
fn p_67_a_socket_of_an_address_that_is_not_this_hosts_is_not_spoken_of() {
    let stand = Stand::new("foreign");
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
    socket.set_freebind_v6(true).unwrap();
    let foreign: std::net::SocketAddr = "[fd11:7777::77]:0".parse().unwrap();
    socket.bind(&foreign.into()).unwrap();
    assert_eq!(stand.protection(&[socket.as_fd()]), "org.latchway.App.NotHere");
    let own = UdpSocket::bind("[::1]:0").unwrap();
    assert_eq!(stand.protection(&[own.as_fd()]), "unconnected");
}

/// What is bound to another device goes around the gateway, whatever is known of a connection with the same ends.
#[test]
fn a_socket_that_is_bound_to_another_device_is_clear() {
    let stand = Stand::new("astray");
    let applications =
        Applications::new(Arc::clone(&stand.world.state), inner(here()), &stand.folder.join("other.sock"))
            .unwrap();
    let (local, remote) = ("10.1.0.1:4000".parse().unwrap(), "10.2.0.1:80".parse().unwrap());
    let facts = Facts { astray: Some(7), ..facts(local, remote) };
    let view = applications.protection(&facts).unwrap();
    assert_eq!(view.answer, latchway_control::app::AnswerKind::Clear);
    assert!(view.reason.unwrap().contains("around") && facts.flow().is_none());

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(bound_device(&socket).unwrap(), None);
    socket2::SockRef::from(&socket).bind_device(Some(b"lo")).unwrap();
    assert_eq!(bound_device(&socket).unwrap(), Some(1));
}

/// Q-49, P-67: nothing is said of flows whose datagrams another socket is given, and of its own nothing is certain without a latch,
/// or where the datagram came another way.
#[test]
fn q_49_p_67_a_socket_is_told_of_its_own_datagrams_alone() {
    let stand = Stand::new("datagrams");
    let asked = |socket: BorrowedFd<'_>, remote: &str, local: &str, interface: u32| {
        let parameters = json!({"remote": remote, "local": local, "interface": interface});
        let call = json!({"method": "org.latchway.App.Datagram", "parameters": parameters});
        let answer = stand.ask(&call.to_string(), &[socket]);
        answer.get("error").cloned().unwrap_or_else(|| answer["parameters"].clone())
    };
    let bound = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (socket, other) = (bound(), bound());
    let own = socket.local_addr().unwrap().to_string();
    let others = other.local_addr().unwrap().to_string();
    let bad = json!("org.latchway.App.BadCall");
    assert_eq!(asked(socket.as_fd(), "192.0.2.7:9", &others, 1), bad);
    assert_eq!(asked(socket.as_fd(), "[fd00::1]:9", &own, 1), bad, "of two families");
    assert_eq!(asked(connected().0.as_fd(), "192.0.2.7:9", &own, 1), json!("org.latchway.App.WrongSocket"));
    let said = asked(socket.as_fd(), "192.0.2.7:9", &own, 1);
    assert_eq!((&said["view"]["answer"], &said["since"]), (&json!("clear"), &Value::Null));
    assert_eq!(said["doubt"], Value::Null);
    assert!(said["as_of"].as_u64().unwrap() > 1_600_000_000_000_000_000);
    let doubt = |remote, interface| asked(socket.as_fd(), remote, &own, interface)["doubt"].clone();
    assert_eq!(doubt("192.0.2.7:9", 7), "other-device");
    assert_eq!(doubt(&others, 1), "forgeable", "it is of this host");
    let pieces = r#"{"method":"org.latchway.App.Pieces"}"#;
    assert_eq!(stand.ask(pieces, &[socket.as_fd()])["parameters"], json!({}));
    assert_eq!(stand.ask(pieces, &[connected().0.as_fd()])["error"], "org.latchway.App.WrongSocket");
}
