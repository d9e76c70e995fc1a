//! The policy (RFC 4301 section 4.4.1), and the selectors that policies and SAs have.

use super::peer::{Peers, ReadPeer};
use super::{Known, latching};
use crate::document::{Entry, Problems, Scope, nearest};
use crate::model::{Action, Applications, Direction, LatchTerms, Policy};
use crate::problem::quote;
use crate::range::{AddressRange, IcmpRange, PortRange, Selector, holds};
use crate::reference::{self, Key, flows, icmp, policy, root, selector};
use crate::value;

/// The policies that were understood.
pub struct Policies {
    /// They, and where they are.
    pub read: Vec<ReadPolicy>,
    /// Whether the file has them; else they follow from the peers.
    pub written: bool,
    /// Whether that is all of them.
    pub complete: bool,
}

/// A policy, and where it is.
pub struct ReadPolicy {
    /// The policy.
    pub policy: Policy,
    /// Where it is.
    pub at: usize,
}

/// The policies.
pub fn read(file: &Scope<'_>, known: &Known<'_>, peers: &Peers, problems: &mut Problems<'_>) -> Policies {
    let Some(entry) = file.entry(&root::POLICY) else {
        let read: Vec<_> = peers.read.iter().filter_map(|peer| default(peer, known, problems)).collect();
        let complete = peers.complete && read.len() == peers.read.len();
        return Policies { read, written: false, complete };
    };
    if entry.is_empty_list() {
        let hint =
            "remove it to protect what the peers may claim, or write a policy with action = \"discard\"";
        entry.error(problems, "is empty", hint);
    }
    let items = entry.items();
    let read: Vec<_> = items.iter().filter_map(|item| one(item, known, peers, problems)).collect();
    let complete = read.len() == items.len() && !items.is_empty();
    Policies { read, written: true, complete }
}

/// An SA's selector: `ranges` are our own inner networks, where they are known, and what the peer may claim.
pub fn sa_selector(
    entry: &Entry<'_>,
    (networks, claimed): (Option<&[AddressRange]>, &[AddressRange]),
    problems: &mut Problems<'_>,
) -> Option<Selector> {
    let table = entry.table(&selector::TABLE, problems)?;
    let keys = Keys { local: &selector::LOCAL, remote: &selector::REMOTE };
    let networks = networks.unwrap_or(&ANY);
    let selector = keys.selector(&table, (networks, claimed), problems)?;
    if let Some(entry) = table.entry(&selector::REMOTE) {
        check_claimed(&entry, &selector.remote, claimed, problems);
    }
    check_protocol(&table, &selector, problems);
    Some(selector)
}

/// Whether a selector has something to select, and few enough combinations; where not, that is a problem.
pub fn fits(selector: &Selector, (at, name): (usize, &str), problems: &mut Problems<'_>) -> bool {
    let (message, hint) = if selector.local.is_empty() {
        let hint =
            "give the TUN `addresses`, or name ours as `local` in a [[policy]] and in the SA's `selectors`";
        ("has no addresses on our side".to_owned(), hint)
    } else if selector.simple().next().is_none() {
        let hint = "name addresses of one family on both sides";
        ("mixes address families: no packet has an address of each".to_owned(), hint)
    } else if selector.combinations() > MOST_COMBINATIONS {
        let message = format!(
            "has {} combinations of ranges, more than the {MOST_COMBINATIONS} that can be",
            selector.combinations()
        );
        (message, "write several with fewer ranges each")
    } else {
        return true;
    };
    problems.error(at, name, message, hint);
    false
}

/// What holds for a peer where the file says nothing: protect, latched, all that lies between us.
fn default(peer: &ReadPeer, known: &Known<'_>, problems: &mut Problems<'_>) -> Option<ReadPolicy> {
    let networks = known.networks.as_ref()?;
    let selector = Selector::between(networks.clone(), peer.ranges.clone());
    let policy = Policy {
        name: None,
        selector,
        direction: None,
        action: Action::Protect,
        latch: known.latch,
        terms: if known.latch { known.terms } else { LatchTerms::default() },
        applications: known.applications,
        peer: Some(peer.peer.identity.clone()),
    };
    fits(&policy.selector, (peer.at, "peer"), problems).then_some(ReadPolicy { policy, at: peer.at })
}

fn one(
    entry: &Entry<'_>,
    known: &Known<'_>,
    peers: &Peers,
    problems: &mut Problems<'_>,
) -> Option<ReadPolicy> {
    let table = entry.table(&policy::TABLE, problems)?;
    let before = problems.errors();
    let name = table.read(&policy::NAME, problems, value::rule_name);
    let action = table.required(&policy::ACTION, problems);
    let action = action.and_then(|entry| value::word(&ACTIONS)(&entry, problems));
    let direction = table.read(&policy::DIRECTION, problems, value::word(&DIRECTIONS));
    let peer = table.entry(&policy::PEER).and_then(|entry| named_peer(&entry, peers, problems));
    let keys = Keys { local: &policy::LOCAL, remote: &policy::REMOTE };
    let claimed = peer.map_or(&ANY[..], |peer| &peer.ranges);
    let selector = keys.selector(&table, (&ANY, claimed), problems);
    if let Some((entry, selector)) = table.entry(&policy::REMOTE).zip(selector.as_ref()) {
        check_claimed(&entry, &selector.remote, claimed, problems);
    }
    if let Some(selector) = &selector {
        check_opaque(&table, selector, problems);
    }
    let latch = table.read(&reference::latching::LATCH, problems, Entry::flag);
    if action.is_some_and(|action| action != Action::Protect) {
        for key in [&policy::PEER, &reference::latching::LATCH] {
            if let Some(entry) = table.entry(key) {
                let hint = "remove it, or write action = \"protect\"";
                entry.error(problems, "says nothing where nothing is protected", hint);
            }
        }
    }
    let terms = latching::terms(&table, known.terms, problems);
    let applications = latching::applications(&table, known.applications, problems);
    let action = action?;
    let latch = action == Action::Protect && latch.unwrap_or(known.latch);
    check_terms(&table, action, latch, problems);
    let policy = Policy {
        name,
        selector: selector?,
        direction,
        action,
        latch,
        terms: if latch { terms? } else { LatchTerms::default() },
        applications: if action == Action::Discard { Applications::Nothing } else { applications? },
        peer: peer.map(|peer| peer.peer.identity.clone()),
    };
    (problems.errors() == before).then_some(ReadPolicy { policy, at: table.at() })
}

/// Terms say nothing where nothing is latched, and nobody asks for more than being discarded.
fn check_terms(table: &Scope<'_>, action: Action, latch: bool, problems: &mut Problems<'_>) {
    for entry in latching::OF_LATCHES.iter().filter(|_| !latch).filter_map(|key| table.entry(key)) {
        entry.error(
            problems,
            "says nothing where nothing is latched",
            "remove it, or latch the rule's connections",
        );
    }
    if let Some(entry) = table.entry(&reference::latching::APPLICATIONS).filter(|_| action == Action::Discard)
    {
        let hint = "remove it, or write action = \"protect\" or \"bypass\"";
        entry.error(problems, "says nothing where all is discarded", hint);
    }
}

fn named_peer<'p>(entry: &Entry<'_>, peers: &'p Peers, problems: &mut Problems<'_>) -> Option<&'p ReadPeer> {
    let identity = value::pattern(entry, problems)?;
    let peer = peers.named(&identity);
    // Where a peer was not understood, it may be the one.
    if peer.is_none() && peers.complete {
        let names = peers.read.iter().take(MOST_SUGGESTED).map(|peer| peer.peer.identity.to_string());
        let names: Vec<_> = names.collect();
        let hint = match nearest(&identity.to_string(), names.iter().map(String::as_str)) {
            Some(nearest) => format!("did you mean \"{nearest}\"?"),
            None => "name the `identity` of a [[peer]] of this file".to_owned(),
        };
        entry.error(problems, format!("{} is no peer", quote(entry.as_text().unwrap_or_default())), hint);
    }
    peer
}

/// T15: what lies outside of what the peer may claim is never its.
fn check_claimed(
    entry: &Entry<'_>,
    remote: &[AddressRange],
    claimed: &[AddressRange],
    problems: &mut Problems<'_>,
) {
    let stranger = remote.iter().find(|range| !holds(claimed, range));
    if let Some(range) = stranger.filter(|_| !claimed.is_empty()) {
        let hint = "name addresses within the peer's `inner` ranges, or widen those";
        entry.error(problems, format!("{range} is not all the peer's to claim"), hint);
    }
}

/// The keys that have a selector's addresses, of a policy or of an SA.
struct Keys {
    local: &'static Key,
    remote: &'static Key,
}

impl Keys {
    /// The selector of a table, and what its addresses are where it has none.
    fn selector(
        &self,
        table: &Scope<'_>,
        (local, remote): (&[AddressRange], &[AddressRange]),
        problems: &mut Problems<'_>,
    ) -> Option<Selector> {
        let local = table.read_or(self.local, local.to_vec(), problems, addresses);
        let remote = table.read_or(self.remote, remote.to_vec(), problems, addresses);
        let protocol = table.read_or(&flows::PROTOCOL, None, problems, |entry, problems| {
            value::protocol(entry, problems).map(Some)
        });
        let any = vec![PortRange::Any];
        let local_ports = table.read_or(&flows::LOCAL_PORTS, any.clone(), problems, ports);
        let remote_ports = table.read_or(&flows::REMOTE_PORTS, any, problems, ports);
        let (protocol, icmp) = (protocol?, icmp(table, protocol?, problems)?);
        let selector = Selector {
            local: local?,
            remote: remote?,
            protocol,
            icmp,
            local_ports: local_ports?,
            remote_ports: remote_ports?,
        };
        let written = table.entry(self.local).and(table.entry(self.remote));
        if let Some(entry) = written.filter(|_| one_sided(&selector)) {
            let hint =
                "name addresses of the same families on both sides, or write one of these for each family";
            entry.error(problems, "mixes address families: `local` and `remote` have not the same", hint);
            return None;
        }
        check_ports(table, &selector, problems);
        // Nothing on the remote side means a peer whose ranges are a problem already.
        let known = !selector.remote.is_empty();
        (known && fits(&selector, (table.at(), table.name()), problems)).then_some(selector)
    }
}

/// RFC 4301 section 4.4.1: what has no ports is matched by ANY and by OPAQUE.
fn check_ports(table: &Scope<'_>, selector: &Selector, problems: &mut Problems<'_>) {
    if let Some(protocol) = selector.protocol.filter(|&protocol| !value::has_ports(protocol)) {
        for (entry, _) in written_ports(table, selector).filter(|(_, ports)| !may_be_unseen(ports)) {
            let message = format!("{} has no ports here", value::protocol_name(protocol));
            entry.error(problems, message, "remove it, or write protocol = \"tcp\" or \"udp\"");
        }
    }
    let sides = [&selector.local_ports, &selector.remote_ports];
    if sides.iter().any(|ports| ***ports == [PortRange::Opaque])
        && let Some((entry, _)) = written_ports(table, selector).find(|(_, ports)| !may_be_unseen(ports))
    {
        let hint = "write \"opaque\" here, too, or ports on both sides";
        entry.error(problems, "selects nothing: a packet shows the ports of both sides, or of none", hint);
    }
}

/// RFC 4301 section 7.2: an SA for certain ports is for a certain protocol.
fn check_protocol(table: &Scope<'_>, selector: &Selector, problems: &mut Problems<'_>) {
    for (entry, _) in written_ports(table, selector).filter(|(_, ports)| !may_be_unseen(ports)) {
        if selector.protocol.is_none() {
            let hint = "write protocol = \"tcp\" or \"udp\" beside it, a selector for each, or remove it";
            entry.error(problems, "takes a protocol: an SA for certain ports is for one", hint);
        }
    }
}

/// Policy sees the ports and types of all that has any: a later fragment is judged by its first.
fn check_opaque(table: &Scope<'_>, selector: &Selector, problems: &mut Problems<'_>) {
    let Some(protocol) = selector.protocol else { return };
    let ports = written_ports(table, selector).find(|(_, ports)| **ports == [PortRange::Opaque]);
    let ports = ports.map(|(entry, _)| entry).filter(|_| value::has_ports(protocol));
    let messages = table
        .entry(&flows::ICMP)
        .filter(|_| selector.icmp == Some(IcmpRange::Opaque) && value::has_icmp_types(protocol));
    for entry in ports.into_iter().chain(messages) {
        let message = format!(
            "never decides: {} shows here what it is; a later fragment is judged by its first",
            value::protocol_name(protocol)
        );
        let hint = "remove it, or `protocol`; of a peer's SA for later fragments alone, it is in `selectors`";
        entry.error(problems, message, hint);
    }
}

/// What is written of ports, and what it says.
fn written_ports<'t, 's>(
    table: &'t Scope<'_>,
    selector: &'s Selector,
) -> impl Iterator<Item = (Entry<'t>, &'s Vec<PortRange>)> {
    let sides =
        [(&flows::LOCAL_PORTS, &selector.local_ports), (&flows::REMOTE_PORTS, &selector.remote_ports)];
    sides.into_iter().filter_map(|(key, ports)| Some((table.entry(key)?, ports)))
}

/// Whether what shows no ports is selected.
fn may_be_unseen(ports: &[PortRange]) -> bool {
    matches!(ports, [PortRange::Any | PortRange::Opaque])
}

/// RFC 4301 section 4.4.1.1: a range of types with all their codes, or of codes of one type. The protocol says of which ICMP.
/// `None` is a problem.
fn icmp(table: &Scope<'_>, protocol: Option<u8>, problems: &mut Problems<'_>) -> Option<Option<IcmpRange>> {
    let Some(entry) = table.entry(&flows::ICMP) else { return Some(None) };
    let opaque = entry.as_text() == Some(OPAQUE);
    let messages = if opaque { None } else { Some(entry.table(&icmp::TABLE, problems)?) };
    if !protocol.map_or(opaque, value::has_icmp_types) {
        let hint = "write protocol = \"icmp\" or \"icmpv6\", or remove it";
        entry.error(problems, "takes a protocol with ICMP messages", hint);
    }
    let Some(messages) = messages else { return Some(Some(IcmpRange::Opaque)) };
    let types = messages.required(&icmp::TYPE, problems);
    let types = types.and_then(|entry| value::octet_range(&entry, problems));
    let codes = messages.read_or(&icmp::CODE, (0, u8::MAX), problems, value::octet_range);
    let (types, codes) = (types?, codes?);
    if let Some(code) = messages.entry(&icmp::CODE).filter(|_| types.0 != types.1) {
        code.error(problems, "codes are of one type, and here are several", "write a selector for each type");
        return None;
    }
    Some(Some(IcmpRange::Messages { types, codes }))
}

fn one_sided(selector: &Selector) -> bool {
    let families = |ranges: &[AddressRange]| [true, false].map(|v4| ranges.iter().any(|r| r.is_ipv4() == v4));
    families(&selector.local) != families(&selector.remote)
}

fn addresses(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Vec<AddressRange>> {
    list(entry, problems, value::address_range)
}

/// RFC 4301 section 4.4.1.2: OPAQUE stands alone.
fn ports(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Vec<PortRange>> {
    if entry.as_text() == Some(OPAQUE) {
        return Some(vec![PortRange::Opaque]);
    }
    let among = entry.items().into_iter().find(|item| item.as_text() == Some(OPAQUE));
    if let Some(item) = among {
        item.error(problems, "\"opaque\" stands alone", "write a policy or a selector of its own for it");
        return None;
    }
    list(entry, problems, value::port_range)
}

/// A value, or a list of at least one.
fn list<T>(
    entry: &Entry<'_>,
    problems: &mut Problems<'_>,
    take: impl Fn(&Entry<'_>, &mut Problems<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    if entry.is_empty_list() {
        entry.error(problems, "is empty", "remove it for any");
        return None;
    }
    let items = entry.items();
    let taken: Vec<_> = items.iter().filter_map(|item| take(item, problems)).collect();
    (taken.len() == items.len()).then_some(taken)
}

/// What cannot be seen (RFC 4301 section 4.4.1).
const OPAQUE: &str = "opaque";
static ACTIONS: [(&str, Action); 3] =
    [("protect", Action::Protect), ("bypass", Action::Bypass), ("discard", Action::Discard)];
static DIRECTIONS: [(&str, Direction); 2] =
    [("inbound", Direction::Inbound), ("outbound", Direction::Outbound)];
static ANY: [AddressRange; 2] = [AddressRange::ANY_V4, AddressRange::ANY_V6];
/// Of ranges of addresses and ports: each becomes a rule of its own in the datapath.
const MOST_COMBINATIONS: usize = 256;
/// Peers that a slip is compared with.
const MOST_SUGGESTED: usize = 20;
