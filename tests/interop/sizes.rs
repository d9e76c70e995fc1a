//! How long packets are: those of a Linux kernel, and ours, around one and the same packet.

use std::collections::BTreeSet;

use latchway_netns::watch::{Direction, Frame, Sniffer};

use crate::case::{Case, Family, Way};
use crate::guest::guest;
use crate::site::{Site, WIRE};
use crate::suite::{self, Suite};
use crate::{scenario, talk};

/// RFC 4303 section 2.4, RFC 3948 (T23): in tunnels, for every suite and for all that padding can be.
#[test]
fn tunnels_are_as_long_as_a_kernels() {
    let mut cases = Vec::new();
    for (place, suite) in suite::all().into_iter().enumerate() {
        let [outer, inner] = [place & 1, place >> 1 & 1].map(|family| Family::BOTH[family]);
        let udp = !suite.is_ah() && place % 3 > 0;
        let number = u16::try_from(cases.len()).unwrap() + 1;
        cases.push(Case { udp, outer, inner, ..Case::new(number, suite) });
    }
    compare("sizes::tunnels_are_as_long_as_a_kernels", &cases);
}

/// RFC 4303 section 3.1.1, RFC 4302 section 3.1.1, RFC 4301 section 4.3 (T23): the same in transport mode, and with AH around
/// ESP.
#[test]
fn whole_packets_are_as_long_as_a_kernels() {
    let names = [
        "aes-128-gcm",
        "aes-192-ccm-8",
        "chacha20-poly1305",
        "aes-256-cbc-hmac-sha-512",
        "null-hmac-sha-256",
    ];
    let mut cases = Vec::new();
    for suite in names.into_iter().chain(["ah-hmac-sha-256", "ah-hmac-sha-512"]).map(Suite::named) {
        for outer in Family::BOTH {
            let around = (!suite.is_ah()).then(|| Suite::named("ah-hmac-sha-384"));
            for ah in [None, around] {
                let number = u16::try_from(cases.len()).unwrap() + 1;
                let new = Case::new(number, suite.clone());
                cases.push(Case { tunnel: false, udp: false, outer, inner: outer, ah, ..new });
            }
        }
    }
    compare("sizes::whole_packets_are_as_long_as_a_kernels", &cases);
}

/// Both answer the same: each echo request of ours is as long as what brings its reply.
fn compare(test: &str, cases: &[Case]) {
    scenario(test, || {
        let Some(mut guest) = guest(test) else { return };
        let site = Site::start(&mut guest, cases);
        let payloads: Vec<_> = (1..=33).chain([255, 256, 1000]).collect();
        let mut failed = 0;
        for case in cases {
            let wire = Sniffer::start(site.gateway.place(), WIRE).unwrap();
            let (to, from) = case.ends();
            for payload in &payloads {
                let mark = wire.mark();
                talk::ping(&site.inner, from, to, &[*payload]).unwrap();
                let frames = wire.frames_since(mark).unwrap();
                // One each; and more where an answer was late.
                let [ours, theirs] = [Way::ToStranger, Way::FromStranger].map(|way| {
                    frames.iter().filter(of(case, way)).map(|frame| frame.length).collect::<BTreeSet<_>>()
                });
                if ours.len() != 1 || ours != theirs {
                    failed += 1;
                    eprintln!("{case}: {payload} octets: ours are {ours:?}, theirs {theirs:?}");
                }
            }
        }
        assert_eq!(failed, 0, "in {} cases; the guest: {}", cases.len(), guest.refusals());
    });
}

/// What of these frames is of an SA; also in AH, which stands before its SPI or around it.
fn of(case: &Case, way: Way) -> impl Fn(&&Frame) -> bool + use<> {
    let spi = case.spi(way).to_be_bytes();
    let direction = if way == Way::ToStranger { Direction::Outbound } else { Direction::Inbound };
    move |frame| frame.direction == direction && frame.bytes.windows(4).any(|octets| *octets == spi)
}
