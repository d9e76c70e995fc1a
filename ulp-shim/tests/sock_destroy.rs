//! SOCK_DESTROY on real sockets, inside a namespace of the test's own.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use latchway_datapath::flow::{FlowKey, protocol};
use latchway_netns::{Namespace, testing::namespaced};
use latchway_ulp_shim::{DestroyError, SocketDestroyer};

fn tcp(local: SocketAddr, remote: SocketAddr) -> FlowKey {
    FlowKey::new(protocol::TCP, local, remote)
}

/// A connection over loopback: both ends, and the listener.
fn connection(address: &str) -> (TcpStream, TcpStream, TcpListener) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server, listener)
}

fn destroys_tcp(address: &str) {
    let (mut client, mut server, listener) = connection(address);
    let (mut other, mut other_server, _listener) = connection(address);
    let flow = tcp(client.local_addr().unwrap(), client.peer_addr().unwrap());
    let mut sockets = SocketDestroyer::open().unwrap();
    sockets.destroy(&flow).unwrap();
    let error = client.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "the application feels it: {error}");
    assert!(
        server.read(&mut [0; 8]).is_err(),
        "the reset reached the other end, there being no gateway between"
    );
    assert!(matches!(sockets.destroy(&flow), Err(DestroyError::NoSuchSocket)), "it is gone");
    other.write_all(b"alive").unwrap();
    other_server.read_exact(&mut [0; 5]).unwrap();
    let unknown = tcp(listener.local_addr().unwrap(), "192.0.2.1:9".parse().unwrap());
    if address.contains('.') {
        assert!(matches!(sockets.destroy(&unknown), Err(DestroyError::NoSuchSocket)), "never the listener");
    }
    TcpStream::connect(listener.local_addr().unwrap()).unwrap();
}

#[test]
fn l_100_an_application_gets_econnaborted_over_ipv4() {
    namespaced("l_100_an_application_gets_econnaborted_over_ipv4", || {
        Namespace::create("destroy4").unwrap().run(|| destroys_tcp("127.0.0.1")).unwrap();
    });
}

#[test]
fn l_100_an_application_gets_econnaborted_over_ipv6() {
    namespaced("l_100_an_application_gets_econnaborted_over_ipv6", || {
        Namespace::create("destroy6").unwrap().run(|| destroys_tcp("::1")).unwrap();
    });
}

fn destroys_udp(address: &str) {
    let peer = UdpSocket::bind((address, 0)).unwrap();
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.connect(peer.local_addr().unwrap()).unwrap();
    let flow = FlowKey::new(protocol::UDP, socket.local_addr().unwrap(), peer.local_addr().unwrap());
    let mut sockets = SocketDestroyer::open().unwrap();
    match sockets.destroy(&flow) {
        Ok(()) => {
            let error = socket.recv(&mut [0; 8]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
        }
        Err(DestroyError::NotSupported) => {
            let test = format!("destroys_udp {address}");
            return latchway_netns::skip::report(&test, "the kernel has no CONFIG_INET_UDP_DIAG");
        }
        Err(error) => panic!("{error}"),
    }
    let unconnected = FlowKey::new(protocol::UDP, peer.local_addr().unwrap(), socket_address(address));
    assert!(
        matches!(sockets.destroy(&unconnected), Err(DestroyError::NoSuchSocket)),
        "an unconnected socket serves all"
    );
    peer.send_to(b"x", peer.local_addr().unwrap()).unwrap();
}

/// What a gateway finds when it starts: connections that cross the boundary end, those within it and listeners stay.
#[test]
fn connections_found_at_the_start_are_destroyed_unless_they_stay_within() {
    namespaced("connections_found_at_the_start_are_destroyed_unless_they_stay_within", || {
        let space = Namespace::create("leftovers").unwrap();
        space.run(destroys_leftovers).unwrap();
    });
}

fn destroys_leftovers() {
    let listener = TcpListener::bind(("127.0.0.2", 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let mut crossing: Vec<_> =
        (0..300).map(|_| (TcpStream::connect(at).unwrap(), listener.accept().unwrap().0)).collect();
    let (mut within, mut other_end, _listener) = connection("127.0.0.1");
    let mut sockets = SocketDestroyer::open().unwrap();
    let ours = ["127.0.0.2".parse().unwrap()];
    assert_eq!(sockets.destroy_all(&ours).unwrap(), 300, "each end that is ours, once");
    for (_, ours) in &mut crossing {
        assert!(ours.read(&mut [0; 8]).is_err());
    }
    within.write_all(b"alive").unwrap();
    other_end.read_exact(&mut [0; 5]).unwrap();
    let both = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    assert_eq!(sockets.destroy_all(&both).unwrap(), 0, "both ends are ours: it never crossed the boundary");
    TcpStream::connect(at).unwrap();
}

/// L-104: who has a 5-tuple is known: a connection by its socket, a UDP flow by any socket that its packets would reach.
#[test]
fn l_104_sockets_are_found_by_their_5_tuple() {
    namespaced("l_104_sockets_are_found_by_their_5_tuple", || {
        let space = Namespace::create("held").unwrap();
        space.run(|| ["127.0.0.1", "::1"].map(finds)).unwrap();
    });
}

fn finds(address: &str) {
    let mut sockets = SocketDestroyer::open().unwrap();
    let (client, server, listener) = connection(address);
    let (ours, theirs) = (client.local_addr().unwrap(), server.local_addr().unwrap());
    assert!(sockets.is_held(&tcp(ours, theirs)).unwrap() && sockets.is_held(&tcp(theirs, ours)).unwrap());
    let other = socket_address(address);
    assert!(
        !sockets.is_held(&tcp(listener.local_addr().unwrap(), other)).unwrap(),
        "a listener has no connection"
    );
    assert!(!sockets.is_held(&tcp(other, theirs)).unwrap());
    let icmp = FlowKey::new(protocol::ICMP, ours, theirs);
    assert!(!sockets.is_held(&icmp).unwrap(), "nor has anything that is neither TCP nor UDP");
    let udp = |local, remote| FlowKey::new(protocol::UDP, local, remote);
    let socket = UdpSocket::bind((address, 0)).unwrap();
    let at = socket.local_addr().unwrap();
    match sockets.is_held(&udp(at, other)) {
        Ok(held) => assert!(held, "an unconnected socket hears everybody"),
        Err(DestroyError::NotSupported) => return,
        Err(error) => panic!("{error}"),
    }
    socket.connect(theirs).unwrap();
    assert!(sockets.is_held(&udp(at, theirs)).unwrap());
    assert!(!sockets.is_held(&udp(at, other)).unwrap(), "and a connected one only its peer");
}

/// L-40: connected UDP sockets of before are ended too, and those that serve anybody are not.
#[test]
fn l_40_connected_udp_sockets_found_at_the_start_are_destroyed() {
    namespaced("l_40_connected_udp_sockets_found_at_the_start_are_destroyed", || {
        let space = Namespace::create("leftudp").unwrap();
        space.run(destroys_left_udp).unwrap();
    });
}

fn destroys_left_udp() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let [crossing, unconnected] = [0, 1].map(|_| UdpSocket::bind("127.0.0.2:0").unwrap());
    crossing.connect(server.local_addr().unwrap()).unwrap();
    let mut sockets = SocketDestroyer::open().unwrap();
    match sockets.destroy_all(&["127.0.0.2".parse().unwrap()]).unwrap() {
        1 => assert_eq!(crossing.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionAborted),
        0 => latchway_netns::skip::report("destroys_left_udp", "the kernel has no CONFIG_INET_UDP_DIAG"),
        more => panic!("{more}"),
    }
    unconnected.send_to(b"alive", server.local_addr().unwrap()).unwrap();
    server.recv(&mut [0; 5]).unwrap();
}

fn socket_address(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), 9)
}

#[test]
fn l_100_connected_udp_sockets_are_destroyed_and_unconnected_ones_spared() {
    namespaced("l_100_connected_udp_sockets_are_destroyed_and_unconnected_ones_spared", || {
        let space = Namespace::create("destroyudp").unwrap();
        space.run(|| ["127.0.0.1", "::1"].map(destroys_udp)).unwrap();
    });
}
