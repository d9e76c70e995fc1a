//! How a gateway ends.

use std::thread;
use std::time::Duration;

use latchway_netns::Links;
use latchway_netns::links::Way;
use nix::sys::signal::Signal;

use crate::site::{Side, Site, TUN, Terms};
use crate::traffic::{burst, collect};
use crate::{eventually, scenario};

/// SIGTERM and SIGINT drain: what hosts had sent arrives. The gateway exits with 0, removes its socket, says so to whoever
/// listens, and leaves TUN and blackholes where they are.
#[test]
fn sigterm_and_sigint_drain_and_leave_the_guards() {
    scenario("signals::sigterm_and_sigint_drain_and_leave_the_guards", || {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let mut site = Site::start(&Terms::default());
            let mut listening = site.a.listen();
            let sink = burst(&site, 200);
            site.a.signal(signal);
            assert_eq!(collect(&sink, 200), (0..200).collect::<Vec<u64>>(), "{signal}");
            listening.until("ending");
            assert!(listening.ended().success());
            assert!(site.a.ended().success(), "{signal}: {}", site.a.log());
            assert!(!site.a.control().exists(), "{signal}: the socket is left behind");
            let links = Links::of(&site.at(Side::A).inner).unwrap();
            assert!(links.link(TUN).unwrap().up, "the TUN goes");
            let there = "10.2.0.0/24".parse().unwrap();
            let guards = |way: &Way| *way == Way::Blackhole;
            assert!(
                links.routes().unwrap().iter().any(|route| route.destination == there && guards(&route.way))
            );
            assert!(site.a.complains("status").contains("is a gateway running"), "nobody answers");
            site.a.start();
        }
    });
}

/// Signals that come while the gateway ends change nothing of how it ends.
#[test]
fn signals_while_it_ends_are_no_harm() {
    scenario("signals::signals_while_it_ends_are_no_harm", || {
        let mut site = Site::start(&Terms::default());
        let sink = burst(&site, 200);
        site.a.signal(Signal::SIGTERM);
        for signal in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT] {
            site.a.signal(signal);
        }
        assert!(site.a.ended().success(), "{}", site.a.log());
        assert_eq!(collect(&sink, 200).len(), 200);
        assert!(!site.a.control().exists());
    });
}

/// SIGHUPs in any number are heeded, and traffic passes all along.
#[test]
fn many_sighups_are_heeded() {
    scenario("signals::many_sighups_are_heeded", || {
        let site = Site::start(&Terms::default());
        for _ in 0..50 {
            site.a.signal(Signal::SIGHUP);
            thread::sleep(Duration::from_millis(1));
        }
        eventually("the last is heeded", || {
            site.configure(Side::A, &Terms::default().with_third_peer(1));
            site.a.signal(Signal::SIGHUP);
            site.a.rows("peer list").len() == 2
        });
        site.passes();
    });
}
