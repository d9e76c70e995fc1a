//! What binds a socket: asked of the gateway, and of its policy where nothing passed yet.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use latchway_control::{
    ActionSpec, Bond, DirectionSpec, IcmpSpec, PolicyRow, PortsView, SelectorView, UnlatchableSpec, Verdict,
    Whois, WhoisRow, call,
};
use latchway_netns::sockets::InetSocket;

use crate::cli::failure::Failure;
use crate::cli::prove::report::{Finding, Standing};
use crate::cli::prove::sockets::{Process, RING, Socket};
use crate::cli::prove::surroundings::{Place, Surroundings};
use crate::client::Client;

/// Judges sockets.
pub struct Judge<'a> {
    client: &'a mut Client,
    surroundings: &'a Surroundings,
    policy: Vec<PolicyRow>,
}

/// A judgement: what binds a socket, to whom, and why.
type Judgement = (Standing, Option<String>, String);

impl<'a> Judge<'a> {
    /// One who asks this gateway.
    ///
    /// # Errors
    /// The gateway does not tell its policy.
    pub fn new(client: &'a mut Client, surroundings: &'a Surroundings) -> Result<Self, Failure> {
        let policy = client.list(&call::Policies::default())?.policies;
        Ok(Self { client, surroundings, policy })
    }

    /// What binds a socket; `None` where the process has closed it meanwhile.
    ///
    /// # Errors
    /// The gateway does not answer.
    pub fn judge(&mut self, process: &Process, socket: &Socket) -> Result<Option<Finding>, Failure> {
        let surroundings = self.surroundings;
        let (ends, (standing, peer, why)) = match surroundings.socket(socket.inode) {
            Some((place, found)) => ((Some(found.local), found.remote), self.judge_inet(place, &found)?),
            None if !process.has(socket) => return Ok(None),
            None => judge_other(process, socket),
        };
        let (local, remote) = ends;
        let (descriptor, kind) = (socket.descriptor, socket.kind.clone());
        Ok(Some(Finding { descriptor, kind, local, remote, standing, peer, why }))
    }

    fn judge_inet(&mut self, place: &Place, found: &InetSocket) -> Result<Judgement, Failure> {
        let (local, remote) = (found.local, found.remote);
        if place.is_own(remote.unwrap_or(local).ip()) && (remote.is_some() || local.ip().is_loopback()) {
            return Ok((Standing::Local, None, "both ends are in this namespace".into()));
        }
        let Some(remote) = remote else {
            if !place.is_behind(local) {
                return Ok(elsewhere());
            }
            return Ok(by_policy(&self.policy, found.protocol, local));
        };
        if !place.is_behind(local) {
            return Ok(elsewhere());
        }
        let asked = Whois { endpoint: local, other: Some(remote), protocol: Some(found.protocol) };
        let answer = self.client.call(&asked)?;
        let known = answer.connections.iter().find(|row| row.local == local && row.remote == remote);
        match known {
            Some(row) => Ok(by_bond(row)),
            None => self.by_explanation(found.protocol, local, remote),
        }
    }

    /// What would become of a connection that the gateway does not track.
    fn by_explanation(
        &mut self,
        protocol: u8,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<Judgement, Failure> {
        let explained = self.client.call(&call::Explain {
            direction: DirectionSpec::Outbound,
            protocol,
            local: local.ip(),
            local_port: Some(local.port()),
            remote: remote.ip(),
            remote_port: Some(remote.port()),
            octets: None,
        })?;
        let rule = explained.policy.as_ref();
        let by = rule.map(|rule| format!(" by rule {}", rule.number)).unwrap_or_default();
        let peer = explained.sa.map(|sa| sa.peer);
        Ok(match explained.verdict {
            _ if rule.is_some_and(insists) && !is_group(remote.ip()) => {
                (Standing::Awaiting, None, format!("nothing of it passed; what does is latched{by}"))
            }
            Verdict::Protect => {
                (Standing::Unlatched, peer, format!("it would be protected{by}, without a latch"))
            }
            Verdict::Bypass => (Standing::Bypassed, None, format!("it would pass in the clear{by}")),
            Verdict::Drop => {
                let reason = explained.drop.unwrap_or_default();
                (Standing::Dropped, None, format!("what it sends is dropped as {reason}{by}"))
            }
        })
    }
}

/// Whether nothing passes by a rule without a latch: not even what cannot be latched (L-81, L-83).
fn insists(rule: &PolicyRow) -> bool {
    let passes = rule.terms.is_some_and(|terms| terms.unlatchable == UnlatchableSpec::Pass);
    rule.action == ActionSpec::Protect && rule.latch && !passes
}

/// Whether many hosts are meant, with whom nothing is ever latched.
const fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// A connection that the gateway tracks.
fn by_bond(row: &WhoisRow) -> Judgement {
    let peer = row.held.as_ref().and_then(|held| held.peer.as_ref()).map(|peer| peer.asserted.clone());
    let why =
        |what: &str| row.latch.as_ref().map_or(what.to_owned(), |latch| format!("{what} (latch {latch})"));
    match row.bond {
        Bond::Latched => (Standing::Latched, peer, why("to this peer and no other")),
        Bond::Suspended => (Standing::Dropped, peer, why(&row.text)),
        Bond::Protected => (Standing::Unlatched, peer, row.text.clone()),
        Bond::Bypassed => (Standing::Bypassed, None, why(&row.text)),
        Bond::Dropped => (Standing::Dropped, None, row.text.clone()),
    }
}

/// A socket without another end: the worst that a rule lets become of what it may send or receive.
fn by_policy(policy: &[PolicyRow], protocol: u8, local: SocketAddr) -> Judgement {
    let mut worst: Judgement = (Standing::Dropped, None, "no rule lets anything of it pass".into());
    let rank = |standing| match standing {
        Standing::Dropped => 0,
        Standing::Awaiting => 1,
        Standing::Unlatched => 2,
        _ => 3,
    };
    for rule in policy.iter().filter(|rule| speaks_of(&rule.selector, protocol, local)) {
        let number = rule.number;
        let (standing, why) = match (rule.action, insists(rule)) {
            (ActionSpec::Protect, true) => {
                (Standing::Awaiting, format!("what comes is latched by rule {number}"))
            }
            (ActionSpec::Protect, false) => (
                Standing::Unlatched,
                format!("rule {number} protects without a latch, or lets it be without"),
            ),
            (ActionSpec::Bypass, _) => {
                (Standing::Bypassed, format!("rule {number} lets others pass in the clear"))
            }
            (ActionSpec::Discard, _) => (Standing::Dropped, format!("rule {number} drops what comes")),
        };
        if rank(standing) > rank(worst.0) {
            worst = (standing, None, why);
        }
        if is_last(rule, local) {
            break;
        }
    }
    worst
}

/// Whether a rule may decide about something that this local end sends or receives.
fn speaks_of(selector: &SelectorView, protocol: u8, local: SocketAddr) -> bool {
    let is_local = match local.ip().is_unspecified() {
        true => local.is_ipv6() || range(&selector.local).is_none_or(|(first, _)| first.is_ipv4()),
        false => range(&selector.local).is_none_or(|(first, last)| (first..=last).contains(&local.ip())),
    };
    is_local
        && selector.protocol.is_none_or(|only| only == protocol)
        && selector.local_ports.is_none_or(|ports| match ports {
            PortsView::Between(first, last) => (first..=last).contains(&local.port()),
            // What a socket of this protocol sends shows its ports.
            PortsView::Unseen(_) => false,
        })
        && selector.remote_ports != Some(PortsView::OPAQUE)
        && selector.icmp.is_none_or(|icmp| icmp == IcmpSpec::OPAQUE)
}

/// Whether no later rule decides about anything of this local end.
fn is_last(rule: &PolicyRow, local: SocketAddr) -> bool {
    let everything = if local.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
    let selector = &rule.selector;
    rule.direction.is_none()
        && selector.remote == everything
        && selector.protocol.is_none()
        && selector.local_ports.is_none()
        && selector.remote_ports.is_none()
        && selector.icmp.is_none()
        && (!local.ip().is_unspecified() || (local.is_ipv4() && selector.local == everything))
}

/// First and last address: of a prefix, an address, or a range with a dash. `None` where it cannot be read.
fn range(text: &str) -> Option<(std::net::IpAddr, std::net::IpAddr)> {
    if let Some((first, last)) = text.split_once('-') {
        return Some((first.trim().parse().ok()?, last.trim().parse().ok()?));
    }
    if let Ok(prefix) = text.parse::<IpNet>() {
        return Some((prefix.network(), prefix.broadcast()));
    }
    let address = text.parse().ok()?;
    Some((address, address))
}

/// A socket that no list of TCP and UDP sockets shows.
fn judge_other(process: &Process, socket: &Socket) -> ((Option<SocketAddr>, Option<SocketAddr>), Judgement) {
    let kind = socket.kind.as_str();
    if ["UNIX", "NETLINK", "ALG", "KEY"].iter().any(|local| kind.starts_with(local)) {
        return ((None, None), (Standing::Local, None, "it does not leave the host".into()));
    }
    if kind == RING {
        let why = "it may have sockets that are registered here alone, which no list shows";
        return ((None, None), (Standing::Unknown, None, why.into()));
    }
    if !["TCP", "TCPv6", "UDP", "UDPv6"].contains(&kind) {
        let why = format!("what a {kind} socket sends is of no connection that could be latched for it");
        return ((None, None), (Standing::Unknown, None, why));
    }
    match process.ends(socket) {
        Some((None, None)) => {
            ((None, None), (Standing::Unused, None, "it is neither bound nor connected".into()))
        }
        Some(ends) => (ends, elsewhere()),
        None => {
            let why = "it cannot be looked at; run this as root".into();
            ((None, None), (Standing::Unknown, None, why))
        }
    }
}

fn elsewhere() -> Judgement {
    let why = "not behind this gateway: what it sends may take another way";
    (Standing::Elsewhere, None, why.into())
}

#[cfg(test)]
mod tests {
    use latchway_control::{ApplicationsSpec, LatchTermsView, Origin};

    use super::*;

    fn rule(number: u64, local: &str, remote: &str, action: ActionSpec, latch: bool) -> PolicyRow {
        let (local, remote) = (local.into(), remote.into());
        let selector =
            SelectorView { local, remote, protocol: None, icmp: None, local_ports: None, remote_ports: None };
        let (origin, applications) = (Origin::Configuration, ApplicationsSpec::Nothing);
        let terms = latch.then(LatchTermsView::default);
        PolicyRow {
            number,
            name: None,
            origin,
            selector,
            direction: None,
            action,
            latch,
            terms,
            applications,
        }
    }

    fn judged(policy: &[PolicyRow], local: &str) -> Standing {
        by_policy(policy, 6, local.parse().unwrap()).0
    }

    #[test]
    fn a_listening_socket_is_as_good_as_the_worst_rule_that_may_let_somebody_in() {
        let protect = rule(1, "10.1.0.0/24", "10.2.0.0/24", ActionSpec::Protect, true);
        let plain = rule(2, "10.1.0.0/24", "10.3.0.0/24", ActionSpec::Protect, false);
        let bypass = rule(3, "10.1.0.0-10.1.0.9", "10.9.0.0/16", ActionSpec::Bypass, false);
        let discard = rule(4, "0.0.0.0/0", "0.0.0.0/0", ActionSpec::Discard, false);
        let at = "10.1.0.1:80";
        assert_eq!(judged(&[], at), Standing::Dropped);
        assert_eq!(judged(std::slice::from_ref(&protect), at), Standing::Awaiting);
        assert_eq!(judged(&[protect.clone(), plain.clone()], at), Standing::Unlatched);
        assert_eq!(judged(&[protect.clone(), plain, bypass.clone()], at), Standing::Bypassed);
        assert_eq!(judged(&[protect.clone(), bypass.clone()], "10.1.0.77:80"), Standing::Awaiting);
        assert_eq!(judged(&[protect.clone(), discard.clone(), bypass.clone()], at), Standing::Awaiting);
        assert_eq!(judged(&[protect.clone(), bypass.clone()], "0.0.0.0:80"), Standing::Bypassed);
        assert_eq!(judged(&[discard.clone(), bypass.clone()], "0.0.0.0:80"), Standing::Dropped);
        assert_eq!(judged(&[discard, bypass], "[::]:80"), Standing::Bypassed, "it takes IPv4 too");
        assert_eq!(judged(&[protect], "10.7.0.1:80"), Standing::Dropped);
    }

    /// L-81, L-83: what may pass without a latch is not said to be latched.
    #[test]
    fn l_81_a_rule_that_lets_pass_what_cannot_be_latched_proves_nothing() {
        let mut passes = rule(1, "10.1.0.0/24", "10.2.0.0/24", ActionSpec::Protect, true);
        assert!(insists(&passes));
        passes.terms =
            Some(LatchTermsView { unlatchable: UnlatchableSpec::Pass, ..LatchTermsView::default() });
        assert!(!insists(&passes));
        assert_eq!(judged(&[passes], "10.1.0.1:80"), Standing::Unlatched);
        let groups = ["224.0.0.5", "255.255.255.255", "ff02::fb"];
        assert!(groups.iter().all(|group| is_group(group.parse().unwrap())));
        assert!(!is_group("10.2.0.1".parse().unwrap()));
    }

    #[test]
    fn ports_and_protocol_of_a_rule_count() {
        let mut bypass = rule(1, "10.1.0.0/24", "10.2.0.0/24", ActionSpec::Bypass, false);
        bypass.selector.protocol = Some(17);
        assert_eq!(judged(std::slice::from_ref(&bypass), "10.1.0.1:80"), Standing::Dropped);
        (bypass.selector.protocol, bypass.selector.local_ports) = (Some(6), Some(PortsView::Between(81, 90)));
        assert_eq!(judged(std::slice::from_ref(&bypass), "10.1.0.1:80"), Standing::Dropped);
        assert_eq!(judged(std::slice::from_ref(&bypass), "10.1.0.1:81"), Standing::Bypassed);
        // What shows no ports is nothing of a TCP socket; what shows no ICMP type may be.
        (bypass.selector.protocol, bypass.selector.local_ports) = (None, Some(PortsView::OPAQUE));
        assert_eq!(judged(std::slice::from_ref(&bypass), "10.1.0.1:81"), Standing::Dropped);
        (bypass.selector.icmp, bypass.selector.local_ports) = (Some(IcmpSpec::OPAQUE), None);
        assert_eq!(judged(&[bypass], "10.1.0.1:81"), Standing::Bypassed);
    }
}
