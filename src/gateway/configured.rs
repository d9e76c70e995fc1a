//! From a configuration to the types of the packet paths and of the key manager. What a configuration cannot say
//! wrongly is not checked again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use latchway_config::{
    Action, AppSocket, Backend, Config, Direction, Encapsulation, Latches, Listen, NamespaceRef, Peer, Place,
    Policy, Probe, Sa,
};
use latchway_datapath::arrival::Carrier;
use latchway_datapath::drop;
use latchway_datapath::low::tun::BackendChoice;
use latchway_datapath::outer::{Df, Dscp, Ecn, FlowLabel, OuterPolicy};
use latchway_datapath::pmtu::{Discovery, Fragment, Pmtu, ProbeEnds, Sizing};
use latchway_datapath::sad::{Path, Shape, Tfc};
use latchway_datapath::selector::{AddressRange, IcmpRange, PortRange, Selector};
use latchway_datapath::spd::{self, Latching, Protection, Reqid, Rule};
use latchway_esp::{AntiReplay, SequenceKind};
use latchway_keying::{Evidence, Narrowing, Nat, Pad, PadEntry, PadEntryIds, Proposal, Suites};
use latchway_tagging::{AuthMethod, PeerPattern};
use latchway_ulp_shim::Limits;

use crate::gateway::convert::{self, SpecError};
use crate::gateway::{folders, terms};

/// The Peer Authorization Database: one entry for each peer, by its name.
///
/// # Errors
/// [`SpecError`]
pub fn pad(config: &Config, ids: &mut PadEntryIds) -> Result<Pad, SpecError> {
    let entry = |peer: &Peer| -> Result<PadEntry, SpecError> {
        let name = peer.identity.to_string();
        Ok(PadEntry {
            id: ids.id(&name),
            name,
            peer: peer.identity.clone(),
            methods: peer.methods.clone(),
            standing: peer.standing,
            ranges: peer.inner.iter().map(|&prefix| range(prefix.into())).collect::<Result<_, _>>()?,
            local: config.identity.clone(),
        })
    };
    Ok(Pad::new(config.peers.iter().map(entry).collect::<Result<_, _>>()?)?)
}

/// The rules of the SPD, in their order: one for each range that a policy names.
///
/// # Errors
/// [`SpecError`]
pub fn rules(config: &Config, ids: &mut PadEntryIds) -> Result<Vec<Rule>, SpecError> {
    let mut rules_of = |policy: &Policy| -> Result<Vec<Rule>, SpecError> {
        let reqid = policy.peer.as_ref().map(|peer| reqid(peer, ids));
        let latching =
            if policy.latch { Latching::On(terms::configured(policy.terms)) } else { Latching::Off };
        let action = match policy.action {
            Action::Protect => spd::Action::Protect(Protection { reqid, template: None, latching }),
            Action::Bypass => spd::Action::Bypass,
            Action::Discard => spd::Action::Discard,
        };
        let direction = policy.direction.map(|direction| match direction {
            Direction::Inbound => drop::Direction::Inbound,
            Direction::Outbound => drop::Direction::Outbound,
        });
        let freedom = terms::freedom(policy.applications);
        let name = policy.name.as_deref().map(Arc::<str>::from);
        let rule = |selector| Rule { freedom, name: name.clone(), ..Rule::new(selector, direction, action) };
        selectors(&policy.selector).map(|selector| selector.map(rule)).collect()
    };
    let mut rules = Vec::new();
    for policy in &config.policies {
        rules.extend(rules_of(policy)?);
    }
    Ok(rules)
}

/// What is to be agreed upon with a peer.
///
/// # Errors
/// [`SpecError`]
pub fn proposal(config: &Config, peer: &Peer, sa: &Sa, ids: &mut PadEntryIds) -> Result<Proposal, SpecError> {
    Ok(Proposal {
        peer: peer.identity.identity().cloned().ok_or_else(|| SpecError::ManyPeers(peer.identity.clone()))?,
        method: AuthMethod::Manual,
        local: config.identity.clone(),
        selectors: sa.selectors.iter().flat_map(selectors).collect::<Result<_, _>>()?,
        narrowing: Narrowing::Forbidden,
        mode: sa.mode,
        suites: Suites::both(sa.suite),
        header: sa.header.as_ref().map(|header| Suites::both(header.suite)),
        replay_checked: sa.anti_replay != AntiReplay::Off,
        reqid: reqid(&peer.identity, ids),
        evidence: Evidence::default(),
        local_evidence: Evidence::default(),
        nat: Nat::default(),
    })
}

/// Where an SA sends; `None` without an endpoint, or an address to send to it from.
pub fn path(config: &Config, peer: &Peer, sa: &Sa) -> Option<Path> {
    let to = peer.endpoint?;
    let native = sa.encapsulation == Encapsulation::None;
    let sends = |listen: &Listen| {
        listen.is_native() == native
            && listen.is_ipv4() == to.is_ipv4()
            && sa.from.is_none_or(|from| listen.ip() == from)
    };
    let wire = config.listen.iter().position(sends)?;
    let from = config.listen.get(wire)?.ip();
    let (to, carrier) =
        if native { (SocketAddr::new(to.ip(), 0), Carrier::Native) } else { (to, Carrier::Udp) };
    Some(Path { wire, from, to, mtu: sa.mtu, carrier })
}

/// What an SA's packets look like from outside.
pub fn shape(sa: &Sa) -> Shape {
    let native = sa.encapsulation == Encapsulation::None;
    let usual = if native { OuterPolicy::NATIVE } else { OuterPolicy::UDP };
    let sizing = &sa.sizing;
    Shape {
        outer: OuterPolicy {
            dscp: dscp(&sa.outer.dscp),
            ecn: match sa.outer.ecn {
                latchway_config::Ecn::Normal => Ecn::Normal,
                latchway_config::Ecn::Compatibility => Ecn::Compatibility,
            },
            df: sa.outer.df.map_or(usual.df, |df| match df {
                latchway_config::Df::Copy => Df::Copy,
                latchway_config::Df::Set => Df::Set,
                latchway_config::Df::Clear => Df::Clear,
            }),
            ttl: sa.outer.ttl,
            flow_label: sa.outer.flow_label.map_or(usual.flow_label, |label| match label {
                latchway_config::FlowLabel::Zero => FlowLabel::Zero,
                latchway_config::FlowLabel::Copy => FlowLabel::Copy,
                latchway_config::FlowLabel::Hash => FlowLabel::Hash,
            }),
            decapsulate_dscp: sa.outer.decapsulate_dscp,
        },
        tfc: match sa.hiding.tfc {
            latchway_config::Tfc::None => Tfc::None,
            latchway_config::Tfc::Multiple(octets) => Tfc::Multiple(octets),
            latchway_config::Tfc::Mtu => Tfc::Mtu,
        },
        sizing: Sizing {
            pmtu: Pmtu {
                discovery: match sizing.discovery {
                    latchway_config::Discovery::Fixed => Discovery::Off,
                    latchway_config::Discovery::Learn => Discovery::Hints,
                    latchway_config::Discovery::Probe => Discovery::Probes,
                },
                floor: sizing.floor,
                probe: sizing.probe.map(|Probe { from, to }| ProbeEnds { from, to }),
            },
            fragment: match sizing.fragment {
                latchway_config::Fragment::Before => Fragment::Before,
                latchway_config::Fragment::After => Fragment::After,
            },
            clamp_mss: sizing.clamp_mss,
        },
        dummies: sa.hiding.dummies,
        keepalive: sa.keepalive,
    }
}

fn dscp(configured: &latchway_config::Dscp) -> Dscp {
    match configured {
        latchway_config::Dscp::Copy => Dscp::Copy,
        latchway_config::Dscp::Set(code_point) => Dscp::Set(*code_point),
        latchway_config::Dscp::Map(pairs) => {
            let mapped =
                |inner: u8| pairs.iter().find(|(from, _)| *from == inner).map_or(inner, |(_, to)| *to);
            Dscp::Map(Arc::new(std::array::from_fn(|inner| u8::try_from(inner).map_or(0, mapped))))
        }
    }
}

/// How many latches there may be, and for how long.
pub fn limits(latches: &Latches) -> Limits {
    let base = Limits::for_flows(latches.capacity.unwrap_or(Limits::default().flows));
    let seconds = |configured: Option<u64>, usual| configured.map_or(usual, Duration::from_secs);
    let half_open = latches.half_open.unwrap_or(base.half_open);
    Limits {
        half_open,
        half_open_of_peer: latches.half_open_per_peer.unwrap_or_else(|| half_open.div_ceil(4)),
        udp: seconds(latches.udp_idle, base.udp),
        tcp_established: seconds(latches.tcp_idle, base.tcp_established),
        larval: seconds(latches.larval, base.larval),
        ..base
    }
}

/// How wide an SA's numbers are.
pub const fn sequence(sa: &Sa) -> SequenceKind {
    if sa.esn { SequenceKind::Extended } else { SequenceKind::Seq32 }
}

/// Where the wire sockets, and where the TUN is: inner, then outer.
pub const fn places(config: &Config) -> (&NamespaceRef, &NamespaceRef) {
    match &config.place {
        Place::Split { inner, outer } => (inner, outer),
        Place::Host { .. } => (&NamespaceRef::Own, &NamespaceRef::Own),
    }
}

/// What the inner hosts reach through the TUN: the protected prefixes, and in split mode what policy lets pass in the
/// clear, by the bypass port.
pub fn routed(config: &Config) -> Vec<IpNet> {
    let mut prefixes = config.protected();
    if let Place::Split { .. } = config.place {
        let bypassed = config.policies.iter().filter(|policy| policy.action == Action::Bypass);
        prefixes
            .extend(bypassed.flat_map(|policy| &policy.selector.remote).flat_map(|range| range.prefixes()));
    }
    IpNet::aggregate(&prefixes)
}

/// How the TUN is driven.
pub const fn backend(config: &Config) -> BackendChoice {
    match config.tun.backend {
        Backend::Auto => BackendChoice::Auto,
        Backend::Offload => BackendChoice::Offload,
        Backend::Plain => BackendChoice::Plain,
    }
}

/// The control socket: where the configuration says, or where clients look for it.
pub fn control(config: &Config) -> PathBuf {
    config
        .control
        .clone()
        .unwrap_or_else(|| PathBuf::from(folders::RUN).join(&config.name).join("control.sock"))
}

/// The socket of applications, if there is to be one.
pub fn app(config: &Config) -> Option<PathBuf> {
    match &config.app {
        AppSocket::Beside => Some(beside(&control(config))),
        AppSocket::At(path) => Some(path.clone()),
        AppSocket::Nowhere => None,
    }
}

/// Where it is by default: beside the operator's, and named so that gateways whose sockets share a folder do not share it.
pub fn beside(control: &std::path::Path) -> PathBuf {
    match control.file_stem() {
        Some(stem) if stem != "control" => {
            let mut name = stem.to_owned();
            name.push(".app.sock");
            control.with_file_name(name)
        }
        _ => control.with_file_name("app.sock"),
    }
}

/// Ties a peer's SAs to the rules that want that peer.
fn reqid(peer: &PeerPattern, ids: &mut PadEntryIds) -> Reqid {
    convert::reqid(ids.id(&peer.to_string()))
}

fn selectors(selector: &latchway_config::Selector) -> impl Iterator<Item = Result<Selector, SpecError>> + '_ {
    selector.simple().map(|simple| {
        Ok(Selector {
            local: range(simple.local)?,
            remote: range(simple.remote)?,
            protocol: simple.protocol,
            local_ports: ports(simple.local_ports),
            remote_ports: ports(simple.remote_ports),
            icmp: simple.icmp.map(icmp),
        })
    })
}

// A range that cannot be said in full must not become none: the rule below it would decide.
fn range(range: latchway_config::AddressRange) -> Result<AddressRange, SpecError> {
    AddressRange::new(range.first(), range.last()).map_err(|error| SpecError::Range(range.to_string(), error))
}

fn icmp(range: latchway_config::IcmpRange) -> IcmpRange {
    match range {
        latchway_config::IcmpRange::Opaque => IcmpRange::OPAQUE,
        latchway_config::IcmpRange::Messages { types, codes } => {
            IcmpRange::new(&(types.0..=types.1), &(codes.0..=codes.1))
        }
    }
}

fn ports(range: latchway_config::PortRange) -> PortRange {
    match range {
        latchway_config::PortRange::Any => PortRange::ANY,
        latchway_config::PortRange::Opaque => PortRange::OPAQUE,
        latchway_config::PortRange::Between(first, last) => PortRange::new(&(first..=last)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_whose_sockets_share_a_folder_do_not_share_that_of_applications() {
        let named = |control: &str| beside(std::path::Path::new(control)).display().to_string();
        assert_eq!(named("/run/latchway/a/control.sock"), "/run/latchway/a/app.sock");
        assert_eq!(named("/run/latchway/a.sock"), "/run/latchway/a.app.sock");
        assert_eq!(named("/run/latchway/app.sock"), "/run/latchway/app.app.sock");
        assert_eq!(named("b"), "b.app.sock");
    }
}
