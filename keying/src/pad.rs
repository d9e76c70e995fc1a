//! The Peer Authorization Database (RFC 4301 section 4.4.3): who may be a peer, how that must have been proven, and
//! which inner addresses each may claim.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use latchway_datapath::latching::Model;
use latchway_datapath::selector::AddressRange;
use latchway_datapath::spd::{Action, Protection, Rule};
use latchway_tagging::{AuthMethod, Identity, PadEntryId, PeerPattern};

use crate::judge::named;
use crate::proposal::{Proposal, Refusal};

/// The entries in their order. The first whose pattern matches an asserted identity decides, and no match is refusal.
/// Copies share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pad(Arc<Entries>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Entries {
    entries: Vec<PadEntry>,
    /// Where the entries of single identities and of trees of names are. None of them comes behind one that covers it, so
    /// that the narrowest is the first.
    named: HashMap<PeerPattern, usize>,
    /// Where those of address ranges are, in their order.
    ranges: Vec<usize>,
}

/// What one peer, or one kind of peer, is allowed (RFC 4301 4.4.3.1 to 4.4.3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PadEntry {
    /// Names the entry in interned identities. Two peers under different entries are never the same peer (L-11).
    pub id: PadEntryId,
    /// What the operator calls the entry.
    pub name: String,
    /// Which asserted identities it speaks of.
    pub peer: PeerPattern,
    /// How such an identity may have been proven. A peer's standing is that of the method it used, in the order of
    /// [`AuthMethod`].
    pub methods: Vec<AuthMethod>,
    /// The highest standing that a peer of the entry has, however it proved itself; `None` is no bound.
    pub standing: Option<AuthMethod>,
    /// The inner addresses such a peer may claim, both families in one list.
    pub ranges: Vec<AddressRange>,
    /// Who we are towards such a peer (R-1, C-23).
    pub local: Identity,
}

/// A database that cannot mean what its author wanted; the text says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PadError {
    /// Two entries have one id.
    #[error("PAD entry \"{0}\" has the id of an earlier entry; give each entry an id of its own")]
    DuplicateId(String),
    /// An earlier entry matches whatever this one would.
    #[error(
        "PAD entry \"{entry}\" can never match, since the earlier entry \"{by}\" speaks of the same peers; put the special one \
         before the general one, or merge them"
    )]
    Unreachable {
        /// The entry that cannot match.
        entry: String,
        /// The one that comes first.
        by: String,
    },
    /// No peer could be accepted by this entry.
    #[error("PAD entry \"{0}\" accepts no authentication method; list at least one")]
    NoMethods(String),
    /// No address could be claimed under this entry.
    #[error("PAD entry \"{0}\" lets its peer claim no inner range; list at least one")]
    NoRanges(String),
    /// An identity that nobody can have.
    #[error(
        "PAD entry \"{0}\" has an identity that is not what its kind says, its peer's or ours; correct it"
    )]
    NoIdentity(String),
    /// RFC 5386 section 2: what anybody may claim overlaps what no other entry's peers may.
    #[error(
        "PAD entry \"{any}\", which is for anybody, lets its peers claim addresses of \"{entry}\" (RFC 5386 section 2); keep them apart"
    )]
    AnybodyOverlaps {
        /// The entry for anybody.
        any: String,
        /// The entry whose addresses they are.
        entry: String,
    },
}

impl Pad {
    /// A database of these entries.
    ///
    /// # Errors
    /// [`PadError`], naming the first entry that is at fault.
    pub fn new(mut entries: Vec<PadEntry>) -> Result<Self, PadError> {
        let (mut ids, mut named) = (HashSet::new(), HashMap::new());
        let mut ranges: Vec<usize> = Vec::new();
        for place in 0..entries.len() {
            let (earlier, rest) = entries.split_at_mut(place);
            let Some(entry) = rest.first_mut() else { break };
            let (peer, local) = (entry.peer.canonical(), entry.local.canonical());
            (entry.peer, entry.local) =
                peer.zip(local).ok_or_else(|| PadError::NoIdentity(entry.name.clone()))?;
            let name = || entry.name.clone();
            if !ids.insert(entry.id) {
                return Err(PadError::DuplicateId(name()));
            }
            let by = |place: &usize| earlier.get(*place).map_or_else(String::new, |entry| entry.name.clone());
            let wider = [entry.peer.clone(), PeerPattern::Any].into_iter().chain(entry.peer.wider());
            let covers =
                |place: &&usize| earlier.get(**place).is_some_and(|other| other.peer.covers(&entry.peer));
            let mut over = wider.filter_map(|wider| named.get(&wider)).chain(ranges.iter().filter(covers));
            if let Some(by) = over.next().map(by) {
                return Err(PadError::Unreachable { entry: name(), by });
            }
            if entry.methods.is_empty() {
                return Err(PadError::NoMethods(name()));
            }
            if entry.ranges.is_empty() {
                return Err(PadError::NoRanges(name()));
            }
            if matches!(entry.peer, PeerPattern::Addresses { .. }) {
                ranges.push(place);
            }
            named.insert(entry.peer.clone(), place);
        }
        anybody_is_apart(&entries)?;
        Ok(Self(Arc::new(Entries { entries, named, ranges })))
    }

    /// The entry that authorises `peer`, proven by `method`.
    ///
    /// # Errors
    /// [`Refusal::UnknownPeer`] where no entry speaks of the peer; [`Refusal::MethodNotAccepted`] where the first that
    /// does wants better proof.
    pub fn authorise(&self, peer: &Identity, method: AuthMethod) -> Result<&PadEntry, Refusal> {
        let entry = self.find(peer).ok_or_else(|| Refusal::UnknownPeer { peer: peer.clone() })?;
        if entry.methods.contains(&method) {
            return Ok(entry);
        }
        Err(Refusal::MethodNotAccepted { entry: entry.name.clone(), method, accepted: entry.methods.clone() })
    }

    /// The first entry that speaks of `peer`, however that is proven.
    #[must_use]
    pub fn find(&self, peer: &Identity) -> Option<&PadEntry> {
        let own = PeerPattern::Exact(peer.canonical()?);
        let trees = || own.wider().into_iter().find_map(|pattern| self.at(&pattern));
        let range = || {
            let mut ranges = self.0.ranges.iter().filter_map(|place| self.0.entries.get(*place));
            ranges.find(|entry| entry.peer.covers(&own))
        };
        self.at(&own).or_else(trees).or_else(range).or_else(|| self.at(&PeerPattern::Any))
    }

    /// The entry that would be asked about a proposal, whatever it says of it.
    #[must_use]
    pub fn of(&self, proposal: &Proposal) -> Option<&PadEntry> {
        self.find(&named(self, proposal).ok()?)
    }

    /// The entries in their order.
    #[must_use]
    pub fn entries(&self) -> &[PadEntry] {
        &self.0.entries
    }

    /// The entry by which anybody may serve a rule that latches by tag. Only a latch keeps a stranger apart from the next
    /// one: such rules want SAs judged before they are used (latching-04 2.1).
    #[must_use]
    pub fn anybody_behind(&self, rule: &Rule) -> Option<&PadEntry> {
        let Action::Protect(Protection { latching, .. }) = rule.action else { return None };
        let by_tag = latching.terms().is_some_and(|terms| terms.model == Model::Tag);
        let serves = |entry: &&PadEntry| {
            entry.ranges.iter().any(|range| range.overlaps(&rule.selector.remote))
                && entry.peer == PeerPattern::Any
        };
        self.entries().iter().filter(|_| by_tag).find(serves)
    }

    fn at(&self, pattern: &PeerPattern) -> Option<&PadEntry> {
        self.0.named.get(pattern).and_then(|place| self.0.entries.get(*place))
    }
}

impl PadEntry {
    /// The standing of a peer of this entry that proved itself by `method`.
    #[must_use]
    pub fn standing(&self, method: AuthMethod) -> AuthMethod {
        self.standing.map_or(method, |highest| highest.min(method))
    }

    /// Whether its peers are known by their keys alone: a BTNS entry of RFC 5386 section 2.
    #[must_use]
    pub const fn is_btns(&self) -> bool {
        matches!(self.peer, PeerPattern::Any | PeerPattern::Exact(Identity::PublicKey(_)))
    }
}

/// RFC 5386 section 2: the wildcard entry must not overlap others.
fn anybody_is_apart(entries: &[PadEntry]) -> Result<(), PadError> {
    let Some((any, others)) = entries.split_last().filter(|(any, _)| any.peer == PeerPattern::Any) else {
        return Ok(());
    };
    let meets = |entry: &&PadEntry| {
        let within =
            |range: &AddressRange| any.ranges.iter().any(|other| other.intersection(range).is_some());
        entry.ranges.iter().any(within)
    };
    match others.iter().find(meets) {
        Some(entry) => Err(PadError::AnybodyOverlaps { any: any.name.clone(), entry: entry.name.clone() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{any_entry, entry, fqdn};

    #[test]
    fn rfc_4301_4_4_3_the_first_matching_entry_decides_and_no_match_is_refusal() {
        let strict = entry(1, "bob", "10.1.0.0", "10.1.0.255");
        let pad = Pad::new(vec![strict.clone(), any_entry(2)]).unwrap();
        assert_eq!(pad.authorise(&fqdn("bob"), AuthMethod::Manual).unwrap().id, PadEntryId(1));
        assert_eq!(pad.authorise(&fqdn("eve"), AuthMethod::Btns).unwrap().id, PadEntryId(2));
        // What a later entry would accept does not help a peer that an earlier one speaks of.
        let refusal = pad.authorise(&fqdn("bob"), AuthMethod::Btns).unwrap_err();
        assert!(matches!(refusal, Refusal::MethodNotAccepted { method: AuthMethod::Btns, .. }));
        let pad = Pad::new(vec![strict]).unwrap();
        let refusal = pad.authorise(&fqdn("eve"), AuthMethod::Certificate).unwrap_err();
        assert_eq!(refusal, Refusal::UnknownPeer { peer: fqdn("eve") });
    }

    #[test]
    fn a_database_that_cannot_mean_what_it_says_is_refused() {
        let bob = || entry(1, "bob", "10.1.0.0", "10.1.0.255");
        let again = PadEntry { id: PadEntryId(2), ..bob() };
        let same_id = PadEntry { peer: PeerPattern::Exact(fqdn("eve")), ..bob() };
        let mute = PadEntry { methods: vec![], ..bob() };
        let landless = PadEntry { ranges: vec![], ..bob() };
        let name = || "bob".to_owned();
        for (entries, error) in [
            (vec![bob(), again], PadError::Unreachable { entry: name(), by: name() }),
            (vec![any_entry(9), bob()], PadError::Unreachable { entry: name(), by: "any".into() }),
            (vec![bob(), same_id], PadError::DuplicateId(name())),
            (vec![mute], PadError::NoMethods(name())),
            (vec![landless], PadError::NoRanges(name())),
        ] {
            assert_eq!(Pad::new(entries), Err(error));
        }
    }
}
