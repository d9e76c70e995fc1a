//! Policies as rules of the SPD (RFC 4301 section 4.4.1), and what ties states to them.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use latchway_control::{
    Failure, XfrmAction, XfrmDirection, XfrmLevel, XfrmLimits, XfrmMode, XfrmPolicy, XfrmPolicyRow,
    XfrmProtocol, XfrmSelector, XfrmTemplate, XfrmUpper,
};
use latchway_datapath::drop::Direction;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{LatchTerms, Model, Unlatchable};
use latchway_datapath::selector::{AddressRange, IcmpRange, PortRange, Selector, has_ports};
use latchway_datapath::spd::{Action, Latching, Protection, Reqid, Rule, Template};
use latchway_esp::Protocol;
use latchway_keying::Wanted;
use latchway_tagging::Mode;

use crate::gateway::operator::Answer;
use crate::gateway::xfrm::book::Book;

/// What states have in common that serve the same rules: a reqid of the gateway's own for each combination, beyond those
/// of its configuration.
#[derive(Clone, Debug, Default)]
pub struct Reqids(HashMap<Tie, u32>);

/// What a template names: protocol, mode and reqid, and of a tunnel its ends, ours first. In transport mode the ends are
/// those of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tie {
    pub protocol: XfrmProtocol,
    pub mode: XfrmMode,
    pub reqid: u32,
    pub tunnel: Option<(IpAddr, IpAddr)>,
}

impl Reqids {
    /// The reqid of a combination, the same whenever it is asked for.
    pub fn of(&mut self, tie: Tie) -> Reqid {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX >> 1);
        Reqid(OWN | *self.0.entry(tie).or_insert(next))
    }
}

impl Book {
    /// The rules, in the order in which they decide: by priority, and those of one priority as they came.
    ///
    /// # Errors
    /// [`Failure`], which names what of a policy is not served.
    pub fn rules(&mut self, tun: &str) -> Answer<Vec<Rule>> {
        let mut ordered: Vec<&XfrmPolicy> = self.policies.iter().map(|row| &row.policy).collect();
        ordered.sort_by_key(|policy| policy.priority);
        ordered.into_iter().map(|policy| rule(policy, tun, &mut self.reqids)).collect()
    }

    /// The policy whose rule wants an SA that is not there.
    pub fn wanting(&mut self, wanted: &Wanted, tun: &str) -> Option<XfrmPolicyRow> {
        let wanted = &wanted.rule.as_ref()?.rule;
        let reqids = &mut self.reqids;
        let is = |row: &&XfrmPolicyRow| rule(&row.policy, tun, reqids).is_ok_and(|rule| rule == *wanted);
        self.policies.iter().find(is).cloned()
    }
}

/// One policy as a rule.
fn rule(policy: &XfrmPolicy, tun: &str, reqids: &mut Reqids) -> Answer<Rule> {
    if policy.limits != XfrmLimits::default() {
        return Err(unserved(
            "limits of a policy",
            "policies stay until they are deleted; leave `limit` out",
        ));
    }
    through(&policy.selector, tun)?;
    let outbound = policy.direction == XfrmDirection::Out;
    let direction = if outbound { Direction::Outbound } else { Direction::Inbound };
    let action = match (policy.action, policy.templates.as_slice()) {
        (XfrmAction::Block, _) => Action::Discard,
        (XfrmAction::Allow, []) => Action::Bypass,
        (XfrmAction::Allow, [template]) => Action::Protect(protection(template, outbound, reqids)?),
        (XfrmAction::Allow, _) => {
            return Err(unserved(
                "a bundle of several templates",
                "use one ESP template, whose suite has integrity",
            ));
        }
    };
    Ok(Rule::new(selector(&policy.selector, outbound)?, Some(direction), action))
}

fn protection(template: &XfrmTemplate, outbound: bool, reqids: &mut Reqids) -> Answer<Protection> {
    let XfrmTemplate { src, dst, protocol, spi, reqid, mode, level } = *template;
    if level == XfrmLevel::Use {
        let why = "it lets packets pass unprotected where a state is missing; use level required, or a policy without templates";
        return Err(unserved("level use", why));
    }
    if spi != 0 {
        return Err(unserved(
            "an SPI in a template",
            "give the state a reqid of its own, and the template that",
        ));
    }
    let ends = if outbound { (src, dst) } else { (dst, src) };
    let tunnel = mode == XfrmMode::Tunnel;
    if tunnel && (src.is_unspecified() || dst.is_unspecified()) {
        return Err(unserved("a tunnel without ends", "say `src ADDR dst ADDR` of its ends in the template"));
    }
    let tie = Tie { protocol, mode, reqid, tunnel: tunnel.then_some(ends) };
    let template = Template {
        ends: (!src.is_unspecified() && !dst.is_unspecified()).then_some(ends),
        protocol: Some(match protocol {
            XfrmProtocol::Esp => Protocol::Esp,
            XfrmProtocol::Ah => Protocol::Ah,
        }),
        mode: Some(if tunnel { Mode::Tunnel } else { Mode::Transport }),
    };
    // What comes in may be of any reqid where the template has none, as a kernel has it.
    let reqid = (outbound || reqid != 0).then(|| reqids.of(tie));
    let terms = LatchTerms { model: Model::Tag, unlatchable: Unlatchable::Pass, ..LatchTerms::from_bits(0) };
    Ok(Protection { reqid, template: Some(template), latching: Latching::On(terms) })
}

/// That a selector names no device that packets never pass here.
pub fn through(said: &XfrmSelector, tun: &str) -> Answer<()> {
    if said.dev.as_deref().is_some_and(|dev| dev != tun) {
        return Err(unserved(
            "dev of another device",
            "every packet here passes the TUN; name that, or leave it out",
        ));
    }
    Ok(())
}

/// Which flows a selector means, seen from this gateway.
fn selector(said: &XfrmSelector, outbound: bool) -> Answer<Selector> {
    let XfrmSelector { src, dst, protocol, upper, .. } = said;
    let (local, remote) = if outbound { (src, dst) } else { (dst, src) };
    let (mut local_ports, mut remote_ports, mut icmp) = (PortRange::ANY, PortRange::ANY, None);
    match *upper {
        XfrmUpper::Any => {}
        XfrmUpper::Ports(..) if *protocol != 0 && !has_ports(*protocol) => {
            return Err(unserved(
                &format!("a port of protocol {protocol}"),
                "leave it out; ports are read of TCP, UDP and SCTP, and all between the addresses is meant then",
            ));
        }
        XfrmUpper::Ports(sport, dport) => {
            let (own, other) = if outbound { (sport, dport) } else { (dport, sport) };
            (local_ports, remote_ports) = (port(own), port(other));
        }
        XfrmUpper::Icmp(None, Some(_)) => {
            return Err(unserved("a code of any ICMP type", "say `type` in front of it"));
        }
        XfrmUpper::Icmp(kind, code) if [1, 58].contains(protocol) => {
            let range = |value: Option<u8>| value.map_or(0..=u8::MAX, |value| value..=value);
            icmp = Some(IcmpRange::new(&range(kind), &range(code)));
        }
        XfrmUpper::Icmp(..) => {
            return Err(unserved("the type of a mobility header", "leave type and code out"));
        }
        XfrmUpper::Key(_) => {
            return Err(unserved(
                "the key of GRE",
                "leave it out; all GRE between the addresses is meant then",
            ));
        }
    }
    let protocol = Some(*protocol).filter(|protocol| *protocol != 0);
    let between = Selector::between(range(local)?, range(remote)?);
    Ok(Selector { protocol, local_ports, remote_ports, icmp, ..between })
}

/// Which flows a state carries. RFC 4301 section 7.2: certain ports are of a certain protocol.
pub fn of_state(said: &XfrmSelector, outbound: bool) -> Answer<Selector> {
    if said.protocol == 0 && matches!(said.upper, XfrmUpper::Ports(..)) {
        return Err(unserved("a state for ports of any protocol", "say `proto` in front of the ports"));
    }
    selector(said, outbound)
}

/// A flow as an ACQUIRE names it.
pub fn flow(flow: &FlowKey) -> XfrmSelector {
    let host = |address: IpAddr| IpNet::from(address);
    let (local, remote) = (flow.local(), flow.remote());
    let ports = (Some(local.port()), Some(remote.port()));
    XfrmSelector {
        src: host(local.ip()),
        dst: host(remote.ip()),
        protocol: flow.protocol(),
        upper: match flow.protocol() {
            6 | 17 | 33 | 132 => XfrmUpper::Ports(ports.0, ports.1),
            _ => XfrmUpper::Any,
        },
        dev: None,
    }
}

fn port(port: Option<u16>) -> PortRange {
    port.map_or(PortRange::ANY, |port| PortRange::new(&(port..=port)))
}

fn range(prefix: &IpNet) -> Answer<AddressRange> {
    AddressRange::new(prefix.network(), prefix.broadcast())
        .map_err(|error| Failure::bad_call(format!("{prefix}: {error}"), "say a prefix"))
}

/// What a kernel would take, and this gateway does not.
fn unserved(what: &str, why: &str) -> Failure {
    Failure::refused(format!("{what} is not served"), why)
}

/// Beyond every reqid of a configuration.
const OWN: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(protocol: u8, upper: XfrmUpper) -> XfrmSelector {
        let (src, dst) = ("10.1.0.0/24".parse().unwrap(), "10.2.0.0/24".parse().unwrap());
        XfrmSelector { src, dst, protocol, upper, dev: None }
    }

    /// RFC 4301 4.4.1.1: what would select nothing, so that the next rule decides, or more than is said, is refused.
    #[test]
    fn rfc_4301_4_4_1_1_what_cannot_be_selected_is_refused() {
        let dccp = selector(&said(33, XfrmUpper::Ports(None, Some(5001))), true).unwrap_err();
        assert!(format!("{dccp:?}").contains("a port of protocol 33"), "{dccp:?}");
        let code = selector(&said(1, XfrmUpper::Icmp(None, Some(4))), true).unwrap_err();
        assert!(format!("{code:?}").contains("type"), "{code:?}");
        let unreachable = selector(&said(1, XfrmUpper::Icmp(Some(3), Some(4))), true).unwrap();
        assert_eq!(unreachable.icmp, Some(IcmpRange::new(&(3..=3), &(4..=4))));
        assert!(selector(&said(0, XfrmUpper::Ports(None, Some(80))), true).is_ok(), "of whatever has ports");
    }

    #[test]
    fn rfc_4301_7_2_a_state_for_certain_ports_is_for_a_protocol() {
        let error = of_state(&said(0, XfrmUpper::Ports(None, Some(80))), true).unwrap_err();
        assert!(format!("{error:?}").contains("proto"), "{error:?}");
        for good in [said(6, XfrmUpper::Ports(None, Some(80))), said(0, XfrmUpper::Any)] {
            assert!(of_state(&good, true).is_ok());
        }
    }
}
