//! The inner side: order, idempotence, and what stays when the TUN goes (T13).

use latchway_guard::{BLACKHOLE_METRIC, InnerSide, Lock, Missing, QUEUE};
use latchway_netns::{
    Links, Namespace, inject,
    links::Way,
    packet,
    skip::{self, Need},
    sysctl,
    testing::{in_private_run, namespaced},
    watch::{Options, Sniffer},
};

use nix::mount::{MsFlags, mount};

use crate::support::{net, seen, tun, wire};

fn side() -> InnerSide {
    InnerSide {
        tun: "tun9".to_owned(),
        addresses: vec![net("10.77.1.1/24"), net("fd77:77:1::1/64")],
        mtu: 1400,
        queue: QUEUE,
        gso_max_size: 60_000,
        routes: vec![net("10.77.2.0/24"), net("fd77:77:2::/64")],
    }
}

#[test]
fn t13_the_inner_side_is_brought_to_its_state_and_then_left_alone() {
    let name = "inner::t13_the_inner_side_is_brought_to_its_state_and_then_left_alone";
    namespaced(name, || {
        if !skip::require(name, &[Need::Tun]) {
            return;
        }
        let (inner, side) = (Namespace::create("inner").unwrap(), side());
        assert!(side.missing(&inner).unwrap().contains(&Missing::Tun));
        let device = tun(&inner, "tun9");
        let missing = side.prepare(&inner).unwrap();
        assert!(
            missing.contains(&Missing::Up) && missing.contains(&Missing::Blackhole(net("fd77:77:2::/64")))
        );
        assert_eq!(side.prepare(&inner).unwrap(), [], "nothing is left to do");

        // As the last run may have left it, with other addresses, or as somebody else has changed it.
        let links = Links::of(&inner).unwrap();
        links.add_address("tun9", net("10.99.0.1/24")).unwrap();
        links.delete_address("tun9", net("fd77:77:1::1/64")).unwrap();
        links.set_mtu("tun9", 1300).unwrap();
        links.set_down("tun9").unwrap();
        let missing = side.prepare(&inner).unwrap();
        for expected in [
            Missing::NoAddress(net("10.99.0.1/24")),
            Missing::Address(net("fd77:77:1::1/64")),
            Missing::Setting("MTU"),
            Missing::Up,
            Missing::Route(net("10.77.2.0/24")),
        ] {
            assert!(missing.contains(&expected), "{expected}: {missing:?}");
        }
        assert_eq!(side.missing(&inner).unwrap(), []);

        // A blackhole or route alone is put back without touching the interface.
        links.delete_blackhole(net("10.77.2.0/24"), BLACKHOLE_METRIC).unwrap();
        assert_eq!(side.prepare(&inner).unwrap(), [Missing::Blackhole(net("10.77.2.0/24"))]);

        // With the TUN, all goes but the blackholes.
        drop(device);
        let left = links.routes().unwrap().into_iter().filter(|route| route.way == Way::Blackhole).count();
        assert_eq!((left, links.exists("tun9").unwrap()), (2, false));
    });
}

/// T13: where the namespace has another way, set down or deleted the TUN gives nothing to it.
#[test]
fn t13_without_its_tun_a_protected_prefix_is_unreachable_even_where_there_is_a_default_route() {
    let name =
        "inner::t13_without_its_tun_a_protected_prefix_is_unreachable_even_where_there_is_a_default_route";
    namespaced(name, || {
        if !skip::require(name, &[Need::Tun]) {
            return;
        }
        let (inner, outside) = (Namespace::create("inner").unwrap(), Namespace::create("outside").unwrap());
        wire(
            (&inner, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]),
            (&outside, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]),
        );
        let (links, side) = (Links::of(&inner).unwrap(), side());
        links.add_route(net("0.0.0.0/0"), Some(net("192.0.2.2/24").addr()), "eth0", 0).unwrap();
        links.add_route(net("::/0"), Some(net("2001:db8::2/64").addr()), "eth0", 0).unwrap();
        let device = tun(&inner, "tun9");
        side.prepare(&inner).unwrap();
        let options = Options::searching(&[b"protected", b"in the clear"]);
        let sniffer = Sniffer::start_with(&outside, "eth0", options).unwrap();
        let send = |tries: &str| {
            for (from, to) in [("10.77.1.1:7", "10.77.2.1:7"), ("[fd77:77:1::1]:7", "[fd77:77:2::1]:7")] {
                let text = format!("protected {tries}");
                let packet =
                    packet::udp(from.parse().unwrap(), to.parse().unwrap(), text.as_bytes()).unwrap();
                // An error is as good: it did not leave.
                let _ = inject::as_application(&inner, &packet);
            }
        };
        send("up");
        links.set_down("tun9").unwrap();
        send("down");
        drop(device);
        send("gone");
        // What has a way arrives: the sniffer sees.
        let clear =
            packet::udp("192.0.2.1:7".parse().unwrap(), "198.51.100.1:7".parse().unwrap(), b"in the clear");
        inject::as_application(&inner, &clear.unwrap()).unwrap();
        seen(&sniffer, b"in the clear");
        assert!(!sniffer.contains(b"protected").unwrap());
    });
}

/// Where IPv6 is disabled, or the kernel has none, IPv4 works as ever; an IPv6 address is refused with a reason.
#[test]
fn an_inner_side_of_ipv4_alone_needs_no_ipv6() {
    let name = "inner::an_inner_side_of_ipv4_alone_needs_no_ipv6";
    namespaced(name, || {
        if !skip::require(name, &[Need::Tun]) {
            return;
        }
        let side = side();
        let ipv4 = InnerSide {
            addresses: side.addresses[..1].to_vec(),
            routes: side.routes[..1].to_vec(),
            ..side.clone()
        };
        let without = Namespace::create("disabled").unwrap();
        sysctl::write(&without, "net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let _device = tun(&without, "tun9");
        ipv4.prepare(&without).unwrap();
        assert_eq!(ipv4.missing(&without).unwrap(), []);
        let refused = side.prepare(&without).unwrap_err().to_string();
        assert!(refused.contains("sysctl -w net.ipv6.conf.tun9.disable_ipv6=0"), "{refused}");
        in_private_run(|| {
            // As with the kernel parameter ipv6.disable=1.
            mount(Some("none"), "/proc/sys/net/ipv6", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
            let without = Namespace::create("without").unwrap();
            let _device = tun(&without, "tun9");
            ipv4.prepare(&without).unwrap();
            assert_eq!(ipv4.missing(&without).unwrap(), []);
        });
    });
}

/// One gateway per TUN: the lock goes by the namespace, not by its name.
#[test]
fn a_tun_is_locked_in_its_namespace() {
    namespaced("inner::a_tun_is_locked_in_its_namespace", || {
        in_private_run(|| {
            let (one, other) = (Namespace::create("one").unwrap(), Namespace::create("other").unwrap());
            let held = Lock::tun(&one, "tun9").unwrap();
            let again = Namespace::from_path(one.proc_path()).unwrap();
            let refused = Lock::tun(&again, "tun9").unwrap_err().to_string();
            assert!(refused.contains(&format!("in use by process {}", std::process::id())), "{refused}");
            drop((Lock::tun(&one, "tun8").unwrap(), Lock::tun(&other, "tun9").unwrap()));
            drop(held);
            drop(Lock::tun(&again, "tun9").unwrap());
        });
    });
}
