//! A wire that changes frames on their way.

use latchway_netns::{
    Links, Namespace,
    links::veth,
    ping::{self, Echo},
    relay::Relay,
    testing::namespaced,
    watch::{Direction, Frame, Sniffer},
};

use crate::support::{SOON, net4, net6};

/// RFC 3168 section 5: what a congested router writes into packets arrives at their destination, and nothing else is changed.
#[test]
fn frames_pass_both_ways_as_they_were_changed() {
    namespaced("relay::frames_pass_both_ways_as_they_were_changed", || {
        let [a, between, b] = ["a", "between", "b"].map(|label| Namespace::create(label).unwrap());
        veth(&a, "va", &between, "near").unwrap();
        veth(&b, "vb", &between, "far").unwrap();
        let ends = [(&a, "va", 1), (&b, "vb", 2)];
        for (namespace, name, host) in ends {
            let links = Links::of(namespace).unwrap();
            links.quiet_ipv6(name).unwrap();
            links.set_up(name).unwrap();
            links.add_address(name, net4(host)).unwrap();
            links.add_address(name, net6(host)).unwrap();
        }
        for name in ["near", "far"] {
            let links = Links::of(&between).unwrap();
            links.quiet_ipv6(name).unwrap();
            links.set_up(name).unwrap();
        }
        ends.iter().for_each(|(namespace, name, _)| {
            Links::of(namespace).unwrap().wait_ready(name, SOON).unwrap();
        });
        let relay = Relay::start(&between, ["near", "far"], congested).unwrap();
        let seen = [Sniffer::start(&a, "va").unwrap(), Sniffer::start(&b, "vb").unwrap()];
        let marks = seen.each_ref().map(Sniffer::mark);
        for destination in [net4(2), net6(2)] {
            let echo = Echo {
                destination: destination.addr(),
                count: 5,
                length: 1400,
                timeout: SOON,
                ..Echo::default()
            };
            let report = ping::echo(&a, &echo).unwrap();
            assert_eq!((report.received, report.corrupted), (5, 0), "{report:?}");
        }
        for (sniffer, mark) in seen.iter().zip(marks) {
            let echo = |frame: &Frame| {
                frame.direction == Direction::Inbound && frame.length > 1400 && frame.bytes[12] == 0x86
            };
            let frame = sniffer.wait_for(mark, echo, SOON).unwrap();
            assert_eq!(frame.bytes[15] & 0x30, 0x30, "marked");
        }
        drop(relay);
        let echo = Echo { destination: net4(2).addr(), ..Echo::default() };
        assert_eq!(ping::echo(&a, &echo).unwrap().received, 0, "the wire is cut");
    });
}

/// Marks what goes over IPv6 as having met congestion.
fn congested(frame: &mut [u8]) {
    if let [.., 0x86, 0xdd] = frame.get(..14).unwrap_or_default()
        && let Some(class) = frame.get_mut(15)
    {
        *class |= 0x30;
    }
}
