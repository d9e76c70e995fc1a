//! What the sniffers must see where nothing guards: that they can fail.

use std::collections::BTreeSet;
use std::net::IpAddr;

use latchway_netns::Links;

use crate::scenario;
use crate::site::{AROUND, Mode, Side, WIRE, places, watch};
use crate::traffic::Traffic;

/// Without gateways, hosts of the same addresses speak in the clear, and every kind of packet is seen: in a namespace with
/// another way out, and in one with the wire.
#[test]
fn t13_without_a_gateway_the_sniffers_see_every_kind_of_packet() {
    scenario("control::t13_without_a_gateway_the_sniffers_see_every_kind_of_packet", || {
        for (mode, by) in [(Mode::Split, AROUND), (Mode::Host, WIRE)] {
            let places = places(mode);
            let watch = watch(mode, &places);
            for (place, side) in places.iter().zip([Side::A, Side::B]) {
                let links = Links::of(&place.inner).unwrap();
                for v6 in [false, true] {
                    links.add_address("lo", IpAddr::into(side.address(v6))).unwrap();
                }
            }
            let [a, b] = &places;
            let traffic = Traffic::between(&a.inner, &b.inner, by);
            traffic.goes_on(5);
            drop(traffic);
            let seen = watch.end();
            let kinds: BTreeSet<&str> = seen.inner.iter().map(|(kind, _)| kind.as_str()).collect();
            let missed: Vec<_> = KINDS.iter().filter(|kind| !kinds.contains(**kind)).collect();
            assert!(missed.is_empty(), "{mode:?}: not seen: {missed:?}; seen: {kinds:?}");
            assert!(!seen.found.is_empty(), "{mode:?}: no octets were found");
            assert_eq!(seen.esp, 0);
        }
    });
}

/// The list of T13.
const KINDS: [&str; 21] = [
    "IPv4 acknowledgement",
    "IPv4 begin",
    "IPv4 data",
    "IPv4 datagram",
    "IPv4 echo",
    "IPv4 end",
    "IPv4 fragment",
    "IPv4 multicast",
    "IPv4 reset",
    "IPv4 zero window",
    "IPv6 acknowledgement",
    "IPv6 begin",
    "IPv6 data",
    "IPv6 datagram",
    "IPv6 echo",
    "IPv6 end",
    "IPv6 fragment",
    "IPv6 multicast",
    "IPv6 neighbour",
    "IPv6 reset",
    "IPv6 zero window",
];
