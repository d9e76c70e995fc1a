//! Sequence numbers between a Linux kernel and us: wraps, ends, replays and lifetimes.

use std::time::Duration;

use latchway_netns::inject::Injector;
use latchway_netns::ping::{self, Echo, PingReport};
use latchway_netns::watch::{Direction, Frame, Options, Sniffer};

use crate::case::{Case, Way};
use crate::guest::{Kind, Talk, guest};
use crate::site::{Site, TUN, WIRE};
use crate::suite::Suite;
use crate::{PATIENCE, eventually, scenario};

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
            let wire = watch(&site);
            let mark = wire.mark();
            answered(&site, case, 200);
            let numbers = numbers(&wire.frames_since(mark).unwrap(), case, Way::FromStranger);
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
        answered(&site, &case, 40);
        assert_eq!(pings(&site, &case, 20, IN_VAIN).received, 0);
        eventually("the kernel counts what it does not send", || {
            guest.refusals() == "XfrmOutStateSeqError=20"
        });
    });
}

/// RFC 4303 sections 2.2.1 and 3.3.3, appendix A2 (T10): what we send on both sides of a wrap is one row of numbers to the
/// kernel, while its own wrap, too; at the first wrap and at a later one.
#[test]
fn our_numbers_wrap() {
    let test = "numbers::our_numbers_wrap";
    scenario(test, || {
        let Some(mut guest) = guest(test) else { return };
        let mut cases = SUITES.map(|(number, suite)| Case::new(number, Suite::named(suite)));
        for (wraps, case) in (1..).zip(&mut cases) {
            case.udp = wraps % 2 == 0;
            case.behind = (wraps << 32) - 80;
        }
        let ah =
            Case { udp: false, behind: cases[2].behind, ..Case::new(5, Suite::named("ah-hmac-sha-256")) };
        let cases = [&cases[..], &[ah]].concat();
        let site = Site::by_script(&mut guest, &cases);
        let expected: Vec<_> = (1..=200).map(|n| 0_u32.wrapping_sub(80).wrapping_add(n)).collect();
        for case in &cases {
            let wire = watch(&site);
            let mark = wire.mark();
            answered(&site, case, 200);
            let frames = wire.frames_since(mark).unwrap();
            for way in [Way::ToStranger, Way::FromStranger] {
                assert_eq!(numbers(&frames, case, way), expected, "{case} {way:?}");
            }
            let (theirs, ours) = case.ends();
            let talk = Talk { kind: Kind::Tcp, from: theirs, to: ours, lengths: vec![20_000] };
            assert_eq!(guest.talk(&[talk]), [None], "{case}");
        }
        let drops = site.gateway.rows("drops").into_iter().filter(|row| row["direction"] == "inbound");
        assert_eq!((drops.count(), guest.refusals()), (0, String::new()));
    });
}

/// RFC 4303 section 3.3.3: without extended numbers our SA ends with the number 2^32 - 1, counts what it does not send, and
/// sends none of it in the clear; the kernel takes all until then.
#[test]
fn our_numbers_end() {
    let test = "numbers::our_numbers_end";
    scenario(test, || {
        let Some(mut guest) = guest(test) else { return };
        let behind = u64::from(u32::MAX) - 40;
        let udp = Case { esn: false, behind, ..Case::new(1, Suite::named("aes-128-gcm")) };
        let ah =
            Case { udp: false, ..Case { suite: Suite::named("ah-hmac-sha-256"), number: 2, ..udp.clone() } };
        let cases = [udp, ah];
        let site = Site::by_script(&mut guest, &cases);
        for case in &cases {
            let wire = watch(&site);
            let (mark, before) = (wire.mark(), site.gateway.drops("outbound", "seq_exhausted"));
            answered(&site, case, 40);
            assert_eq!(pings(&site, case, 20, IN_VAIN).received, 0, "{case}");
            eventually("what is not sent is counted", || {
                site.gateway.drops("outbound", "seq_exhausted") - before == 20
            });
            let sent = numbers(&wire.frames_since(mark).unwrap(), case, Way::ToStranger);
            assert_eq!(sent, (u32::MAX - 39..=u32::MAX).collect::<Vec<_>>(), "{case}");
            assert!(!wire.contains(PATTERN).unwrap() || case.suite.is_ah(), "{case}: in the clear");
        }
        assert_eq!(guest.refusals(), "");
    });
}

/// RFC 4303 section 3.4.3 (T08): what was recorded on the wire and comes once more is dropped and counted, by either.
#[test]
fn replays_are_refused_on_both_sides() {
    scenario("numbers::replays_are_refused_on_both_sides", || {
        let Some(mut guest) = guest("numbers::replays_are_refused_on_both_sides") else { return };
        let case = Case::new(1, Suite::named("aes-256-gcm"));
        let site = Site::start(&mut guest, std::slice::from_ref(&case));
        let wire = watch(&site);
        let mark = wire.mark();
        // One by one: what leaves together is one frame here.
        (0..20).for_each(|_| answered(&site, &case, 1));
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
        eventually("replays are counted", || site.gateway.drops("inbound", "replayed") == 40);
        // The window is where it was.
        answered(&site, &case, 20);
        eventually("the kernel counts replays", || guest.refusals() == "XfrmInStateSeqError=20");
        assert_eq!(site.gateway.drops("inbound", "replayed"), 40);
    });
}

/// RFC 4303 section 3.4.3: where neither refuses replays, what comes once more is taken once more, by either.
#[test]
fn without_anti_replay_both_take_what_comes_again() {
    let test = "numbers::without_anti_replay_both_take_what_comes_again";
    scenario(test, || {
        let Some(mut guest) = guest(test) else { return };
        let mut case = Case { esn: false, udp: false, ..Case::new(1, Suite::named("aes-256-gcm")) };
        case.words[0] = "replay-window 0".to_owned();
        case.lines = "replay_window = \"off\"".to_owned();
        let site = Site::start(&mut guest, std::slice::from_ref(&case));
        let (wire, tun) = (watch(&site), Sniffer::start(&site.inner, TUN).unwrap());
        let mark = wire.mark();
        answered(&site, &case, 20);
        let frames = wire.frames_since(mark).unwrap();
        let answers = |mark, count: usize| {
            eventually("each is answered again", || {
                let frames = tun.frames_since(mark).unwrap();
                let came = frames.iter().filter(|frame| frame.direction == Direction::Inbound);
                came.filter(|frame| frame.source == Some(case.ends().0)).count() == count
            });
        };
        let again = |way, injector: &Injector| {
            let spi = case.spi(way).to_be_bytes();
            let of_sa: Vec<_> = frames.iter().filter(|frame| frame.head.starts_with(&spi)).collect();
            assert_eq!(of_sa.len(), 20, "{way:?}");
            of_sa.iter().for_each(|frame| injector.send(&frame.bytes).unwrap());
        };
        let mark = tun.mark();
        again(Way::ToStranger, &Injector::open(site.gateway.place(), WIRE).unwrap());
        answers(mark, 20);
        let mark = tun.mark();
        again(Way::FromStranger, &guest.injector());
        answers(mark, 20);
        assert_eq!((site.gateway.drops("inbound", "replayed"), guest.refusals()), (0, String::new()));
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
        let wire = watch(&site);
        for case in [&theirs, &ours] {
            answered(&site, case, 29);
            let more = pings(&site, case, 21, IN_VAIN).received;
            assert!(more <= 1, "{case}: {more}");
        }
        assert!(!wire.contains(PATTERN).unwrap(), "something leaves in the clear");
    });
}

/// So many echoes, as [`pings`], each of which comes back once, however long that takes.
fn answered(site: &Site, case: &Case, count: u16) {
    let report = pings(site, case, count, PATIENCE);
    assert_eq!((report.received, report.duplicates), (count, 0), "{case}: {report:?}");
}

/// So many echoes, each on its own, none of which waits for the one before; and after the last so long for what is missing.
fn pings(site: &Site, case: &Case, count: u16, timeout: Duration) -> PingReport {
    let (destination, source) = case.ends();
    let echo = Echo {
        source: Some(source),
        destination,
        count,
        interval: Duration::from_millis(2),
        timeout,
        pattern: PATTERN,
        length: 56,
    };
    ping::echo(&site.inner, &echo).unwrap()
}

/// The low halves of the numbers of an SA, in their order and not in that of the frames, of which virtual devices may swap two
/// where a thread changes its CPU; a wrap does not end the row. A frame may be of many datagrams; ESP and AH both have the
/// number behind the SPI.
fn numbers(frames: &[Frame], case: &Case, way: Way) -> Vec<u32> {
    let spi = case.spi(way).to_be_bytes();
    let places = frames.iter().flat_map(|frame| frame.bytes.windows(8));
    let of_sa = places.filter_map(|octets| octets.strip_prefix(&spi));
    let mut numbers: Vec<_> = of_sa.map(|number| u32::from_be_bytes(number.try_into().unwrap())).collect();
    let first = numbers.first().copied().unwrap_or_default();
    numbers.sort_by_key(|number| number.wrapping_sub(first).cast_signed());
    numbers
}

/// What sees the wire, with all of every frame.
fn watch(site: &Site) -> Sniffer {
    let whole = Options { snap: 1 << 17, ..Options::default() };
    Sniffer::start_with(site.gateway.place(), WIRE, whole).unwrap()
}

const SUITES: [(u16, &str); 4] = [
    (1, "aes-128-gcm"),
    (2, "chacha20-poly1305"),
    (3, "aes-256-cbc-hmac-sha-256"),
    (4, "aes-128-ctr-aes-cmac"),
];
/// How long it is waited for what must not come.
const IN_VAIN: Duration = Duration::from_millis(300);
const PATTERN: &[u8] = b"inner octets";
