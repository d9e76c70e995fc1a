//! What applications are told of their sockets on app.sock: real sockets, real tunnels, users without privilege.

use std::fs::{self, Permissions};
use std::io::{IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use latchway_netns::skip::{Need, report, require};
use latchway_netns::{Links, Namespace};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::gateway::Gateway;
use crate::shown::connection;
use crate::site::{Side, Site, Terms, wire};
use crate::{PATIENCE, scenario, schema};

/// A program without privilege: it connects, exchanges something, and asks what protects the connection.
const ASKS: &str = r#"
import socket, sys
app, address, port = sys.argv[1:]
stream = socket.create_connection((address, int(port)), 20)
stream.sendall(b"latchway")
stream.recv(8)
gateway = socket.socket(socket.AF_UNIX)
gateway.settimeout(20)
gateway.connect(app)
socket.send_fds(gateway, [b'{"method":"org.latchway.App.Protection"}\0'], [stream.fileno()])
answer = b""
while not answer.endswith(b"\0"):
    octets = gateway.recv(65536)
    if not octets:
        break
    answer += octets
print(answer[:-1].decode())
"#;

/// A user of no account.
pub const NOBODY: u32 = 65_534;

pub fn app(gateway: &Gateway) -> PathBuf {
    gateway.control().with_file_name("app.sock")
}

/// What a gateway says of a socket.
fn asked(gateway: &Gateway, socket: impl AsFd) -> Value {
    Called::of(gateway, r#"{"method":"org.latchway.App.Protection"}"#, &[socket.as_fd()]).answer()
}

/// What becomes of sockets.
fn watching(gateway: &Gateway, sockets: &[BorrowedFd<'_>]) -> Called {
    Called::of(gateway, r#"{"method":"org.latchway.App.Watch","more":true}"#, sockets)
}

/// A call to a gateway, of which the answers are read.
struct Called(UnixStream);

impl Called {
    fn of(gateway: &Gateway, call: &str, sockets: &[BorrowedFd<'_>]) -> Self {
        let stream = UnixStream::connect(app(gateway)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (call, numbers) =
            (format!("{call}\0"), sockets.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>());
        let rights = [ControlMessage::ScmRights(&numbers)];
        let octets = [IoSlice::new(call.as_bytes())];
        sendmsg::<()>(stream.as_raw_fd(), &octets, &rights, MsgFlags::empty(), None).unwrap();
        Self(stream)
    }

    /// The whole answer, or error.
    fn answer(&mut self) -> Value {
        let (mut said, mut octet) = (Vec::new(), [1]);
        while self.0.read(&mut octet).unwrap() == 1 && octet != [0] {
            said.extend(octet);
        }
        serde_json::from_slice(&said).unwrap()
    }

    /// What is said next.
    fn next(&mut self) -> Value {
        self.answer()["parameters"].take()
    }
}

/// Lets anybody enter the folder of a gateway, as that of a gateway is which made it itself.
pub fn open(gateway: &Gateway) {
    for folder in [gateway.folder(), gateway.folder().parent().unwrap()] {
        fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    }
}

/// Answers one connection with what it says.
fn echo_once(namespace: &Namespace, address: SocketAddr) -> thread::JoinHandle<()> {
    let listener = namespace.run(|| TcpListener::bind(address)).unwrap().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut octets = [0; 8];
        stream.read_exact(&mut octets).unwrap();
        stream.write_all(&octets).unwrap();
        // Until the other side is done.
        let _ = stream.read(&mut octets);
    })
}

/// Q-46, L-12, P-67: a program without privilege learns by its own socket who is on the other end, and how that is known.
#[test]
fn q_46_an_application_without_privilege_learns_who_is_there() {
    const TEST: &str = "apps::q_46_an_application_without_privilege_learns_who_is_there";
    scenario(TEST, || {
        if !require(TEST, &[Need::Program("python3")]) {
            return;
        }
        let site = Site::start(&Terms::default());
        open(&site.a);
        let there = SocketAddr::new(Side::B.address(), 80);
        let echo = echo_once(&site.at(Side::B).inner, there);
        let mut program = Command::new("python3");
        program.args(["-c", ASKS]).arg(app(&site.a)).args([there.ip().to_string(), there.port().to_string()]);
        let ran = site.at(Side::A).inner.run(|| program.uid(NOBODY).gid(NOBODY).output()).unwrap();
        let Ok(output) = ran else { return report(TEST, "no other user can be had here") };
        assert!(output.status.success(), "{output:?}\n{}", site.a.log());
        let view = &serde_json::from_slice::<Value>(&output.stdout).unwrap()["parameters"];
        schema::holds("app-protection", view);
        assert_eq!((&view["answer"], &view["state"]), (&"latched".into(), &"established".into()), "{view}");
        assert_eq!(view["held"]["peer"]["asserted"], "fqdn:2.example");
        assert_eq!(view["held"]["identity"]["asserted"], "fqdn:1.example");
        assert_eq!(view["held"]["peer"]["method"], "manual");
        assert_eq!(view["unbindable"], "manual");
        assert_eq!(view["inbound"], view["outbound"]);
        assert_eq!((&view["inbound"]["key_bits"], &view["inbound"]["icv_bits"]), (&256.into(), &128.into()));
        let listed = &site.a.rows("latch list");
        let named = listed.iter().find(|row| row["latch"] == view["latch"]);
        assert!(named.is_none_or(|row| row["peer"] == "fqdn:2.example"), "{listed:?}");
        echo.join().unwrap();
    });
}

/// Q-46, Q-52: two connections with one peer under one rule compare as equal; what goes another way is clear, and is told so.
#[test]
fn q_52_sockets_of_one_peer_are_alike_and_others_are_clear() {
    scenario("apps::q_52_sockets_of_one_peer_are_alike_and_others_are_clear", || {
        let site = Site::prepare(&Terms::default());
        let named = "[[policy]]\nname = \"office\"\naction = \"protect\"\npeer = \"2.example\"";
        site.configure(Side::A, &Terms::default().with_tail(named));
        let site = site.started();
        let (one, accepted) = connection(&site);
        let (first, at_b) = (asked(&site.a, &one), asked(&site.b, &accepted));
        assert_eq!(first["parameters"]["answer"], "latched", "{first}");
        assert_eq!(
            (&first["parameters"]["policy"], &at_b["parameters"]["policy"]),
            (&"office".into(), &"rule 1".into())
        );
        assert_eq!(site.a.rows("policy list")[0]["name"], "office");
        assert_eq!(at_b["parameters"]["held"]["peer"]["asserted"], "fqdn:1.example", "{at_b}");
        drop((one, accepted));
        let (other, _accepted) = connection(&site);
        let second = asked(&site.a, &other);
        for field in ["group", "rule", "boot", "class", "policy"] {
            assert!(!first["parameters"][field].is_null(), "{field}");
            assert_eq!(first["parameters"][field], second["parameters"][field], "{field}");
        }
        assert_ne!(first["parameters"]["latch"], second["parameters"]["latch"]);

        let plain = Namespace::create("plain").unwrap();
        let inner = &site.at(Side::A).inner;
        wire(inner, &plain);
        let beside: SocketAddr = "192.0.2.2:80".parse().unwrap();
        let _listener = plain.run(|| TcpListener::bind(beside)).unwrap().unwrap();
        let stream = inner.run(|| TcpStream::connect(beside)).unwrap().unwrap();
        let clear = asked(&site.a, &stream);
        assert_eq!(clear["parameters"]["answer"], "clear", "{clear}");
        assert!(clear["parameters"]["held"].is_null());
        // The one gateway knows nothing of the other's.
        assert_eq!(asked(&site.b, &other)["error"], "org.latchway.App.NotHere");
    });
}

/// K-9, K-10, K-12, C-18: who watches a socket hears where it stands, that its keys are others, that it is over, and that the gateway ends;
/// nothing else about it changes with its keys.
#[test]
fn k_12_who_watches_a_socket_hears_what_becomes_of_it() {
    scenario("apps::k_12_who_watches_a_socket_hears_what_becomes_of_it", || {
        let mut site = Site::start(&Terms::default());
        let (one, _accepted) = connection(&site);
        let (other, there) = connection(&site);
        let mut watch = watching(&site.a, &[one.as_fd(), other.as_fd()]);
        assert_eq!(watch.next()["event"], "watching");
        let standing = [watch.next(), watch.next()];
        for (number, event) in standing.iter().enumerate() {
            schema::holds("app-event", event);
            assert_eq!(
                (&event["event"], &event["socket"]),
                (&"established".into(), &number.into()),
                "{event}"
            );
        }
        for side in [Side::A, Side::B] {
            site.configure(side, &Terms::default().with_sas(&[2]));
        }
        site.b.shown("reload");
        site.a.shown("reload");
        for number in [0, 1] {
            let event = watch.next();
            assert_eq!((&event["event"], &event["socket"]), (&"rekeyed".into(), &number.into()), "{event}");
            for field in ["latch", "class", "group", "held"] {
                assert_eq!(event["view"][field], standing[number]["view"][field], "C-18: {field}");
            }
        }
        let latch = standing[0]["view"]["latch"].as_str().unwrap();
        site.a.shown(&format!("latch close {latch}"));
        let event = watch.next();
        assert_eq!((&event["event"], &event["socket"]), (&"closed".into(), &0.into()), "{event}");
        assert_eq!(event["reason"], "administrative");
        drop((other, there));
        let event = watch.next();
        assert_eq!((&event["event"], &event["socket"]), (&"closed".into(), &1.into()), "{event}");
        site.a.end_by(Signal::SIGTERM);
        assert_eq!(watch.next()["event"], "ending");
    });
}

/// P-67: who has the addresses and ports of another's connection in a namespace of its own learns nothing of it.
#[test]
fn p_67_a_forged_connection_in_another_namespace_is_not_here() {
    scenario("apps::p_67_a_forged_connection_in_another_namespace_is_not_here", || {
        let site = Site::start(&Terms::default());
        let (stream, _accepted) = connection(&site);
        let (local, remote) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let forger = Namespace::create("forger").unwrap();
        let links = Links::of(&forger).unwrap();
        links.set_up("lo").unwrap();
        links.add_address("lo", "10.1.0.1/8".parse().unwrap()).unwrap();
        let forged = forger.run(|| {
            let listener = TcpListener::bind(remote).unwrap();
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&local.into()).unwrap();
            socket.connect(&remote.into()).unwrap();
            (TcpStream::from(socket), listener)
        });
        let (forged, _listener) = forged.unwrap();
        assert_eq!((forged.local_addr().unwrap(), forged.peer_addr().unwrap()), (local, remote));
        assert_eq!(asked(&site.a, &forged)["error"], "org.latchway.App.NotHere");
        assert_eq!(asked(&site.a, &stream)["parameters"]["answer"], "latched");
    });
}

/// T40: whoever may enter its folder may ask on app.sock, which is so where the gateway made the folder; the operator's socket stays
/// the operator's. Where it is not wanted, there is none.
#[test]
fn t40_app_sock_is_for_all_where_it_is_wanted() {
    scenario("apps::t40_app_sock_is_for_all_where_it_is_wanted", || {
        let mut site = Site::prepare(&Terms::default().with_head("app = \"sockets/app.sock\""));
        let (beside, elsewhere) = (app(&site.a), site.a.folder().join("sockets/app.sock"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        site.a.start();
        assert_eq!((mode(&elsewhere), mode(elsewhere.parent().unwrap())), (0o666, 0o755));
        assert_eq!(mode(site.a.control()), 0o600);
        assert!(!beside.exists());
        site.a.end_by(Signal::SIGTERM);
        assert!(!elsewhere.exists(), "it goes with the gateway");
        site.configure(Side::A, &Terms::default().with_head("app = false"));
        site.a.start();
        assert!(!beside.exists() && !elsewhere.exists());
    });
}
