//! Narrowing around listeners (L-51, C-32): SAs that are not what a listener asks for need not speak of its 3-tuple, or
//! those who come under them are turned away.

use latchway_datapath::flow::{number, protocol};
use latchway_datapath::selector::{AddressRange, PortRange, Selector, has_ports};
use latchway_ulp_shim::Listening;

/// What remains of a selector without the connections that come to a listener.
pub(crate) fn aside(selector: &Selector, listening: &Listening) -> Vec<Selector> {
    let Listening { address, protocol, port } = *listening;
    let spoken_of = selector.local.is_ipv4() == address.is_ipv4()
        && (address.is_unspecified() || selector.local.contains(number(address)))
        && selector.protocol.is_none_or(|only| only == protocol)
        && selector.local_ports.contains(port)
        && selector.remote_ports != PortRange::OPAQUE;
    if !spoken_of {
        return vec![selector.clone()];
    }
    let (mut left, mut here) = (Vec::new(), selector.clone());
    if !address.is_unspecified() {
        let around = selector.local.around(number(address)).into_iter().flatten();
        left.extend(around.map(|local| Selector { local, ..selector.clone() }));
        here.local = AddressRange::single(address);
    }
    if here.protocol.is_none() {
        // "Every protocol but one" is no selector.
        let others = usual(address.is_ipv4()).into_iter().filter(|other| *other != protocol);
        let fits = |other: &u8| has_ports(*other) || here.admits_unseen_ports();
        left.extend(others.filter(fits).map(|other| Selector { protocol: Some(other), ..here.clone() }));
        here.protocol = Some(protocol);
    }
    let ports = here.local_ports.around(port).into_iter().flatten();
    left.extend(ports.map(|local_ports| Selector { local_ports, ..here.clone() }));
    left
}

const fn usual(ipv4: bool) -> [u8; 3] {
    [protocol::TCP, protocol::UDP, if ipv4 { protocol::ICMP } else { protocol::ICMPV6 }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::range;
    use latchway_datapath::flow::FlowKey;
    use latchway_datapath::traffic::Traffic;

    /// Every flow of a small world: three hosts on our side, four ports, four protocols.
    fn world() -> impl Iterator<Item = FlowKey> {
        let ends = (1..=3_u8).flat_map(|host| [1_u16, 25, 26, 65535].map(|port| (host, port)));
        ends.flat_map(|(host, port)| {
            [protocol::TCP, protocol::UDP, protocol::ICMP, 47].map(|protocol| {
                FlowKey::new(protocol, ([10, 0, 0, host], port).into(), ([10, 1, 0, 1], port).into())
            })
        })
    }

    fn speaks_of_tcp(selector: &Selector) -> bool {
        [selector.local_ports, selector.remote_ports].iter().all(|ports| *ports != PortRange::OPAQUE)
    }

    #[test]
    fn l_51_what_is_left_admits_all_but_what_comes_to_the_listener() {
        let whole = Selector::between(range("10.0.0.1", "10.0.0.3"), range("10.1.0.1", "10.1.0.3"));
        let of_tcp = Selector { protocol: Some(protocol::TCP), ..whole.clone() };
        let some_ports = Selector { local_ports: PortRange::new(&(20..=30)), ..of_tcp.clone() };
        let of_no_ports =
            Selector { local_ports: PortRange::OPAQUE, remote_ports: PortRange::OPAQUE, ..whole.clone() };
        let from_no_ports = Selector { remote_ports: PortRange::OPAQUE, ..whole.clone() };
        for selector in [whole, of_tcp, some_ports, of_no_ports, from_no_ports] {
            for address in ["10.0.0.2", "0.0.0.0", "10.9.9.9", "::"] {
                let listening =
                    Listening { address: address.parse().unwrap(), protocol: protocol::TCP, port: 25 };
                let left = aside(&selector, &listening);
                for flow in world() {
                    let here = listening.address == flow.local().ip() || address == "0.0.0.0";
                    let comes = here && flow.protocol() == protocol::TCP && flow.local_port() == 25;
                    // What "every protocol but one" cannot say.
                    let unsaid = here
                        && speaks_of_tcp(&selector)
                        && selector.protocol.is_none()
                        && flow.protocol() == 47;
                    let kept = selector.admits(&Traffic::of(&flow)) && !comes && !unsaid;
                    let admitting = left.iter().filter(|part| part.admits(&Traffic::of(&flow))).count();
                    assert_eq!(admitting, usize::from(kept), "{flow} of {selector:?} beside {address}");
                }
            }
        }
    }
}
