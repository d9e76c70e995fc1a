//! A script of `ip xfrm` says the same to a Linux kernel and to a gateway of ours: states word for word, and policies with their
//! directions exchanged.

use std::net::UdpSocket;

use latchway_netns::watch::Sniffer;

use crate::case::{Case, Family, Way};
use crate::guest::{ECHO, Kind, Talk, guest};
use crate::site::{Site, WIRE};
use crate::suite::Suite;
use crate::talk::Sizes;
use crate::{eventually, scenario, talk};

/// RFC 4303, RFC 4302, RFC 3948: both understand it alike, and each other then.
#[test]
fn one_script_serves_both() {
    let test = "scripts::one_script_serves_both";
    scenario(test, || {
        let Some(mut guest) = guest(test) else { return };
        let mut cases = Vec::new();
        for (place, suite) in ESP.iter().enumerate() {
            for tunnel in [true, false] {
                let [outer, inner] = [place & 1, place >> 1 & 1].map(|family| Family::BOTH[family]);
                let inner = if tunnel { inner } else { outer };
                let (udp, esn) = (place % 3 == 0, place % 4 < 2);
                cases.push(Case { tunnel, outer, inner, udp, esn, ..Case::new(0, Suite::named(suite)) });
            }
        }
        number(&mut cases);
        let site = Site::by_script(&mut guest, &cases);
        let ends: Vec<_> = cases.iter().map(Case::ends).collect();
        let failures = talk::both_ways(&site.inner, &ends, Sizes::Whole, |talks| guest.talk(talks));
        for (case, failures) in cases.iter().zip(failures) {
            assert!(failures.is_empty(), "{case}: {failures:?}; the guest: {}", guest.refusals());
            eprintln!("{case}  passes");
        }
    });
}

/// RFC 4302 sections 2.2, 2.6 and 3.3.3.2.1: a script without `align4` has AH over IPv4 in multiples of 8 octets, one with it
/// in multiples of 4, and over IPv6 it is 8 whatever is said. The kernel takes no header of another length.
#[test]
fn align4_is_what_it_is_to_a_kernel() {
    let test = "scripts::align4_is_what_it_is_to_a_kernel";
    scenario(test, || {
        let Some(mut guest) = guest(test) else { return };
        let mut cases = Vec::new();
        for suite in ["ah-hmac-sha-1", "ah-hmac-sha-256", "ah-hmac-sha-384"] {
            for outer in Family::BOTH {
                for (tunnel, align4) in [(true, true), (true, false), (false, true), (false, false)] {
                    let suite = Suite::named(suite);
                    let case =
                        Case { tunnel, align4, outer, inner: outer, udp: false, ..Case::new(0, suite) };
                    cases.push(case);
                }
            }
        }
        number(&mut cases);
        let site = Site::by_script(&mut guest, &cases);
        let wire = Sniffer::start(site.gateway.place(), WIRE).unwrap();
        for case in &cases {
            let mark = wire.mark();
            let (theirs, ours) = case.ends();
            talk::ping(&site.inner, ours, theirs, &[56, 1201]).unwrap_or_else(|why| panic!("{case}: {why}"));
            let frames = wire.frames_since(mark).unwrap();
            for way in [Way::ToStranger, Way::FromStranger] {
                let spi = case.spi(way).to_be_bytes();
                let lengths: Vec<_> = frames
                    .iter()
                    .filter(|frame| frame.head.get(4..8) == Some(&spi))
                    .map(|frame| (usize::from(frame.head[1]) + 2) * 4)
                    .collect();
                assert!(
                    lengths.len() >= 2 && lengths.iter().all(|len| *len == header_len(case)),
                    "{case} {way:?}: {lengths:?}"
                );
            }
        }
        assert_eq!(guest.refusals(), "");
    });
}

/// RFC 4301 section 4.4.1: policies decide by priority, whatever came first: a narrower one makes an exception from a broad one,
/// of two that overlap the other stays when one goes, and without any everything is discarded. The kernel has the same script.
#[test]
fn policies_decide_by_priority() {
    let test = "scripts::policies_decide_by_priority";
    scenario(test, || {
        let Some(mut guest) = guest(test) else { return };
        let case = Case::new(1, Suite::named("aes-256-cbc-hmac-sha-256"));
        let site = Site::by_script(&mut guest, std::slice::from_ref(&case));
        let (theirs, ours) = case.ends();
        let script = |words: &str| site.xfrm(&words.split(' ').collect::<Vec<_>>());
        let passes = |kind| {
            let talk = Talk { kind, from: ours, to: theirs, lengths: vec![100] };
            assert_eq!(talk::talk(&site.inner, &[talk]), [None], "{kind:?}");
        };
        let discarded = |reason| {
            let before = site.gateway.drops("outbound", reason);
            let socket = site.inner.run(|| UdpSocket::bind((ours, 0))).unwrap().unwrap();
            socket.send_to(b"hello", (theirs, ECHO)).unwrap();
            // The end of a connection of before may be dropped as well.
            eventually(reason, || site.gateway.drops("outbound", reason) > before);
        };
        let exceptions = [
            format!("src {ours} dst {theirs} proto udp dport {ECHO} dir out priority 5"),
            "src 10.1.0.0/16 dst 10.128.0.0/9 proto udp dir out priority 7".to_owned(),
        ];
        passes(Kind::Udp);
        exceptions.iter().for_each(|block| script(&format!("policy add {block} action block")));
        for block in &exceptions {
            discarded("policy_discard");
            passes(Kind::Tcp);
            let (selector, _) = block.split_once(" priority").unwrap();
            script(&format!("policy delete {selector}"));
        }
        passes(Kind::Udp);
        // Behind the broad one a block decides nothing.
        script(&format!("policy add src {ours} dst {theirs} proto udp dir out priority 20 action block"));
        passes(Kind::Udp);
        script("policy flush");
        discarded("no_policy");
    });
}

/// How long the kernel has an AH header of this case.
fn header_len(case: &Case) -> usize {
    let len: usize = 12 + case.suite.icv_len();
    len.next_multiple_of(if case.align4 && case.outer == Family::V4 { 4 } else { 8 })
}

fn number(cases: &mut [Case]) {
    (1..).zip(cases).for_each(|(number, case)| case.number = number);
}

/// One suite of each kind of words.
const ESP: [&str; 8] = [
    "aes-256-gcm",
    "aes-128-cbc-hmac-sha-256",
    "chacha20-poly1305",
    "aes-192-ctr-hmac-sha-384",
    "aes-128-ccm-12",
    "aes-256-gmac",
    "null-hmac-sha-1",
    "aes-256-cbc-aes-cmac",
];
