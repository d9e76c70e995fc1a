//! Datagrams of many peers that come to one socket, each with a tag of its own (Q-49, N-6, N-17).

use std::net::{SocketAddr, UdpSocket as KernelUdp};
use std::time::Duration;

use latchway_netns::Links;
use latchway_netns::skip::report;
use latchway_socket::{DatagramTag, Gateway, UdpSocket, Unknown};
use socket2::{Domain, Socket, Type};

use crate::programs::{Program, app, example, in_c};
use crate::provider::Provider;
use crate::site::{End, Site, Terms};
use crate::{PATIENCE, scenario};

/// A gateway in the centre and two around it, with SAs between.
fn site() -> Site {
    let site = Site::start(&[("b.example", 2), ("c.example", 3)], &Terms::default());
    for number in 0..2 {
        Provider::between(&site, number).join();
    }
    site
}

/// A socket in the centre.
fn server(site: &Site, at: SocketAddr) -> UdpSocket {
    let gateway = Gateway::at(&app(&site.centre.gateway)).with_timeout(PATIENCE);
    let socket = site.centre.inner.run(|| gateway.udp(at)).unwrap().unwrap();
    socket.socket().set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A socket around the centre.
fn client(end: &End, to: SocketAddr) -> KernelUdp {
    let socket = end.inner.run(|| KernelUdp::bind(end.at(4000))).unwrap().unwrap();
    socket.connect(to).unwrap();
    socket
}

fn next(socket: &UdpSocket) -> (usize, SocketAddr, DatagramTag) {
    socket.recv_from(&mut [0; 4096]).unwrap()
}

fn why(tag: DatagramTag) -> Unknown {
    match tag {
        DatagramTag::Unknown(why) => why,
        DatagramTag::Certain(protection) => panic!("{}", protection.peer_identity().asserted()),
    }
}

/// Says something until its tag is certain, and returns who that is.
fn known(socket: &UdpSocket, from: &KernelUdp) -> String {
    let mut reasons = Vec::new();
    for _ in 0..50 {
        from.send(b"again").unwrap();
        match next(socket).2 {
            DatagramTag::Certain(protection) => return protection.peer_identity().asserted().to_string(),
            DatagramTag::Unknown(why) => reasons.push(why),
        }
    }
    panic!("{reasons:?}");
}

/// Q-49, N-15, N-17: one socket, two peers: each datagram is of who sent it, or of nobody. The first of a flow is of nobody: until
/// it was written, another could have been.
#[test]
fn q_49_n_17_each_datagram_has_the_tag_of_its_own_peer() {
    scenario("datagrams::q_49_n_17_each_datagram_has_the_tag_of_its_own_peer", || {
        let site = site();
        let at = site.centre.at(9000);
        let socket = server(&site, at);
        let clients: Vec<_> = site.around.iter().map(|end| client(end, at)).collect();
        clients[0].send(b"first").unwrap();
        let (octets, from, tag) = next(&socket);
        assert_eq!((octets, from), (5, site.around[0].at(4000)));
        // The kernel begins to stamp a while after it is asked to.
        let why_not = why(tag);
        assert!(matches!(why_not, Unknown::Earlier | Unknown::Unstamped), "{why_not:?}");
        assert_eq!(known(&socket, &clients[0]), "fqdn:b.example");
        assert_eq!(known(&socket, &clients[1]), "fqdn:c.example");
        assert_eq!(known(&socket, &clients[0]), "fqdn:b.example");
        // What comes in pieces may be of several senders.
        clients[0].send(&[0; 3000]).unwrap();
        let (octets, _, tag) = next(&socket);
        assert_eq!((octets, why(tag)), (3000, Unknown::InPieces));
        assert_eq!(known(&socket, &clients[0]), "fqdn:b.example");
    });
}

/// Q-49, T40: a program of the same host that sends with a peer's address and port is not that peer: it did not come by the
/// gateway's device. (Of IPv4 that takes a privilege.)
#[test]
fn q_49_what_was_made_up_within_the_host_is_nobodys() {
    scenario("datagrams::q_49_what_was_made_up_within_the_host_is_nobodys", || {
        let site = site();
        let (inner, b) = (&site.centre.inner, &site.around[0]);
        let links = Links::of(inner).unwrap();
        links.set_up("lo").unwrap();
        links.add_address("lo", "10.0.1.7/32".parse().unwrap()).unwrap();
        let at: SocketAddr = "10.0.1.7:9000".parse().unwrap();
        let socket = server(&site, at);
        let client = client(b, at);
        assert_eq!(known(&socket, &client), "fqdn:b.example");
        let forged = || {
            let forged = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            forged.set_ip_transparent_v4(true).unwrap();
            forged.bind(&b.at(4000).into()).unwrap();
            forged.send_to(b"forged", &at.into()).unwrap();
        };
        inner.run(forged).unwrap();
        let (octets, from, tag) = next(&socket);
        assert_eq!((octets, from), (6, b.at(4000)), "it came with the peer's address");
        assert_eq!(why(tag), Unknown::OtherDevice);
        assert_eq!(known(&socket, &client), "fqdn:b.example");
    });
}

/// Q-49, N-6, N-17: the programs of the examples, in Rust and in C, answer two peers, each as the one that it is.
#[test]
fn q_49_the_examples_answer_two_peers() {
    const TEST: &str = "datagrams::q_49_the_examples_answer_two_peers";
    scenario(TEST, || {
        let site = site();
        let centre = &site.centre;
        let in_c = in_c("examples/sockets/udp_two_peers.c", &centre.gateway);
        for (port, program) in [(9000, example("udp_two_peers")), (9001, in_c)] {
            let at = centre.at(port);
            let (both, host, port) = (at.to_string(), at.ip().to_string(), port.to_string());
            let is_in_c = program.ends_with("udp_two_peers.built");
            let arguments = if is_in_c { vec![&*host, &*port] } else { vec![&*both] };
            let Some(mut server) = Program::start(&program, &arguments, &centre.inner, &centre.gateway)
            else {
                return report(TEST, "no other user can be had here");
            };
            server.until("listening");
            for (end, name) in site.around.iter().zip(["b.example", "c.example"]) {
                let answer = answered(&client(end, at));
                assert!(answer.starts_with(&format!("you are fqdn:{name}")), "{answer}");
                assert!(server.until("is fqdn:").contains(name));
            }
        }
    });
}

/// Asks until there is an answer: the first datagram of a flow gets none.
fn answered(client: &KernelUdp) -> String {
    client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut octets = [0; 128];
    let answer = (0..50).find_map(|_| {
        client.send(b"who am I?").unwrap();
        client.recv(&mut octets).ok()
    });
    String::from_utf8_lossy(&octets[..answer.unwrap()]).into_owned()
}
