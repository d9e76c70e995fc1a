//! Narrowing around latches: what is left of a selector when one connection is taken out of it (L-73).
//!
//! A selector is a box of five sides, and what remains around a point of it is a handful of smaller boxes. Where a
//! selector speaks of every protocol, what remains between the two hosts of the connection is that of the usual
//! protocols, since "every protocol but one" is no selector.

use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::selector::{AddressRange, PortRange, Selector, has_ports};
use latchway_datapath::traffic::Traffic;

/// Takes connections out of selectors. `None` where more than `most` selectors remain, or none.
pub(crate) fn carve<'f>(
    selectors: &[Selector],
    flows: impl IntoIterator<Item = &'f FlowKey>,
    most: usize,
) -> Option<Vec<Selector>> {
    let mut left = selectors.to_vec();
    for flow in flows {
        let (around, beside): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|selector| selector.admits(&Traffic::of(flow)));
        left = beside;
        left.extend(around.iter().flat_map(|selector| without(selector, flow)));
        if left.len() > most {
            return None;
        }
    }
    (!left.is_empty()).then_some(left)
}

/// What remains of a selector that admits the flow.
fn without(selector: &Selector, flow: &FlowKey) -> Vec<Selector> {
    let mut left = Vec::new();
    let (remote, local) = (flow.remote_number(), flow.local_number());
    let parts = |range: &AddressRange, number| range.around(number).into_iter().flatten();
    left.extend(parts(&selector.remote, remote).map(|remote| Selector { remote, ..selector.clone() }));
    let selector = Selector { remote: AddressRange::single(flow.remote().ip()), ..selector.clone() };
    left.extend(parts(&selector.local, local).map(|local| Selector { local, ..selector.clone() }));
    let selector = Selector { local: AddressRange::single(flow.local().ip()), ..selector };
    if selector.protocol.is_none() {
        let others = usual(selector.remote.is_ipv4()).into_iter().filter(|other| *other != flow.protocol());
        left.extend(others.map(|other| Selector { protocol: Some(other), ..selector.clone() }));
    }
    if !has_ports(flow.protocol()) {
        return left;
    }
    let selector = Selector { protocol: Some(flow.protocol()), ..selector };
    let remote_ports = selector.remote_ports.around(flow.remote_port()).into_iter().flatten();
    left.extend(remote_ports.map(|remote_ports| Selector { remote_ports, ..selector.clone() }));
    let selector = Selector { remote_ports: port(flow.remote_port()), ..selector };
    let local_ports = selector.local_ports.around(flow.local_port()).into_iter().flatten();
    left.extend(local_ports.map(|local_ports| Selector { local_ports, ..selector.clone() }));
    left
}

const fn port(port: u16) -> PortRange {
    PortRange::new(&(port..=port))
}

const fn usual(ipv4: bool) -> [u8; 3] {
    [protocol::TCP, protocol::UDP, if ipv4 { protocol::ICMP } else { protocol::ICMPV6 }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::range;

    fn flow(protocol: u8, local: &str, remote: &str) -> FlowKey {
        FlowKey::new(protocol, local.parse().unwrap(), remote.parse().unwrap())
    }

    fn selector(protocol: Option<u8>, ports: PortRange) -> Selector {
        let between = Selector::between(range("10.0.0.1", "10.0.0.3"), range("10.1.0.1", "10.1.0.3"));
        Selector { protocol, remote_ports: ports, local_ports: ports, ..between }
    }

    /// Every flow of a small world: three hosts on either side, five ports, four protocols.
    fn world() -> impl Iterator<Item = FlowKey> {
        let numbers = || (1..=3_u8).flat_map(|host| [1_u16, 2, 3, 4, 65535].map(|port| (host, port)));
        let ends = numbers().flat_map(move |local| numbers().map(move |remote| (local, remote)));
        ends.flat_map(|(local, remote)| {
            [protocol::TCP, protocol::UDP, protocol::ICMP, 47].map(|protocol| {
                let (local, remote) = (([10, 0, 0, local.0], local.1), ([10, 1, 0, remote.0], remote.1));
                FlowKey::new(protocol, local.into(), remote.into())
            })
        })
    }

    #[test]
    fn l_73_what_is_left_admits_all_but_the_connection_and_nothing_twice_or_new() {
        let narrow = PortRange::new(&(2..=3));
        for (protocol, ports) in [
            (None, PortRange::ANY),
            (None, PortRange::OPAQUE),
            (Some(protocol::TCP), PortRange::ANY),
            (Some(protocol::TCP), narrow),
            (Some(protocol::ICMP), PortRange::ANY),
        ] {
            let whole = selector(protocol, ports);
            for cut in [
                flow(protocol::TCP, "10.0.0.2:2", "10.1.0.2:3"),
                flow(protocol::TCP, "10.0.0.1:3", "10.1.0.3:3"),
                flow(protocol::ICMP, "10.0.0.3:2", "10.1.0.1:2"),
            ] {
                let left = carve(std::slice::from_ref(&whole), [&cut], 255).unwrap();
                for other in world() {
                    let admitting =
                        left.iter().filter(|selector| selector.admits(&Traffic::of(&other))).count();
                    let same_hosts =
                        (other.local().ip(), other.remote().ip()) == (cut.local().ip(), cut.remote().ip());
                    let same = same_hosts && other.protocol() == cut.protocol();
                    // Without ports, the two hosts are all there is to tell flows of a protocol by.
                    let gone = same && (other == cut || cut.protocol() == protocol::ICMP);
                    // What "every protocol but one" cannot say.
                    let unsaid = same_hosts && protocol.is_none() && other.protocol() == 47;
                    let kept = whole.admits(&Traffic::of(&other))
                        && !(whole.admits(&Traffic::of(&cut)) && (gone || unsaid));
                    assert_eq!(admitting, usize::from(kept), "{other:?} of {whole:?} without {cut:?}");
                }
            }
        }
    }

    #[test]
    fn l_73_nothing_is_left_of_the_connection_alone_and_too_many_parts_are_no_narrowing() {
        let cut = flow(protocol::TCP, "10.0.0.2:2", "10.1.0.2:3");
        let alone = Selector {
            local: AddressRange::single(cut.local().ip()),
            remote: AddressRange::single(cut.remote().ip()),
            protocol: Some(protocol::TCP),
            local_ports: port(2),
            remote_ports: port(3),
            icmp: None,
        };
        assert_eq!(carve(&[alone], [&cut], 255), None);
        let whole = [selector(None, PortRange::ANY)];
        let cuts: Vec<_> = world().filter(|flow| flow.protocol() == protocol::TCP).collect();
        assert!(carve(&whole, &cuts, 60).is_none());
        assert!(carve(&whole, &cuts[..3], 255).is_some_and(|left| left.len() > 3));
    }
}
