//! What comes in the clear from the wire for inner hosts: nothing answers, and nothing tells whether they are there (T16,
//! CVE-2019-14899).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use latchway_netns::Links;
use latchway_netns::inject::Injector;
use latchway_netns::packet::{self, Segment};
use latchway_netns::watch::{Direction, Frame, Mark, Sniffer};

use crate::site::{Mode, Side, Site, Terms, WIRE};
use crate::{PATIENCE, scenario};

/// T16: to an address that is there, and to one that is not.
#[test]
fn t16_nobody_answers_from_inside() {
    scenario("intrusion::t16_nobody_answers_from_inside", || {
        for mode in [Mode::Host, Mode::Split] {
            let site = Site::start(mode, &Terms::default());
            let intruder = Intruder::at(&site);
            let own = [IpAddr::from([192, 0, 2, 1]), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()];
            let start = intruder.sniffer.mark();
            for v6 in [false, true] {
                let there = Side::A.address(v6);
                let missing: IpAddr = if v6 {
                    Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 99).into()
                } else {
                    [10, 1, 0, 99].into()
                };
                intruder.probe(&[there, missing], 66);
            }
            // What comes last is for the gateway itself, and answered: so all before it was dealt with. Twice, since the last of
            // the others may still be under way by another CPU when the first answer is there.
            for last in [67, 68] {
                intruder.probe(&own, last);
                for v6 in [false, true] {
                    intruder.answered(start, last, v6);
                }
            }
            let frames = intruder.sniffer.frames_since(start).unwrap();
            let answers: Vec<_> = frames
                .iter()
                .filter(|frame| [false, true].iter().any(|v6| answers(frame, 66, *v6)))
                .collect();
            assert!(answers.is_empty(), "{mode:?}: {answers:?}");
        }
    });
}

/// Somebody on the link, who sees what a's gateway sends.
struct Intruder {
    injector: Injector,
    sniffer: Sniffer,
    macs: [packet::Mac; 2],
}

impl Intruder {
    fn at(site: &Site) -> Self {
        let [a, b] = &site.places;
        let mac = |place: &crate::site::Place| Links::of(&place.outer).unwrap().mac(WIRE).unwrap();
        let injector = Injector::open(&b.outer, WIRE).unwrap();
        Self { injector, sniffer: Sniffer::start(&a.outer, WIRE).unwrap(), macs: [mac(b), mac(a)] }
    }

    /// Sends what is answered wherever somebody listens, and also where nobody does.
    fn probe(&self, to: &[IpAddr], as_host: u8) {
        let [own, far] = self.macs;
        for &to in to {
            let from = stranger(as_host, to.is_ipv6());
            for port in [7001, 7009] {
                let (source, target) = (SocketAddr::new(from, 5000), SocketAddr::new(to, port));
                let syn = Segment { syn: true, window: 1000, ..Segment::default() };
                let ack = Segment { acknowledgement: Some(1), window: 1000, ..Segment::default() };
                let packets = [
                    packet::tcp(source, target, &syn),
                    packet::tcp(source, target, &ack),
                    packet::udp(source, target, b"probe"),
                    packet::echo_request(from, to, 5, 1, b"probe"),
                    packet::raw(from, to, 200, b"of an unknown protocol"),
                ];
                for packet in packets {
                    self.injector.send(&packet::ethernet(own, far, &packet.unwrap()).unwrap()).unwrap();
                }
            }
        }
    }

    fn answered(&self, since: Mark, host: u8, v6: bool) {
        self.sniffer.wait_for(since, |frame| answers(frame, host, v6), PATIENCE).unwrap();
    }
}

/// Whether a frame is for a stranger, or asks for one: who is answered is asked for first.
fn answers(frame: &Frame, host: u8, v6: bool) -> bool {
    let address = match stranger(host, v6) {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    frame.direction == Direction::Outbound
        && frame.esp().is_none()
        && frame.bytes.windows(address.len()).any(|octets| octets == address)
}

/// An address on the link that nobody has.
fn stranger(host: u8, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into()).into()
    } else {
        Ipv4Addr::new(192, 0, 2, host).into()
    }
}
