//! Configurations that take SAs, policies and peers away and bring them back, by SIGHUP under traffic (T13).

use nix::sys::signal::Signal;

use crate::site::{Mode, Side, Site, Terms};
use crate::{eventually, scenario};

/// Runs a scenario at two gateways that stand.
fn at(mode: Mode, test: &str, body: impl FnOnce(&Site)) {
    scenario(test, || {
        let site = Site::start(mode, &Terms::default());
        body(&site);
        site.traffic.goes_on(5);
        site.nothing_leaked();
    });
}

/// Lets a read its configuration again, and waits until it has.
fn reload(site: &Site, terms: &Terms) {
    let done = || site.a.log().lines().filter(|line| line.starts_with("latchway: reloaded: ")).count();
    let before = done();
    site.configure_a(terms);
    site.a.signal(Signal::SIGHUP);
    eventually("the configuration is read again", || done() > before);
}

/// T13: without SAs everything stops, and with others it goes on.
fn other_sas(site: &Site) {
    reload(site, &Terms { sas: false, ..Terms::default() });
    let before = site.a.drops("outbound", "no_outbound_sa");
    site.holds_out();
    assert!(site.a.drops("outbound", "no_outbound_sa") > before);
    let successors = Terms { number: 2, ..Terms::default() };
    site.configure_b(&successors);
    reload(site, &successors);
    site.b.signal(Signal::SIGHUP);
    site.passes();
}

/// T13: a policy that discards echoes comes before the one that protects, and goes; then there is none for IPv6. What is
/// latched goes on.
fn other_policies(site: &Site) {
    let discard = "[[policy]]\naction = \"discard\"\nprotocol = \"icmp\"\n\n[[policy]]\naction = \"protect\"";
    reload(site, &Terms { tail: discard.into(), ..Terms::default() });
    site.holds_out();
    eventually("IPv6 passes", || site.echo(Side::A, true));
    assert!(!site.echo(Side::A, false));
    assert!(site.a.drops("outbound", "policy_discard") > 0);
    let v4 = "[[policy]]\naction = \"protect\"\nlocal = \"10.1.0.0/24\"\nremote = \"10.2.0.0/24\"";
    reload(site, &Terms { tail: v4.into(), ..Terms::default() });
    let before = site.a.drops("outbound", "no_policy");
    site.holds_out();
    eventually("IPv4 passes", || site.echo(Side::A, false));
    assert!(!site.echo(Side::A, true));
    assert!(site.a.drops("outbound", "no_policy") > before);
    reload(site, &Terms::default());
    site.passes();
}

/// T13: the peer goes, and comes back with other SAs. Where the TUN is the only way, there is none while it is gone.
fn no_peer(site: &Site) {
    reload(site, &Terms { peer: false, ..Terms::default() });
    site.holds_out();
    let successors = Terms { number: 2, ..Terms::default() };
    site.configure_b(&successors);
    reload(site, &successors);
    site.b.signal(Signal::SIGHUP);
    site.passes();
}

mod split {
    use super::*;

    #[test]
    fn t13_other_sas() {
        at(Mode::Split, "reload::split::t13_other_sas", other_sas);
    }

    #[test]
    fn t13_other_policies() {
        at(Mode::Split, "reload::split::t13_other_policies", other_policies);
    }

    #[test]
    fn t13_no_peer() {
        at(Mode::Alone, "reload::split::t13_no_peer", no_peer);
    }
}

mod host {
    use super::*;

    #[test]
    fn t13_other_sas() {
        at(Mode::Host, "reload::host::t13_other_sas", other_sas);
    }

    #[test]
    fn t13_other_policies() {
        at(Mode::Host, "reload::host::t13_other_policies", other_policies);
    }
}
