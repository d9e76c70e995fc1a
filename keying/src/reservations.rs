//! Which numbers of static keys are spent, on disk: no restart takes a number twice under one key (T11, T12).
//!
//! RFC 8221 section 3 forbids counter modes to keys that a restart uses again, for numbers would begin at 1 again. Whoever
//! uses such keys all the same enrols them here first. Of each key, known by a fingerprint, the store keeps one number:
//! outbound every number up to it may have been taken, inbound every number up to it may have been received. Numbers are
//! reserved in blocks, and a block is on disk before a number of it is used; a key that was never seen begins at 1, and one
//! that was begins beyond its last block. What an SA that ended has left of its block is given back.
//!
//! A key serves one direction of one SPI, for good, and one holder at a time. Whoever holds what
//! [`enrol`](Reservations::enrol) gave holds the keys; each is free again when the SA that it went into is dropped.
//!
//! Two things no store can help: a disk that is put back to what it was, and packets received within the last moments
//! before the process was killed, which the peer's numbers alone do not tell from new ones.

use std::mem;
use std::num::NonZeroU32;
use std::path::Path;

use latchway_esp::{ReceivedTop, Reservation, SeqNum};
use zeroize::Zeroizing;

use self::book::{Book, Fingerprint, Record};
use self::directory::Directory;
use self::disk::Disk;

use crate::install::{Keys, Resumption, SaKeys};

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

    /// Enrols both keys of each pair, or goes on with them: all pairs or none, with one write. The first blocks are on disk when
    /// this returns.
    ///
    /// # Errors
    /// [`EnrolError`]; nothing changes then.
    pub fn enrol(&mut self, pairs: &[&Keys]) -> Result<Vec<Resumption>, EnrolError> {
        let mut staged = self.stage();
        let resumed = self.stage_pairs(&mut staged, pairs);
        self.settle(staged, resumed)
    }

    /// What [`enrol`](Self::enrol) would say, with nothing enrolled and nothing on disk: a question whether pairs could be
    /// must not bind their keys. No number can be taken of what it gives.
    ///
    /// # Errors
    /// [`EnrolError`]
    pub fn rehearse(&mut self, pairs: &[&Keys]) -> Result<Vec<Resumption>, EnrolError> {
        let mut staged = self.stage();
        let resumed = self.stage_pairs(&mut staged, pairs);
        self.put_back(staged);
        Ok(resumed?.into_iter().map(Resumption::idle).collect())
    }

    /// Enrols the key of an outbound SA, or goes on with it. Its first block is on disk when this returns.
    ///
    /// # Errors
    /// [`EnrolError`]; nothing changes then.
    pub fn enrol_outbound(&mut self, keys: &SaKeys) -> Result<Sending, EnrolError> {
        let mut staged = self.stage();
        let sending = self.stage_outbound(&mut staged, keys);
        self.settle(staged, sending)
    }

    /// What [`enrol_outbound`](Self::enrol_outbound) would say, with nothing enrolled. No number can be taken of what it gives.
    ///
    /// # Errors
    /// [`EnrolError`]
    pub fn rehearse_outbound(&mut self, keys: &SaKeys) -> Result<Sending, EnrolError> {
        let mut staged = self.stage();
        let sending = self.stage_outbound(&mut staged, keys);
        self.put_back(staged);
        let next = sending?.next;
        Ok(Sending { next, reservation: Reservation::new(SeqNum(next.0.saturating_sub(1))) })
    }

    /// What [`enrol_inbound`](Self::enrol_inbound) would say, with nothing enrolled.
    ///
    /// # Errors
    /// [`EnrolError`]
    pub fn rehearse_inbound(&mut self, keys: &SaKeys) -> Result<Receiving, EnrolError> {
        let mut staged = self.stage();
        let receiving = self.stage_inbound(&mut staged, keys);
        self.put_back(staged);
        receiving
    }

    /// Whether a key is on record: somebody used it before, and it is fresh no more.
    #[must_use]
    pub fn knows(&self, keys: &SaKeys) -> bool {
        let fingerprint = Fingerprint(keys.material.fingerprint_under(&self.secret));
        self.entries.iter().any(|entry| entry.record.fingerprint == fingerprint)
    }

    /// Enrols the key of an inbound SA, or goes on with it.
    ///
    /// # Errors
    /// [`EnrolError`]; nothing changes then.
    pub fn enrol_inbound(&mut self, keys: &SaKeys) -> Result<Receiving, EnrolError> {
        let mut staged = self.stage();
        let receiving = self.stage_inbound(&mut staged, keys);
        self.settle(staged, receiving)
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

    /// Begins changes that are all made or none.
    fn stage(&mut self) -> Staged {
        // First of all, so that a key whose SA ended is free.
        self.follow();
        Staged { known: self.entries.len(), replaced: Vec::new(), changed: false }
    }

    fn stage_pairs(&mut self, staged: &mut Staged, pairs: &[&Keys]) -> Result<Vec<Resumption>, EnrolError> {
        let one = |keys: &&Keys| {
            let header = keys
                .header
                .as_ref()
                .map(|header| self.stage_pair(staged, (&header.inbound, &header.outbound)).map(Box::new));
            let pair = self.stage_pair(staged, (&keys.inbound, &keys.outbound))?;
            Ok(Resumption { header: header.transpose()?, ..pair })
        };
        pairs.iter().map(one).collect()
    }

    fn stage_pair(
        &mut self,
        staged: &mut Staged,
        (inbound, outbound): (&SaKeys, &SaKeys),
    ) -> Result<Resumption, EnrolError> {
        let Receiving { after, top } = self.stage_inbound(staged, inbound)?;
        let Sending { next, reservation } = self.stage_outbound(staged, outbound)?;
        Ok(Resumption { next, reservation, after, top, header: None })
    }

    fn stage_outbound(&mut self, staged: &mut Staged, keys: &SaKeys) -> Result<Sending, EnrolError> {
        let (place, record) = self.find(Role::Outbound, keys)?;
        let (taken, last) = (record.seq, keys.sequence.last());
        let next = taken.0.checked_add(1).map(SeqNum).filter(|next| *next <= last);
        let next = next.ok_or(EnrolError::Spent(keys.spi))?;
        let bound = SeqNum(taken.0.saturating_add(self.block)).min(last);
        let reservation = Reservation::new(bound);
        let holder = Holder::Sender { reservation: reservation.clone(), resumed: taken, last };
        self.put(staged, place, Entry { record: Record { seq: bound, ..record }, holder });
        Ok(Sending { next, reservation })
    }

    fn stage_inbound(&mut self, staged: &mut Staged, keys: &SaKeys) -> Result<Receiving, EnrolError> {
        let (place, record) = self.find(Role::Inbound, keys)?;
        if record.seq >= keys.sequence.last() {
            return Err(EnrolError::Spent(keys.spi));
        }
        let top = ReceivedTop::new();
        self.put(staged, place, Entry { record, holder: Holder::Receiver(top.clone()) });
        Ok(Receiving { after: record.seq, top })
    }

    /// The key's place and what is known of it; a fresh record where it was never seen.
    fn find(&self, role: Role, keys: &SaKeys) -> Result<(Option<usize>, Record), EnrolError> {
        let spi = keys.spi;
        let fingerprint = Fingerprint(keys.material.fingerprint_under(&self.secret));
        let mut known = self.entries.iter().enumerate();
        let Some((place, found)) = known.find(|(_, entry)| entry.record.fingerprint == fingerprint) else {
            if self.entries.len() >= Book::MOST_RECORDS {
                return Err(EnrolError::Full(Book::MOST_RECORDS));
            }
            return Ok((None, Record { fingerprint, role, spi, seq: SeqNum(0) }));
        };
        let first = found.record.spi;
        if found.record.role != role {
            return Err(EnrolError::OtherDirection { spi, role: found.record.role, first });
        }
        if first != spi {
            return Err(EnrolError::OtherSpi { spi, first });
        }
        if !matches!(found.holder, Holder::Nobody) {
            return Err(EnrolError::InUse(spi));
        }
        Ok((Some(place), found.record))
    }

    fn put(&mut self, staged: &mut Staged, place: Option<usize>, entry: Entry) {
        match place.and_then(|place| Some((place, self.entries.get_mut(place)?))) {
            Some((place, known)) => {
                staged.changed |= known.record != entry.record;
                staged.replaced.push((place, mem::replace(known, entry)));
            }
            None => {
                staged.changed = true;
                self.entries.push(entry);
            }
        }
    }

    /// Puts what was staged on disk. Where that fails, or staging did, what was there comes back: under a block that nobody was
    /// given nobody took a number, whether it is on disk by now or not.
    fn settle<T>(&mut self, staged: Staged, outcome: Result<T, EnrolError>) -> Result<T, EnrolError> {
        let outcome = outcome.and_then(|enrolled| {
            if staged.changed || self.unsaved {
                self.save()?;
            }
            Ok(enrolled)
        });
        if outcome.is_err() {
            self.put_back(staged);
        }
        outcome
    }

    fn put_back(&mut self, staged: Staged) {
        self.entries.truncate(staged.known);
        for (place, old) in staged.replaced {
            if let Some(entry) = self.entries.get_mut(place) {
                *entry = old;
            }
        }
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

/// What to put back where changes cannot be made.
struct Staged {
    /// How many keys were known.
    known: usize,
    replaced: Vec<(usize, Entry)>,
    changed: bool,
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
