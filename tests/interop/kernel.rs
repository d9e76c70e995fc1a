//! A Linux kernel as the peer: every combination of what both have, with traffic of both sides through each.

use crate::case::{Case, Family};
use crate::guest::guest;
use crate::site::Site;
use crate::suite::{self, Suite};
use crate::talk::Sizes;
use crate::{scenario, talk};

/// RFC 3948, RFC 4303: every suite of both, four mixes of families, 32 and 64 bits.
#[test]
fn tunnels_over_udp() {
    carry("kernel::tunnels_over_udp", &matrix(&esp(), true, true));
}

/// RFC 4303: the same as IP packets of their own.
#[test]
fn native_tunnels() {
    carry("kernel::native_tunnels", &matrix(&esp(), true, false));
}

/// RFC 3948 section 3.1.1, RFC 4303 section 3.1.1.
#[test]
fn transport_mode_over_udp() {
    carry("kernel::transport_mode_over_udp", &matrix(&few(), false, true));
}

/// RFC 4303 section 3.1.1.
#[test]
fn native_transport_mode() {
    carry("kernel::native_transport_mode", &matrix(&few(), false, false));
}

/// RFC 4302: every suite of AH that both have.
#[test]
fn authentication_headers_in_tunnels() {
    carry("kernel::authentication_headers_in_tunnels", &matrix(&ah(), true, false));
}

/// RFC 4302 section 3.1.1.
#[test]
fn authentication_headers_in_transport_mode() {
    carry("kernel::authentication_headers_in_transport_mode", &matrix(&ah(), false, false));
}

/// RFC 4302 sections 2.2 and 3.3.3.2.1: with the kernel's own alignment, which is not the RFC's over IPv4, where our file says
/// so.
#[test]
fn authentication_headers_in_multiples_of_eight() {
    let mut cases = matrix(&ah(), true, false);
    cases.extend(matrix(&ah(), false, false));
    cases.retain(|case| case.outer == Family::V4);
    for (number, case) in (1..).zip(&mut cases) {
        (case.number, case.align4) = (number, false);
    }
    carry("kernel::authentication_headers_in_multiples_of_eight", &cases);
}

/// RFC 4301 section 4.3: AH around ESP, in transport mode.
#[test]
fn bundles_of_ah_around_esp() {
    let mut cases = matrix(&few(), false, false);
    cases.iter_mut().for_each(|case| case.ah = Some(Suite::named("ah-hmac-sha-256")));
    carry("kernel::bundles_of_ah_around_esp", &cases);
}

fn esp() -> Vec<Suite> {
    suite::all().into_iter().filter(|suite| !suite.is_ah()).collect()
}

fn ah() -> Vec<Suite> {
    suite::all().into_iter().filter(Suite::is_ah).collect()
}

/// One suite of each kind, for what has little to do with suites.
fn few() -> Vec<Suite> {
    let names =
        ["aes-128-gcm", "aes-192-ccm-8", "aes-256-gmac", "chacha20-poly1305", "aes-256-cbc-hmac-sha-512"];
    names
        .into_iter()
        .chain(["aes-128-ctr-hmac-sha-384", "null-hmac-sha-256", "null-aes-cmac"])
        .map(Suite::named)
        .collect()
}

/// Two cases of each suite, one of each width of sequence numbers, with the mixes of families dealt out.
fn matrix(suites: &[Suite], tunnel: bool, udp: bool) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (place, suite) in suites.iter().enumerate() {
        for esn in [true, false] {
            let deal = place * 3 + usize::from(esn);
            let [outer, inner] = [deal & 1, deal >> 1 & 1].map(|family| Family::BOTH[family]);
            let inner = if tunnel { inner } else { outer };
            let number = u16::try_from(cases.len()).unwrap() + 1;
            cases.push(Case { tunnel, udp, outer, inner, esn, ..Case::new(number, suite.clone()) });
        }
    }
    cases
}

/// Lets both sides of each case talk, and prints what came of each.
fn carry(test: &str, cases: &[Case]) {
    scenario(test, || {
        let Some(mut guest) = guest(test) else { return };
        let site = Site::start(&mut guest, cases);
        let sizes = if cases.iter().all(|case| case.tunnel) { Sizes::Any } else { Sizes::Whole };
        let mut failed = 0;
        for some in cases.chunks(AT_ONCE) {
            let ends: Vec<_> = some.iter().map(Case::ends).collect();
            let failures = talk::both_ways(&site.inner, &ends, sizes, |talks| guest.talk(talks));
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
