//! A Linux kernel as the peer: every combination of what both have, with traffic of both sides through each.

use crate::case::{Case, Family};
use crate::guest::{Guest, guest};
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
        let ends: Vec<_> = some.iter().map(Case::ends).collect();
        let failures = talk::both_ways(&site.inner, &ends, |talks| guest.talk(talks));
        for (case, failures) in some.iter().zip(failures) {
            let verdict = if failures.is_empty() { "passes".to_owned() } else { failures.join("; ") };
            failed += usize::from(!failures.is_empty());
            eprintln!("{case}  {verdict}");
        }
    }
    assert_eq!(failed, 0, "of {} cases; the guest: {}", cases.len(), guest.refusals());
}

/// Suites that the matrix is of.
const SUITES: [&str; 4] = ["aes-128-gcm", "aes-256-gcm", "chacha20-poly1305", "aes-256-cbc-hmac-sha-256"];
/// How many cases are under way at a time.
const AT_ONCE: usize = 16;
