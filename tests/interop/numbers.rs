//! Sequence numbers between a Linux kernel and us: wraps, ends, replays and lifetimes.

use std::time::Duration;

use latchway_netns::inject::Injector;
use latchway_netns::ping::{self, Echo, PingReport};
use latchway_netns::watch::{Direction, Frame, Sniffer};

use crate::case::{Case, Way};
use crate::guest::guest;
use crate::scenario;
use crate::site::{Site, WIRE};
use crate::suite::Suite;

/// RFC 4303 section 2.2.1, appendix A2 (T10): what the kernel sends on both sides of a wrap is one row of numbers to us.
#[test]
fn the_kernels_numbers_wrap() {
    scenario("numbers::the_kernels_numbers_wrap", || {
        let Some(mut guest) = guest("numbers::the_kernels_numbers_wrap") else { return };
        let cases = SUITES.map(|(number, suite)| {
            let mut case = Case::new(number, Suite::named(suite));
            // Below the first window that there is at the beginning: all above it might be of the epoch before the first.
            case.lines = "replay_window = 32".to_owned();
            case.words[1] = format!("replay-oseq {:#x}", 0_u32.wrapping_sub(80));
            case
        });
        let site = Site::start(&mut guest, &cases);
        for case in &cases {
            let wire = Sniffer::start(site.gateway.place(), WIRE).unwrap();
            let mark = wire.mark();
            let report = pings(&site, case, 200);
            assert_eq!((report.received, report.duplicates), (200, 0), "{case}: {report:?}");
            let numbers = numbers(&wire.frames_since(mark).unwrap(), case.spi(Way::FromStranger));
            assert_eq!(numbers.first(), Some(&0_u32.wrapping_sub(79)), "{case}");
            let expected: Vec<_> = (1..=200).map(|n| 0_u32.wrapping_sub(80).wrapping_add(n)).collect();
            assert_eq!(numbers, expected, "{case}");
        }
        assert_eq!(site.gateway.rows("drops").len(), 0, "nothing is dropped");
    });
}

/// RFC 4303 section 3.3.3: without extended numbers the kernel's SA ends with the number 2^32 - 1, and ours takes all until
/// then.
#[test]
fn the_kernels_numbers_end() {
    scenario("numbers::the_kernels_numbers_end", || {
        let Some(mut guest) = guest("numbers::the_kernels_numbers_end") else { return };
        let mut case = Case { esn: false, ..Case::new(1, Suite::named("aes-128-gcm")) };
        case.words[1] = format!("replay-oseq {:#x}", u32::MAX - 40);
        let site = Site::start(&mut guest, std::slice::from_ref(&case));
        let report = pings(&site, &case, 60);
        assert_eq!(report.received, 40, "{report:?}");
        assert_eq!(guest.refusals(), "XfrmOutStateSeqError=20");
    });
}

/// RFC 4303 section 3.4.3 (T08): what was recorded on the wire and comes once more is dropped and counted, by either.
#[test]
fn replays_are_refused_on_both_sides() {
    scenario("numbers::replays_are_refused_on_both_sides", || {
        let Some(mut guest) = guest("numbers::replays_are_refused_on_both_sides") else { return };
        let case = Case::new(1, Suite::named("aes-256-gcm"));
        let site = Site::start(&mut guest, std::slice::from_ref(&case));
        let wire = Sniffer::start(site.gateway.place(), WIRE).unwrap();
        let mark = wire.mark();
        assert_eq!(pings(&site, &case, 20).received, 20);
        let frames = wire.frames_since(mark).unwrap();
        let of = |way, direction| {
            let spi = case.spi(way).to_be_bytes();
            let found = frames
                .iter()
                .filter(move |frame| frame.direction == direction && frame.head.starts_with(&spi));
            found.cloned().collect::<Vec<_>>()
        };
        let (theirs, ours) =
            (of(Way::FromStranger, Direction::Inbound), of(Way::ToStranger, Direction::Outbound));
        assert_eq!((theirs.len(), ours.len()), (20, 20));

        let to_them = Injector::open(site.gateway.place(), WIRE).unwrap();
        for frame in &ours {
            // Where it was recorded the checksum of UDP was still to be made; none serves as well (RFC 768).
            let mut octets = frame.bytes.to_vec();
            octets[14 + 20 + 6..][..2].fill(0);
            to_them.send(&octets).unwrap();
        }
        let to_us = guest.injector();
        for _ in 0..2 {
            theirs.iter().for_each(|frame| to_us.send(&frame.bytes).unwrap());
        }
        crate::eventually("replays are counted", || site.gateway.drops("inbound", "replayed") == 40);
        assert_eq!(pings(&site, &case, 20).received, 20, "the window is where it was");
        assert_eq!(guest.refusals(), "XfrmInStateSeqError=20");
        assert_eq!(site.gateway.drops("inbound", "replayed"), 40);
    });
}

/// RFC 4301 section 4.4.2.1: whichever side's SA ends by its hard lifetime, nothing passes any more, and nothing in the clear.
#[test]
fn hard_lifetimes_end_on_both_sides() {
    scenario("numbers::hard_lifetimes_end_on_both_sides", || {
        let Some(mut guest) = guest("numbers::hard_lifetimes_end_on_both_sides") else { return };
        let suite = Suite::named("aes-128-cbc-hmac-sha-256");
        let mut theirs = Case::new(1, suite.clone());
        theirs.words[0] = "limit packet-hard 30".to_owned();
        let mut ours = Case::new(2, suite);
        ours.lines = "hard = { packets = 30 }".to_owned();
        let site = Site::start(&mut guest, &[theirs.clone(), ours.clone()]);
        let wire = Sniffer::start(site.gateway.place(), WIRE).unwrap();
        for case in [&theirs, &ours] {
            let received = pings(&site, case, 50).received;
            assert!((29..=30).contains(&received), "{case}: {received}");
        }
        assert!(!wire.contains(PATTERN).unwrap(), "something leaves in the clear");
    });
}

/// So many echoes, each on its own, none of which waits for the one before.
fn pings(site: &Site, case: &Case, count: u16) -> PingReport {
    let (destination, source) = case.ends();
    let echo = Echo {
        source: Some(source),
        destination,
        count,
        interval: Duration::from_millis(2),
        timeout: Duration::from_secs(1),
        pattern: PATTERN,
        length: 56,
    };
    ping::echo(&site.inner, &echo).unwrap()
}

/// The low halves of the numbers of an SA, in their order.
fn numbers(frames: &[Frame], spi: u32) -> Vec<u32> {
    let of_sa = frames.iter().filter_map(|frame| frame.head.strip_prefix(&spi.to_be_bytes()));
    of_sa.map(|rest| u32::from_be_bytes(rest[..4].try_into().unwrap())).collect()
}

const SUITES: [(u16, &str); 4] = [
    (1, "aes-128-gcm"),
    (2, "chacha20-poly1305"),
    (3, "aes-256-cbc-hmac-sha-256"),
    (4, "aes-128-ctr-aes-cmac"),
];
const PATTERN: &[u8] = b"inner octets";
