//! What only shows once all is read: addresses that are two peers', policies that say nothing, SAs without a policy.

use std::collections::HashMap;
use std::path::Path;

use latchway_tagging::PeerPattern;

use crate::document::{Entry, Problems, Scope};
use crate::model::{Action, AppSocket, Model, Policy};
use crate::range::{AddressRange, IcmpRange, PortRange, Selector, holds, merge};
use crate::read::peer::{Peers, ReadPeer};
use crate::read::policy::{Policies, ReadPolicy};
use crate::reference::{peer, root};

/// Inner addresses, and whose they are.
pub struct Claim {
    range: AddressRange,
    owner: Owner,
    at: usize,
    path: String,
}

/// Whose inner addresses are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Our own.
    Ourselves,
    /// The peer's of this number.
    Peer(usize),
    /// Those of peers that share them, of this one too.
    Shared(usize),
    /// Anybody's (RFC 5386).
    Anybody,
}

impl Claim {
    /// The claim that an entry makes.
    pub fn new(range: AddressRange, owner: Owner, entry: &Entry<'_>) -> Self {
        Self { range, owner, at: entry.at(), path: entry.path().to_owned() }
    }
}

/// No inner address is two peers', unless both share it, or a peer's and our own (T15).
pub fn claims(mut claims: Vec<Claim>, problems: &mut Problems<'_>) {
    claims.sort_by_key(|claim| (claim.range, claim.at));
    let (mut all, mut unshared) = (Reach::default(), Reach::default());
    for claim in &claims {
        let shared = matches!(claim.owner, Owner::Shared(_));
        let rivals = if shared { &unshared } else { &all };
        if let Some(rival) = rivals.rival(claim) {
            overlap(claim, rival, problems);
        }
        all.extend(claim);
        if !shared {
            unshared.extend(claim);
        }
    }
}

/// Of some claims, in the order of their ranges, the one that reaches furthest, and of those of other owners the one that
/// does.
#[derive(Default)]
struct Reach<'c> {
    furthest: Option<&'c Claim>,
    other: Option<&'c Claim>,
}

impl<'c> Reach<'c> {
    /// One of another owner that overlaps a claim behind them.
    fn rival(&self, claim: &Claim) -> Option<&'c Claim> {
        let rival =
            [self.furthest, self.other].into_iter().flatten().find(|rival| rival.owner != claim.owner);
        rival.filter(|rival| rival.range.overlaps(&claim.range))
    }

    fn extend(&mut self, claim: &'c Claim) {
        let reaches = |rival: Option<&Claim>| rival.is_none_or(|rival| further(claim, rival));
        let is_other = self.furthest.is_some_and(|furthest| furthest.owner != claim.owner);
        if reaches(self.furthest) {
            if is_other {
                self.other = self.furthest;
            }
            self.furthest = Some(claim);
        } else if is_other && reaches(self.other) {
            self.other = Some(claim);
        }
    }
}

/// Anybody may be the peer of a connection that only a latch keeps apart from the next one: such rules want SAs judged
/// before they are used (latching-04 2.1).
pub fn anybody(policies: &Policies, peers: &Peers, problems: &mut Problems<'_>) {
    let Some(any) = peers.named(&PeerPattern::Any) else { return };
    let line = problems.position(any.at).line;
    for ReadPolicy { policy, at } in &policies.read {
        let serves = policy.peer.as_ref().is_none_or(|peer| *peer == PeerPattern::Any);
        let by_tag = policy.latch && policy.terms.model == Model::Tag;
        if by_tag && serves && overlap_any(&policy.selector.remote, &any.ranges) {
            let message =
                format!("latches by tag, but anybody may serve it: the peer of line {line} is `any`");
            let hint = "write model = \"strict\" here, or name the `peer` that it is about";
            problems.error(*at, "policy", message, hint);
        }
    }
}

/// Says so where a gateway's policies hold what is never used.
pub fn policies(policies: &Policies, peers: &Peers, host: bool, problems: &mut Problems<'_>) {
    if policies.written {
        shadowed(&policies.read, problems);
    }
    if !policies.complete || !peers.complete {
        return;
    }
    let protects: Vec<_> =
        policies.read.iter().filter(|policy| policy.policy.action == Action::Protect).collect();
    unprotected(&protects, &peers.read, problems);
    unclaimed(&protects, &peers.read, host, problems);
}

/// BYPASS takes a way out.
pub fn bypass(policies: &Policies, file: &Scope<'_>, problems: &mut Problems<'_>) {
    if file.entry(&root::BYPASS_PORT).is_some() {
        return;
    }
    for policy in policies.read.iter().filter(|policy| policy.policy.action == Action::Bypass) {
        let hint = format!(
            "in split mode, write bypass_port = {}; in host mode, route into the TUN only what is to be protected",
            root::BYPASS_PORT.example
        );
        problems.error(policy.at, "policy", "bypasses, but there is no port for it", hint);
    }
}

/// Applications and the operator have a socket each.
pub fn sockets(
    control: Option<&Path>,
    app: Option<&AppSocket>,
    file: &Scope<'_>,
    problems: &mut Problems<'_>,
) {
    let (Some(AppSocket::At(app)), Some(entry)) = (app, file.entry(&root::APP)) else { return };
    if control == Some(app) {
        let hint = format!("write for example app = {}", root::APP.example);
        entry.error(problems, "is the operator's own socket (`control`)".to_owned(), hint);
    }
}

/// In host mode, what is sent to an endpoint within a protected range would enter the TUN again.
pub fn looping(peers: &Peers, problems: &mut Problems<'_>) {
    let claimed = merge(peers.read.iter().flat_map(|peer| peer.ranges.iter().copied()).collect());
    for ReadPeer { peer, at, .. } in &peers.read {
        let Some(endpoint) = peer.endpoint else { continue };
        let single = AddressRange::new(endpoint.ip(), endpoint.ip());
        if single.is_some_and(|single| overlap_any(&claimed, &[single])) {
            let message = format!(
                "the endpoint {} lies in a range that is routed into the TUN: in host mode its own packets would come back",
                endpoint.ip()
            );
            let hint = "use split mode, or let no peer claim that address";
            problems.error(*at, "peer.endpoint", message, hint);
        }
    }
}

/// T12: keys that outlive the gateway, and numbers that do not.
pub fn stateless(peers: &Peers, problems: &mut Problems<'_>) {
    if let Some(&at) = peers.read.iter().find_map(|peer| peer.sas.first()) {
        let message = "sequence numbers begin anew at each start: until they start anew too, peers refuse our packets as \
                       replays, and we accept replays of theirs";
        problems.warning(
            at,
            "peer.sa",
            message,
            format!("name a folder for them: state = {}", root::STATE.example),
        );
    }
}

fn further(claim: &Claim, than: &Claim) -> bool {
    claim.range.is_ipv4() != than.range.is_ipv4() || claim.range.last() > than.range.last()
}

fn overlap(a: &Claim, b: &Claim, problems: &mut Problems<'_>) {
    // Where one is our own, it is the peer that must not have it; else it is the one that comes second.
    let (wrong, right) = match (a.owner, b.owner) {
        (Owner::Ourselves, _) => (b, a),
        (_, Owner::Ourselves) => (a, b),
        _ if a.at < b.at => (b, a),
        _ => (a, b),
    };
    let line = problems.position(right.at).line;
    let whose = match right.owner {
        Owner::Ourselves => "our own inner network",
        Owner::Anybody => "what anybody may claim:",
        Owner::Peer(_) | Owner::Shared(_) => "what another peer may claim:",
    };
    let message = format!("{} overlaps {whose} {} in line {line}", wrong.range, right.range);
    problems.error(
        wrong.at,
        &wrong.path,
        message,
        "each inner address belongs to one side: leave it to one of them",
    );
}

/// A policy all of whose packets an earlier one decides: as the order stands, it says nothing.
fn shadowed(policies: &[ReadPolicy], problems: &mut Problems<'_>) {
    let merged: Vec<_> = policies.iter().map(|policy| Flows::of(&policy.policy.selector)).collect();
    let mut budget = Budget::default();
    for (number, (policy, flows)) in policies.iter().zip(&merged).enumerate() {
        let mut earlier = policies.iter().zip(&merged).take(number);
        let shadow = earlier.find(|(earlier, all)| {
            // The first two say no to most, and cost least.
            budget.spend(1)
                && all.reach(flows)
                && speaks_of(&earlier.policy, &policy.policy)
                && budget.spend(flows.ranges())
                && all.hold(flows)
        });
        if let Some((shadow, _)) = shadow {
            let line = problems.position(shadow.at).line;
            let message =
                format!("never decides: the policy of line {line} comes first for all of its packets");
            problems.error(policy.at, "policy", message, "remove it, or move it in front of that one");
        }
    }
    budget.tell("policies behind others that leave them nothing", problems);
}

/// Whether a policy decides the direction and the protocol that another one does.
fn speaks_of(policy: &Policy, other: &Policy) -> bool {
    (policy.direction.is_none() || policy.direction == other.direction)
        && (policy.selector.protocol.is_none() || policy.selector.protocol == other.selector.protocol)
        && policy
            .selector
            .icmp
            .is_none_or(|icmp| other.selector.icmp.is_some_and(|other| icmp.covers(&other)))
}

/// SAs that no policy sends anything through, and peers without any policy.
fn unprotected(protects: &[&ReadPolicy], peers: &[ReadPeer], problems: &mut Problems<'_>) {
    let (named, general): (Vec<_>, Vec<_>) =
        protects.iter().map(|policy| &policy.policy).partition(|policy| policy.peer.is_some());
    let mut of_peer = HashMap::<_, Vec<_>>::new();
    named.into_iter().for_each(|policy| of_peer.entry(&policy.peer).or_default().push(policy));
    let mut budget = Budget::default();
    for ReadPeer { peer, at, ranges, sas } in peers {
        let own = of_peer.get(&Some(peer.identity.clone())).map(Vec::as_slice).unwrap_or_default();
        let candidates = || own.iter().chain(&general);
        for (sa, &at) in peer.sas.iter().zip(sas) {
            let mut meets = |policy: &&Policy, selector| budget.spend(1) && meet(&policy.selector, selector);
            let used = sa.selectors.iter().any(|selector| candidates().any(|policy| meets(policy, selector)));
            if !used && !budget.is_spent() {
                let message = "no policy protects what it may carry, so nothing is sent through it";
                let hint = "write a [[policy]] with action = \"protect\" for its flows, or remove the SA";
                problems.error(at, "peer.sa", message, hint);
            }
        }
        let meets = |policy: &&Policy| budget.spend(1) && overlap_any(&policy.selector.remote, ranges);
        if !candidates().any(meets) && !budget.is_spent() {
            let message = "no policy protects traffic with this peer";
            let hint =
                "write a [[policy]] with action = \"protect\" and its ranges as `remote`, or remove the peer";
            problems.warning(*at, "peer", message, hint);
        }
    }
    budget.tell("SAs and peers without a policy", problems);
}

/// Policies that protect what no peer may claim: those packets are dropped for good. In host mode they do not meet the
/// gateway, also where a peer may claim some of it.
fn unclaimed(protects: &[&ReadPolicy], peers: &[ReadPeer], host: bool, problems: &mut Problems<'_>) {
    let claimed = merge(peers.iter().flat_map(|peer| peer.ranges.iter().copied()).collect());
    let is_claimed = |range: &AddressRange| {
        let behind = claimed
            .partition_point(|other| (!other.is_ipv4(), other.first()) <= (!range.is_ipv4(), range.last()));
        behind.checked_sub(1).and_then(|at| claimed.get(at)).is_some_and(|other| other.overlaps(range))
    };
    let is_guarded = |remote: &[AddressRange]| {
        if host { remote.iter().all(|range| holds(&claimed, range)) } else { remote.iter().any(is_claimed) }
    };
    for policy in protects.iter().filter(|policy| !is_guarded(&policy.policy.selector.remote)) {
        let message = if host {
            "protects what no peer may claim: in host mode that is neither routed into the TUN nor filtered, and leaves in the clear"
        } else {
            "protects what no peer may claim, so its packets are dropped"
        };
        let hint = format!("name the addresses as `{}` of a [[peer]]", peer::INNER.name);
        problems.warning(policy.at, "policy", message, hint);
    }
}

/// Whether some packet is of a policy's selector and of an SA's. An SA for what shows no ports is for later fragments of
/// what does, too (RFC 4301 section 7.2).
fn meet(a: &Selector, b: &Selector) -> bool {
    let protocols = a.protocol.zip(b.protocol).is_none_or(|(a, b)| a == b);
    let ports = |a: &[PortRange], b: &[PortRange]| {
        *b == [PortRange::Opaque] || a.iter().any(|a| b.iter().any(|b| a.overlaps(b)))
    };
    let family = |v4: bool| {
        let of = |ranges: &[AddressRange]| {
            ranges.iter().copied().filter(|r| r.is_ipv4() == v4).collect::<Vec<_>>()
        };
        overlap_any(&of(&a.local), &of(&b.local)) && overlap_any(&of(&a.remote), &of(&b.remote))
    };
    let messages = a.icmp.zip(b.icmp).is_none_or(|(a, b)| b == IcmpRange::Opaque || a.overlaps(&b));
    protocols
        && messages
        && ports(&a.local_ports, &b.local_ports)
        && ports(&a.remote_ports, &b.remote_ports)
        && (family(true) || family(false))
}

fn overlap_any(a: &[AddressRange], b: &[AddressRange]) -> bool {
    a.iter().any(|a| b.iter().any(|b| a.overlaps(b)))
}

/// A selector with its ranges merged, so that what several of them hold together is seen.
struct Flows {
    local: Vec<AddressRange>,
    remote: Vec<AddressRange>,
    local_ports: Vec<PortRange>,
    remote_ports: Vec<PortRange>,
    /// The lowest and the highest port of each side.
    reach: [u32; 4],
}

impl Flows {
    /// Ranges of a family that the other side has not select nothing, and are left out.
    fn of(selector: &Selector) -> Self {
        let has = |ranges: &[AddressRange], v4: bool| ranges.iter().any(|range| range.is_ipv4() == v4);
        let both = |v4: bool| has(&selector.local, v4) && has(&selector.remote, v4);
        let kept = [true, false].map(both);
        let keep = |ranges: &[AddressRange]| {
            let [v4, v6] = kept;
            merge(ranges.iter().copied().filter(|range| if range.is_ipv4() { v4 } else { v6 }).collect())
        };
        let (local_ports, remote_ports) =
            (merge_ports(&selector.local_ports), merge_ports(&selector.remote_ports));
        let first = |ports: &[PortRange]| ports.iter().map(|range| range.ends().0).min().unwrap_or(0);
        let last = |ports: &[PortRange]| ports.iter().map(|range| range.ends().1).max().unwrap_or(0);
        let reach = [first(&local_ports), last(&local_ports), first(&remote_ports), last(&remote_ports)];
        Self {
            local: keep(&selector.local),
            remote: keep(&selector.remote),
            local_ports,
            remote_ports,
            reach,
        }
    }

    /// Whether the ports of the other lie between the ends of these.
    const fn reach(&self, other: &Self) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.reach, other.reach);
        a <= e && f <= b && c <= g && h <= d
    }

    fn hold(&self, other: &Self) -> bool {
        let addresses =
            |all: &[AddressRange], some: &[AddressRange]| some.iter().all(|range| holds(all, range));
        let ports = |all: &[PortRange], some: &[PortRange]| {
            some.iter().all(|range| all.iter().any(|other| other.covers(range)))
        };
        addresses(&self.remote, &other.remote)
            && addresses(&self.local, &other.local)
            && ports(&self.remote_ports, &other.remote_ports)
            && ports(&self.local_ports, &other.local_ports)
    }

    const fn ranges(&self) -> u64 {
        (self.local.len() + self.remote.len() + self.local_ports.len() + self.remote_ports.len()) as u64
    }
}

/// Ranges that together have every port are still not ANY: what shows no ports is in none of them.
fn merge_ports(ranges: &[PortRange]) -> Vec<PortRange> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut merged: Vec<PortRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match (merged.last_mut(), range) {
            (Some(PortRange::Between(_, last)), PortRange::Between(from, to))
                if u32::from(from) <= u32::from(*last) + 1 =>
            {
                *last = to.max(*last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// Comparisons of everything with everything, which end where a file is too large for them.
struct Budget(u64);

impl Default for Budget {
    fn default() -> Self {
        Self(MOST_COMPARISONS)
    }
}

impl Budget {
    const fn spend(&mut self, comparisons: u64) -> bool {
        self.0 = self.0.saturating_sub(comparisons);
        !self.is_spent()
    }

    const fn is_spent(&self) -> bool {
        self.0 == 0
    }

    fn tell(&self, what: &str, problems: &mut Problems<'_>) {
        if self.is_spent() {
            let message = format!("there is too much to find all {what}");
            problems.warning(0, "policy", message, "use fewer policies, with lists of ranges");
        }
    }
}

/// Some three thousand policies are compared each with each.
const MOST_COMPARISONS: u64 = 1 << 22;
