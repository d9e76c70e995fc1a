//! Latched connections, and the end of the gateway that latched them (L-40, L-41, L-118, T13): they are reset, or they are
//! dropped and then reset; none goes on without its latch, or under another.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use latchway_netns::{Links, Namespace, links, sysctl};
use nix::sys::signal::Signal;

use crate::site::{Mode, Side, Site, Terms};
use crate::watch::MARKER;
use crate::{PATIENCE, eventually, scenario};

/// A connection from behind a to behind b.
struct Connection {
    near: TcpStream,
    far: TcpStream,
}

/// Connections of a's own hosts, and of one that a's inner namespace forwards for, of both families.
struct Connections {
    own: Vec<Connection>,
    forwarded: Vec<Connection>,
}

impl Connection {
    fn open(from: &Namespace, site: &Site, v6: bool) -> Self {
        let at = SocketAddr::new(Side::B.address(v6), 0);
        let listener = site.at(Side::B).inner.run(|| TcpListener::bind(at).unwrap()).unwrap();
        let to = listener.local_addr().unwrap();
        let near = from.run(|| TcpStream::connect_timeout(&to, PATIENCE).unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        for stream in [&near, &far] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let mut connection = Self { near, far };
        let mut heard = vec![0; MARKER.len()];
        connection.near.write_all(MARKER).unwrap();
        connection.far.read_exact(&mut heard).unwrap();
        connection
    }
}

impl Connections {
    fn open(site: &Site, host: &Namespace) -> Self {
        let from = |namespace| [false, true].map(|v6| Connection::open(namespace, site, v6)).into();
        Self { own: from(&site.at(Side::A).inner), forwarded: from(host) }
    }
}

/// How reading ends, which must not be in good order.
fn end(stream: &mut TcpStream) -> ErrorKind {
    loop {
        match stream.read(&mut [0; 64]) {
            Ok(0) => return ErrorKind::UnexpectedEof,
            Ok(_) => {}
            Err(error) => return error.kind(),
        }
    }
}

/// A host behind a's inner namespace, which forwards.
fn behind(site: &Site) -> Namespace {
    const LAN: &str = "lan";
    let (inner, host) = (&site.at(Side::A).inner, Namespace::create("host").unwrap());
    links::veth(inner, LAN, &host, LAN).unwrap();
    for key in ["net/ipv4/conf/all/forwarding", "net/ipv6/conf/all/forwarding"] {
        sysctl::write(inner, key, "1").unwrap();
    }
    let (near, far) = (Links::of(inner).unwrap(), Links::of(&host).unwrap());
    for (links, addresses) in
        [(&near, ["10.1.0.129/28", "fd00:1::1:1/112"]), (&far, ["10.1.0.130/28", "fd00:1::1:2/112"])]
    {
        for address in addresses {
            links.add_address(LAN, address.parse().unwrap()).unwrap();
        }
        links.set_up(LAN).unwrap();
    }
    for links in [&near, &far] {
        links.wait_ready(LAN, PATIENCE).unwrap();
    }
    for (network, gateway) in [("10.2.0.0/24", "10.1.0.129"), ("fd00:2::/64", "fd00:1::1:1")] {
        let gateway: IpAddr = gateway.parse().unwrap();
        far.add_route(network.parse().unwrap(), Some(gateway), LAN, 0).unwrap();
    }
    host
}

/// L-40: a gateway that is told to end resets every latched connection, at both its ends, before it does.
#[test]
fn l_40_sigterm_resets_latched_connections_at_both_ends() {
    scenario("latched::l_40_sigterm_resets_latched_connections_at_both_ends", || {
        let mut site = Site::start(Mode::Alone, &Terms::default());
        let host = behind(&site);
        let Connections { own, forwarded } = Connections::open(&site, &host);
        let status = site.a.end_by(Signal::SIGTERM);
        assert!(status.success(), "{status}: {}", site.a.log());
        for mut one in own {
            assert_eq!(end(&mut one.near), ErrorKind::ConnectionAborted);
            assert_eq!(end(&mut one.far), ErrorKind::ConnectionReset);
        }
        for mut one in forwarded {
            assert_eq!(end(&mut one.near), ErrorKind::ConnectionReset);
            assert_eq!(end(&mut one.far), ErrorKind::ConnectionReset);
        }
        site.a.start();
        site.passes();
        Connections::open(&site, &host);
        site.nothing_leaked();
    });
}

/// to both ends, a latch that an operator closes looks like a reset by the other.
#[test]
fn r_13_a_latch_that_an_operator_closes_looks_like_a_reset_by_the_peer() {
    scenario("latched::r_13_a_latch_that_an_operator_closes_looks_like_a_reset_by_the_peer", || {
        let site = Site::start(Mode::Alone, &Terms::default());
        let host = behind(&site);
        let Connections { own, forwarded } = Connections::open(&site, &host);
        let close = |one: &Connection| {
            let ends = [one.near.local_addr(), one.near.peer_addr()].map(|end| end.unwrap().to_string());
            let rows = site.a.rows("latch list");
            let ours = |row: &&serde_json::Value| {
                row.get("local") == Some(&ends[0].as_str().into())
                    && row.get("remote") == Some(&ends[1].as_str().into())
            };
            let handle = rows.iter().find(ours).and_then(|row| row.get("latch")?.as_str()).unwrap();
            let output = site.a.verb(&["latch", "close", handle]).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        for mut one in own {
            close(&one);
            assert_eq!(end(&mut one.near), ErrorKind::ConnectionAborted);
            assert_eq!(end(&mut one.far), ErrorKind::ConnectionReset);
        }
        for mut one in forwarded {
            close(&one);
            assert_eq!(end(&mut one.near), ErrorKind::ConnectionReset);
            assert_eq!(end(&mut one.far), ErrorKind::ConnectionReset);
        }
        site.nothing_leaked();
    });
}

/// L-40, L-41, L-118: after a kill nothing that was latched goes on. The next gateway ends the sockets that it finds, and
/// answers those it cannot reach, as soon as they speak.
#[test]
fn l_40_l_41_after_sigkill_nothing_latched_goes_on() {
    scenario("latched::l_40_l_41_after_sigkill_nothing_latched_goes_on", || {
        let mut site = Site::start(Mode::Alone, &Terms::default());
        let host = behind(&site);
        let Connections { own, forwarded } = Connections::open(&site, &host);
        let udp = site.at(Side::A).inner.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        site.at(Side::A).inner.run(|| udp.connect((Side::B.address(false), 9)).unwrap()).unwrap();
        site.a.end_by(Signal::SIGKILL);
        let mut all: Vec<_> = own.into_iter().map(|one| (one, ErrorKind::ConnectionAborted)).collect();
        all.extend(forwarded.into_iter().map(|one| (one, ErrorKind::ConnectionReset)));
        for (one, _) in &mut all {
            one.near.write_all(MARKER).unwrap();
        }
        site.holds_out();
        for (one, _) in &mut all {
            one.far.set_nonblocking(true).unwrap();
            let heard = one.far.read(&mut [0; 64]);
            assert!(heard.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "it goes on");
        }
        site.a.start();
        assert!(site.a.log().contains("connections from before the start were reset"), "{}", site.a.log());
        for (one, expected) in &mut all {
            let (from, end) = (one.near.local_addr().unwrap(), one.near.read(&mut [0; 64]));
            assert_eq!(end.as_ref().unwrap_err().kind(), *expected, "{from}: {end:?}");
            let heard = one.far.read(&mut [0; 64]);
            assert!(heard.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "it went on");
        }
        match udp.take_error().unwrap() {
            Some(error) => assert_eq!(error.kind(), ErrorKind::ConnectionAborted),
            None => latchway_netns::skip::report("udp", "the kernel has no CONFIG_INET_UDP_DIAG"),
        }
        site.passes();
        Connections::open(&site, &host);
        site.nothing_leaked();
    });
}

/// L-40: many connections do not hold up the end for long.
#[test]
fn l_40_a_thousand_connections_are_reset_within_seconds() {
    scenario("latched::l_40_a_thousand_connections_are_reset_within_seconds", || {
        let mut site = Site::start(Mode::Alone, &Terms::default());
        let count = std::env::var("LATCHWAY_CONNECTIONS").map_or(1000, |count| count.parse().unwrap());
        let at = SocketAddr::new(Side::B.address(false), 0);
        let listener = site.at(Side::B).inner.run(|| TcpListener::bind(at).unwrap()).unwrap();
        let to = listener.local_addr().unwrap();
        let accepting =
            thread::spawn(move || (0..count).map(|_| listener.accept().unwrap().0).collect::<Vec<_>>());
        let connect = || TcpStream::connect_timeout(&to, PATIENCE).unwrap();
        let inner = site.at(Side::A).inner.clone();
        let mut near: Vec<_> = inner.run(|| (0..count).map(|_| connect()).collect()).unwrap();
        let mut far = accepting.join().unwrap();
        let began = Instant::now();
        assert!(site.a.end_by(Signal::SIGTERM).success(), "{}", site.a.log());
        let took = began.elapsed();
        eprintln!("{count} connections were reset in {took:?}");
        assert!(took < Duration::from_secs(15), "{took:?}");
        for stream in &mut near {
            assert_eq!(end(stream), ErrorKind::ConnectionAborted);
        }
        for stream in &mut far {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let reset =
            far.iter_mut().filter_map(|stream| (end(stream) == ErrorKind::ConnectionReset).then_some(()));
        let reset = reset.count();
        assert_eq!(reset, count, "the other ends");
        eventually("the guards hold", || !site.a.runs());
        site.nothing_leaked();
    });
}
