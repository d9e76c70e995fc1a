//! Who is on the other end of a connection, and what binds it to them.

use std::net::SocketAddr;

use latchway_control::{
    Bond, DirectionSpec, Failure, HeldView, PolicyRow, UnlatchableSpec, Verdict, Whois, WhoisAnswer,
    WhoisRow, call,
};
use latchway_datapath::drop::DropReason;
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::LatchState;
use latchway_datapath::selector::has_ports;
use latchway_ulp_shim::{FlowView, LatchView};

use crate::gateway::clock::since;
use crate::gateway::operator::Answer;
use crate::gateway::rows::{flow_text, latch_state, milliseconds};
use crate::gateway::state::State;
use crate::gateway::state::answers::stopped;
use crate::gateway::state::held::{bypass, tunnel};
use crate::gateway::state::named::{Carriers, Names, sa_used};

/// Connections that are told of at most.
const MOST: usize = 100;

/// SCTP (RFC 9260).
const SCTP: u8 = 132;

/// Protocols of connections, where nobody says which.
const CONNECTED: [u8; 5] = [protocol::TCP, protocol::UDP, SCTP, protocol::ICMP, protocol::ICMPV6];

impl State {
    pub(super) fn who_is(&self, asked: &Whois) -> Answer<WhoisAnswer> {
        if asked.other.is_some_and(|other| other.is_ipv4() != asked.endpoint.is_ipv4()) {
            let hint = "give two addresses of one family";
            return Err(Failure::bad_tuple("no connection has addresses of two families", hint));
        }
        let mut found = self.connections(asked);
        let truncated = found.len() > MOST;
        found.truncate(MOST);
        let pairs = self.keying.pairs().map_err(stopped)?;
        let (mut names, carriers) = (Names::of(self), Carriers::of(&pairs));
        let rows = found.iter().map(|flow| self.whois_row(flow, &mut names, &carriers));
        let connections = rows.collect::<Answer<Vec<_>>>()?;
        let otherwise = match asked.other {
            Some(other) if connections.is_empty() => self.otherwise(asked, other)?,
            _ => None,
        };
        Ok(WhoisAnswer { connections, truncated, otherwise })
    }

    /// The connections that are meant, each with a peer of its own (L-119, L-120), and one more than are told of where there are so many.
    fn connections(&self, asked: &Whois) -> Vec<FlowView> {
        let of_protocol = |number: u8| asked.protocol.is_none_or(|wanted| wanted == number);
        let Some(other) = asked.other else {
            let end = canonical(asked.endpoint);
            let has_end = |flow: &FlowView| {
                of_protocol(flow.flow.protocol()) && [flow.flow.local(), flow.flow.remote()].contains(&end)
            };
            return self.database.flows().filter(has_end).take(MOST + 1).collect();
        };
        let protocols = match &asked.protocol {
            Some(protocol) => std::slice::from_ref(protocol),
            None => &CONNECTED[..],
        };
        let both = protocols.iter().flat_map(|&protocol| {
            let (one, other) = (canonical(asked.endpoint), canonical(other));
            [FlowKey::new(protocol, one, other), FlowKey::new(protocol, other, one)]
        });
        both.filter_map(|flow| self.database.flow(&flow)).collect()
    }

    fn whois_row(&self, flow: &FlowView, names: &mut Names<'_>, carriers: &Carriers<'_>) -> Answer<WhoisRow> {
        let (now, used) = (since(self.started), carriers.of_flow(flow));
        let latch = self.database.find(&flow.flow).and_then(|latch| self.database.inquire(latch));
        let class = match &latch {
            Some(latch) => latch.class,
            None => used.map(|(pair, _)| pair.class),
        };
        let held = match class {
            Some(class) => names.held(class).map_err(stopped)?,
            None => latch.as_ref().filter(|latch| latch.bypass).map(|_| bypass()),
        };
        let (bond, text) = self.bond(flow, latch.as_ref(), held.as_ref())?;
        let reason = latch.as_ref().map(|latch| names.reason(latch)).transpose().map_err(stopped)?.flatten();
        Ok(WhoisRow {
            flow: flow_text(&flow.flow),
            protocol: flow.flow.protocol(),
            local: flow.flow.local(),
            remote: flow.flow.remote(),
            bond,
            text,
            latch: latch.as_ref().map(|latch| latch.id.to_string()),
            state: latch.as_ref().map(|latch| latch_state(latch.state)),
            held,
            sa: used.map(sa_used),
            tunnel: used.map(|(pair, _)| tunnel(&pair.path, Some(pair.nat), &self.devices.listen)),
            reason,
            age: latch.as_ref().map(|latch| milliseconds(now.since(latch.opened))),
            idle: milliseconds(now.since(flow.seen)),
        })
    }

    /// What binds a connection to its other end.
    fn bond(
        &self,
        flow: &FlowView,
        latch: Option<&LatchView>,
        held: Option<&HeldView>,
    ) -> Answer<(Bond, String)> {
        let peer = held.and_then(|held| held.peer.as_ref()).map_or("somebody", |peer| peer.asserted.as_str());
        let Some(latch) = latch else { return self.unlatched(flow, peer) };
        Ok(match latch.state {
            LatchState::Established if latch.bypass => {
                let text = "bypass was granted to it: it passes in the clear, and anybody may be there";
                (Bond::Bypassed, text.into())
            }
            LatchState::Established => {
                (Bond::Latched, format!("{peer} and nobody else, for as long as the connection lives"))
            }
            state => (Bond::Suspended, format!("its latch is {}: nothing passes", state.name())),
        })
    }

    /// Of a connection without a latch, policy says what becomes of it.
    fn unlatched(&self, flow: &FlowView, peer: &str) -> Answer<(Bond, String)> {
        let explained = self.explain_packet(&packet(&flow.flow))?;
        Ok(match (explained.verdict, explained.drop) {
            (Verdict::Protect, _) if is_stale(flow, explained.policy.as_ref()) => {
                let reason = DropReason::MidStream.info().name;
                let text = "it began without the latch that policy wants now, and has to begin anew";
                (Bond::Dropped, format!("nothing passes: {reason}: {text}"))
            }
            (Verdict::Protect, _) => {
                let text = format!(
                    "protected, now with {peer}, but not latched: with another peer later, if policy lets it"
                );
                (Bond::Protected, text)
            }
            (Verdict::Bypass, _) => {
                (Bond::Bypassed, "it passes in the clear, and anybody may be there".into())
            }
            (Verdict::Drop, reason) => (
                Bond::Dropped,
                format!("nothing passes: {}", reason.unwrap_or_else(|| "it is dropped".into())),
            ),
        })
    }

    /// What would become of a connection that is not there.
    fn otherwise(&self, asked: &Whois, other: SocketAddr) -> Answer<Option<String>> {
        let protocol = asked.protocol.unwrap_or(protocol::TCP);
        let (one, other) = (canonical(asked.endpoint), canonical(other));
        for flow in [FlowKey::new(protocol, one, other), FlowKey::new(protocol, other, one)] {
            let explained = self.explain_packet(&packet(&flow))?;
            let Some(rule) = explained.policy else { continue };
            let text = flow_text(&flow);
            let what = match (explained.verdict, explained.sa, explained.drop) {
                (Verdict::Protect, Some(sa), _) => format!("would be protected, with {}", sa.peer),
                (Verdict::Protect, None, _) => "would be protected".into(),
                (Verdict::Bypass, ..) => "would pass in the clear".into(),
                (Verdict::Drop, _, reason) => format!("would be dropped as {}", reason.unwrap_or_default()),
            };
            return Ok(Some(format!("a new connection {text} {what}, by rule {}", rule.number)));
        }
        Ok(Some("policy lets no such connection pass".into()))
    }
}

/// Whether policy wants a latch now of a connection that began without: none is taken up in the middle. Where no
/// handshake begins one, the next packet may.
fn is_stale(flow: &FlowView, rule: Option<&PolicyRow>) -> bool {
    let Some(terms) = rule.and_then(|rule| rule.terms) else { return false };
    let shakes_hands = [protocol::TCP, SCTP].contains(&flow.flow.protocol());
    shakes_hands && !(flow.passed && terms.unlatchable == UnlatchableSpec::Pass)
}

fn packet(flow: &FlowKey) -> call::Explain {
    let port = |end: SocketAddr| has_ports(flow.protocol()).then_some(end.port());
    call::Explain {
        direction: DirectionSpec::Outbound,
        protocol: flow.protocol(),
        local: flow.local().ip(),
        local_port: port(flow.local()),
        remote: flow.remote().ip(),
        remote_port: port(flow.remote()),
        octets: None,
    }
}

/// An end as flows have it: IPv4 where it is that.
fn canonical(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip().to_canonical(), end.port())
}
