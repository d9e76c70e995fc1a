use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use latchway_netns::packet;

use super::*;
use crate::coalesce::Offloads;
use crate::testing::{Host, Open, joined, outer};

const NOW: Time = Time::from_nanos(1_000_000_000);
const ALL: Wanted = Wanted { side: None, dropped: false, snap_len: usize::MAX };

fn udp(from: &str, to: &str) -> Vec<u8> {
    packet::udp(from.parse().unwrap(), to.parse().unwrap(), b"hello").unwrap()
}

fn inner() -> Vec<u8> {
    udp("10.0.1.10:40000", "10.0.2.20:53")
}

/// A tap on a host, with one who looks.
fn tapped(host: u8, wanted: Wanted) -> (Tap, Capture) {
    let taps = Taps::default();
    let capture = taps.open(wanted);
    (taps.tap(vec![(outer(host), Carrier::Udp)]), capture)
}

fn all(capture: &Capture) -> Vec<Captured> {
    std::iter::from_fn(|| capture.next(Duration::ZERO)).collect()
}

/// Sends a packet under the tap's eyes. Returns what leaves.
fn send(tap: &Tap, host: &mut Host<Open>, packet: &[u8]) -> (Vec<Vec<u8>>, Outbound) {
    let (mut octets, mut batch) = ([&[0; VNET_HDR_LEN][..], packet].concat(), SendBatch::new());
    host.datapath.begin(NOW);
    let outcome = tap.outbound(&mut host.datapath, &mut octets, &mut batch);
    let left = batch.runs().flat_map(|run| run.datagrams().map(<[u8]>::to_vec).collect::<Vec<_>>());
    (left.collect(), outcome)
}

fn receive(tap: &Tap, host: &mut Host<Open>, mut datagram: Vec<u8>) {
    let mut units = Coalescer::new(Offloads::NONE);
    host.datapath.begin(NOW);
    let arrival = Arrival { traffic_class: 0b1011_1010, ..Arrival::udp(datagram.len(), outer(1)) };
    tap.inbound(&mut host.datapath, &mut datagram, &arrival, &mut units);
}

#[test]
fn a_packet_is_seen_on_both_sides_of_both_gateways_with_its_sa() {
    let (mut one, mut two) = joined(Open, Open);
    let ((left, leaving), (right, arriving)) = (tapped(1, ALL), tapped(2, ALL));
    let (datagrams, outcome) = send(&left, &mut one, &inner());
    assert_eq!(outcome, Outbound::Sealed);
    receive(&right, &mut two, datagrams[0].clone());
    let (leaving, arriving) = (all(&leaving), all(&arriving));
    let seen =
        |captured: &[Captured]| captured.iter().map(|one| (one.side, one.direction)).collect::<Vec<_>>();
    assert_eq!(seen(&leaving), [(Side::Inner, Direction::Outbound), (Side::Wire, Direction::Outbound)]);
    assert_eq!(seen(&arriving), [(Side::Wire, Direction::Inbound), (Side::Inner, Direction::Inbound)]);
    assert_eq!((&leaving[0].octets[..], &arriving[1].octets[..]), (&inner()[..], &inner()[..]));
    for captured in leaving.iter().chain(&arriving) {
        assert_eq!((captured.verdict, captured.at), (Verdict::Passed, NOW));
        let CapturedSa { spi, tag } = captured.sa.unwrap();
        assert_eq!((spi.get(), tag.unwrap().0), (0x1001, ClassId::from_raw(1)));
    }
    for (captured, class) in [(&leaving[1], 0), (&arriving[0], 0b1011_1010)] {
        let packet = SlicedPacket::from_ip(&captured.octets).unwrap();
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (packet.net, packet.transport)
        else {
            panic!("{captured:?}");
        };
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!((header.source, header.destination), ([192, 0, 2, 1], [192, 0, 2, 2]));
        assert_eq!((header.dscp.value() << 2) | header.ecn.value(), class);
        assert_eq!((udp.source_port(), udp.destination_port()), (4500, 4500));
        assert_eq!(udp.payload(), datagrams[0]);
    }
}

#[test]
fn a_drop_is_seen_with_the_reason_that_is_counted() {
    let (mut one, mut two) = joined(Open, Open);
    let (left, leaving) = tapped(1, Wanted { dropped: true, ..ALL });
    let (right, arriving) = tapped(2, Wanted { dropped: true, ..ALL });
    assert_eq!(send(&left, &mut one, &udp("10.0.1.10:1", "10.9.9.9:2")).1, Outbound::Answered);
    let (datagrams, _) = send(&left, &mut one, &inner());
    let mut forged = datagrams[0].clone();
    *forged.last_mut().unwrap() ^= 1;
    receive(&right, &mut two, forged.clone());
    receive(&right, &mut two, datagrams[0].clone());
    let [leaving, arriving] = [all(&leaving), all(&arriving)].map(|mut seen| {
        assert_eq!(seen.len(), 1, "what passes was not asked for");
        seen.remove(0)
    });
    assert_eq!(leaving.verdict, Verdict::Dropped(DropReason::NoPolicy));
    assert_eq!((arriving.side, arriving.verdict), (Side::Wire, Verdict::Dropped(DropReason::IcvMismatch)));
    assert!(arriving.octets.ends_with(&forged), "as it came, and not as it was left (T05)");
}

#[test]
fn whoever_looks_says_which_side_and_how_much() {
    let (mut one, _) = joined(Open, Open);
    let (tap, capture) = tapped(1, Wanted { side: Some(Side::Wire), snap_len: 20, ..ALL });
    let (datagrams, _) = send(&tap, &mut one, &inner());
    let seen = all(&capture);
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].octets.len(), seen[0].len), (20, 28 + datagrams[0].len()));
}

#[test]
fn whoever_is_too_slow_loses_the_newest_and_is_told_how_many() {
    let (mut one, _) = joined(Open, Open);
    let (tap, capture) = tapped(1, Wanted { side: Some(Side::Inner), ..ALL });
    for _ in 0..ROOM + 7 {
        let _ = send(&tap, &mut one, &inner());
    }
    assert_eq!((all(&capture).len(), capture.take_lost(), capture.take_lost()), (ROOM, 7, 0));
}

/// T41: strangers who send what is long fill no memory, however slow whoever looks is, and however little they look at.
#[test]
fn t41_what_waits_to_be_looked_at_is_bounded_in_octets() {
    let (_, mut two) = joined(Open, Open);
    let (tap, capture) = tapped(2, ALL);
    for _ in 0..ROOM / 4 {
        receive(&tap, &mut two, vec![7; 60_000]);
    }
    let (seen, lost) = (all(&capture), capture.take_lost());
    let octets: usize = seen.iter().map(|one| one.octets.len()).sum();
    assert!((ROOM_OCTETS - 61_000..=ROOM_OCTETS).contains(&octets), "{octets}");
    assert_eq!(seen.len() as u64 + lost, ROOM as u64 / 4);
    receive(&tap, &mut two, vec![7; 60_000]);
    assert_eq!(all(&capture).len(), 1, "there is room again");
    let (tap, capture) = tapped(2, Wanted { snap_len: 100, ..ALL });
    for _ in 0..ROOM / 4 {
        receive(&tap, &mut two, vec![7; 60_000]);
    }
    let seen = all(&capture);
    assert_eq!(seen.len(), ROOM / 4);
    assert!(seen.iter().all(|one| one.octets.len() == 100 && one.octets.is_unique()));
}

#[test]
fn nothing_is_looked_at_once_nobody_looks() {
    let taps = Taps::default();
    let tap = taps.clone().tap(Vec::new());
    assert!(!tap.is_on());
    let (first, second) = (taps.open(ALL), taps.open(ALL));
    assert!(tap.is_on());
    drop(first);
    assert!(tap.is_on());
    drop(second);
    assert!(!tap.is_on());
}

#[test]
fn what_comes_in_the_clear_is_seen_with_what_became_of_it() {
    let (mut one, _) = joined(Open, Open);
    let (tap, capture) = tapped(1, ALL);
    let mut octets = [
        &[0; VNET_HDR_LEN][..],
        &packet::udp("10.0.2.20:53".parse().unwrap(), "10.0.1.10:4".parse().unwrap(), b"x").unwrap(),
    ]
    .concat();
    one.datapath.begin(NOW);
    assert!(!tap.unprotected(&mut one.datapath, &mut octets));
    let seen = all(&capture);
    assert_eq!((seen.len(), seen[0].verdict), (1, Verdict::Dropped(DropReason::Unprotected)));
}
