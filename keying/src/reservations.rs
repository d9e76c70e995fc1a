//! Which numbers of static keys are spent, on disk: no restart takes a number twice under one key (T11, T12).
//!
//! RFC 8221 section 3 forbids counter modes to keys that a restart uses again, for numbers would begin at 1 again. Whoever
//! uses such keys all the same enrols them here first. Of each key, known by a fingerprint, the store keeps one number:
//! outbound every number up to it may have been taken, inbound every number up to it may have been received. Numbers are
//! reserved in blocks, and a block is on disk before a number of it is used; a key that was never seen begins at 1, and one
//! that was begins beyond its last block. What an SA that ended has left of its block is given back.
//!
//! A key serves one direction of one SPI, for good, and one holder at a time. Whoever holds what
//! [`enrol_outbound`](Reservations::enrol_outbound) or [`enrol_inbound`](Reservations::enrol_inbound) gave holds the key; it
//! is free again when that is dropped.
//!
//! Two things no store can help: a disk that is put back to what it was, and packets received within the last moments
//! before the process was killed, which the peer's numbers alone do not tell from new ones.

use std::mem;
use std::num::NonZeroU32;
use std::path::Path;

use latchway_esp::{KeyMaterial, ReceivedTop, Reservation, SeqNum, SequenceKind, Spi};
use zeroize::Zeroizing;

use self::book::{Book, Fingerprint, Record};
use self::directory::Directory;
use self::disk::Disk;

pub use self::book::Role;
pub use self::error::{EnrolError, StoreError};

mod book;
mod directory;
mod disk;
mod error;

#[cfg(test)]
mod tests;

/// The store of one directory, which is locked as long as this lives.
///
/// Dropped without [`Reservations::close`], it leaves what a crash would: nothing is lost but the rest of each block.
pub struct Reservations {
    disk: Box<dyn Disk + Send>,
    secret: Zeroizing<[u8; 32]>,
    entries: Vec<Entry>,
    block: u64,
    /// Whether the disk may hold something else than what is here.
    unsaved: bool,
}

/// What an outbound SA goes on with: the next number of its key, and how far it may count.
#[derive(Debug)]
pub struct Sending {
    /// For [`OutboundSa::resume_at`](latchway_esp::OutboundSa::resume_at).
    pub next: SeqNum,
    /// For [`OutboundConfig`](latchway_esp::OutboundConfig).
    pub reservation: Reservation,
}

/// What an inbound SA goes on with: numbers up to `after` count as received.
#[derive(Debug)]
pub struct Receiving {
    /// For [`InboundSa::resume_after`](latchway_esp::InboundSa::resume_after).
    pub after: SeqNum,
    /// For [`InboundConfig`](latchway_esp::InboundConfig).
    pub top: ReceivedTop,
}

impl Reservations {
    /// Makes the store of a directory, which is made too, or is empty. Done once, and knowingly: under a key that was used
    /// before, a new store begins at 1 again.
    ///
    /// # Errors
    /// [`StoreError::Exists`] where there is a store, and whatever the disk refuses.
    pub fn create(folder: &Path) -> Result<Self, StoreError> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret).map_err(StoreError::NoRandomness)?;
        Self::create_on(Box::new(Directory::create(folder)?), secret)
    }

    /// Opens the store of a directory. The directory is the store's own, and nobody else's lock may be on it.
    ///
    /// # Errors
    /// [`StoreError`]: a store that is missing or damaged is never replaced by a fresh one.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_on(Box::new(Directory::open(folder)?))
    }

    /// How many numbers are reserved at a time, instead of 2^20. A sender that takes half a block between two calls of
    /// [`Reservations::extend`] may have to wait.
    #[must_use]
    pub fn with_block(self, block: NonZeroU32) -> Self {
        Self { block: u64::from(block.get()), ..self }
    }

    /// Enrols the key of an outbound SA, or goes on with it. Its first block is on disk when this returns.
    ///
    /// # Errors
    /// [`EnrolError`]; nothing changes then.
    pub fn enrol_outbound(
        &mut self,
        spi: Spi,
        key: &KeyMaterial,
        sequence: SequenceKind,
    ) -> Result<Sending, EnrolError> {
        let (place, entry) = self.find(Role::Outbound, spi, key)?;
        let (taken, last) = (entry.record.seq, sequence.last());
        let next = taken.0.checked_add(1).map(SeqNum).filter(|next| *next <= last);
        let next = next.ok_or(EnrolError::Spent(spi))?;
        let bound = SeqNum(taken.0.saturating_add(self.block)).min(last);
        let reservation = Reservation::new(bound);
        let holder = Holder::Sender { reservation: reservation.clone(), resumed: taken, last };
        self.enter(place, Entry { record: Record { seq: bound, ..entry.record }, holder })?;
        Ok(Sending { next, reservation })
    }

    /// Enrols the key of an inbound SA, or goes on with it.
    ///
    /// # Errors
    /// [`EnrolError`]; nothing changes then.
    pub fn enrol_inbound(
        &mut self,
        spi: Spi,
        key: &KeyMaterial,
        sequence: SequenceKind,
    ) -> Result<Receiving, EnrolError> {
        let (place, entry) = self.find(Role::Inbound, spi, key)?;
        let after = entry.record.seq;
        if after >= sequence.last() {
            return Err(EnrolError::Spent(spi));
        }
        let top = ReceivedTop::new();
        self.enter(place, Entry { holder: Holder::Receiver(top.clone()), ..entry })?;
        Ok(Receiving { after, top })
    }

    /// Reserves the next block of every key that used up half of its last one, and notes how far receivers came and which
    /// SAs ended. To be called every 100 to 250 ms; the disk is touched only where something changed.
    ///
    /// # Errors
    /// [`StoreError`]: senders go on to the end of their blocks and wait there. The next call tries again.
    pub fn extend(&mut self) -> Result<(), StoreError> {
        self.follow();
        if self.unsaved { self.save() } else { Ok(()) }
    }

    /// Stores the exact position of every SA that ended, and unlocks the directory. One whose SA still exists keeps its
    /// block.
    ///
    /// # Errors
    /// [`StoreError`]: the rest of each block is lost then, and nothing else.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.extend()
    }

    fn create_on(mut disk: Box<dyn Disk + Send>, secret: Zeroizing<[u8; 32]>) -> Result<Self, StoreError> {
        if disk.read()?.is_some() {
            return Err(StoreError::Exists(disk.folder().to_owned()));
        }
        let mut store = Self { disk, secret, entries: Vec::new(), block: DEFAULT_BLOCK, unsaved: true };
        store.save()?;
        Ok(store)
    }

    fn open_on(mut disk: Box<dyn Disk + Send>) -> Result<Self, StoreError> {
        let octets = disk.read()?.ok_or_else(|| StoreError::Missing(disk.folder().to_owned()))?;
        let Book { secret, records } = Book::decode(&octets)
            .map_err(|damage| StoreError::Damaged { folder: disk.folder().to_owned(), damage })?;
        let entries = records.into_iter().map(|record| Entry { record, holder: Holder::Nobody }).collect();
        // What was read may be a file that was renamed and not synced before its writer was killed.
        Ok(Self { disk, secret, entries, block: DEFAULT_BLOCK, unsaved: true })
    }

    /// The key's place and what is known of it: a fresh record behind all others where it was never seen.
    fn find(&mut self, role: Role, spi: Spi, key: &KeyMaterial) -> Result<(usize, Entry), EnrolError> {
        // First of all, so that a key whose SA ended is free.
        self.follow();
        let fingerprint = Fingerprint(key.fingerprint_under(&self.secret));
        let Some(place) = self.entries.iter().position(|entry| entry.record.fingerprint == fingerprint)
        else {
            if self.entries.len() >= Book::MOST_RECORDS {
                return Err(EnrolError::Full(Book::MOST_RECORDS));
            }
            let record = Record { fingerprint, role, spi, seq: SeqNum(0) };
            return Ok((self.entries.len(), Entry { record, holder: Holder::Nobody }));
        };
        let found = self.entries.get(place).ok_or(EnrolError::InUse(spi))?;
        if found.record.role != role {
            return Err(EnrolError::OtherDirection { spi, role: found.record.role, first: found.record.spi });
        }
        if found.record.spi != spi {
            return Err(EnrolError::OtherSpi { spi, first: found.record.spi });
        }
        if !matches!(found.holder, Holder::Nobody) {
            return Err(EnrolError::InUse(spi));
        }
        Ok((place, Entry { record: found.record, holder: Holder::Nobody }))
    }

    /// Puts an entry into its place and on disk. Where the disk refuses, what was there comes back: under a block that
    /// nobody was given, nobody took a number, whether it is on disk by now or not.
    fn enter(&mut self, place: usize, entry: Entry) -> Result<(), StoreError> {
        let changed = self.entries.get(place).map(|known| known.record) != Some(entry.record);
        let old = match self.entries.get_mut(place) {
            Some(known) => Some(mem::replace(known, entry)),
            None => {
                self.entries.push(entry);
                None
            }
        };
        if !changed && !self.unsaved {
            return Ok(());
        }
        let saved = self.save();
        if saved.is_err() {
            match (self.entries.get_mut(place), old) {
                (Some(known), Some(old)) => *known = old,
                _ => self.entries.truncate(place),
            }
        }
        saved
    }

    /// Brings every record to what its holder did since.
    fn follow(&mut self) {
        for entry in &mut self.entries {
            self.unsaved |= entry.follow(self.block);
        }
    }

    /// Replaces what is on disk by what is here, and only then lets senders go on.
    fn save(&mut self) -> Result<(), StoreError> {
        self.unsaved = true;
        let records = self.entries.iter().map(|entry| &entry.record);
        self.disk.store(&Book::encode(&self.secret, records))?;
        self.unsaved = false;
        for entry in &self.entries {
            if let Holder::Sender { reservation, .. } = &entry.holder {
                reservation.raise(entry.record.seq);
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Reservations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservations")
            .field("folder", &self.disk.folder())
            .field("keys", &self.entries.len())
            .field("block", &self.block)
            .field("unsaved", &self.unsaved)
            .finish_non_exhaustive()
    }
}

/// A key and who holds it.
struct Entry {
    record: Record,
    holder: Holder,
}

enum Holder {
    Nobody,
    /// Whoever may take numbers behind `resumed`, which were taken before.
    Sender {
        reservation: Reservation,
        resumed: SeqNum,
        last: SeqNum,
    },
    Receiver(ReceivedTop),
}

impl Entry {
    /// Brings the record to what the holder did since, and says whether that changed it.
    fn follow(&mut self, block: u64) -> bool {
        let before = self.record.seq;
        self.holder = match mem::replace(&mut self.holder, Holder::Nobody) {
            Holder::Nobody => Holder::Nobody,
            Holder::Sender { reservation, resumed, last } => match reservation.into_taken() {
                // Nobody is left to take a number, so the rest of the block is free again.
                Ok(taken) => {
                    self.record.seq = taken.max(resumed);
                    Holder::Nobody
                }
                Err(reservation) => {
                    let taken = reservation.taken().max(resumed);
                    let left = self.record.seq.0.saturating_sub(taken.0);
                    if left <= block / 2 {
                        let next = SeqNum(taken.0.saturating_add(block)).min(last);
                        self.record.seq = self.record.seq.max(next);
                    }
                    Holder::Sender { reservation, resumed, last }
                }
            },
            Holder::Receiver(top) => match top.into_seq() {
                Ok(seq) => {
                    self.record.seq = self.record.seq.max(seq);
                    Holder::Nobody
                }
                Err(top) => {
                    self.record.seq = self.record.seq.max(top.seq());
                    Holder::Receiver(top)
                }
            },
        };
        self.record.seq != before
    }
}

/// 2^20 numbers: half of a block lasts a sender of two million packets a second for a quarter of a second.
const DEFAULT_BLOCK: u64 = 1 << 20;
