//! A path to a Linux kernel that takes less in its middle than at its ends, of which only a router's ICMP tells.

use latchway_netns::{Namespace, links};

use crate::case::{Case, Family};
use crate::guest::{Guest, Kind, Talk, guest, host};
use crate::site::{Site, WIRE};
use crate::suite::Suite;
use crate::{eventually, scenario, talk};

/// RFC 4301 section 8.2 (T18): both sides learn what the path takes, and large transfers pass, in UDP and without. The kernel
/// answers the gateway's echo requests, which prove it. What the middle takes leaves less than 1280 octets to the inner packet,
/// so the floor has to be lower.
#[test]
fn a_narrow_path_is_learnt() {
    let test = "path::a_narrow_path_is_learnt";
    scenario(test, || {
        let Some(mut guest) = guest(test) else { return };
        let udp = Case { lines: FLOOR.to_owned(), ..Case::new(1, Suite::named("aes-128-gcm")) };
        let native =
            Case { udp: false, number: 2, suite: Suite::named("aes-256-cbc-hmac-sha-256"), ..udp.clone() };
        let cases = [udp, native];
        let (site, _routers) = narrow(&mut guest, &cases);
        for (place, case) in cases.iter().enumerate() {
            let (theirs, ours) = case.ends();
            let stream = |(from, to)| [Talk { kind: Kind::Tcp, from, to, lengths: vec![200_000] }];
            assert_eq!(talk::talk(&site.inner, &stream((ours, theirs))), [None], "{case}, to it");
            assert_eq!(guest.talk(&stream((theirs, ours))), [None], "{case}, from it");
            eventually("the gateway knows what the path takes", || {
                let (in_force, suspected) = path(&site, place);
                !suspected && (NARROW - 24..=NARROW).contains(&in_force)
            });
            eprintln!("{case}  {} of {NARROW} octets are found", path(&site, place).0);
        }
    });
}

/// RFC 4301 section 8.2 (T18): where nothing behind the kernel answers echoes, a router's word is doubted and proves nothing.
/// The MTU stays, is shown as suspected, and whoever sees that says `mtu`.
#[test]
fn a_narrow_path_that_nobody_proves_is_suspected() {
    let test = "path::a_narrow_path_that_nobody_proves_is_suspected";
    scenario(test, || {
        let Some(mut guest) = guest(test) else { return };
        let silent = Case { lines: FLOOR.to_owned(), ..Case::new(1, Suite::named("aes-128-gcm")) };
        let said = Case { number: 2, lines: format!("mtu = {NARROW}\n"), ..silent.clone() };
        let cases = [silent, said];
        let (site, _routers) = narrow(&mut guest, &cases);
        guest.run("sysctl -qw net.ipv4.icmp_echo_ignore_all=1");
        let (theirs, ours) = cases[1].ends();
        let stream = |(from, to)| [Talk { kind: Kind::Tcp, from, to, lengths: vec![200_000] }];
        assert_eq!(talk::talk(&site.inner, &stream((ours, theirs))), [None], "to it");
        assert_eq!(guest.talk(&stream((theirs, ours))), [None], "from it");
        let (theirs, ours) = cases[0].ends();
        let echo = latchway_netns::ping::Echo {
            source: Some(ours),
            destination: theirs,
            length: 1372,
            timeout: std::time::Duration::from_millis(200),
            ..Default::default()
        };
        eventually("a router's word makes the gateway doubt", || {
            latchway_netns::ping::echo(&site.inner, &echo).unwrap();
            path(&site, 0) == (1500, true)
        });
    });
}

/// What is in force of the path of an SA, by its place, and whether it is doubted.
fn path(site: &Site, place: usize) -> (u64, bool) {
    let path = &site.gateway.rows("sa list")[place]["path"];
    (path["in_force"].as_u64().unwrap(), path["suspected"].as_bool().unwrap())
}

/// A gateway that is the other end of all these, behind two routers; and what the routers are in: gateway, 1500, router, narrow,
/// router, 1500, bridge.
fn narrow(guest: &mut Guest, cases: &[Case]) -> (Site, [Namespace; 2]) {
    let batch: String = cases.iter().map(Case::kernel).collect();
    guest.ip(&batch);
    let [outer, near, far] =
        ["gateway", "near router", "far router"].map(|name| Namespace::create(name).unwrap());
    links::veth(&outer, WIRE, &near, "gateway").unwrap();
    links::veth(&near, "middle", &far, "middle").unwrap();
    guest.join(&far, "bridge");
    let gateway = Family::V4.gateway();
    let script = |own: &str| {
        format!("sysctl -qw net.ipv4.ip_forward=1 && ip link set middle mtu {NARROW} up && {own}")
    };
    host(
        &near,
        &script(&format!(
            "ip link set gateway up && ip address add 10.8.1.1/24 dev gateway && ip address add 10.8.0.1/24 dev middle && \
             ip route add {gateway}/32 dev gateway && ip route add 10.9.0.0/16 via 10.8.0.2"
        )),
    );
    // The guest takes the gateway for a neighbour.
    host(
        &far,
        &script(&format!(
            "sysctl -qw net.ipv4.conf.bridge.proxy_arp=1 && ip address add 10.8.0.2/24 dev middle && \
             ip address add 10.9.250.1/16 dev bridge && ip route add {gateway}/32 via 10.8.0.1"
        )),
    );
    let v6 = Family::V6.gateway();
    host(
        &outer,
        &format!(
            "ip link set {WIRE} up && ip address add {gateway}/32 dev {WIRE} && ip address add {v6}/64 dev {WIRE} nodad"
        ),
    );
    host(&outer, &format!("ip route add 10.8.1.1 dev {WIRE} && ip route add 10.9.0.0/16 via 10.8.1.1"));
    let peers: Vec<_> = cases.iter().map(Case::peer).collect();
    (Site::run(&outer, &peers, false), [near, far])
}

/// What the middle takes.
const NARROW: u64 = 1300;
/// A line of an SA for which less than the middle takes is not too little to be believed.
const FLOOR: &str = "pmtu_floor = 1200\n";
