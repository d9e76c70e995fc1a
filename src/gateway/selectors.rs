//! Traffic selectors as control.sock has them (RFC 4301 section 4.4.1.1), and as the datapath does: of one range on each side.

use latchway_control::{IcmpSpec, MessagesSpec, PortsSpec, PortsView, RangeSpec, SelectorSpec, SelectorView};
use latchway_datapath::flow::protocol;
use latchway_datapath::selector::{AddressRange, IcmpRange, PortRange, Selector, has_ports};

use crate::gateway::convert::SpecError;

/// What a rule speaks of.
pub fn of_rule(spec: &SelectorSpec) -> Result<Vec<Selector>, SpecError> {
    let selectors = selectors(spec)?;
    let opaque = |selector: &Selector| match selector.protocol {
        Some(protocol) if has_ports(protocol) => {
            [selector.local_ports, selector.remote_ports].contains(&PortRange::OPAQUE)
        }
        Some(_) => selector.icmp == Some(IcmpRange::OPAQUE),
        None => false,
    };
    match selectors.iter().find(|selector| opaque(selector)).and_then(|selector| selector.protocol) {
        Some(protocol) => Err(SpecError::NeverOpaque(protocol)),
        None => Ok(selectors),
    }
}

/// What an SA is for (RFC 4301 section 7.2: certain ports are of a certain protocol).
pub fn of_sa(spec: &SelectorSpec) -> Result<Vec<Selector>, SpecError> {
    let selectors = selectors(spec)?;
    let of_any = |selector: &Selector| selector.protocol.is_none() && !selector.admits_unseen_ports();
    if selectors.iter().any(of_any) { Err(SpecError::PortsOfAny) } else { Ok(selectors) }
}

/// A traffic selector.
pub fn shown(selector: &Selector) -> SelectorView {
    SelectorView {
        local: selector.local.to_string(),
        remote: selector.remote.to_string(),
        protocol: selector.protocol,
        icmp: selector.icmp.and_then(shown_messages),
        local_ports: shown_ports(selector.local_ports),
        remote_ports: shown_ports(selector.remote_ports),
    }
}

fn shown_ports(ports: PortRange) -> Option<PortsView> {
    match ports {
        PortRange::ANY => None,
        PortRange::OPAQUE => Some(PortsView::OPAQUE),
        // What a rule has is never empty.
        ports => ports.ends().map(|(first, last)| PortsView::Between(first, last)),
    }
}

fn shown_messages(range: IcmpRange) -> Option<IcmpSpec> {
    if range == IcmpRange::OPAQUE {
        return Some(IcmpSpec::OPAQUE);
    }
    let ((first_type, first_code), (last_type, last_code)) = range.ends()?;
    Some(IcmpSpec::Messages(MessagesSpec { types: (first_type, last_type), codes: (first_code, last_code) }))
}

/// The selectors of one range on each side that are the same together, in the order in which they were given.
fn selectors(spec: &SelectorSpec) -> Result<Vec<Selector>, SpecError> {
    let (local, remote) = (addresses(&spec.local)?, addresses(&spec.remote)?);
    let (local_ports, remote_ports) = (ports(spec.local_ports.as_ref())?, ports(spec.remote_ports.as_ref())?);
    let icmp = spec.icmp.map(|icmp| messages(icmp, spec.protocol)).transpose()?;
    check(spec, [&local, &remote], [&local_ports, &remote_ports])?;
    let mut selectors = Vec::new();
    for &local in &local {
        for &remote in remote.iter().filter(|remote| remote.is_ipv4() == local.is_ipv4()) {
            for &local_ports in &local_ports {
                selectors.extend(remote_ports.iter().map(|&remote_ports| Selector {
                    local,
                    remote,
                    protocol: spec.protocol,
                    local_ports,
                    remote_ports,
                    icmp,
                }));
            }
        }
    }
    Ok(selectors)
}

/// Whether the parts go together, and are few enough.
fn check(
    spec: &SelectorSpec,
    addresses: [&[AddressRange]; 2],
    ports: [&[PortRange]; 2],
) -> Result<(), SpecError> {
    let families = |ranges: &[AddressRange]| [true, false].map(|v4| ranges.iter().any(|r| r.is_ipv4() == v4));
    if families(addresses[0]) != families(addresses[1]) {
        let text =
            |ranges: &[RangeSpec]| ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(SpecError::MixedFamilies { local: text(&spec.local), remote: text(&spec.remote) });
    }
    let unseen = ports.map(|ports| ports.iter().all(|range| range.admits_unseen()));
    if let Some(protocol) = spec.protocol.filter(|protocol| !has_ports(*protocol) && unseen.contains(&false))
    {
        return Err(SpecError::NoPorts(protocol));
    }
    if ports.iter().any(|ports| ports.contains(&PortRange::OPAQUE)) && unseen.contains(&false) {
        return Err(SpecError::OneSideOpaque);
    }
    let lens = addresses.map(<[_]>::len).into_iter().chain(ports.map(<[_]>::len));
    match lens.fold(1, usize::saturating_mul) {
        combinations if combinations > MOST_COMBINATIONS => Err(SpecError::Combinations(combinations)),
        _ => Ok(()),
    }
}

fn addresses(specs: &[RangeSpec]) -> Result<Vec<AddressRange>, SpecError> {
    if specs.is_empty() {
        return Err(SpecError::NoAddresses);
    }
    let range = |spec: &RangeSpec| {
        let (first, last) = spec.ends();
        AddressRange::new(first, last).map_err(|error| SpecError::Range(spec.to_string(), error))
    };
    specs.iter().map(range).collect()
}

fn ports(spec: Option<&PortsSpec>) -> Result<Vec<PortRange>, SpecError> {
    let range = |&(first, last): &(u16, u16)| {
        if first <= last { Ok(PortRange::new(&(first..=last))) } else { Err(SpecError::Ports(first, last)) }
    };
    match spec {
        None => Ok(vec![PortRange::ANY]),
        Some(PortsSpec::Unseen(_)) => Ok(vec![PortRange::OPAQUE]),
        Some(&PortsSpec::Between(first, last)) => Ok(vec![range(&(first, last))?]),
        Some(PortsSpec::Several(ranges)) if ranges.is_empty() => Err(SpecError::NoPortRanges),
        Some(PortsSpec::Several(ranges)) => ranges.iter().map(range).collect(),
    }
}

/// RFC 4301 section 4.4.1.1: a range of types with all their codes, or of codes of one type.
fn messages(spec: IcmpSpec, protocol: Option<u8>) -> Result<IcmpRange, SpecError> {
    let has_types = |number| matches!(number, protocol::ICMP | protocol::ICMPV6 | protocol::MOBILITY);
    let opaque = matches!(spec, IcmpSpec::Unseen(_));
    if !protocol.map_or(opaque, has_types) {
        return Err(SpecError::NoMessages);
    }
    let IcmpSpec::Messages(MessagesSpec { types, codes }) = spec else { return Ok(IcmpRange::OPAQUE) };
    for (first, last) in [types, codes] {
        if first > last {
            return Err(SpecError::Messages(first, last));
        }
    }
    if types.0 != types.1 && codes != (0, u8::MAX) {
        return Err(SpecError::CodesOfSeveral);
    }
    Ok(IcmpRange::new(&(types.0..=types.1), &(codes.0..=codes.1)))
}

/// Of ranges of addresses and ports, as in a file: each becomes a rule of its own in the datapath.
pub const MOST_COMBINATIONS: usize = 256;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(more: &Value) -> SelectorSpec {
        let mut selector = json!({"local": "10.1.0.0/24", "remote": "10.2.0.0/24"});
        selector.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(selector).unwrap()
    }

    #[test]
    fn rfc_4301_4_4_1_1_lists_become_their_combinations_in_order() {
        let made = of_rule(&spec(&json!({
            "local": ["10.1.0.0/24", "fd00:1::1-fd00:1::9"], "remote": ["10.2.0.9", "fd00:2::/64", "10.3.0.0-10.3.0.4"],
            "protocol": 17, "remote_ports": [[53, 53], [5000, 5010]],
        })))
        .unwrap();
        let view = |selector: &Selector| (shown(selector).remote, shown(selector).remote_ports);
        let port = PortsView::Between;
        assert_eq!(
            made.iter().map(view).collect::<Vec<_>>(),
            [
                ("10.2.0.9".into(), Some(port(53, 53))),
                ("10.2.0.9".into(), Some(port(5000, 5010))),
                ("10.3.0.0-10.3.0.4".into(), Some(port(53, 53))),
                ("10.3.0.0-10.3.0.4".into(), Some(port(5000, 5010))),
                ("fd00:2::-fd00:2::ffff:ffff:ffff:ffff".into(), Some(port(53, 53))),
                ("fd00:2::-fd00:2::ffff:ffff:ffff:ffff".into(), Some(port(5000, 5010))),
            ]
        );
    }

    #[test]
    fn rfc_4301_4_4_1_what_is_said_is_shown_again() {
        for (more, icmp, ports) in [
            (json!({}), Value::Null, Value::Null),
            (
                json!({"protocol": 1, "icmp": {"type": [8, 8]}}),
                json!({"type": [8, 8], "code": [0, 255]}),
                Value::Null,
            ),
            (
                json!({"protocol": 58, "icmp": {"type": [1, 1], "code": [0, 3]}}),
                json!({"type": [1, 1], "code": [0, 3]}),
                Value::Null,
            ),
            (json!({"icmp": "opaque"}), json!("opaque"), Value::Null),
            (json!({"local_ports": "opaque"}), Value::Null, json!("opaque")),
            (json!({"protocol": 50, "local_ports": "opaque"}), Value::Null, json!("opaque")),
            (json!({"protocol": 6, "local_ports": [0, 65535]}), Value::Null, Value::Null),
            (json!({"protocol": 6, "local_ports": [[7, 9]]}), Value::Null, json!([7, 9])),
        ] {
            let made = of_rule(&spec(&more)).unwrap();
            let view = serde_json::to_value(shown(&made[0])).unwrap();
            assert_eq!((&view["icmp"], &view["local_ports"]), (&icmp, &ports), "{more}");
        }
    }

    #[test]
    fn rfc_4301_7_2_an_sa_for_certain_ports_is_for_a_protocol() {
        for ports in [json!({"local_ports": [80, 80]}), json!({"remote_ports": [[80, 90]]})] {
            assert!(matches!(of_sa(&spec(&ports)), Err(SpecError::PortsOfAny)));
            let mut of_tcp = spec(&ports);
            of_tcp.protocol = Some(6);
            assert!(of_sa(&of_tcp).is_ok() && of_rule(&spec(&ports)).is_ok());
        }
        for any in [json!({"local_ports": [0, 65535]}), json!({"local_ports": "opaque"})] {
            assert!(of_sa(&spec(&any)).is_ok(), "{any}");
        }
        // For later fragments alone, of which policy sees more.
        let later = spec(&json!({"protocol": 6, "local_ports": "opaque", "remote_ports": "opaque"}));
        assert!(of_sa(&later).is_ok());
        assert!(matches!(of_rule(&later), Err(SpecError::NeverOpaque(6))));
        let later = spec(&json!({"protocol": 1, "icmp": "opaque"}));
        assert!(of_sa(&later).is_ok() && matches!(of_rule(&later), Err(SpecError::NeverOpaque(1))));
    }

    #[test]
    fn each_bad_selector_says_what_is_wrong() {
        let many: Vec<_> = (0..257).map(|port| (2 * port, 2 * port)).collect();
        for (more, says) in [
            (json!({"local": []}), "without addresses"),
            (json!({"remote": "fd00::/16"}), "mixes"),
            (json!({"remote": ["10.2.0.0/24", "fd00::/16"]}), "mixes"),
            (json!({"local_ports": [90, 80]}), "90 to 80 are none"),
            (json!({"local_ports": [[1, 2], [90, 80]]}), "90 to 80 are none"),
            (json!({"local_ports": []}), "empty list of ports"),
            (json!({"protocol": 1, "remote_ports": [8, 8]}), "protocol 1 has no ports"),
            (json!({"local_ports": "opaque", "remote_ports": [1, 2]}), "both sides"),
            (json!({"protocol": 6, "icmp": {"type": [8, 8]}}), "1, 58 or 135"),
            (json!({"icmp": {"type": [8, 8]}}), "1, 58 or 135"),
            (json!({"protocol": 1, "icmp": {"type": [8, 3]}}), "8 to 3"),
            (json!({"protocol": 1, "icmp": {"type": [3, 8], "code": [1, 1]}}), "of one ICMP type"),
            (json!({"local_ports": many}), "257 combinations"),
        ] {
            let error = of_rule(&spec(&more)).unwrap_err().to_string();
            assert!(error.contains(says), "{more}: {error}");
        }
    }
}
