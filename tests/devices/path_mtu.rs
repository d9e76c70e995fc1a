//! Paths that take less than the TUN does (RFC 4301 section 8.2), and strangers who say that they do (T18).

use std::net::{IpAddr, SocketAddr, UdpSocket};

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::low::tun::BackendChoice;
use latchway_netns::inject::{Injector, as_application};
use latchway_netns::{Links, Namespace, packet};

use crate::scenario;
use crate::site::{Options, PATIENCE, Site, WIRE, eventually, sites, transfer};

/// The largest inner packet of a path of 1500 octets.
const MOST: usize = 1438;

/// RFC 4301 8.2.1 cases 1 and 3: the sender's TCP is told what fits and goes on with that, super-packets or not.
#[test]
fn rfc_4301_8_2_1_tcp_finds_its_way_over_a_path_smaller_than_the_tun() {
    scenario("path_mtu::rfc_4301_8_2_1_tcp_finds_its_way_over_a_path_smaller_than_the_tun", || {
        for backend in [BackendChoice::Auto, BackendChoice::Plain] {
            let (alice, bob) = sites(&Options { mtu: 9000, backend, ..Options::default() });
            for v6 in [false, true] {
                let told = alice.counters.told_too_big.get();
                transfer(&alice.inner, &bob.inner, bob.address(v6), 2_000_000);
                assert!(alice.counters.told_too_big.get() > told, "{backend:?}, IPv6 {v6}: nobody was told");
            }
            assert!(alice.dropped(Direction::Outbound, DropReason::TooBig) > 0);
            assert_eq!(alice.counters.fragmented.get(), 0, "TCP sets DF");
            for site in [alice, bob] {
                site.end().unwrap();
            }
        }
    });
}

/// RFC 4301 8.2.1 case 2: what may be fragmented is, and the far kernel puts it together.
#[test]
fn rfc_4301_8_2_1_a_datagram_without_df_arrives_whole() {
    scenario("path_mtu::rfc_4301_8_2_1_a_datagram_without_df_arrives_whole", || {
        let (alice, bob) = sites(&Options { mtu: 9000, ..Options::default() });
        let socket = receiver(&bob.inner, SocketAddr::new(bob.address(false), 7777));
        for len in [MOST - 28, MOST - 27, 3000, 8000] {
            let payload: Vec<u8> = (0..len).map(|n| ((n * 31) >> 3) as u8).collect();
            let from = SocketAddr::new(alice.address(false), 6666);
            let mut datagram = packet::udp(from, socket.local_addr().unwrap(), &payload).unwrap();
            datagram[6] = 0;
            as_application(&alice.inner, &datagram).unwrap();
            let mut received = vec![0; 10_000];
            let (got, sender) = socket.recv_from(&mut received).unwrap();
            assert_eq!((&received[..got], sender), (&payload[..], from));
        }
        assert_eq!(alice.counters.fragmented.get(), 3, "all but the one that fits");
        assert_eq!(alice.dropped(Direction::Outbound, DropReason::TooBig), 0);
        assert_eq!(alice.counters.told_too_big.get(), 0);
    });
}

/// T18: forged messages about the wire's own datagrams neither stop nor shrink anything.
#[test]
fn t18_forged_messages_about_the_wire_change_nothing() {
    scenario("path_mtu::t18_forged_messages_about_the_wire_change_nothing", || {
        let (alice, bob) = sites(&Options::default());
        assert_eq!(alice.ping(&bob, false, 1, PATIENCE).received, 1);
        // That the forgery works: who believes such messages cannot send any more what it sent a moment ago.
        let victim = alice.outer.run(|| UdpSocket::bind((alice.host.address().ip(), 5000)).unwrap()).unwrap();
        let elsewhere = SocketAddr::new(bob.host.address().ip(), 5001);
        victim.connect(elsewhere).unwrap();
        victim.send(&[7; 1400]).unwrap();
        let about = (victim.local_addr().unwrap(), elsewhere);
        forge(&bob, &alice, about, &[7; 1400], &[(FRAGMENTATION_NEEDED, 600)]);
        eventually("the victim believes it", || {
            victim.send(&[7; 1400]).is_err_and(|error| error.raw_os_error() == Some(nix::libc::EMSGSIZE))
        });

        let before = alice.wire.sent_octets.get();
        let wire = (alice.host.address(), bob.host.address());
        let every = [(FRAGMENTATION_NEEDED, 600), (FRAGMENTATION_NEEDED, 68), (3, 0), (2, 0), (1, 0)];
        forge(&bob, &alice, wire, &[7; 1400], &every);
        transfer(&alice.inner, &bob.inner, bob.address(false), 1_000_000);
        forge(&bob, &alice, wire, &[7; 1400], &every);
        transfer(&alice.inner, &bob.inner, bob.address(true), 1_000_000);
        assert!(alice.wire.sent_octets.get() > before + 2_000_000);
        let lost = [DropReason::IoError, DropReason::IoFull, DropReason::TooBig];
        assert_eq!(lost.map(|reason| alice.dropped(Direction::Outbound, reason)), [0; 3]);
        assert_eq!(alice.counters.told_too_big.get(), 0, "and no inner sender heard of it");
        let segment = alice.wire.sent_octets.get() / alice.wire.sent_datagrams.get();
        assert!(segment > 700, "datagrams of {segment} octets on average, acknowledgements included");
    });
}

/// T18, RFC 4301 8.2.1: an error that quotes one of our own packets has the path asked through the tunnel. The far inner host
/// answers, which disproves it; nothing changes, and the inner host in whose name was asked hears nothing.
#[test]
fn t18_a_forged_error_about_our_own_packet_has_the_path_asked_and_is_disproved() {
    scenario("path_mtu::t18_a_forged_error_about_our_own_packet_has_the_path_asked_and_is_disproved", || {
        let (alice, bob) = sites(&Options::default());
        assert_eq!(alice.ping(&bob, false, 1, PATIENCE).received, 1);
        let pair = alice.keying.pairs().remove(0);
        let quoted = [&pair.outbound.spi.get().to_be_bytes()[..], &[0, 0, 0, 1], &[7; 1392]].concat();
        let wire = (alice.host.address(), bob.host.address());
        forge(&bob, &alice, wire, &quoted, &[(FRAGMENTATION_NEEDED, 1400)]);
        eventually("the path is asked", || {
            assert_eq!(alice.ping(&bob, false, 1, PATIENCE).received, 1);
            alice.counters.mtu_probes_answered.get() >= 2
        });
        assert_eq!(alice.counters.mtu_hints.get(), 1);
        eventually("each answer is one packet that goes no further", || {
            let answered = alice.counters.mtu_probes_answered.get();
            alice.dropped(Direction::Inbound, DropReason::ProbeAnswer) == answered
        });
        let found = alice.keying.pairs().remove(0).path_mtu;
        assert_eq!((found.in_force, found.suspected), (1500, false));
        transfer(&alice.inner, &bob.inner, bob.address(false), 1_000_000);
    });
}

/// RFC 792: the code of Destination Unreachable that speaks of the MTU.
const FRAGMENTATION_NEEDED: u8 = 4;

/// Has a stranger on the wire say with these codes and MTUs that a datagram from one address to another was unreachable.
fn forge(
    from: &Site,
    victim: &Site,
    (source, destination): (SocketAddr, SocketAddr),
    payload: &[u8],
    says: &[(u8, u16)],
) {
    let mac = |site: &Site| Links::of(&site.outer).unwrap().mac(WIRE).unwrap();
    let injector = Injector::open(&from.outer, WIRE).unwrap();
    let stranger: IpAddr = "192.0.2.99".parse().unwrap();
    let about = packet::udp(source, destination, payload).unwrap();
    for &(code, mtu) in says {
        let [high, low] = mtu.to_be_bytes();
        let mut icmp = vec![3, code, 0, 0, 0, 0, high, low];
        icmp.extend_from_slice(&about[..548]);
        let sum = icmp.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
        let sum = (sum & 0xffff) + (sum >> 16);
        let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
        let forged = packet::raw(stranger, source.ip(), 1, &icmp).unwrap();
        injector.send(&packet::ethernet(mac(from), mac(victim), &forged).unwrap()).unwrap();
    }
}

fn receiver(namespace: &Namespace, at: SocketAddr) -> UdpSocket {
    let socket = namespace.run(|| UdpSocket::bind(at).unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}
