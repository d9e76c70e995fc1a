//! A gateway inside a program at one end, and the daemon with the kernel's TCP behind it at the other: nothing of what is between
//! them tells which is which.

use std::io::{Read, Write};
use std::net::{
    SocketAddr, TcpListener as KernelListener, TcpStream as KernelStream, UdpSocket as KernelUdp,
};
use std::thread;

use latchway_socket::in_process::{Builder, Gateway, Pair, Peer, Sa, TcpListener, TcpStream, UdpSocket};
use latchway_socket::{Answer, DatagramTag, ErrorKind, Gateway as Daemon, PeerIdentity, Requirement};

use crate::pair::{Side, Site, Terms, key};
use crate::programs::app;
use crate::{PATIENCE, scenario};

const TEXT: &[u8] = b"said between a program and a kernel";

/// The end that is a program, in a's outer namespace; it needs nothing there but a port.
fn program(site: &Site) -> Gateway {
    let sa = |spi, end| Sa::new(spi, &hex::decode(key(end, 1)).unwrap());
    let to = "192.0.2.2:4500".parse().unwrap();
    let pair = Pair::new("aes-256-cbc-hmac-sha-256", sa(0x2001, 2), sa(0x1001, 1), to);
    let peer = Peer::new("2.example".parse().unwrap()).inner("10.2.0.0/24".parse().unwrap()).pair(pair);
    let builder = Builder::new("1.example".parse().unwrap(), "192.0.2.1:4500".parse().unwrap());
    let builder = builder.address(Side::A.address()).peer(peer);
    site.at(Side::A).outer.run(|| builder.start()).unwrap().unwrap()
}

fn is(peer: &str) -> Requirement {
    Requirement::new().peer(&PeerIdentity::asserting(&peer.parse().unwrap()).unwrap())
}

fn port(side: Side, port: u16) -> SocketAddr {
    SocketAddr::new(side.address(), port)
}

/// Q-46, L-12, L-80: TCP both ways, and datagrams, between a gateway in a program and the daemon; both know who the other is.
#[test]
fn q46_l12_a_program_and_the_daemon_have_connections_that_both_know() {
    scenario("in_process::q46_l12_a_program_and_the_daemon_have_connections_that_both_know", || {
        let mut site = Site::prepare(&Terms::default());
        site.b.start();
        let gateway = program(&site);
        let hosts = &site.at(Side::B).inner;

        let listener = hosts.run(|| KernelListener::bind(port(Side::B, 7))).unwrap().unwrap();
        let (mut stream, protection) =
            TcpStream::connect(&gateway, port(Side::B, 7), &is("2.example")).unwrap();
        assert_eq!(*protection.peer_identity().asserted(), "2.example".parse().unwrap());
        assert_eq!(protection.outbound_suite(), "aes-256-cbc-hmac-sha-256");
        let (mut there, from) = listener.accept().unwrap();
        assert_eq!(from, stream.local());
        let said = Daemon::at(&app(&site.b)).protection(&there).unwrap();
        let Answer::Latched(protection) = said else { panic!("{said}") };
        assert_eq!(*protection.peer_identity().asserted(), "1.example".parse().unwrap());
        let large = TEXT.repeat(20_000);
        let echoing = thread::spawn(move || {
            let mut heard = vec![0; 20_000 * TEXT.len()];
            there.read_exact(&mut heard).unwrap();
            there.write_all(&heard).unwrap();
        });
        let mut heard = vec![0; large.len()];
        stream.set_read_timeout(Some(PATIENCE));
        stream.write_all(&large).unwrap();
        stream.read_exact(&mut heard).unwrap();
        assert!(heard == large);
        echoing.join().unwrap();
        let other = TcpStream::connect(&gateway, port(Side::B, 7), &is("3.example")).unwrap_err();
        assert_eq!(other.kind(), ErrorKind::Forbidden);

        let listener = TcpListener::bind(&gateway, port(Side::A, 8), &is("2.example")).unwrap();
        let mut kernel = hosts.run(|| KernelStream::connect(port(Side::A, 8))).unwrap().unwrap();
        kernel.write_all(TEXT).unwrap();
        let (mut stream, from, answer) = listener.accept_within(PATIENCE).unwrap();
        assert_eq!((from, answer.latched().is_some()), (kernel.local_addr().unwrap(), true));
        let mut heard = vec![0; TEXT.len()];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, TEXT);
        drop(stream);
        assert_eq!(kernel.read(&mut heard).unwrap(), 0);

        let kernel = hosts.run(|| KernelUdp::bind(port(Side::B, 9))).unwrap().unwrap();
        let program = UdpSocket::bind(&gateway, port(Side::A, 9)).unwrap();
        program.send_to(TEXT, port(Side::B, 9), Some(&is("2.example"))).unwrap();
        let (len, from) = kernel.recv_from(&mut heard).unwrap();
        assert_eq!((&heard[..len], from), (TEXT, port(Side::A, 9)));
        kernel.send_to(TEXT, from).unwrap();
        let (_, _, tag) = program.recv_from_within(&mut heard, PATIENCE).unwrap();
        assert!(matches!(tag, DatagramTag::Certain(_)), "{tag:?}");
    });
}
