//! The peers (RFC 4301 section 4.4.3) and the SAs with them.

use std::collections::HashMap;
use std::net::SocketAddr;

use ipnet::IpNet;
use latchway_tagging::{AuthMethod, PeerPattern};

use super::sa::Owned;
use super::{Known, Seen};
use crate::check::{Claim, Owner};
use crate::document::{Entry, Problems, Scope};
use crate::model::Peer;
use crate::range::{AddressRange, merge};
use crate::reference::{peer, root};
use crate::value;

/// The peers that were understood.
pub struct Peers {
    /// They, and where they are.
    pub read: Vec<ReadPeer>,
    /// Their places among them.
    by_identity: HashMap<PeerPattern, usize>,
    /// Whether that is all of them.
    pub complete: bool,
}

/// A peer, and where it is.
pub struct ReadPeer {
    /// The peer.
    pub peer: Peer,
    /// Where it is.
    pub at: usize,
    /// What it may claim, in as few ranges as can be.
    pub ranges: Vec<AddressRange>,
    /// Where its SAs are.
    pub sas: Vec<usize>,
}

impl Peers {
    /// The peer that is called so.
    pub fn named(&self, identity: &PeerPattern) -> Option<&ReadPeer> {
        self.by_identity.get(identity).and_then(|&at| self.read.get(at))
    }

    /// Where they are reached.
    pub fn endpoints(&self) -> impl Iterator<Item = SocketAddr> {
        self.read.iter().filter_map(|peer| peer.peer.endpoint)
    }
}

/// The peers.
pub fn read(file: &Scope<'_>, known: &Known<'_>, seen: &mut Seen, problems: &mut Problems<'_>) -> Peers {
    let items = file.entry(&root::PEER).map(|entry| entry.items()).unwrap_or_default();
    let by_identity = HashMap::with_capacity(items.len());
    let mut peers = Peers { read: Vec::with_capacity(items.len()), by_identity, complete: true };
    let mut reader = Reader { known, seen, problems };
    for (number, item) in items.iter().enumerate() {
        match reader.peer(item, number) {
            Some(peer) => {
                peers.by_identity.insert(peer.peer.identity.clone(), peers.read.len());
                peers.read.push(peer);
            }
            None => peers.complete = false,
        }
    }
    peers
}

/// Reads a peer, with its SAs.
pub struct Reader<'r, 't> {
    /// What is known of the gateway.
    pub known: &'r Known<'r>,
    /// What is known of other peers.
    pub seen: &'r mut Seen,
    /// What is wrong.
    pub problems: &'r mut Problems<'t>,
}

impl Reader<'_, '_> {
    fn peer(&mut self, entry: &Entry<'_>, number: usize) -> Option<ReadPeer> {
        let table = entry.table(&peer::TABLE, self.problems)?;
        let before = self.problems.errors();
        let identity = self.identity(&table);
        let methods = self.methods(&table, identity.as_ref());
        let standing = table.read(&peer::STANDING, self.problems, value::method);
        let endpoint = self.endpoint(&table);
        let shared = table.read_or(&peer::SHARED, false, self.problems, Entry::flag);
        let owner = match &identity {
            Some(PeerPattern::Any) => Owner::Anybody,
            _ if shared == Some(true) => Owner::Shared(number),
            _ => Owner::Peer(number),
        };
        let (inner, ranges) = self.inner(&table, owner);
        let owned = Owned { number, endpoint, ranges: &ranges };
        let mut sas = Vec::new();
        if let Some(entry) = table.entry(&peer::SA) {
            let items = entry.items();
            if items.len() > MOST_SAS {
                let message =
                    format!("{} pairs of SAs are more than the {MOST_SAS} that a peer can have", items.len());
                entry.error(self.problems, message, "remove some");
                return None;
            }
            if !items.is_empty() && table.entry(&peer::ENDPOINT).is_none() {
                let hint = format!("give the peer one: endpoint = {}", peer::ENDPOINT.example);
                entry.error(self.problems, "has nowhere to send to: the peer has no endpoint", hint);
            }
            if !items.is_empty() {
                self.check_keyed(&table, identity.as_ref(), methods.as_deref());
            }
            sas.extend(items.iter().map(|item| (item.at(), self.sa(item, &owned))));
        }
        let places = sas.iter().map(|&(at, _)| at).collect();
        let sas = sas.into_iter().filter_map(|(_, sa)| sa).collect();
        let (identity, methods, shared) = (identity?, methods?, shared?);
        let peer = Peer { identity, methods, standing, endpoint, inner, shared, sas };
        (self.problems.errors() == before).then_some(ReadPeer { peer, at: table.at(), ranges, sas: places })
    }

    fn identity(&mut self, table: &Scope<'_>) -> Option<PeerPattern> {
        let entry = table.required(&peer::IDENTITY, self.problems)?;
        let pattern = value::pattern(&entry, self.problems)?;
        if self.known.identity.is_some() && self.known.identity == pattern.identity() {
            let hint = "each end has an identity of its own: change one of them";
            entry.error(self.problems, format!("{pattern} is our own identity"), hint);
        }
        self.check_reached(&entry, &pattern);
        if let PeerPattern::Addresses { .. } = pattern {
            self.seen.ranges.push((pattern.clone(), entry.at()));
        }
        self.seen.identities.entry(pattern.clone()).or_insert(entry.at());
        Some(pattern)
    }

    /// RFC 4301 section 4.4.3: the first entry that speaks of a peer decides, so that none may stand behind one that speaks of
    /// all its peers.
    fn check_reached(&mut self, entry: &Entry<'_>, pattern: &PeerPattern) {
        let seen = |wider: &PeerPattern| self.seen.identities.get(wider).copied();
        let same = seen(pattern);
        let over = pattern.wider().iter().find_map(seen).or_else(|| seen(&PeerPattern::Any));
        let over = over.or_else(|| {
            let covers = |(range, _): &&(PeerPattern, usize)| range.covers(pattern);
            self.seen.ranges.iter().find(covers).map(|(_, at)| *at)
        });
        let (at, message, hint) = match (same, over) {
            (Some(at), _) => (at, "too", "write one [[peer]] for each peer, with all its ranges and SAs"),
            (None, Some(at)) => (at, "", "put the special one before the general one, and `any` last"),
            (None, None) => return,
        };
        let line = self.problems.position(at).line;
        let message = match message {
            "" => {
                format!("{pattern} is never met: the peer of line {line} comes first for whoever it is about")
            }
            _ => format!("the peer of line {line} is {pattern}, too"),
        };
        entry.error(self.problems, message, hint);
    }

    fn methods(&mut self, table: &Scope<'_>, pattern: Option<&PeerPattern>) -> Option<Vec<AuthMethod>> {
        let Some(entry) = table.entry(&peer::METHODS) else {
            return Some(pattern.map_or_else(Vec::new, |pattern| pattern.usual_methods().to_vec()));
        };
        if entry.is_empty_list() {
            entry.error(self.problems, "is empty", "name at least one, or remove it");
            return None;
        }
        let items = entry.items();
        let read: Vec<_> = items.iter().filter_map(|item| value::method(item, self.problems)).collect();
        let complete = read.len() == items.len();
        let methods: std::collections::BTreeSet<_> = read.into_iter().collect();
        complete.then(|| methods.into_iter().collect())
    }

    /// Keys from files are agreed upon with one peer, by hand.
    fn check_keyed(
        &mut self,
        table: &Scope<'_>,
        pattern: Option<&PeerPattern>,
        methods: Option<&[AuthMethod]>,
    ) {
        if let Some((entry, pattern)) = table.entry(&peer::IDENTITY).zip(pattern)
            && pattern.identity().is_none()
        {
            let hint = "write a [[peer]] for each peer that has SAs here, before this one";
            entry.error(
                self.problems,
                format!("{pattern} is more than one peer, but has SAs of its own"),
                hint,
            );
        }
        if let Some((entry, methods)) = table.entry(&peer::METHODS).zip(methods)
            && !methods.contains(&AuthMethod::Manual)
        {
            let hint = "add \"manual\", or remove the SAs";
            entry.error(
                self.problems,
                "does not accept the keys from files that the peer has SAs with",
                hint,
            );
        }
    }

    fn endpoint(&mut self, table: &Scope<'_>) -> Option<SocketAddr> {
        let entry = table.entry(&peer::ENDPOINT)?;
        let endpoint = value::endpoint(&entry, self.problems)?;
        if endpoint.ip().is_unspecified() {
            entry.error(
                self.problems,
                "is no address that anything is sent to",
                "name the peer's own address",
            );
        }
        if !self.known.listen.reaches(&endpoint) {
            let (family, example) =
                if endpoint.is_ipv4() { ("IPv4", "0.0.0.0:4500") } else { ("IPv6", "[::]:4500") };
            let message = format!("{endpoint} cannot be reached: no `listen` address is an {family} one");
            entry.error(self.problems, message, format!("listen on an {family} address, too: \"{example}\""));
        }
        Some(endpoint)
    }

    /// What the peer may claim, as prefixes and as ranges.
    fn inner(&mut self, table: &Scope<'_>, owner: Owner) -> (Vec<IpNet>, Vec<AddressRange>) {
        let Some(entry) = table.required(&peer::INNER, self.problems) else { return Default::default() };
        let mut ranges = Vec::new();
        for item in entry.items() {
            let Some(range) = value::address_range(&item, self.problems) else { continue };
            if range.prefixes().len() > MOST_PREFIXES {
                item.error(
                    self.problems,
                    "takes too many prefixes",
                    "choose ends that are nearer to a prefix's",
                );
                continue;
            }
            self.seen.claims.push(Claim::new(range, owner, &item));
            ranges.push(range);
        }
        if entry.is_empty_list() {
            entry.error(self.problems, "is empty", format!("write for example {}", peer::INNER.example));
        }
        let ranges = merge(ranges);
        let inner = ranges.iter().flat_map(AddressRange::prefixes).collect();
        (inner, ranges)
    }
}

/// Several scale a peer over processors; more are a mistake.
const MOST_SAS: usize = 64;
/// Of one range.
const MOST_PREFIXES: usize = 32;
