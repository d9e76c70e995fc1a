//! What the key manager shows of itself. Keys only by the one call that is for them.

use std::collections::HashMap;

use latchway_datapath::fitting::Fitting;
use latchway_datapath::sad::{Role, SadEntry, Shape};
use latchway_tagging::{AuthMethod, Class, ClassId, IdentityId, IdentityRecord, PadEntryId};

use crate::evidence::Evidence;
use crate::keying::Keying;
use crate::nat::Nat;
use crate::pad::{Pad, PadEntry};
use crate::pair::PairId;
use crate::policy::RuleView;
use crate::secrets::ShownSa;
use crate::single::{Single, SingleId, SingleSa, SingleSending, SingleView, Terms};
use crate::view::{Counts, IdentityView, PairView, PeerView, SaView};

impl Keying {
    /// Every pair, oldest first.
    #[must_use]
    pub fn pairs(&self) -> Vec<PairView> {
        self.pairs.iter().filter_map(|(id, pair)| pair.view(*id, &self.current.sad)).collect()
    }

    /// The SAs of every pair with their keys, for who explicitly asks to see them (T40). Those whose lifetime is over have
    /// none.
    #[must_use]
    pub fn keys(&self) -> Vec<ShownSa> {
        self.pairs.values().flat_map(|pair| pair.secrets.shown(pair.path)).collect()
    }

    /// The single SAs, in the order in which they were added.
    #[must_use]
    pub fn singles(&self) -> Vec<SingleView> {
        self.singles.iter().filter_map(|(id, single)| self.single_view(*id, single)).collect()
    }

    /// One of them, while it is there.
    #[must_use]
    pub fn single(&self, id: SingleId) -> Option<SingleView> {
        self.single_view(id, self.singles.get(&id)?)
    }

    fn single_view(&self, id: SingleId, single: &Single) -> Option<SingleView> {
        let entry = &self.current.sad.get(single.sa)?.entry;
        Some(SingleView {
            id,
            partner: single.partner.map(|(partner, _)| partner),
            packets: entry.use_.packets.get(),
            octets: entry.use_.octets.get(),
            added: entry.added,
            last_used: entry.use_.last_used(),
            soft_expired: entry.use_.is_soft_expired(),
            expired: entry.use_.is_expired(),
        })
    }

    /// The single SAs as wholes, in the order in which they were added. What goes around others is shown with those.
    #[must_use]
    pub fn single_sas(&self) -> Vec<SingleSa> {
        self.singles.iter().filter_map(|(id, single)| self.single_sa(*id, single)).collect()
    }

    fn single_sa(&self, id: SingleId, single: &Single) -> Option<SingleSa> {
        let entry = &self.current.sad.get(single.sa)?.entry;
        if entry.is_for_another() {
            return None;
        }
        let Terms { peer, align, anti_replay, .. } = &single.new;
        let header = self.around(single).and_then(|around| self.sa_view(around));
        let (shape, sending) = match &entry.role {
            Role::Inbound { outer, .. } => (Shape { outer: outer.clone(), ..Shape::default() }, None),
            Role::Outbound { path, shape, .. } => {
                let fitting = self.single_fitting(single, entry)?;
                let sending = SingleSending { path: *path, fitting, path_mtu: entry.mtu()? };
                (shape.clone(), Some(sending))
            }
        };
        Some(SingleSa {
            id,
            peer: peer.clone(),
            mode: entry.mode,
            class: single.partner.map(|(_, class)| class),
            selectors: entry.selectors.to_vec(),
            anti_replay: *anti_replay,
            carrier: entry.carrier(),
            sa: self.sa_view(single)?,
            header,
            shape,
            align: *align,
            sending,
        })
    }

    /// The AH SA around one, of a bundle.
    fn around(&self, single: &Single) -> Option<&Single> {
        self.singles.get(self.single_by_sa.get(&single.nested?)?)
    }

    /// How long its packets become, AH around them included.
    pub(super) fn single_fitting(&self, single: &Single, entry: &SadEntry) -> Option<Fitting> {
        let own = (single.new.suite, single.new.align);
        let (outermost, align) =
            self.around(single).map_or(own, |around| (around.new.suite, around.new.align));
        Some(Fitting::of(entry, own.0)?.within(outermost, align))
    }

    fn sa_view(&self, single: &Single) -> Option<SaView> {
        let entry = &self.current.sad.get(single.sa)?.entry;
        let Terms { suite, sequence, .. } = single.new;
        Some(SaView::of(entry, suite, sequence, entry.use_.is_expired()))
    }

    /// Every entry of the PAD in its order, with its pairs.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerView> {
        let mut pairs: HashMap<PadEntryId, Vec<PairId>> = HashMap::new();
        self.pairs.iter().for_each(|(id, pair)| pairs.entry(pair.entry).or_default().push(*id));
        let mut identities = self.identities();
        let view = |entry: &PadEntry| PeerView {
            identities: identities.remove(&entry.id).unwrap_or_default(),
            ..self.peer(entry, pairs.get(&entry.id).cloned().unwrap_or_default())
        };
        self.pad.entries().iter().map(view).collect()
    }

    /// The rules in their order, each with its number: before those of the policy, what stands for latches that were
    /// asked for (L-77, L-115).
    #[must_use]
    pub fn policy(&self) -> Vec<RuleView> {
        self.entries().chain(self.policy.views()).collect()
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

    /// What the peer of an identity proved itself with (L-29 to L-31): the newest, while anything holds the identity.
    #[must_use]
    pub fn evidence(&self, id: IdentityId) -> Option<Evidence> {
        self.interned.evidence(id).cloned()
    }

    /// The standing of the peer of a class, while anything holds it: how it proved itself, or less where its entry of the
    /// PAD says so. A peer of lesser standing cannot break the latch of one of greater.
    #[must_use]
    pub fn standing(&self, class: ClassId) -> Option<AuthMethod> {
        self.interned.standing(class)
    }

    /// Whether addresses are translated between us and the peer of a class (L-32), as its newest pair of SAs says.
    #[must_use]
    pub fn nat(&self, class: ClassId) -> Option<Nat> {
        let mut pairs = self.pairs.values().rev().filter(|pair| pair.class == class);
        pairs.next().map(|pair| pair.terms.nat)
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
            holders: self.register.holders(),
            held: self.register.len(),
            resting_slots: self.slots.resting(),
            resting_spis: self.spis.len(),
            slots_ever_used: self.slots.ever_used(),
        }
    }

    /// The live identities of each entry, in the order of their ids.
    fn identities(&self) -> HashMap<PadEntryId, Vec<IdentityView>> {
        let mut all: Vec<_> = self.interned.identities().iter().collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        let mut of_entry: HashMap<PadEntryId, Vec<IdentityView>> = HashMap::new();
        for (id, record) in all {
            let Some(entry) = record.authorised else { continue };
            let evidence = self.evidence(id).unwrap_or_default();
            of_entry.entry(entry).or_default().push(IdentityView { id, record: record.clone(), evidence });
        }
        of_entry
    }

    fn peer(&self, entry: &PadEntry, pairs: Vec<PairId>) -> PeerView {
        let proven = pairs.iter().filter_map(|id| self.standing(self.pairs.get(id)?.class));
        let mut methods = entry.methods.clone();
        methods.sort_unstable_by(|one, other| other.cmp(one));
        PeerView {
            name: entry.name.clone(),
            entry: entry.id,
            peer: entry.peer.clone(),
            methods,
            standing: proven.max(),
            identities: Vec::new(),
            ranges: entry.ranges.clone(),
            local: entry.local.clone(),
            pairs,
        }
    }
}
