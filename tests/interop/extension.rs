//! Extension headers of IPv6 on packets in transport mode, between a Linux kernel and us.

use latchway_netns::watch::{Direction, Frame, Sniffer};

use crate::case::{Case, Family, Way};
use crate::guest::{ECHO, guest, host};
use crate::site::{Site, TUN, WIRE};
use crate::suite::Suite;
use crate::{PATIENCE, scenario};

/// RFC 4303 section 3.1.1, RFC 4302 section 3.1.1 (T21): what is for every hop stays before ESP and AH, what is for the
/// destination is on either side of them, and all of it arrives, in both directions.
#[test]
fn headers_stay_where_they_belong() {
    let test = "extension::headers_stay_where_they_belong";
    scenario(test, || {
        let Some(mut guest) = guest(test) else { return };
        let suites = ["aes-128-gcm", "null-hmac-sha-256", "ah-hmac-sha-256"];
        let cases: Vec<_> = (1..)
            .zip(suites)
            .map(|(number, suite)| {
                let case = Case::new(number, Suite::named(suite));
                Case { tunnel: false, udp: false, outer: Family::V6, inner: Family::V6, ..case }
            })
            .collect();
        let site = Site::start(&mut guest, &cases);
        let (wire, tun) =
            (Sniffer::start(site.gateway.place(), WIRE).unwrap(), Sniffer::start(&site.inner, TUN).unwrap());
        for case in &cases {
            let (theirs, ours) = case.ends();
            for (what, headers) in [
                ("every hop", &[HOP_BY_HOP][..]),
                ("the destination", &[DESTINATION]),
                ("both", &[HOP_BY_HOP, DESTINATION]),
            ] {
                let mark = (wire.mark(), tun.mark());
                // The echo comes back only if the kernel took the datagram.
                host(&site.inner, &asking(&ours.to_string(), &theirs.to_string(), headers));
                let sealed = wire.wait_for(mark.0, to(case, Way::ToStranger), PATIENCE).unwrap();
                let hops = headers.contains(&HOP_BY_HOP);
                assert_eq!(sealed.bytes[14 + 6] == 0, hops, "{case}: for {what}: ours");

                let mark = (wire.mark(), tun.mark());
                guest.run(&asking(&theirs.to_string(), &ours.to_string(), headers));
                let sealed = wire.wait_for(mark.0, to(case, Way::FromStranger), PATIENCE).unwrap();
                assert_eq!(sealed.bytes[14 + 6] == 0, hops, "{case}: for {what}: theirs");
                let asked = |frame: &Frame| frame.ports.is_some_and(|ports| ports.1 == ECHO);
                let opened = tun.wait_for(mark.1, asked, PATIENCE).unwrap();
                let first = headers.first().map(|header| header.kind);
                assert_eq!(Some(opened.bytes[6]), first, "{case}: for {what}: what is inside of theirs");
            }
        }
        assert_eq!((site.gateway.rows("drops").len(), guest.refusals()), (0, String::new()));
    });
}

/// A script that asks the echo server for its octets with these headers on the datagram.
fn asking(from: &str, to: &str, headers: &[Header]) -> String {
    let options: String = headers
        .iter()
        .map(|header| {
            format!(
                "s.setsockopt(socket.IPPROTO_IPV6, {}, bytes([0, 0, 0x1e, 4, 1, 2, 3, 4])); ",
                header.option
            )
        })
        .collect();
    format!(
        "python3 -c \"import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('{from}', 0)); {options}\
         s.settimeout(15); s.sendto(b'hello', ('{to}', {ECHO})); assert s.recv(99) == b'hello'\""
    )
}

/// Whether a frame is of an SA.
fn to(case: &Case, way: Way) -> impl Fn(&Frame) -> bool {
    let spi = case.spi(way).to_be_bytes();
    let direction = if way == Way::ToStranger { Direction::Outbound } else { Direction::Inbound };
    move |frame| frame.direction == direction && frame.bytes.windows(4).any(|octets| octets == spi)
}

/// An extension header, and the socket option that puts it on datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    kind: u8,
    option: &'static str,
}

const HOP_BY_HOP: Header = Header { kind: 0, option: "socket.IPV6_HOPOPTS" };
const DESTINATION: Header = Header { kind: 60, option: "socket.IPV6_DSTOPTS" };
