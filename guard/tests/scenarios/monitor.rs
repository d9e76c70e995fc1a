//! What takes a guard away is noticed, and put right where it can be (T13).

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use latchway_guard::{
    BLACKHOLE_METRIC, Blackholes, Change, Guarded, HostGuard, InnerSide, Lack, Missing, Monitor, Prefixes,
    QUEUE, ROUTE_METRIC,
};
use latchway_netns::{
    Links, Namespace,
    skip::{self, Need},
    testing::namespaced,
};

use crate::support::{SOON, net, tun};

#[test]
fn t13_a_guard_that_is_taken_away_is_noticed_and_put_back() {
    let name = "monitor::t13_a_guard_that_is_taken_away_is_noticed_and_put_back";
    namespaced(name, || {
        if !skip::require(name, &[Need::Tun]) {
            return;
        }
        let (inner, outer) = (Namespace::create("inner").unwrap(), Namespace::create("outer").unwrap());
        let (links, outside) = (Links::of(&inner).unwrap(), Links::of(&outer).unwrap());
        let device = tun(&inner, "tun9");
        let guarded = guarded(&inner, &outer);
        guarded.inner.1.prepare(&inner).unwrap();
        let mut monitor = Monitor::new(guarded.clone()).unwrap();
        let lacking = monitor.lacking().to_vec();
        assert!(lacking.iter().all(|lack| matches!(lack, Lack::Outer(_) | Lack::Filter(_))), "{lacking:?}");
        assert_eq!(monitor.restore().unwrap().len(), lacking.len());
        assert_eq!(monitor.wait(Duration::ZERO).unwrap(), []);
        assert_eq!(monitor.lacking(), []);

        let [v4, v6] = PROTECTED.map(net);
        let lost = |monitor: &mut Monitor, lack: Lack| {
            assert_eq!(noticed(monitor, &lack), Change::Lost(lack.clone()));
            monitor.restore().unwrap();
            assert_eq!(monitor.lacking(), [], "{lack} was put back");
        };
        links.delete_blackhole(v6, BLACKHOLE_METRIC).unwrap();
        lost(&mut monitor, Lack::Inner(Missing::Blackhole(v6)));
        outside.delete_blackhole(v4, BLACKHOLE_METRIC).unwrap();
        lost(&mut monitor, Lack::Outer(v4));
        links.delete_route(v4, None, "tun9", ROUTE_METRIC).unwrap();
        lost(&mut monitor, Lack::Inner(Missing::Route(v4)));
        links.delete_address("tun9", net("10.77.1.1/24")).unwrap();
        lost(&mut monitor, Lack::Inner(Missing::Address(net("10.77.1.1/24"))));
        links.set_down("tun9").unwrap();
        lost(&mut monitor, Lack::Inner(Missing::Up));
        guarded.host.as_ref().unwrap().remove(&inner).unwrap();
        lost(&mut monitor, Lack::Filter("the packet filter table inet latchway-gw".to_owned()));

        // What somebody else puts right is noticed too.
        links.delete_route(v4, None, "tun9", ROUTE_METRIC).unwrap();
        noticed(&mut monitor, &Lack::Inner(Missing::Route(v4)));
        links.add_route(v4, None, "tun9", ROUTE_METRIC).unwrap();
        let back = noticed(&mut monitor, &Lack::Inner(Missing::Route(v4)));
        assert_eq!(back.to_string(), format!("the route of {v4} into the TUN is back"));

        // A TUN that is gone stays gone, and everything that discards stays.
        drop(device);
        assert_eq!(noticed(&mut monitor, &Lack::Inner(Missing::Tun)).to_string(), "lost the TUN");
        monitor.restore().unwrap();
        assert_eq!(monitor.lacking(), [Lack::Inner(Missing::Tun)]);
    });
}

/// A host whose routes change all the time costs no more than a look now and then, and nothing is missed.
#[test]
fn a_swarm_of_changes_of_others_is_no_change() {
    let name = "monitor::a_swarm_of_changes_of_others_is_no_change";
    namespaced(name, || {
        if !skip::require(name, &[Need::Tun]) {
            return;
        }
        let (inner, outer) = (Namespace::create("inner").unwrap(), Namespace::create("outer").unwrap());
        let _device = tun(&inner, "tun9");
        let guarded = guarded(&inner, &outer);
        guarded.inner.1.prepare(&inner).unwrap();
        let mut monitor = Monitor::new(guarded).unwrap();
        monitor.restore().unwrap();
        let outside = Links::of(&outer).unwrap();
        for third in 0..200 {
            outside.add_blackhole(net(&format!("10.200.{third}.0/24")), 5).unwrap();
        }
        outside.delete_blackhole(net(PROTECTED[0]), BLACKHOLE_METRIC).unwrap();
        assert_eq!(monitor.wait(SOON).unwrap(), [Change::Lost(Lack::Outer(net(PROTECTED[0])))]);
    });
}

/// T13: where prefixes are put together and taken apart again, what goes to them meets a route at every moment.
#[test]
fn t13_prefixes_that_change_their_size_are_never_without_a_route() {
    let name = "monitor::t13_prefixes_that_change_their_size_are_never_without_a_route";
    namespaced(name, || {
        if !skip::require(name, &[Need::Tun]) {
            return;
        }
        let (inner, outer) = (Namespace::create("inner").unwrap(), Namespace::create("outer").unwrap());
        let (_device, guarded) = (tun(&inner, "tun9"), guarded(&inner, &outer));
        guarded.inner.1.prepare(&inner).unwrap();
        let mut monitor = Monitor::new(Guarded { host: None, ..guarded }).unwrap();
        let done = AtomicBool::new(false);
        let send = || {
            let socket = UdpSocket::bind("10.77.1.1:0").unwrap();
            let mut refused = 0;
            while !done.load(Ordering::Relaxed) {
                // A blackhole says EINVAL to whoever sends into it.
                refused += u32::from(socket.send_to(&[0], "10.77.2.7:9").is_err());
            }
            refused
        };
        let refused = thread::scope(|scope| {
            let sender = scope.spawn(|| inner.run(send).unwrap());
            for _ in 0..100 {
                for (gone, next) in [("10.77.2.0/24", "10.77.2.0/23"), ("10.77.2.0/23", "10.77.2.0/24")] {
                    let routes = |these: &[&str]| Prefixes {
                        routes: these.iter().map(|text| net(text)).collect(),
                        ..Prefixes::default()
                    };
                    monitor.extend(&routes(&[gone, next])).unwrap();
                    monitor.extend(&routes(&[next])).unwrap();
                    monitor.withdraw(&[net(gone)]).unwrap();
                    assert_eq!(monitor.lacking(), []);
                }
            }
            done.store(true, Ordering::Relaxed);
            sender.join().unwrap()
        });
        assert_eq!(refused, 0);
    });
}

/// Waits for the change that concerns a guard.
fn noticed(monitor: &mut Monitor, lack: &Lack) -> Change {
    let started = Instant::now();
    loop {
        let changes = monitor.wait(SOON).unwrap();
        let concerns =
            |change: &&Change| matches!(change, Change::Lost(found) | Change::Back(found) if found == lack);
        if let Some(change) = changes.iter().find(concerns) {
            return change.clone();
        }
        assert!(started.elapsed() < SOON, "{lack}: {changes:?}");
    }
}

fn guarded(inner: &Namespace, outer: &Namespace) -> Guarded {
    let protected = PROTECTED.map(net);
    let side = InnerSide {
        tun: "tun9".to_owned(),
        addresses: vec![net("10.77.1.1/24"), net("fd77:77:1::1/64")],
        mtu: 1400,
        queue: QUEUE,
        gso_max_size: 60_000,
        routes: protected.to_vec(),
    };
    let host = HostGuard::new("gw", "tun9", &[net("10.77.1.0/24")], &protected).unwrap();
    Guarded {
        inner: (inner.clone(), side),
        outer: Some((outer.clone(), Blackholes::new(protected))),
        host: Some(host),
    }
}

const PROTECTED: [&str; 2] = ["10.77.2.0/24", "fd77:77:2::/64"];
