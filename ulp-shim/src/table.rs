//! The flow table: one probe finds a flow's entry, from any worker, without a lock.
//!
//! Slots of a slab, each with a generation, are found through an index of buckets; memory is fixed at construction.
//! A reader takes what it needs of a slot between two looks at the slot's head, so that a recycled slot is never
//! mistaken for the flow it held. An insertion is tentative until it has seen that no other entry for the flow exists;
//! of several, exactly one is confirmed.

mod head;
mod index;
mod slab;

use std::hash::{BuildHasher, Hasher};

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use latchway_datapath::latching::LatchId;

use self::index::{Index, Probe};
use self::slab::Slab;
use crate::sync::{Ordering, fence};

pub(crate) use self::head::{Head, Life};
pub(crate) use self::slab::{Offender, Slot};

/// A flow's key as words.
pub(crate) type Key = [u64; 5];

/// A fixed number of slots and the index to them.
pub(crate) struct FlowTable {
    index: Index,
    slab: Slab,
    hasher: SeedableRandomState,
}

/// An entry, as its head was when it was read.
#[derive(Clone, Copy)]
pub(crate) struct Found<'t> {
    pub(crate) id: LatchId,
    pub(crate) head: Head,
    pub(crate) slot: &'t Slot,
}

/// What became of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// The flow has an entry now.
    New(LatchId),
    /// The flow had one already, or got one from another worker at the same time.
    Existing,
}

/// No slot, no place in the index, or too many workers at the same flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableFull;

/// Attempts at a flow that other workers insert at the same time. The model tries every interleaving of few.
const ATTEMPTS: usize = if cfg!(loom) { 2 } else { 16 };

impl FlowTable {
    /// Room for `capacity` entries; `seed` keys the hash.
    pub(crate) fn new(capacity: u32, seed: Seed) -> Self {
        let hasher = match seed {
            Seed::Random => {
                let seed = std::collections::hash_map::RandomState::new().build_hasher().finish();
                SeedableRandomState::with_seed(seed, SharedSeed::global_random())
            }
            Seed::Fixed(seed) => SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()),
        };
        Self { index: Index::new(capacity), slab: Slab::new(capacity), hasher }
    }

    /// The live entry of a flow, with what `read` takes of its slot at the same moment.
    #[inline]
    pub(crate) fn find<T>(&self, key: &Key, read: impl Fn(&Slot) -> T) -> Option<(Found<'_>, T)> {
        let probe = self.probe(key);
        self.index.search(probe, |index| {
            let (found, value) = self.look(index, |slot| slot.holds(key).then(|| read(slot)))?;
            Some((found, value?)).filter(|(found, _)| found.head.life() == Life::Live)
        })
    }

    /// The live entry that a handle names, with what `read` takes of its slot at the same moment.
    pub(crate) fn by_id<T>(&self, id: LatchId, read: impl Fn(&Slot) -> T) -> Option<(Found<'_>, T)> {
        self.look(id.index(), read).filter(|(found, _)| found.id == id && found.head.life() == Life::Live)
    }

    /// The live entry in a slot, if there is one.
    pub(crate) fn at<T>(&self, index: u32, read: impl Fn(&Slot) -> T) -> Option<(Found<'_>, T)> {
        self.look(index, read).filter(|(found, _)| found.head.life() == Life::Live)
    }

    /// Inserts an entry unless the flow has one. `fill` writes the slot before anyone can see it; `detail` is what
    /// the head says from the first moment on (it is never seen half made).
    pub(crate) fn insert(
        &self,
        key: &Key,
        detail: u32,
        fill: impl Fn(Head, &Slot),
    ) -> Result<Inserted, TableFull> {
        let probe = self.probe(key);
        for _ in 0..ATTEMPTS {
            if self.find(key, |_| ()).is_some() {
                return Ok(Inserted::Existing);
            }
            let index = self.slab.take().ok_or(TableFull)?;
            let slot = self.slab.slot(index).ok_or(TableFull)?;
            slot.write_key(key);
            let head = slot.head().with(Life::Tentative, detail);
            fill(head, slot);
            slot.publish(head);
            let placed = self.index.place(probe, index);
            let live = head.with(Life::Live, detail);
            // Each of two workers at one flow places its entry first and looks for the other's then: one sees the other.
            fence(Ordering::SeqCst);
            if placed && self.is_alone(probe, key, index) && slot.change(head, live) {
                return Ok(Inserted::New(LatchId::new(index, head.generation())));
            }
            if placed {
                self.index.remove(probe, index);
            }
            self.slab.give_back(index);
            if !placed {
                return Err(TableFull);
            }
        }
        Err(TableFull)
    }

    /// Takes an entry out, unless it changed since it was read. Returns whether it did.
    pub(crate) fn remove(&self, found: Found<'_>) -> bool {
        let key = found.slot.key();
        if !found.slot.change(found.head, found.head.with(Life::Retiring, found.head.detail())) {
            return false;
        }
        self.index.remove(self.probe(&key), found.id.index());
        self.slab.give_back(found.id.index());
        true
    }

    /// How many slots there are.
    pub(crate) fn capacity(&self) -> u32 {
        self.slab.capacity()
    }

    /// Who broke the latch in a slot.
    pub(crate) fn offender(&self, id: LatchId) -> Option<&Offender> {
        self.slab.offender(id.index())
    }

    /// Whether the tentative entry in slot `mine` is the flow's only one. A live one wins; of two tentative ones the
    /// one in the lower slot does, and makes sure that the other cannot be confirmed.
    fn is_alone(&self, probe: Probe, key: &Key, mine: u32) -> bool {
        let stands = |index| index != mine && self.stands_against(key, mine, index);
        self.index.search(probe, |index| stands(index).then_some(())).is_none()
    }

    /// Whether the entry in slot `index` stays and the one in slot `mine` must go.
    fn stands_against(&self, key: &Key, mine: u32, index: u32) -> bool {
        loop {
            let Some((other, true)) = self.look(index, |slot| slot.holds(key)) else { return false };
            match other.head.life() {
                Life::Live => return true,
                Life::Tentative if mine > index => return true,
                Life::Tentative if other.slot.change(other.head, other.head.with(Life::Retiring, 0)) => {
                    return false;
                }
                Life::Tentative => {}
                Life::Free | Life::Retiring => return false,
            }
        }
    }

    /// What `read` takes of a slot, if the slot held the same entry before and after.
    #[inline]
    fn look<T>(&self, index: u32, read: impl Fn(&Slot) -> T) -> Option<(Found<'_>, T)> {
        let slot = self.slab.slot(index)?;
        let before = slot.head();
        if before.life() == Life::Free {
            return None;
        }
        let value = read(slot);
        fence(Ordering::Acquire);
        let head = slot.head();
        if head.generation() != before.generation() || head.life() == Life::Free {
            return None;
        }
        Some((Found { id: LatchId::new(index, head.generation()), head: before, slot }, value))
    }

    #[inline]
    fn probe(&self, key: &Key) -> Probe {
        let mut hasher = self.hasher.build_hasher();
        for word in key {
            hasher.write_u64(*word);
        }
        self.index.probe(hasher.finish())
    }
}

/// How the hash is keyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seed {
    /// Anew in every process, so that nobody can choose flows that collide.
    Random,
    /// As given: for tests.
    Fixed(u64),
}

#[cfg(test)]
mod tests;
