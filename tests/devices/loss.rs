//! TUNs that are set down, renamed or deleted under a running worker, and what it still shows of itself.

use std::net::UdpSocket;
use std::process::Command;
use std::thread;
use std::time::Duration;

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::worker::NAP;
use latchway_netns::skip::{Need, require};
use latchway_netns::{Links, Namespace};

use crate::scenario;
use crate::site::{BYPASS, Options, PATIENCE, TUN, eventually, sites};

const MOMENT: Duration = Duration::from_millis(50);

fn routed_again(namespace: &Namespace) {
    let links = Links::of(namespace).unwrap();
    links.set_up(TUN).unwrap();
    links.add_route("10.0.2.0/24".parse().unwrap(), None, TUN, 0).unwrap();
}

/// A TUN that is set down loses what is for it, under a name of its own, and goes on when it is up again.
#[test]
fn a_tun_that_is_set_down_ends_no_worker_and_goes_on_when_up_again() {
    scenario("loss::a_tun_that_is_set_down_ends_no_worker_and_goes_on_when_up_again", || {
        let (alice, bob) = sites(&Options::default());
        assert_eq!(alice.ping(&bob, false, 3, PATIENCE).received, 3);
        for _ in 0..3 {
            Links::of(&alice.inner).unwrap().set_down(TUN).unwrap();
            let lost = alice.dropped(Direction::Inbound, DropReason::TunDown);
            assert_eq!(bob.ping(&alice, false, 2, MOMENT).received, 0);
            eventually("they are dropped", || {
                alice.dropped(Direction::Inbound, DropReason::TunDown) == lost + 2
            });
            let beats = alice.heartbeat.beats();
            eventually("the worker lives", || alice.heartbeat.beats() > beats + 2);
            routed_again(&alice.inner);
            assert_eq!(alice.ping(&bob, false, 3, PATIENCE).received, 3);
            assert_eq!(bob.ping(&alice, false, 3, PATIENCE).received, 3);
        }
        for site in [alice, bob] {
            site.end().unwrap();
        }
    });
}

/// The name is not what a worker holds on to.
#[test]
fn a_tun_that_is_renamed_goes_on() {
    scenario("loss::a_tun_that_is_renamed_goes_on", || {
        if !require("loss::a_tun_that_is_renamed_goes_on", &[Need::Program("ip")]) {
            return;
        }
        let (alice, bob) = sites(&Options::default());
        let links = Links::of(&alice.inner).unwrap();
        links.set_down(TUN).unwrap();
        let rename = || Command::new("ip").args(["link", "set", TUN, "name", "other"]).status();
        assert!(alice.inner.run(rename).unwrap().unwrap().success());
        links.set_up("other").unwrap();
        links.add_route("10.0.2.0/24".parse().unwrap(), None, "other", 0).unwrap();
        assert_eq!(alice.ping(&bob, false, 3, PATIENCE).received, 3);
        alice.end().unwrap();
    });
}

/// A TUN that is deleted does not come back, and the worker says so.
#[test]
fn a_deleted_tun_ends_the_worker_with_an_error_that_names_it() {
    scenario("loss::a_deleted_tun_ends_the_worker_with_an_error_that_names_it", || {
        for name in [TUN, BYPASS] {
            let (alice, _bob) = sites(&Options { bypass: true, ..Options::default() });
            let namespace = if name == TUN { &alice.inner } else { &alice.outer };
            Links::of(namespace).unwrap().delete(name).unwrap();
            let error = alice.await_end().unwrap_err().to_string();
            for part in [name, "deleted", "restart the gateway"] {
                assert!(error.contains(part), "{error}");
            }
        }
    });
}

/// A port that is down takes nothing, and each packet of a super-packet is counted; then it goes on.
#[test]
fn a_bypass_port_that_is_set_down_drops_packet_by_packet() {
    scenario("loss::a_bypass_port_that_is_set_down_drops_packet_by_packet", || {
        let (alice, _bob) =
            sites(&Options { rules: crate::bypass::rules(), bypass: true, ..Options::default() });
        let inner = Links::of(&alice.inner).unwrap();
        inner.add_route("198.51.100.0/24".parse().unwrap(), None, TUN, 0).unwrap();
        let socket = alice.inner.run(|| UdpSocket::bind((alice.address(false), 0)).unwrap()).unwrap();
        let outer = Links::of(&alice.outer).unwrap();
        let outbound = alice.counters.street(Direction::Outbound);
        outer.set_down(BYPASS).unwrap();
        for _ in 0..3 {
            socket.send_to(b"down", "198.51.100.2:5").unwrap();
        }
        eventually("they are dropped", || outbound.dropped(DropReason::TunDown) == 3);
        assert_eq!(outbound.packets.get(), 0);
        outer.set_up(BYPASS).unwrap();
        for _ in 0..3 {
            socket.send_to(b"up", "198.51.100.2:5").unwrap();
        }
        eventually("they pass", || outbound.packets.get() == 3);
        assert_eq!(outbound.dropped(DropReason::TunDown), 3);
    });
}

/// A watchdog sees a worker that has nothing to do, and no worker where there is none any more.
#[test]
fn a_worker_shows_that_it_lives() {
    scenario("loss::a_worker_shows_that_it_lives", || {
        let (alice, _bob) = sites(&Options::default());
        let (heartbeat, beats) = (alice.heartbeat.clone(), alice.heartbeat.beats());
        eventually("an idle worker's heart beats", || heartbeat.beats() >= beats + 3);
        alice.end().unwrap();
        let last = heartbeat.beats();
        thread::sleep(2 * NAP);
        assert_eq!(heartbeat.beats(), last);
    });
}
