//! Injected frames and packets arrive as what they pretend to be.

use std::net::{SocketAddr, UdpSocket};

use latchway_netns::{
    Error, Links, Namespace,
    inject::{self, Injector},
    packet::{self, Segment},
    skip::{self, Need},
    testing::namespaced,
    watch::Sniffer,
};

use crate::support::{SOON, net4, net6, pair};

#[test]
fn a_forged_frame_reaches_an_application() {
    namespaced("inject::a_forged_frame_reaches_an_application", || {
        let joined = pair().unwrap();
        let (source_mac, destination_mac) =
            (joined.links_a.mac("va").unwrap(), joined.links_b.mac("vb").unwrap());
        let injector = Injector::open(&joined.a, "va").unwrap();
        for (forged, listening) in [("10.9.0.77:53", net4(2)), ("[2001:db8:9::77]:53", net6(2))] {
            let forged: SocketAddr = forged.parse().unwrap();
            let listening = SocketAddr::new(listening.addr(), 7777);
            let socket = joined.b.run(|| UdpSocket::bind(listening)).unwrap().unwrap();
            socket.set_read_timeout(Some(SOON)).unwrap();
            let packet = packet::udp(forged, listening, b"forged").unwrap();
            injector.send(&packet::ethernet(source_mac, destination_mac, &packet).unwrap()).unwrap();
            let mut buffer = [0; 64];
            assert_eq!(socket.recv_from(&mut buffer).unwrap(), (6, forged));
            assert_eq!(&buffer[..6], b"forged");
        }
    });
}

#[test]
fn a_raw_packet_takes_the_routes_of_an_application() {
    namespaced("inject::a_raw_packet_takes_the_routes_of_an_application", || {
        let joined = pair().unwrap();
        let far = Sniffer::start(&joined.b, "vb").unwrap();
        for (forged, to) in [("10.9.0.77:1", "10.9.0.2:2"), ("[2001:db8:9::77]:1", "[2001:db8:9::2]:2")] {
            let (forged, to): (SocketAddr, SocketAddr) = (forged.parse().unwrap(), to.parse().unwrap());
            let segment = Segment { sequence: 77, rst: true, ..Segment::default() };
            let mark = far.mark();
            let packet = packet::tcp(forged, to, &segment).unwrap();
            inject::as_application(&joined.a, &packet).unwrap();
            let seen = far.wait_for(mark, |frame| frame.source_socket() == Some(forged), SOON).unwrap();
            assert_eq!((seen.protocol, seen.destination_socket()), (Some(6), Some(to)));
            assert!(seen.bytes.windows(4).any(|window| window == 77u32.to_be_bytes()));
        }
        let nowhere =
            packet::udp("10.9.0.1:1".parse().unwrap(), "203.0.113.1:2".parse().unwrap(), b"").unwrap();
        let refused = inject::as_application(&joined.a, &nowhere).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENETUNREACH), "{refused}");
        assert!(matches!(inject::as_application(&joined.a, b"junk"), Err(Error::Malformed(_))));
    });
}

#[test]
fn what_is_injected_on_a_tun_is_read_from_it() {
    let name = "inject::what_is_injected_on_a_tun_is_read_from_it";
    namespaced(name, || {
        if !skip::require(name, &[Need::Tun]) {
            return;
        }
        let space = Namespace::create("tunnelled").unwrap();
        let device = space
            .run(|| tun_rs::DeviceBuilder::new().name("tun9").enable(false).build_sync())
            .unwrap()
            .unwrap();
        let links = Links::of(&space).unwrap();
        links.quiet_ipv6("tun9").unwrap();
        links.set_up("tun9").unwrap();
        links.add_address("tun9", net4(1)).unwrap();
        links.add_address("tun9", net6(1)).unwrap();
        let sniffer = Sniffer::start(&space, "tun9").unwrap();
        let injector = Injector::open(&space, "tun9").unwrap();
        let mut buffer = [0; 2048];
        for (one, other) in [(net4(1).addr(), net4(2).addr()), (net6(1).addr(), net6(2).addr())] {
            let (from, to) = (SocketAddr::new(one, 10), SocketAddr::new(other, 20));
            let packet = packet::udp(from, to, b"as if by an application").unwrap();
            let mark = sniffer.mark();
            injector.send(&packet).unwrap();
            assert_eq!(device.recv(&mut buffer).unwrap(), packet.len());
            assert_eq!(buffer[..packet.len()], packet);
            inject::as_application(&space, &packet).unwrap();
            let length = device.recv(&mut buffer).unwrap();
            assert!(buffer[..length].ends_with(b"as if by an application"));
            let seen = sniffer.wait_for(mark, |frame| frame.source == Some(one), SOON).unwrap();
            assert_eq!((seen.destination, seen.ports), (Some(other), Some((10, 20))));
        }
    });
}
