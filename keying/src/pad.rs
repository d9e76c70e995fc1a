//! The Peer Authorization Database (RFC 4301 section 4.4.3): who may be a peer, how that must have been proven, and
//! which inner addresses each may claim.

use std::collections::{HashMap, HashSet};

use latchway_datapath::selector::AddressRange;
use latchway_tagging::{AuthMethod, Identity, PadEntryId};

use crate::proposal::Refusal;

/// The entries in their order. The first whose pattern matches an asserted identity decides, and no match is refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pad {
    entries: Vec<PadEntry>,
    /// Where the entry of each identity is that has one of its own.
    exact: HashMap<Identity, usize>,
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
    /// The inner addresses such a peer may claim, both families in one list.
    pub ranges: Vec<AddressRange>,
    /// Who we are towards such a peer (R-1, C-23).
    pub local: Identity,
}

/// Which identities an entry speaks of (RFC 4301 4.4.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerPattern {
    /// This one.
    Exact(Identity),
    /// Any: the last entry of the database at most (RFC 5386).
    Any,
}

/// A database that cannot mean what its author wanted; the text says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PadError {
    /// Two entries have one id.
    #[error("PAD entry \"{0}\" has the id of an earlier entry; give each entry an id of its own")]
    DuplicateId(String),
    /// An earlier entry matches whatever this one would.
    #[error("PAD entry \"{0}\" can never match, since an earlier entry speaks of the same peer; merge them")]
    Unreachable(String),
    /// No peer could be accepted by this entry.
    #[error("PAD entry \"{0}\" accepts no authentication method; list at least one")]
    NoMethods(String),
    /// No address could be claimed under this entry.
    #[error("PAD entry \"{0}\" lets its peer claim no inner range; list at least one")]
    NoRanges(String),
}

impl Pad {
    /// A database of these entries.
    ///
    /// # Errors
    /// [`PadError`], naming the first entry that is at fault.
    pub fn new(entries: Vec<PadEntry>) -> Result<Self, PadError> {
        let (mut ids, mut exact, mut any) = (HashSet::new(), HashMap::new(), false);
        for (place, entry) in entries.iter().enumerate() {
            if !ids.insert(entry.id) {
                return Err(PadError::DuplicateId(entry.name.clone()));
            }
            let known = match &entry.peer {
                PeerPattern::Exact(identity) => exact.insert(identity.clone(), place).is_some(),
                PeerPattern::Any => false,
            };
            if known || any {
                return Err(PadError::Unreachable(entry.name.clone()));
            }
            any = entry.peer == PeerPattern::Any;
            if entry.methods.is_empty() {
                return Err(PadError::NoMethods(entry.name.clone()));
            }
            if entry.ranges.is_empty() {
                return Err(PadError::NoRanges(entry.name.clone()));
            }
        }
        Ok(Self { entries, exact })
    }

    /// The entry that authorises `peer`, proven by `method`.
    ///
    /// # Errors
    /// [`Refusal::UnknownPeer`] where no entry speaks of the peer; [`Refusal::MethodNotAccepted`] where the first that
    /// does wants better proof.
    pub fn authorise(&self, peer: &Identity, method: AuthMethod) -> Result<&PadEntry, Refusal> {
        // Whoever has no entry of his own is spoken of by the last one, or by none.
        let own = self.exact.get(peer).and_then(|place| self.entries.get(*place));
        let entry = own.or_else(|| self.entries.last().filter(|entry| entry.peer.matches(peer)));
        let entry = entry.ok_or_else(|| Refusal::UnknownPeer { peer: peer.clone() })?;
        if entry.methods.contains(&method) {
            return Ok(entry);
        }
        Err(Refusal::MethodNotAccepted { entry: entry.name.clone(), method, accepted: entry.methods.clone() })
    }

    /// The entries in their order.
    #[must_use]
    pub fn entries(&self) -> &[PadEntry] {
        &self.entries
    }
}

impl PeerPattern {
    /// Whether the pattern speaks of `peer`.
    #[must_use]
    pub fn matches(&self, peer: &Identity) -> bool {
        match self {
            Self::Exact(identity) => identity == peer,
            Self::Any => true,
        }
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
            (vec![bob(), again], PadError::Unreachable(name())),
            (vec![any_entry(9), bob()], PadError::Unreachable(name())),
            (vec![bob(), same_id], PadError::DuplicateId(name())),
            (vec![mute], PadError::NoMethods(name())),
            (vec![landless], PadError::NoRanges(name())),
        ] {
            assert_eq!(Pad::new(entries), Err(error));
        }
    }
}
