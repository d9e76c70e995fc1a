//! The bypass port: what policy lets go around IPsec leaves and enters by a TUN that the outer kernel routes (RFC 4301
//! sections 5.1 and 5.2).

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::latching::{LatchTerms, OnPolicyChange};
use latchway_datapath::low::tun::BackendChoice;
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::spd::{Action, Latching, Protection, Rule, Spd};
use latchway_datapath::time::Time;
use latchway_keying::{Op, Transaction};
use latchway_netns::inject::as_application;
use latchway_netns::{Links, Namespace, links, packet, sysctl};

use crate::scenario;
use crate::site::{BYPASS, Options, PATIENCE, Site, TUN, eventually, sites, transfer};
use crate::support::net::ALICE;

const WORLD: &str = "world";

/// Between alice's networks and a range, in both directions.
fn rule(first: &str, last: &str, action: Action) -> Rule {
    let [v4, v6] = ALICE.networks();
    let remote = AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap();
    let local = if remote.is_ipv4() { v4 } else { v6 };
    Rule::new(Selector::between(local, remote), None, action)
}

pub fn rules() -> Vec<Rule> {
    vec![
        rule("198.51.100.0", "198.51.100.255", Action::Bypass),
        rule("2001:db8:1::", "2001:db8:1::ffff", Action::Bypass),
        rule("203.0.113.0", "203.0.113.255", Action::Discard),
    ]
}

/// A gateway with a bypass port, and a world behind its outer namespace that speaks no IPsec.
fn with_world(options: Options) -> (Site, Site, Namespace) {
    let (alice, bob) = sites(&options);
    let world = Namespace::create(WORLD).unwrap();
    links::veth(&alice.outer, WORLD, &world, WORLD).unwrap();
    for key in ["net/ipv4/conf/all/forwarding", "net/ipv6/conf/all/forwarding"] {
        sysctl::write(&alice.outer, key, "1").unwrap();
    }
    let (outer, far, inner) =
        (Links::of(&alice.outer).unwrap(), Links::of(&world).unwrap(), Links::of(&alice.inner).unwrap());
    for (links, host) in [(&outer, 1), (&far, 2)] {
        links.add_address(WORLD, format!("198.51.100.{host}/24").parse().unwrap()).unwrap();
        links.add_address(WORLD, format!("2001:db8:1::{host}/64").parse().unwrap()).unwrap();
        links.set_up(WORLD).unwrap();
    }
    for links in [&outer, &far] {
        links.wait_ready(WORLD, PATIENCE).unwrap();
    }
    for (network, gateway) in [("10.0.1.0/24", "198.51.100.1"), ("fd00:1::/32", "2001:db8:1::1")] {
        far.add_route(network.parse().unwrap(), Some(gateway.parse().unwrap()), WORLD, 0).unwrap();
        if options.bypass {
            outer.add_route(network.parse().unwrap(), None, BYPASS, 0).unwrap();
        }
    }
    for network in ["198.51.100.0/24", "203.0.113.0/24", "2001:db8:1::/64"] {
        inner.add_route(network.parse().unwrap(), None, TUN, 0).unwrap();
    }
    (alice, bob, world)
}

fn world_address(v6: bool) -> IpAddr {
    if v6 { "2001:db8:1::2" } else { "198.51.100.2" }.parse().unwrap()
}

/// Both ways, both families, with super-packets and checksums left to the gateway, and on the plain backend; and nothing
/// of it is on the wire.
#[test]
fn rfc_4301_5_1_bypass_traffic_leaves_and_enters_by_the_bypass_port() {
    scenario("bypass::rfc_4301_5_1_bypass_traffic_leaves_and_enters_by_the_bypass_port", || {
        for backend in [BackendChoice::Auto, BackendChoice::Plain] {
            let options = Options { rules: rules(), bypass: true, backend, ..Options::default() };
            let (alice, _bob, world) = with_world(options);
            let units = alice.tun.read_units.get();
            for v6 in [false, true] {
                transfer(&alice.inner, &world, world_address(v6), 2_000_000);
                transfer(&world, &alice.inner, alice.address(v6), 2_000_000);
            }
            let outbound = alice.counters.street(Direction::Outbound);
            let inbound = alice.counters.street(Direction::Inbound);
            assert!(outbound.octets.get() > 4_000_000 && inbound.octets.get() > 4_000_000);
            // Every packet of a super-packet is counted.
            let [least, units] = [4_000_000 / 1400, alice.tun.read_units.get() - units];
            assert!(outbound.packets.get() > least && inbound.packets.get() > least);
            if backend == BackendChoice::Auto {
                assert!(units < outbound.packets.get(), "no super-packet was read");
            }
            let lost = DropReason::ALL.iter().filter(|&&reason| {
                reason != DropReason::LinkLocal
                    && (outbound.dropped(reason) > 0 || inbound.dropped(reason) > 0)
            });
            assert_eq!(lost.collect::<Vec<_>>(), Vec::<&DropReason>::new());
            assert_eq!(alice.wire.sent_datagrams.get(), 0);
            alice.end().unwrap();
        }
    });
}

/// What policy protects or discards does not pass the port, either way, and is counted under its name.
#[test]
fn rfc_4301_5_2_the_bypass_port_admits_only_what_policy_lets_by() {
    scenario("bypass::rfc_4301_5_2_the_bypass_port_admits_only_what_policy_lets_by", || {
        let options = Options { rules: rules(), bypass: true, ..Options::default() };
        let (alice, _bob, _world) = with_world(options);
        let socket = alice.inner.run(|| UdpSocket::bind((alice.address(false), 9)).unwrap()).unwrap();
        let to = socket.local_addr().unwrap();
        let clear = |from: &str| {
            let packet = packet::udp(from.parse().unwrap(), to, b"in the clear").unwrap();
            as_application(&alice.outer, &packet).unwrap();
        };
        for (from, reason) in [
            ("10.0.2.10:5", DropReason::Unprotected),
            ("203.0.113.1:5", DropReason::PolicyDiscard),
            ("192.0.2.77:5", DropReason::NoPolicy),
        ] {
            clear(from);
            eventually("it is dropped", || alice.dropped(Direction::Inbound, reason) == 1);
        }
        for _ in 0..3 {
            socket.send_to(b"discarded", "203.0.113.1:5").unwrap();
        }
        eventually("they are dropped", || alice.dropped(Direction::Outbound, DropReason::PolicyDiscard) == 3);
        clear("198.51.100.2:5");
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (len, from) = socket.recv_from(&mut [0; 100]).unwrap();
        assert_eq!((len, from), (12, "198.51.100.2:5".parse().unwrap()), "the first that arrives");
    });
}

/// Without a port, what should leave by it is dropped, packet by packet.
#[test]
fn rfc_4301_5_1_without_a_port_bypass_traffic_is_dropped_and_counted() {
    scenario("bypass::rfc_4301_5_1_without_a_port_bypass_traffic_is_dropped_and_counted", || {
        let (alice, _bob, _world) = with_world(Options { rules: rules(), ..Options::default() });
        let socket = alice.inner.run(|| UdpSocket::bind((alice.address(false), 0)).unwrap()).unwrap();
        for _ in 0..3 {
            socket.send_to(b"nowhere", "198.51.100.2:5").unwrap();
        }
        eventually("they are dropped", || alice.dropped(Direction::Outbound, DropReason::NoBypassPort) == 3);
        assert_eq!(alice.counters.street(Direction::Outbound).packets.get(), 0);
    });
}

/// L-24, L-26: policy that comes to say BYPASS moves no latched connection to the port, and lets nothing in the clear
/// into one.
#[test]
fn l_24_l_26_a_latched_connection_never_takes_the_bypass_port() {
    scenario("bypass::l_24_l_26_a_latched_connection_never_takes_the_bypass_port", || {
        let terms = LatchTerms { on_policy_change: OnPolicyChange::Preserve, ..LatchTerms::default() };
        let protection = Protection { latching: Latching::On(terms), ..Protection::LATCHED };
        let (mut alice, bob, _world) = with_world(Options { protection, bypass: true, ..Options::default() });
        let listener = bob.inner.run(|| TcpListener::bind((bob.address(false), 0)).unwrap()).unwrap();
        let to = listener.local_addr().unwrap();
        let mut near = alice.inner.run(|| TcpStream::connect_timeout(&to, PATIENCE).unwrap()).unwrap();
        let (mut far, from) = listener.accept().unwrap();
        far.set_read_timeout(Some(PATIENCE)).unwrap();

        let [first, last] = ["10.0.2.0", "10.0.2.255"];
        let spd = Spd::new(vec![rule(first, last, Action::Bypass)]);
        alice.keying.commit(Transaction::new(vec![Op::SetSpd(spd)]), Time::default()).unwrap();
        eventually("no latch stands against the policy", || {
            !alice.keying.poll(Time::default()).settling && !alice.keying.is_changing()
        });
        let unlatched = packet::udp(
            SocketAddr::new(bob.address(false), 5),
            SocketAddr::new(alice.address(false), 9),
            b"x",
        );
        let inbound = alice.counters.street(Direction::Inbound).packets.get();
        eventually("the new policy rules", || {
            as_application(&alice.outer, unlatched.as_ref().unwrap()).unwrap();
            alice.counters.street(Direction::Inbound).packets.get() > inbound
        });

        let sent = alice.wire.sent_datagrams.get();
        near.write_all(b"still protected").unwrap();
        let mut received = [0; 15];
        far.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"still protected");
        eventually("it was sent by the wire", || alice.wire.sent_datagrams.get() > sent);
        let reset =
            packet::Segment { sequence: 1, acknowledgement: Some(1), rst: true, ..Default::default() };
        as_application(&alice.outer, &packet::tcp(to, from, &reset).unwrap()).unwrap();
        eventually("it is dropped", || alice.dropped(Direction::Inbound, DropReason::LatchUnprotected) == 1);
        near.write_all(b"and still there").unwrap();
        far.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"and still there");
    });
}
