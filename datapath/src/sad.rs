//! The Security Association Database (RFC 4301 section 4.4.2) as workers read it: immutable, shared, replaced whole.
//!
//! A copy is cheap and a change copies only the chunk it touches. What changes per packet (numbers, windows, use of
//! lifetimes) is not here: it belongs to the worker that owns the SA, which takes it out of the entry once.

mod covering;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;
use latchway_esp::{InboundSa, OutboundSa, Spi};
use latchway_tagging::{ClassId, SaIndex, SaRef, WorkerId};

use crate::drop::Counter;
use crate::flow::FlowKey;
use crate::lifetime::Limits;
use crate::selector::Selector;
use crate::spd::Reqid;
use crate::time::Time;
use crate::traffic::Traffic;

use self::covering::Covering;

/// One SA, one direction.
#[derive(Debug)]
pub struct SadEntry {
    /// Its slot and generation.
    pub sa: SaRef,
    /// Its SPI.
    pub spi: Spi,
    /// The congruence class of the pair it belongs to.
    pub class: ClassId,
    /// The inner flows it may carry; any one suffices (RFC 4301 4.4.2.1).
    pub selectors: Box<[Selector]>,
    /// The rules it serves.
    pub reqid: Reqid,
    /// The one worker that owns it.
    pub worker: WorkerId,
    /// Its soft and hard lifetime.
    pub limits: Limits,
    /// When it was added, from which its lifetime by time counts.
    pub added: Time,
    /// Its direction, and what only that direction has.
    pub role: Role,
    /// What it carried so far.
    pub use_: SaUse,
}

/// The direction of an SA. The cryptographic state is handed over to the owning worker once.
#[derive(Debug)]
pub enum Role {
    /// Protects what we receive.
    Inbound(Handover<InboundSa>),
    /// Protects what we send.
    Outbound {
        /// Numbers and key.
        sa: Handover<OutboundSa>,
        /// Where protected packets go.
        path: Path,
    },
}

/// The outer path of an outbound SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Which of the gateway's wire sockets sends.
    pub wire: usize,
    /// The peer's address and UDP port.
    pub to: SocketAddr,
    /// The largest outer IP packet that the path takes, in octets.
    pub mtu: u16,
}

impl Path {
    /// Octets of ESP packet that fit: the MTU less the outer IP header (RFC 791, RFC 8200) and the UDP header.
    #[must_use]
    pub const fn room(&self) -> usize {
        let headers = if self.to.is_ipv4() { 20 + 8 } else { 40 + 8 };
        (self.mtu as usize).saturating_sub(headers)
    }
}

/// What an SA carried, written by its worker and read by status output.
#[derive(Debug, Default)]
pub struct SaUse {
    /// Inner packets.
    pub packets: Counter,
    /// Octets that the cipher was applied to.
    pub octets: Counter,
    first_used: AtomicU64,
    last_used: AtomicU64,
    soft_expired: AtomicBool,
    expired: AtomicBool,
}

/// Something that is given away once, from the key manager to the worker that will own it.
pub struct Handover<T>(Mutex<Option<T>>);

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
    /// Outbound SAs in force, newest first.
    sending: Arc<Vec<SaIndex>>,
    sending_by_class: Arc<HashMap<ClassId, Vec<SaIndex>, RandomState>>,
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
    /// An inbound SA with this SPI exists (T31).
    #[error("an inbound SA with this SPI exists already; choose another SPI")]
    DuplicateSpi,
    /// The slot holds another SA.
    #[error("the slot of the SA is taken")]
    SlotTaken,
}

/// Slots per chunk: how much a commit copies for each SA it touches.
const CHUNK: usize = 64;

impl SadEntry {
    /// Whether the SA may carry the traffic (RFC 4301 5.2).
    #[inline]
    #[must_use]
    pub fn admits(&self, traffic: &Traffic) -> bool {
        self.selectors.iter().any(|selector| selector.admits(traffic))
    }

    /// Whether the SA protects what we receive.
    #[must_use]
    pub const fn is_inbound(&self) -> bool {
        matches!(self.role, Role::Inbound(_))
    }
}

impl SaUse {
    /// When it carried its first packet: the time of that packet's batch. `None` where it never did.
    #[must_use]
    pub fn first_used(&self) -> Option<Time> {
        (self.packets.get() > 0).then(|| Time::from_nanos(self.first_used.load(Ordering::Relaxed)))
    }

    /// When it carried a packet last: the time of that packet's batch. `None` where it never did.
    #[must_use]
    pub fn last_used(&self) -> Option<Time> {
        (self.packets.get() > 0).then(|| Time::from_nanos(self.last_used.load(Ordering::Relaxed)))
    }

    /// Whether the soft limit is reached, so that a successor is wanted.
    #[must_use]
    pub fn is_soft_expired(&self) -> bool {
        self.soft_expired.load(Ordering::Relaxed)
    }

    /// Whether the hard lifetime is over.
    #[inline]
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }

    /// Counts what was charged. Only the owning worker calls this, as it does the two below.
    #[inline]
    pub(crate) fn charge(&self, packets: u64, octets: u64, now: Time) {
        if self.packets.get() == 0 {
            self.first_used.store(now.as_nanos(), Ordering::Relaxed);
        }
        self.last_used.store(now.as_nanos(), Ordering::Relaxed);
        self.packets.add(packets);
        self.octets.add(octets);
    }

    /// Marks the soft limit as reached.
    pub(crate) fn expire_soft(&self) {
        self.soft_expired.store(true, Ordering::Relaxed);
    }

    /// Marks the hard lifetime as over.
    pub(crate) fn expire(&self) {
        self.expired.store(true, Ordering::Relaxed);
    }
}

impl<T> Handover<T> {
    /// Holds `value` until someone takes it.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(Some(value)))
    }

    /// Gives the value away, once.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T> fmt::Debug for Handover<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handover(..)")
    }
}

impl Sad {
    /// Adds an SA.
    ///
    /// # Errors
    /// [`InsertError`]; the database is unchanged then.
    pub fn insert(&mut self, entry: Arc<SadEntry>, usage: Usage) -> Result<(), InsertError> {
        if entry.spi.is_reserved() {
            return Err(InsertError::ReservedSpi);
        }
        if entry.is_inbound() && self.by_spi.find(entry.spi).is_some() {
            return Err(InsertError::DuplicateSpi);
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
            self.by_spi.insert(entry.spi, index);
            Arc::make_mut(&mut self.covering).insert(&entry);
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

    /// Takes an SA out. Returns it if it was there.
    pub fn remove(&mut self, sa: SaRef) -> Option<Arc<SadEntry>> {
        self.get(sa)?;
        let slot = self.slot_mut(sa.index)?.take()?;
        if slot.entry.is_inbound() {
            self.by_spi.remove(slot.entry.spi);
            Arc::make_mut(&mut self.covering).remove(&slot.entry);
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

    /// The slot of the inbound SA with this SPI (RFC 4301 4.1).
    #[inline]
    #[must_use]
    pub fn find(&self, spi: Spi) -> Option<SaIndex> {
        self.by_spi.find(spi)
    }

    /// The outbound SA to use for a packet: of the class, if one is required; of the rule's reqid, if it names one;
    /// the newest first, and expired ones only where there is no other (so that the drop can say why).
    #[must_use]
    pub fn select(&self, traffic: &Traffic, class: Option<ClassId>, reqid: Option<Reqid>) -> Option<&Slot> {
        let candidates = match class {
            Some(class) => self.sending_by_class.get(&class).map_or(&[][..], Vec::as_slice),
            None => self.sending.as_slice(),
        };
        let mut expired = None;
        for &index in candidates {
            let Some(slot) = self.slot(index) else { continue };
            if reqid.is_some_and(|wanted| wanted != slot.entry.reqid) || !slot.entry.admits(traffic) {
                continue;
            }
            if !slot.entry.use_.is_expired() {
                return Some(slot);
            }
            expired = expired.or(Some(slot));
        }
        expired
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
        let sending = self.sending_by_class.get(&class).into_iter().flatten();
        sending.filter_map(|&index| self.slot(index)).any(does) || self.iter().any(does)
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
        if entry.is_inbound() || usage != Usage::Active {
            return;
        }
        Arc::make_mut(&mut self.sending).insert(0, entry.sa.index);
        Arc::make_mut(&mut self.sending_by_class).entry(entry.class).or_default().insert(0, entry.sa.index);
    }

    fn unlist(&mut self, entry: &SadEntry) {
        if entry.is_inbound() || !self.sending.contains(&entry.sa.index) {
            return;
        }
        Arc::make_mut(&mut self.sending).retain(|&index| index != entry.sa.index);
        let by_class = Arc::make_mut(&mut self.sending_by_class);
        if let Some(list) = by_class.get_mut(&entry.class) {
            list.retain(|&index| index != entry.sa.index);
            if list.is_empty() {
                by_class.remove(&entry.class);
            }
        }
    }
}

/// SPI to slot, in shards, so that a commit copies only the shard it touches, and their list only if it touches one.
#[derive(Clone, Debug, Default)]
struct SpiIndex {
    shards: Arc<[Arc<HashMap<Spi, SaIndex, RandomState>>]>,
}

const SHARDS: usize = 256;

impl SpiIndex {
    #[inline]
    fn find(&self, spi: Spi) -> Option<SaIndex> {
        self.shards.get(spi.get() as usize % SHARDS)?.get(&spi).copied()
    }

    fn insert(&mut self, spi: Spi, index: SaIndex) {
        if self.shards.is_empty() {
            self.shards = (0..SHARDS).map(|_| Arc::default()).collect();
        }
        if let Some(shard) = Arc::make_mut(&mut self.shards).get_mut(spi.get() as usize % SHARDS) {
            Arc::make_mut(shard).insert(spi, index);
        }
    }

    fn remove(&mut self, spi: Spi) {
        if let Some(shard) = Arc::make_mut(&mut self.shards).get_mut(spi.get() as usize % SHARDS) {
            Arc::make_mut(shard).remove(&spi);
        }
    }
}
