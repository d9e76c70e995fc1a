//! SAs whose life ends under traffic, without successors: the wire falls silent, and stays so until there are new ones (T13,
//! RFC 4301 4.4.2.1).

use nix::sys::signal::Signal;

use crate::site::{Mode, Site, Terms};
use crate::{eventually, scenario};

/// Runs until no SA is left, and then under new ones.
fn ends(mode: Mode, test: &str, hard: &str) {
    scenario(test, || {
        let mut terms = Terms::default();
        terms.sa.push_str(&format!("\nhard = {{ {hard} }}"));
        let site = Site::start(mode, &terms);
        for gateway in [&site.a, &site.b] {
            eventually("the SAs end", || {
                let (ended, none) =
                    (gateway.drops("outbound", "hard_expired"), gateway.drops("outbound", "no_outbound_sa"));
                ended + none > 0
            });
        }
        site.traffic.goes_on(2);
        let before = site.esp();
        site.holds_out();
        assert_eq!(site.esp(), before, "packets of SAs that ended");
        let successors = Terms { number: 2, ..Terms::default() };
        site.configure_a(&successors);
        site.configure_b(&successors);
        site.a.signal(Signal::SIGHUP);
        site.b.signal(Signal::SIGHUP);
        site.passes();
        site.traffic.goes_on(5);
        site.nothing_leaked();
    });
}

mod split {
    use super::*;

    #[test]
    fn t13_ended_by_octets() {
        ends(Mode::Split, "lifetimes::split::t13_ended_by_octets", "octets = 300_000");
    }

    #[test]
    fn t13_ended_by_packets() {
        ends(Mode::Split, "lifetimes::split::t13_ended_by_packets", "packets = 1_500");
    }

    #[test]
    fn t13_ended_by_time() {
        ends(Mode::Split, "lifetimes::split::t13_ended_by_time", "seconds = 15");
    }
}

mod host {
    use super::*;

    #[test]
    fn t13_ended_by_octets() {
        ends(Mode::Host, "lifetimes::host::t13_ended_by_octets", "octets = 300_000");
    }

    #[test]
    fn t13_ended_by_packets() {
        ends(Mode::Host, "lifetimes::host::t13_ended_by_packets", "packets = 1_500");
    }

    #[test]
    fn t13_ended_by_time() {
        ends(Mode::Host, "lifetimes::host::t13_ended_by_time", "seconds = 15");
    }
}
