//! What our packets look like on the way to a Linux kernel, and that it takes them so: traffic classes, lengths that say
//! nothing, and packets that carry nothing.

use std::net::UdpSocket;

use latchway_netns::watch::{Direction, Frame, Sniffer};
use socket2::SockRef;

use crate::case::{Case, Way};
use crate::guest::{ECHO, guest};
use crate::site::{Site, TUN, WIRE};
use crate::suite::Suite;
use crate::{PATIENCE, eventually, scenario};

/// RFC 6040 section 4, RFC 2983 (T27): class and congestion mark go into the outer header on either side, and come out again.
#[test]
fn traffic_classes_travel_both_ways() {
    let test = "shape::traffic_classes_travel_both_ways";
    scenario(test, || {
        let Some(mut guest) = guest(test) else { return };
        let udp = Case::new(1, Suite::named("aes-128-gcm"));
        let native = Case { udp: false, ..Case::new(2, Suite::named("aes-128-gcm")) };
        let mut fixed = Case::new(3, Suite::named("aes-256-cbc-hmac-sha-256"));
        fixed.lines = "dscp = 10".to_owned();
        let cases = [udp, native, fixed];
        let site = Site::start(&mut guest, &cases);
        let (wire, tun) =
            (Sniffer::start(site.gateway.place(), WIRE).unwrap(), Sniffer::start(&site.inner, TUN).unwrap());
        for (case, outer) in cases.iter().zip([CLASS, CLASS, 10 << 2 | CLASS & 3]) {
            let (to, from) = case.ends();
            let mark = (wire.mark(), tun.mark());
            let socket = site.inner.run(|| UdpSocket::bind((from, 0))).unwrap().unwrap();
            SockRef::from(&socket).set_tos_v4(u32::from(CLASS)).unwrap();
            socket.send_to(b"hello", (to, ECHO)).unwrap();
            let sealed = wire.wait_for(mark.0, of(case, Way::ToStranger), PATIENCE).unwrap();
            assert_eq!(sealed.bytes[15], outer, "{case}: ours");

            guest.run(&format!(
                "python3 -c \"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('{to}', 0)); \
                 s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, {CLASS}); s.sendto(b'hello from afar', ('{from}', {ECHO}))\""
            ));
            let opened =
                |frame: &Frame| frame.source == Some(to) && frame.ports.is_some_and(|ports| ports.1 == ECHO);
            let opened = tun.wait_for(mark.1, opened, PATIENCE).unwrap();
            assert_eq!(opened.bytes[1], CLASS, "{case}: what is inside of theirs");
            let frames = wire.frames_since(mark.0).unwrap();
            let classes: Vec<_> = frames
                .iter()
                .filter(|frame| of(case, Way::FromStranger)(frame))
                .map(|frame| frame.bytes[15])
                .collect();
            assert!(classes.contains(&CLASS), "{case}: theirs are of {classes:?}");
        }
    });
}

/// RFC 4303 section 2.7: a kernel takes padding behind the packet, and every packet of ours is as long as the other.
#[test]
fn lengths_say_nothing() {
    let test = "shape::lengths_say_nothing";
    scenario(test, || {
        let Some(mut guest) = guest(test) else { return };
        let mut cases = Vec::new();
        for (number, suite) in (1..).zip(["aes-128-gcm", "aes-256-cbc-hmac-sha-256"]) {
            for (tfc, udp) in [("\"mtu\"", true), ("512", false)] {
                let number = number * 2 + u16::from(udp);
                let mut case = Case { udp, ..Case::new(number, Suite::named(suite)) };
                case.lines = format!("tfc = {tfc}");
                cases.push(case);
            }
        }
        let site = Site::start(&mut guest, &cases);
        for case in &cases {
            let wire = Sniffer::start(site.gateway.place(), WIRE).unwrap();
            let mark = wire.mark();
            let (to, from) = case.ends();
            crate::talk::ping(&site.inner, from, to, &[1, 17, 56, 200]).unwrap();
            let sealed = wire.frames_since(mark).unwrap().into_iter().filter(of(case, Way::ToStranger));
            let lengths: Vec<_> = sealed.map(|frame| frame.length).collect();
            assert!(
                lengths.len() >= 4 && lengths.iter().all(|len| *len == lengths[0]),
                "{case}: {lengths:?}"
            );
        }
        assert_eq!(guest.refusals(), "");
    });
}

/// RFC 4303 section 2.6: a kernel drops packets that carry nothing, without harm to what carries something.
#[test]
fn packets_that_carry_nothing_are_no_error() {
    let test = "shape::packets_that_carry_nothing_are_no_error";
    scenario(test, || {
        let Some(mut guest) = guest(test) else { return };
        let mut case = Case::new(1, Suite::named("chacha20-poly1305"));
        case.lines = "dummies = \"100ms\"".to_owned();
        let site = Site::start(&mut guest, std::slice::from_ref(&case));
        let wire = Sniffer::start(site.gateway.place(), WIRE).unwrap();
        let (to, from) = case.ends();
        crate::talk::ping(&site.inner, from, to, &[56]).unwrap();
        for _ in 0..3 {
            let mark = wire.mark();
            wire.wait_for(mark, of(&case, Way::ToStranger), PATIENCE).unwrap();
        }
        crate::talk::ping(&site.inner, from, to, &[56, 1200]).unwrap();
        // It has one counter for all that it drops after the ICV was right.
        eventually("it counts them", || guest.refusals().starts_with("XfrmInStateProtoError="));
    });
}

/// Whether a frame is of an SA.
fn of(case: &Case, way: Way) -> impl Fn(&Frame) -> bool {
    let spi = case.spi(way).to_be_bytes();
    let direction = if way == Way::ToStranger { Direction::Outbound } else { Direction::Inbound };
    move |frame| frame.direction == direction && frame.head.starts_with(&spi)
}

/// Expedited forwarding, and able to mark congestion.
const CLASS: u8 = 46 << 2 | 2;
