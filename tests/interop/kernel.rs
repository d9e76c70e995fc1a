//! A Linux kernel as the peer: every combination of what both have, with traffic of both sides through each.

use crate::case::{Case, Family};
use crate::guest::{Guest, Kind, Talk, guest};
use crate::site::Site;
use crate::suite::Suite;
use crate::{scenario, talk};

/// RFC 3948, RFC 4303: ESP tunnels over UDP, all four mixes of families, 32 and 64 bits.
#[test]
fn tunnels_over_udp() {
    scenario("kernel::tunnels_over_udp", || {
        let Some(mut guest) = guest("kernel::tunnels_over_udp") else { return };
        let cases = matrix(&SUITES.map(Suite::named));
        let site = Site::start(&mut guest, &cases);
        carry(&mut guest, &site, &cases);
    });
}

/// Both widths of sequence numbers, and all four mixes of families, dealt out so that each suite meets all of them.
fn matrix(suites: &[Suite]) -> Vec<Case> {
    let mut cases = Vec::new();
    for suite in suites {
        for outer in Family::BOTH {
            for inner in Family::BOTH {
                for esn in [true, false] {
                    let number = u16::try_from(cases.len()).unwrap() + 1;
                    cases.push(Case { outer, inner, esn, ..Case::new(number, suite.clone()) });
                }
            }
        }
    }
    cases
}

/// Lets both sides of each case talk, and prints what came of each.
fn carry(guest: &mut Guest, site: &Site, cases: &[Case]) {
    let mut failed = 0;
    for some in cases.chunks(AT_ONCE) {
        let results = traffic(guest, site, some);
        for (case, failures) in some.iter().zip(results) {
            let verdict = if failures.is_empty() { "passes".to_owned() } else { failures.join("; ") };
            failed += usize::from(!failures.is_empty());
            eprintln!("{case}  {verdict}");
        }
    }
    assert_eq!(failed, 0, "of {} cases; the guest: {}", cases.len(), guest.refusals());
}

/// Echoes, datagrams and streams of both sides through each case, some too large for one packet.
fn traffic(guest: &mut Guest, site: &Site, cases: &[Case]) -> Vec<Vec<String>> {
    let mut failures = vec![Vec::new(); cases.len()];
    std::thread::scope(|scope| {
        let pings: Vec<_> = cases
            .iter()
            .map(|case| {
                let (stranger, own) = case.ends();
                scope.spawn(move || talk::ping(&site.inner, own, stranger, &[56, 1200, 3000]))
            })
            .collect();
        for (place, ping) in pings.into_iter().enumerate() {
            if let Err(why) = ping.join().unwrap() {
                failures[place].push(why);
            }
        }
    });
    for kind in [Kind::Udp, Kind::Tcp] {
        let lengths = if kind == Kind::Udp { vec![1, 1300, 4000] } else { vec![100, 20_000] };
        let talk = |from, to| Talk { kind, from, to, lengths: lengths.clone() };
        let ours: Vec<_> = cases.iter().map(Case::ends).map(|(stranger, own)| talk(own, stranger)).collect();
        let theirs: Vec<_> =
            cases.iter().map(Case::ends).map(|(stranger, own)| talk(stranger, own)).collect();
        for (way, results) in [("to", talk::talk(&site.inner, &ours)), ("from", guest.talk(&theirs))] {
            for (place, why) in results.into_iter().enumerate() {
                failures[place].extend(why.map(|why| format!("{kind:?} {way} it: {why}")));
            }
        }
    }
    failures
}

/// Suites that the matrix is of.
const SUITES: [&str; 4] = ["aes-128-gcm", "aes-256-gcm", "chacha20-poly1305", "aes-256-cbc-hmac-sha-256"];
/// How many cases are under way at a time.
const AT_ONCE: usize = 16;
