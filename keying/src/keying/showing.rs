//! What the key manager shows of itself. Never keys.

use std::collections::HashMap;

use latchway_tagging::{Class, ClassId, IdentityId, IdentityRecord, PadEntryId};

use crate::keying::Keying;
use crate::pad::{Pad, PadEntry};
use crate::pair::PairId;
use crate::policy::RuleView;
use crate::view::{Counts, PairView, PeerView};

impl Keying {
    /// Every pair, oldest first.
    #[must_use]
    pub fn pairs(&self) -> Vec<PairView> {
        self.pairs.iter().filter_map(|(id, pair)| pair.view(*id, &self.current.sad)).collect()
    }

    /// Every entry of the PAD in its order, with its pairs.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerView> {
        let mut pairs: HashMap<PadEntryId, Vec<PairId>> = HashMap::new();
        self.pairs.iter().for_each(|(id, pair)| pairs.entry(pair.entry).or_default().push(*id));
        let view = |entry: &PadEntry| self.peer(entry, pairs.get(&entry.id).cloned().unwrap_or_default());
        self.pad.entries().iter().map(view).collect()
    }

    /// The rules in their order, each with its number.
    #[must_use]
    pub fn policy(&self) -> Vec<RuleView> {
        self.policy.views()
    }

    /// The PAD that judges.
    #[must_use]
    pub const fn pad(&self) -> &Pad {
        &self.pad
    }

    /// The class of an id, while anything holds it.
    #[must_use]
    pub fn class(&self, id: ClassId) -> Option<Class> {
        self.interned.classes().class(id).copied()
    }

    /// The identity of an id, while anything holds it.
    #[must_use]
    pub fn identity(&self, id: IdentityId) -> Option<IdentityRecord> {
        self.interned.identities().record(id).cloned()
    }

    /// How much is held.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            pairs: self.pairs.len(),
            settling: self.settling.len() + self.staged.as_ref().map_or(0, |staged| staged.added.len()),
            draining: self.draining.len(),
            offers: self.tickets.len(),
            classes: self.interned.len(),
            resting_slots: self.slots.resting(),
            resting_spis: self.spis.len(),
            slots_ever_used: self.slots.ever_used(),
        }
    }

    fn peer(&self, entry: &PadEntry, pairs: Vec<PairId>) -> PeerView {
        let proven = pairs.iter().filter_map(|id| self.pairs.get(id)).map(|pair| pair.terms.method);
        let mut methods = entry.methods.clone();
        methods.sort_unstable_by(|one, other| other.cmp(one));
        PeerView {
            name: entry.name.clone(),
            entry: entry.id,
            peer: entry.peer.clone(),
            methods,
            standing: proven.max(),
            ranges: entry.ranges.clone(),
            local: entry.local.clone(),
            pairs,
        }
    }
}
