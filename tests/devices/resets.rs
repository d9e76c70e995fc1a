//! Connections of latches that are out of force end, as the kernel's TCP and UDP see it: by their socket, by resets that
//! their TCP takes, by ICMP (latching-04 sections 2.1, 2.3 and 2.4; RFC 9293 3.10.7, RFC 5961 3.2).

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::injection::Injection;
use latchway_datapath::latching::{BreakReason, LatchId, LatchState, LatchTerms, OnConflict};
use latchway_datapath::packet::{IpPacket, Upper};
use latchway_datapath::reset::Reset;
use latchway_datapath::spd::{Latching, Protection};
use latchway_datapath::time::Time;
use latchway_netns::{Links, Namespace, links, sysctl};
use latchway_ulp_shim::{Disposed, Resets, SocketDestroyer, resets, terminate};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::scenario;
use crate::site::{Options, PATIENCE, Site, eventually, sites};

/// A connection of an inner host of alice's to one of bob's, latched by both.
struct Connection {
    near: TcpStream,
    far: TcpStream,
    flow: FlowKey,
    latch: LatchId,
}

fn latched() -> (Site, Site) {
    sites(&Options { protection: Protection::LATCHED, ..Options::default() })
}

/// Opens a connection from this namespace, which is behind alice.
fn connect(from: &Namespace, alice: &Site, bob: &Site, v6: bool) -> Connection {
    let at = (bob.address(v6), 0);
    let listener = bob.inner.run(|| TcpListener::bind(at).unwrap()).unwrap();
    let to = listener.local_addr().unwrap();
    let near = from.run(|| TcpStream::connect_timeout(&to, PATIENCE).unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let flow = FlowKey::new(protocol::TCP, near.local_addr().unwrap(), to);
    let mut connection = Connection { near, far, latch: LatchId::from_raw(0), flow };
    connection.exchange();
    connection.latch = alice.database.find(&flow).unwrap();
    connection
}

impl Connection {
    /// What the near end hears, it acknowledges with what it says: it has nothing more to say afterwards.
    fn exchange(&mut self) {
        let mut octets = [0; 5];
        self.far.write_all(b"hello").unwrap();
        self.near.read_exact(&mut octets).unwrap();
        self.near.write_all(b"hello").unwrap();
        self.far.read_exact(&mut octets).unwrap();
    }

    /// Closes its latch at alice, and says what ends it.
    fn close(&self, alice: &Site) -> Resets {
        assert!(alice.database.close(self.latch, BreakReason::Administrative, now()));
        resets(&alice.database, self.latch).unwrap()
    }
}

fn now() -> Time {
    Time::default() + Duration::from_secs(1)
}

fn to_inner(site: &Site, packet: &[u8]) {
    site.injector.inject(Injection::ToInner { packet: packet.into() }).unwrap();
}

/// What reading gives in the end.
fn read_error(stream: &mut TcpStream) -> ErrorKind {
    loop {
        match stream.read(&mut [0; 64]) {
            Ok(0) => panic!("the connection ended in good order"),
            Ok(_) => {}
            Err(error) => return error.kind(),
        }
    }
}

/// The sequence number of a reset, and the ends of its connection.
fn reset_seq(packet: &[u8]) -> u32 {
    let parsed = IpPacket::parse(packet, Direction::Inbound).unwrap();
    let Upper::Tcp(segment) = parsed.upper() else { panic!("{parsed:?}") };
    segment.seq
}

/// L-87, RFC 5961 3.2: a connection on which nobody speaks ends by one reset, whose number is the one expected.
#[test]
fn l_87_an_idle_connection_is_reset_exactly() {
    scenario("resets::l_87_an_idle_connection_is_reset_exactly", || {
        let (alice, bob) = latched();
        for v6 in [false, true] {
            let mut connection = connect(&alice.inner, &alice, &bob, v6);
            let resets = connection.close(&alice);
            to_inner(&alice, resets.to_local.octets());
            assert_eq!(read_error(&mut connection.near), ErrorKind::ConnectionReset);
            assert_eq!(alice.counters.told_over.get(), 0, "nothing had to be asked");
        }
    });
}

/// RFC 5961 3.2: a reset within the window and not exact is answered by a challenge ACK. That meets the latch, goes no
/// further, and is answered at its own number.
#[test]
fn rfc_5961_3_2_a_challenge_is_met_by_the_number_that_it_tells() {
    scenario("resets::rfc_5961_3_2_a_challenge_is_met_by_the_number_that_it_tells", || {
        let (alice, bob) = latched();
        for (v6, told) in [(false, 1), (true, 2)] {
            let mut connection = connect(&alice.inner, &alice, &bob, v6);
            let resets = connection.close(&alice);
            let inexact = Reset { seq: reset_seq(resets.to_local.octets()).wrapping_add(77), ack: None };
            let (local, remote) = (connection.flow.local(), connection.flow.remote());
            to_inner(&alice, inexact.packet(remote, local).unwrap().octets());
            assert_eq!(read_error(&mut connection.near), ErrorKind::ConnectionReset);
            assert_eq!(alice.counters.told_over.get(), told);
            assert!(alice.dropped(Direction::Outbound, DropReason::LatchBroken) >= told);
        }
    });
}

/// L-87, R-13: who goes on sending is reset by what it sends.
#[test]
fn l_87_who_goes_on_sending_is_reset() {
    scenario("resets::l_87_who_goes_on_sending_is_reset", || {
        let (alice, bob) = latched();
        for v6 in [false, true] {
            let mut connection = connect(&alice.inner, &alice, &bob, v6);
            connection.close(&alice);
            // More than one super-packet's worth.
            let written = connection.near.write_all(&vec![7; 300_000]);
            let error = written.map_or_else(|error| error.kind(), |()| read_error(&mut connection.near));
            assert_eq!(error, ErrorKind::ConnectionReset);
        }
        assert!(alice.counters.told_over.get() >= 2);
    });
}

/// RFC 9293 3.10.7.3: a socket in SYN-SENT takes a reset that acknowledges its SYN: at once, or when it sends its SYN again.
#[test]
fn rfc_9293_3_10_7_3_a_connection_being_opened_is_refused() {
    scenario("resets::rfc_9293_3_10_7_3_a_connection_being_opened_is_refused", || {
        let (alice, _bob) = latched();
        for (v6, at_once) in [(false, false), (false, true), (true, false), (true, true)] {
            // Nobody is there, and nobody says so.
            let silent: IpAddr = if v6 { "fd00:2::99" } else { "10.0.2.99" }.parse().unwrap();
            let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
            let socket = alice.inner.run(|| Socket::new(domain, Type::STREAM, None).unwrap()).unwrap();
            socket.set_nonblocking(true).unwrap();
            let to = SocketAddr::new(silent, 80);
            assert!(socket.connect(&SockAddr::from(to)).is_err());
            let local = || socket.local_addr().unwrap().as_socket().unwrap();
            let latch = || alice.database.find(&FlowKey::new(protocol::TCP, local(), to));
            eventually("its SYN is on the way", || latch().is_some());
            let latch = latch().unwrap();
            assert!(alice.database.suspend(latch, BreakReason::Conflict, None, now()));
            if at_once {
                let resets = resets(&alice.database, latch).unwrap();
                to_inner(&alice, resets.to_local.octets());
            }
            let mut error = None;
            eventually("it is refused", || {
                error = socket.take_error().unwrap();
                error.is_some()
            });
            assert_eq!(error.unwrap().kind(), ErrorKind::ConnectionRefused);
        }
    });
}

/// Half-closed, either way round: what is expected next counts the FIN.
#[test]
fn rfc_9293_3_10_7_4_a_half_closed_connection_is_reset() {
    scenario("resets::rfc_9293_3_10_7_4_a_half_closed_connection_is_reset", || {
        let (alice, bob) = latched();
        for v6 in [false, true] {
            let mut connection = connect(&alice.inner, &alice, &bob, v6);
            connection.near.shutdown(Shutdown::Write).unwrap();
            assert_eq!(connection.far.read(&mut [0]).unwrap(), 0);
            to_inner(&alice, connection.close(&alice).to_local.octets());
            assert_eq!(read_error(&mut connection.near), ErrorKind::ConnectionReset);

            let mut connection = connect(&alice.inner, &alice, &bob, v6);
            connection.far.shutdown(Shutdown::Write).unwrap();
            assert_eq!(connection.near.read(&mut [0]).unwrap(), 0);
            to_inner(&alice, connection.close(&alice).to_local.octets());
            eventually("the socket is told", || {
                connection
                    .near
                    .take_error()
                    .unwrap()
                    .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
            });
        }
    });
}

/// A socket in TIME-WAIT holds the 5-tuple; it is destroyed, or what it says of late segments is answered.
#[test]
fn rfc_9293_3_10_7_8_time_wait_ends_too() {
    scenario("resets::rfc_9293_3_10_7_8_time_wait_ends_too", || {
        let (alice, bob) = latched();
        let mut sockets = alice.inner.run(SocketDestroyer::open).unwrap().unwrap();
        for (v6, by_socket) in [(false, true), (false, false), (true, true), (true, false)] {
            let mut connection = connect(&alice.inner, &alice, &bob, v6);
            connection.near.shutdown(Shutdown::Write).unwrap();
            assert_eq!(connection.far.read(&mut [0]).unwrap(), 0);
            let late = reset_seq(resets(&alice.database, connection.latch).unwrap().to_local.octets());
            drop(connection.far);
            assert_eq!(connection.near.read(&mut [0]).unwrap(), 0);
            drop(connection.near);
            let (flow, latch) = (connection.flow, connection.latch);
            let over = || alice.database.inquire(latch).unwrap().progress.is_over();
            eventually("both sides have ended", over);
            assert!(sockets.is_held(&flow).unwrap(), "TIME-WAIT");
            assert!(alice.database.close(latch, BreakReason::Administrative, now()));
            if by_socket {
                let disposed = terminate(&alice.database, &mut sockets, latch, now()).unwrap();
                assert_eq!(disposed, Disposed::Destroyed);
            } else {
                // The FIN again, which TIME-WAIT acknowledges (RFC 9293 3.10.7.4).
                let fin = latchway_netns::packet::Segment {
                    sequence: late,
                    acknowledgement: Some(1),
                    fin: true,
                    ..Default::default()
                };
                let fin = latchway_netns::packet::tcp(flow.remote(), flow.local(), &fin).unwrap();
                to_inner(&alice, &fin);
            }
            eventually("the 5-tuple is free", || !sockets.is_held(&flow).unwrap());
        }
    });
}

/// L-100, R-17: the very socket is closed, so that the application sees ECONNABORTED; its own reset goes no further, and
/// the remote end is told under the connection's SA.
#[test]
fn l_100_the_socket_is_destroyed_and_the_remote_end_told_under_its_sa() {
    scenario("resets::l_100_the_socket_is_destroyed_and_the_remote_end_told_under_its_sa", || {
        let (alice, bob) = latched();
        let mut sockets = alice.inner.run(SocketDestroyer::open).unwrap().unwrap();
        for v6 in [false, true] {
            let mut connection = connect(&alice.inner, &alice, &bob, v6);
            let resets = connection.close(&alice);
            let disposed = terminate(&alice.database, &mut sockets, connection.latch, now()).unwrap();
            assert_eq!(disposed, Disposed::Destroyed);
            assert_eq!(read_error(&mut connection.near), ErrorKind::ConnectionAborted);
            eventually("its reset is dropped", || {
                alice.dropped(Direction::Outbound, DropReason::LatchBroken) > 0
            });
            let (packet, class) = resets.to_remote.unwrap();
            let packet = packet.octets().into();
            alice.injector.inject(Injection::ToPeer { packet, class }).unwrap();
            assert_eq!(read_error(&mut connection.far), ErrorKind::ConnectionReset);
            assert_eq!(alice.database.inquire(connection.latch).unwrap().state, LatchState::Closed);
        }
    });
}

/// L-103: a socket behind another host is out of the kernel's reach, and is told by packets, as is the remote end.
#[test]
fn l_103_a_forwarded_connection_is_reset_at_both_ends() {
    scenario("resets::l_103_a_forwarded_connection_is_reset_at_both_ends", || {
        let (alice, bob) = latched();
        let host = behind(&alice);
        let mut sockets = alice.inner.run(SocketDestroyer::open).unwrap().unwrap();
        for v6 in [false, true] {
            let mut connection = connect(&host, &alice, &bob, v6);
            let resets = connection.close(&alice);
            let disposed = terminate(&alice.database, &mut sockets, connection.latch, now()).unwrap();
            assert_eq!(disposed, Disposed::NoSuchSocket);
            to_inner(&alice, resets.to_local.octets());
            assert_eq!(read_error(&mut connection.near), ErrorKind::ConnectionReset);
            let (packet, class) = resets.to_remote.unwrap();
            alice.injector.inject(Injection::ToPeer { packet: packet.octets().into(), class }).unwrap();
            assert_eq!(read_error(&mut connection.far), ErrorKind::ConnectionReset);
        }
    });
}

/// L-103: a UDP socket behind another host, or here and destroyed.
#[test]
fn l_103_udp_sockets_are_told_by_icmp_or_destroyed() {
    scenario("resets::l_103_udp_sockets_are_told_by_icmp_or_destroyed", || {
        let (alice, bob) = latched();
        let host = behind(&alice);
        let mut sockets = alice.inner.run(SocketDestroyer::open).unwrap().unwrap();
        for v6 in [false, true] {
            let server = bob.inner.run(|| UdpSocket::bind((bob.address(v6), 0)).unwrap()).unwrap();
            let to = server.local_addr().unwrap();
            for (from, here) in [(&host, false), (&alice.inner, true)] {
                let any = if v6 { "[::]:0" } else { "0.0.0.0:0" };
                let socket = from.run(|| UdpSocket::bind(any).unwrap()).unwrap();
                from.run(|| socket.connect(to).unwrap()).unwrap();
                for socket in [&socket, &server] {
                    socket.set_read_timeout(Some(PATIENCE)).unwrap();
                }
                socket.send(b"hello").unwrap();
                server.recv(&mut [0; 5]).unwrap();
                let flow = FlowKey::new(protocol::UDP, socket.local_addr().unwrap(), to);
                let latch = alice.database.find(&flow).unwrap();
                assert!(alice.database.close(latch, BreakReason::Administrative, now()));
                assert_eq!(resets(&alice.database, latch), None);
                if here {
                    match terminate(&alice.database, &mut sockets, latch, now()) {
                        Ok(disposed) => {
                            assert_eq!(disposed, Disposed::Destroyed);
                            let error = socket.recv(&mut [0; 5]).unwrap_err();
                            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
                        }
                        Err(error) => latchway_netns::skip::report("udp", &error.to_string()),
                    }
                } else {
                    let disposed = terminate(&alice.database, &mut sockets, latch, now()).unwrap();
                    assert_eq!(disposed, Disposed::NoSuchSocket);
                    socket.send(b"still there?").unwrap();
                    let error = socket.recv(&mut [0; 5]).unwrap_err();
                    let expected = if v6 { ErrorKind::PermissionDenied } else { ErrorKind::HostUnreachable };
                    assert_eq!(error.kind(), expected, "{error}");
                }
            }
        }
    });
}

/// under terms to wait, nothing is said to anybody, and the connection goes on when the conflict has passed.
#[test]
fn r_9_r_17_a_connection_that_waits_hears_nothing_and_goes_on() {
    scenario("resets::r_9_r_17_a_connection_that_waits_hears_nothing_and_goes_on", || {
        let terms = LatchTerms { on_conflict: OnConflict::Wait, ..LatchTerms::default() };
        let protection = Protection { latching: Latching::On(terms), ..Protection::LATCHED };
        let (alice, bob) = sites(&Options { protection, ..Options::default() });
        let mut sockets = alice.inner.run(SocketDestroyer::open).unwrap().unwrap();
        for v6 in [false, true] {
            let mut connection = connect(&alice.inner, &alice, &bob, v6);
            assert!(alice.database.suspend(connection.latch, BreakReason::Conflict, None, now()));
            let disposed = terminate(&alice.database, &mut sockets, connection.latch, now()).unwrap();
            assert_eq!(disposed, Disposed::Waits);
            let dropped = alice.dropped(Direction::Outbound, DropReason::LatchBroken);
            connection.near.write_all(b"hello").unwrap();
            let more = || alice.dropped(Direction::Outbound, DropReason::LatchBroken) > dropped;
            eventually("it is lost", more);
            assert_eq!(alice.counters.told_over.get(), 0);
            assert!(alice.database.restore(connection.latch, now()));
            connection.far.read_exact(&mut [0; 5]).unwrap();
            connection.exchange();
        }
    });
}

/// L-100: a connection that begins while the old one is being ended has a latch of its own, and is not hit.
#[test]
fn l_100_a_later_connection_of_the_same_5_tuple_is_not_hit() {
    scenario("resets::l_100_a_later_connection_of_the_same_5_tuple_is_not_hit", || {
        let (alice, bob) = latched();
        let mut sockets = alice.inner.run(SocketDestroyer::open).unwrap().unwrap();
        let mut connection = connect(&alice.inner, &alice, &bob, false);
        let (packet, class) = connection.close(&alice).to_remote.unwrap();
        let (flow, old) = (connection.flow, connection.latch);
        sockets.destroy(&flow).unwrap();
        alice.injector.inject(Injection::ToPeer { packet: packet.octets().into(), class }).unwrap();
        assert_eq!(read_error(&mut connection.far), ErrorKind::ConnectionReset);
        drop(connection);
        // The same ends again.
        let listener = bob.inner.run(|| TcpListener::bind(flow.remote()).unwrap()).unwrap();
        let socket = alice.inner.run(|| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).unwrap();
        socket.bind(&SockAddr::from(flow.local())).unwrap();
        socket.connect(&SockAddr::from(flow.remote())).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        assert_eq!(terminate(&alice.database, &mut sockets, old, now()).unwrap(), Disposed::NotBroken);
        assert_eq!(resets(&alice.database, old), None);
        let mut near = TcpStream::from(socket);
        far.write_all(b"alive").unwrap();
        near.read_exact(&mut [0; 5]).unwrap();
    });
}

/// A host behind alice's inner namespace, which forwards.
fn behind(alice: &Site) -> Namespace {
    const LAN: &str = "lan";
    let host = Namespace::create("host").unwrap();
    links::veth(&alice.inner, LAN, &host, LAN).unwrap();
    for key in ["net/ipv4/conf/all/forwarding", "net/ipv6/conf/all/forwarding"] {
        sysctl::write(&alice.inner, key, "1").unwrap();
    }
    let (inner, far) = (Links::of(&alice.inner).unwrap(), Links::of(&host).unwrap());
    for (links, addresses) in
        [(&inner, ["10.0.1.129/28", "fd00:1:1::1/64"]), (&far, ["10.0.1.130/28", "fd00:1:1::2/64"])]
    {
        for address in addresses {
            links.add_address(LAN, address.parse().unwrap()).unwrap();
        }
        links.set_up(LAN).unwrap();
    }
    for links in [&inner, &far] {
        links.wait_ready(LAN, PATIENCE).unwrap();
    }
    for (network, gateway) in [("10.0.2.0/24", "10.0.1.129"), ("fd00:2::/32", "fd00:1:1::1")] {
        far.add_route(network.parse().unwrap(), Some(gateway.parse().unwrap()), LAN, 0).unwrap();
    }
    host
}
