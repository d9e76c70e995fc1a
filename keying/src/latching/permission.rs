//! What policy, PAD and privilege let somebody ask for (L-34 to L-36, L-111 to L-114): judged when a latch is made.

use std::net::IpAddr;

use latchway_datapath::drop::Direction;
use latchway_datapath::flow::{FlowKey, number};
use latchway_datapath::latching::LatchTerms;
use latchway_datapath::selector::{PortRange, Selector, has_ports};
use latchway_datapath::spd::{Action, Freedom, Latching, Reqid};
use latchway_datapath::traffic::Traffic;
use latchway_ulp_shim::Listening;

use crate::latching::{Asked, BadTuple, Constraints, LatchError, Privilege};
use crate::pad::{Pad, PadEntry};
use crate::policy::{RuleNumber, RuleView};

/// What a latch may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permit {
    /// The rule that gives it.
    pub(crate) rule: RuleNumber,
    /// The terms of the rule.
    pub(crate) terms: LatchTerms,
    /// Which SAs serve the rule, where it names them.
    pub(crate) reqid: Option<Reqid>,
    /// Whether the connection is to be in the clear, against the rule (L-112).
    pub(crate) bypass: bool,
}

/// Who asks for what.
#[derive(Clone, Copy)]
pub(crate) struct Plea<'a> {
    pub(crate) constraints: &'a Constraints,
    pub(crate) privilege: Privilege,
}

impl Plea<'_> {
    /// Whether a connection may be latched as asked.
    ///
    /// # Errors
    /// [`LatchError`], naming the rule that forbids it.
    pub(crate) fn judge_connection(
        &self,
        flow: &FlowKey,
        rules: &[RuleView],
        pad: &Pad,
    ) -> Result<Permit, LatchError> {
        check_flow(flow)?;
        self.check_constraints()?;
        let of = |direction: Direction| {
            let speaks = |view: &&RuleView| {
                view.rule.direction.is_none_or(|only| only == direction)
                    && view.rule.selector.admits(&Traffic::of(flow))
            };
            rules.iter().find(speaks).ok_or(LatchError::PolicyDiscards(None))
        };
        let permit = self.judge_rule(of(Direction::Outbound)?)?;
        self.judge_rule(of(Direction::Inbound)?)?;
        self.judge_peer(flow, Some(flow.remote().ip()), pad)?;
        Ok(permit)
    }

    /// Whether connections to a 3-tuple may be latched as asked: wherever they come from, for policy is asked of each
    /// rule that speaks of any.
    ///
    /// # Errors
    /// [`LatchError`], naming the rule that forbids it.
    pub(crate) fn judge_listener(
        &self,
        listening: &Listening,
        rules: &[RuleView],
        pad: &Pad,
    ) -> Result<Permit, LatchError> {
        check_listening(listening)?;
        self.check_constraints()?;
        if self.constraints.protection == Asked::Bypass {
            return Err(LatchError::Contradiction("bypass is for one connection, and not for all that come"));
        }
        let inbound = |view: &&RuleView| view.rule.direction != Some(Direction::Outbound);
        let speaking = rules.iter().filter(inbound).filter(|view| speaks(&view.rule.selector, listening));
        let (mut permit, mut refusal) = (None, None);
        for view in speaking {
            match self.judge_rule(view) {
                Ok(given) => permit = permit.or(Some(given)),
                // Whoever asks for nothing more takes it as each rule has it, and some rules latch nothing.
                Err(error) if self.constraints.asks_nothing() => refusal = refusal.or(Some(error)),
                Err(error @ (LatchError::PolicyDiscards(_) | LatchError::PolicyBypasses(_))) => {
                    refusal = refusal.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        let permit = permit.ok_or(refusal.unwrap_or(LatchError::PolicyDiscards(None)))?;
        self.judge_peer(&listening.flow(), None, pad)?;
        Ok(permit)
    }

    /// Whether the flows of a socket could be what is required of them. Policy is not asked: what it chooses for each of them
    /// is, when it begins.
    ///
    /// # Errors
    /// [`LatchError`]
    pub(crate) fn judge_requirement(&self, flow: &FlowKey, pad: &Pad) -> Result<(), LatchError> {
        self.check_constraints()?;
        if self.constraints.protection == Asked::Bypass {
            return Err(LatchError::Contradiction("a requirement chooses no bypass where policy protects"));
        }
        let remote = flow.remote().ip();
        self.judge_peer(flow, Some(remote).filter(|remote| !remote.is_unspecified()), pad)
    }

    /// Whether a rule lets a connection that it speaks of be latched as asked.
    fn judge_rule(&self, view: &RuleView) -> Result<Permit, LatchError> {
        let (rule, freedom) = (view.number, view.rule.freedom);
        let needs = |least: Freedom, asked: &'static str| {
            if freedom >= least { Ok(()) } else { Err(LatchError::PolicyForbids { rule, freedom, asked }) }
        };
        let terms = LatchTerms::default();
        match (view.rule.action, self.constraints.protection) {
            (Action::Discard, _) => Err(LatchError::PolicyDiscards(Some(rule))),
            (Action::Bypass, Asked::Policy | Asked::Bypass) => Err(LatchError::PolicyBypasses(rule)),
            (Action::Bypass, Asked::Authenticated | Asked::Confidential) => {
                needs(Freedom::Stronger, "protection")?;
                Ok(Permit { rule, terms, reqid: None, bypass: false })
            }
            (Action::Protect(protection), Asked::Bypass) => {
                needs(Freedom::Bypass, "bypass")?;
                if self.privilege != Privilege::Operator {
                    return Err(LatchError::PrivilegeNeeded { rule, asked: "bypass" });
                }
                let terms = protection.latching.terms().unwrap_or(terms);
                Ok(Permit { rule, terms, reqid: None, bypass: true })
            }
            (Action::Protect(protection), _) => {
                if !self.constraints.is_as_policy() {
                    needs(Freedom::Stronger, "a peer or a quality of their own choice")?;
                }
                let terms = match protection.latching {
                    Latching::On(terms) => terms,
                    Latching::Off => {
                        needs(Freedom::Stronger, "latches where the rule makes none")?;
                        terms
                    }
                };
                Ok(Permit { rule, terms, reqid: protection.reqid, bypass: false })
            }
        }
    }

    fn check_constraints(&self) -> Result<(), LatchError> {
        self.constraints.contradiction().map_or(Ok(()), |why| Err(LatchError::Contradiction(why)))
    }

    /// Whether the PAD could let anybody there be the peer that is asked for (L-34).
    fn judge_peer(&self, flow: &FlowKey, remote: Option<IpAddr>, pad: &Pad) -> Result<(), LatchError> {
        let Constraints { peer, local, standing, methods, .. } = self.constraints;
        if peer.is_none() && local.is_none() && standing.is_none() && methods.is_empty() {
            return Ok(());
        }
        let could_be = |entry: &PadEntry| {
            peer.as_ref().is_none_or(|peer| entry.peer.matches(peer))
                && local.as_ref().is_none_or(|local| entry.local == *local)
                && standing
                    .is_none_or(|least| entry.methods.iter().any(|method| entry.standing(*method) >= least))
                && (methods.is_empty() || entry.methods.iter().any(|method| methods.contains(method)))
                && remote.is_none_or(|at| entry.ranges.iter().any(|range| range.contains(number(at))))
        };
        if pad.entries().iter().any(could_be) {
            return Ok(());
        }
        let mut asked: Vec<String> = peer.iter().map(ToString::to_string).collect();
        asked.extend(local.iter().map(|local| format!("towards {local}")));
        asked.extend(standing.iter().map(|least| format!("proven by {} or better", least.name())));
        asked.extend(methods.iter().map(|method| format!("proven by {}", method.name())));
        Err(LatchError::PadForbids { flow: *flow, asked: asked.join(", ") })
    }
}

/// Whether a selector speaks of any connection to the 3-tuple.
fn speaks(selector: &Selector, listening: &Listening) -> bool {
    let address = listening.address;
    let at = |selector: &Selector| match address.is_unspecified() {
        true => selector.local.is_ipv4() == address.is_ipv4(),
        false => selector.local.contains(number(address)),
    };
    at(selector)
        && selector.protocol.is_none_or(|protocol| protocol == listening.protocol)
        && selector.local_ports.contains(listening.port)
        && selector.remote_ports != PortRange::OPAQUE
}

/// Whether a 5-tuple names a connection that could be latched.
fn check_flow(flow: &FlowKey) -> Result<(), BadTuple> {
    let (local, remote) = (flow.local(), flow.remote());
    if local.is_ipv4() != remote.is_ipv4() {
        return Err(BadTuple::MixedFamilies);
    }
    check_host(local.ip())?;
    check_host(remote.ip())?;
    let protocol = flow.protocol();
    let ports = [local.port(), remote.port()];
    match (has_ports(protocol), ports) {
        (true, [0, _] | [_, 0]) => Err(BadTuple::NoPort),
        (false, ports) if ports != [0, 0] && !is_icmp(protocol) => Err(BadTuple::NoPortsThere(protocol)),
        _ => Ok(()),
    }
}

/// Whether a 3-tuple names a place where connections could be awaited.
fn check_listening(listening: &Listening) -> Result<(), BadTuple> {
    if !listening.address.is_unspecified() {
        check_host(listening.address)?;
    }
    if !has_ports(listening.protocol) {
        return Err(BadTuple::NoListeners(listening.protocol));
    }
    if listening.port == 0 { Err(BadTuple::NoPort) } else { Ok(()) }
}

fn check_host(address: IpAddr) -> Result<(), BadTuple> {
    let address = address.to_canonical();
    let (broadcast, link_local) = match address {
        IpAddr::V4(v4) => (v4.is_broadcast(), v4.is_link_local()),
        IpAddr::V6(v6) => (false, v6.is_unicast_link_local()),
    };
    if address.is_unspecified() {
        return Err(BadTuple::Unspecified);
    }
    if address.is_multicast() || broadcast {
        return Err(BadTuple::Multicast);
    }
    if link_local { Err(BadTuple::LinkLocal) } else { Ok(()) }
}

const fn is_icmp(protocol: u8) -> bool {
    use latchway_datapath::flow::protocol::{ICMP, ICMPV6};
    matches!(protocol, ICMP | ICMPV6)
}
