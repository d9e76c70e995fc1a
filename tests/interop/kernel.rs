//! A Linux kernel as the peer: every combination of what both have, with traffic of both sides through each.

use crate::case::{Case, Family};
use crate::guest::guest;
use crate::site::Site;
use crate::suite::{self, Suite};
use crate::{scenario, talk};

/// RFC 3948, RFC 4303: every suite of both, four mixes of families, 32 and 64 bits.
#[test]
fn tunnels_over_udp() {
    carry("kernel::tunnels_over_udp", &matrix(&esp(), true));
}

/// RFC 4303: the same as IP packets of their own.
#[test]
fn native_tunnels() {
    carry("kernel::native_tunnels", &matrix(&esp(), false));
}

fn esp() -> Vec<Suite> {
    suite::all().into_iter().filter(|suite| !suite.is_ah()).collect()
}

/// Two cases of each suite, one of each width of sequence numbers, with the mixes of families dealt out.
fn matrix(suites: &[Suite], udp: bool) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (place, suite) in suites.iter().enumerate() {
        for esn in [true, false] {
            let deal = place * 3 + usize::from(esn);
            let [outer, inner] = [deal & 1, deal >> 1 & 1].map(|family| Family::BOTH[family]);
            let number = u16::try_from(cases.len()).unwrap() + 1;
            cases.push(Case { udp, outer, inner, esn, ..Case::new(number, suite.clone()) });
        }
    }
    cases
}

/// Lets both sides of each case talk, and prints what came of each.
fn carry(test: &str, cases: &[Case]) {
    scenario(test, || {
        let Some(mut guest) = guest(test) else { return };
        let site = Site::start(&mut guest, cases);
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
    });
}

/// How many cases are under way at a time.
const AT_ONCE: usize = 16;
