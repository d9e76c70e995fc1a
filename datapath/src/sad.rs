//! The Security Association Database (RFC 4301 section 4.4.2) as workers read it: immutable, shared, replaced whole.
//!
//! A copy is cheap and a change copies only the chunk it touches. What changes per packet (numbers, windows, use of
//! lifetimes) is not here: it belongs to the worker that owns the SA, which takes it out of the entry once.

mod covering;
mod entry;
mod path;
mod sending;

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use latchway_esp::{Protocol, Spi};
use latchway_tagging::{ClassId, SaIndex, SaRef};

use crate::arrival::Carrier;
use crate::flow::FlowKey;
use crate::spd::{Protection, Reqid};
use crate::traffic::Traffic;

use self::covering::Covering;
pub use self::entry::{Handover, Role, SaUse, SadEntry, Scope};
pub use self::path::{Follow, Path, Peer, Shape, Tfc};
use self::sending::Sending;

/// Whether an SA is to be used, which changes while the SA stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Published, so that no conflicting latch can be born, but not in force (L-74).
    Pending,
    /// Receives, but does not send yet: the peer may not have it.
    Standby,
    /// In force.
    Active,
    /// Replaced: receives what is still under way and sends nothing.
    Retired,
}

/// The database.
#[derive(Clone, Debug, Default)]
pub struct Sad {
    chunks: Vec<Arc<[Option<Slot>; CHUNK]>>,
    by_spi: SpiIndex,
    /// Outbound SAs in force.
    sending: Arc<Sending>,
    /// The selectors of inbound SAs.
    covering: Arc<Covering>,
}

/// A slot that holds an SA.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The SA.
    pub entry: Arc<SadEntry>,
    /// Whether it is to be used.
    pub usage: Usage,
}

/// Why an SA cannot be inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// RFC 4303 2.1 reserves SPIs 1 to 255 (T31).
    #[error("SPIs from 1 to 255 are reserved (RFC 4303 section 2.1); choose one from 256 on")]
    ReservedSpi,
    /// An inbound SA of this protocol with this SPI exists (T31).
    #[error("an inbound SA with this SPI exists already; choose another SPI")]
    DuplicateSpi,
    /// Only ESP is carried in UDP (RFC 3948 section 1).
    #[error("AH cannot be carried in UDP (RFC 3948 section 1); carry it as IP protocol 51, or use ESP")]
    AhInUdp,
    /// The slot holds another SA.
    #[error("the slot of the SA is taken")]
    SlotTaken,
}

/// Slots per chunk: how much a commit copies for each SA it touches.
const CHUNK: usize = 64;

impl Sad {
    /// Adds an SA.
    ///
    /// # Errors
    /// [`InsertError`]; the database is unchanged then.
    pub fn insert(&mut self, entry: Arc<SadEntry>, usage: Usage) -> Result<(), InsertError> {
        if entry.spi.is_reserved() {
            return Err(InsertError::ReservedSpi);
        }
        if entry.is_inbound() && self.find(entry.protocol, entry.spi).is_some() {
            return Err(InsertError::DuplicateSpi);
        }
        if entry.protocol == Protocol::Ah && entry.carrier() == Carrier::Udp {
            return Err(InsertError::AhInUdp);
        }
        let index = entry.sa.index;
        while self.chunks.len() <= index.get() / CHUNK {
            self.chunks.push(Arc::new([const { None }; CHUNK]));
        }
        let slot = self.slot_mut(index).ok_or(InsertError::SlotTaken)?;
        if slot.is_some() {
            return Err(InsertError::SlotTaken);
        }
        *slot = Some(Slot { entry: Arc::clone(&entry), usage });
        if entry.is_inbound() {
            self.by_spi.insert((entry.protocol, entry.spi), index);
            if covers(&entry) {
                Arc::make_mut(&mut self.covering).insert(&entry, 0);
            }
        }
        self.list(&entry, usage);
        Ok(())
    }

    /// Changes whether an SA is used. Returns whether the SA is there.
    pub fn set_usage(&mut self, sa: SaRef, usage: Usage) -> bool {
        let Some(Some(slot)) = self.slot_mut(sa.index) else { return false };
        if slot.entry.sa != sa {
            return false;
        }
        slot.usage = usage;
        let entry = Arc::clone(&slot.entry);
        self.unlist(&entry);
        self.list(&entry, usage);
        true
    }

    /// Replaces what is said of an SA: its class, selectors, path, limits and what it belongs to. Its numbers, its window
    /// and what it used stay, and so does its place among the SAs that send. Returns whether it is there, and `entry` a
    /// revision of it; else the database is unchanged.
    pub fn revise(&mut self, entry: Arc<SadEntry>) -> bool {
        let Some(Some(slot)) = self.slot_mut(entry.sa.index) else { return false };
        if !entry.revises(&slot.entry) {
            return false;
        }
        let old = std::mem::replace(&mut slot.entry, Arc::clone(&entry));
        if entry.is_inbound() {
            if covers(&old) {
                Arc::make_mut(&mut self.covering).remove(&old);
            }
            if covers(&entry) {
                Arc::make_mut(&mut self.covering).insert(&entry, 0);
            }
        } else {
            Arc::make_mut(&mut self.sending).replace(&old, &entry);
        }
        true
    }

    /// Takes an SA out. Returns it if it was there.
    pub fn remove(&mut self, sa: SaRef) -> Option<Arc<SadEntry>> {
        self.get(sa)?;
        let slot = self.slot_mut(sa.index)?.take()?;
        if slot.entry.is_inbound() {
            self.by_spi.remove((slot.entry.protocol, slot.entry.spi));
            if covers(&slot.entry) {
                Arc::make_mut(&mut self.covering).remove(&slot.entry);
            }
        }
        self.unlist(&slot.entry);
        Some(slot.entry)
    }

    /// The SA, if the slot still holds that generation.
    #[inline]
    #[must_use]
    pub fn get(&self, sa: SaRef) -> Option<&Slot> {
        self.slot(sa.index).filter(|slot| slot.entry.sa == sa)
    }

    /// The slot's SA, of whatever generation.
    #[inline]
    #[must_use]
    pub fn slot(&self, index: SaIndex) -> Option<&Slot> {
        self.chunks.get(index.get() / CHUNK)?.get(index.get() % CHUNK)?.as_ref()
    }

    /// The slot of the inbound SA of this protocol with this SPI (RFC 4301 4.1).
    #[inline]
    #[must_use]
    pub fn find(&self, protocol: Protocol, spi: Spi) -> Option<SaIndex> {
        self.by_spi.find((protocol, spi))
    }

    /// The outbound SA to use for a packet: of the class, if one is required; of the rule's reqid, if it names one;
    /// the newest first, and expired ones only where there is no other (so that the drop can say why).
    #[must_use]
    pub fn select(&self, traffic: &Traffic, class: Option<ClassId>, reqid: Option<Reqid>) -> Option<&Slot> {
        self.select_among(traffic, class, |entry| reqid.is_none_or(|wanted| wanted == entry.reqid))
    }

    /// The same, of those that serve a rule: by its reqid and its template.
    #[must_use]
    pub fn select_serving(&self, traffic: &Traffic, protection: &Protection) -> Option<&Slot> {
        self.select_among(traffic, None, |entry| entry.serves(protection))
    }

    fn select_among(
        &self,
        traffic: &Traffic,
        class: Option<ClassId>,
        serves: impl Fn(&SadEntry) -> bool,
    ) -> Option<&Slot> {
        let state = |index| {
            let entry = &self.slot(index)?.entry;
            let does = !entry.is_for_another() && serves(entry) && entry.admits(traffic);
            does.then(|| entry.use_.is_expired())
        };
        self.slot(self.sending.newest(&traffic.flow, class, state)?)
    }

    /// Whether an SA of another class admits the flow, pending and retired ones included (L-71, L-72). Expired ones,
    /// whose keys are gone, do not count.
    #[must_use]
    pub fn admits_otherwise(&self, flow: &FlowKey, class: ClassId) -> bool {
        let traffic = Traffic::of(flow);
        self.covering.any(flow, |cover| {
            let live = |slot: &&Slot| !slot.entry.use_.is_expired() && slot.entry.admits(&traffic);
            cover.class != class && self.slot(cover.index).filter(live).is_some()
        })
    }

    /// Whether any SA of a class that has not expired serves the rules of a reqid.
    #[must_use]
    pub fn serves(&self, class: ClassId, reqid: Reqid) -> bool {
        let does = |Slot { entry, .. }: &Slot| {
            entry.class == class && entry.reqid == reqid && !entry.use_.is_expired()
        };
        // Mostly one that sends does, and those of a class are few.
        let mut sending = self.sending.of_class(class).filter_map(|index| self.slot(index));
        sending.any(does) || self.iter().any(does)
    }

    /// Every SA.
    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().flatten())
    }

    /// Calls `changed` for every slot in which this database may differ from `old`: those of chunks that are not
    /// shared with it.
    pub fn for_each_change(&self, old: &Self, mut changed: impl FnMut(SaIndex, Option<&Slot>)) {
        for place in 0..self.chunks.len().max(old.chunks.len()) {
            let (new, old) = (self.chunks.get(place), old.chunks.get(place));
            if matches!((new, old), (Some(new), Some(old)) if Arc::ptr_eq(new, old)) {
                continue;
            }
            for within in 0..CHUNK {
                let Ok(index) = u32::try_from(place * CHUNK + within) else { return };
                let slot = new.and_then(|chunk| chunk.get(within)).and_then(Option::as_ref);
                changed(SaIndex::new(index), slot);
            }
        }
    }

    fn slot_mut(&mut self, index: SaIndex) -> Option<&mut Option<Slot>> {
        Arc::make_mut(self.chunks.get_mut(index.get() / CHUNK)?).get_mut(index.get() % CHUNK)
    }

    fn list(&mut self, entry: &SadEntry, usage: Usage) {
        if !entry.is_inbound() && usage == Usage::Active {
            Arc::make_mut(&mut self.sending).insert(entry);
        }
    }

    fn unlist(&mut self, entry: &SadEntry) {
        if !entry.is_inbound() {
            Arc::make_mut(&mut self.sending).remove(entry);
        }
    }
}

/// Whether an SA covers the flows that its selectors admit. One that policy has to want covers none by itself: what comes
/// under it for a flow that another rule protects is dropped (RFC 4301 5.2).
fn covers(entry: &SadEntry) -> bool {
    entry.scope == Scope::Selectors
}

/// What an inbound SA is found by.
type Name = (Protocol, Spi);

/// Name to slot, in shards, so that a commit copies only the shard it touches, and their list only if it touches one.
#[derive(Clone, Debug, Default)]
struct SpiIndex {
    shards: Arc<[Arc<HashMap<Name, SaIndex, RandomState>>]>,
}

const SHARDS: usize = 256;

impl SpiIndex {
    #[inline]
    fn find(&self, name: Name) -> Option<SaIndex> {
        self.shards.get(shard(name))?.get(&name).copied()
    }

    fn insert(&mut self, name: Name, index: SaIndex) {
        if self.shards.is_empty() {
            self.shards = (0..SHARDS).map(|_| Arc::default()).collect();
        }
        if let Some(shard) = Arc::make_mut(&mut self.shards).get_mut(shard(name)) {
            Arc::make_mut(shard).insert(name, index);
        }
    }

    fn remove(&mut self, name: Name) {
        if let Some(shard) = Arc::make_mut(&mut self.shards).get_mut(shard(name)) {
            Arc::make_mut(shard).remove(&name);
        }
    }
}

const fn shard((_, spi): Name) -> usize {
    spi.get() as usize % SHARDS
}

#[cfg(test)]
mod tests;
