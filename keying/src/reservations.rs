//! Which numbers of static keys are spent, on disk: no restart takes a number twice under one key (T11, T12).
//!
//! RFC 8221 section 3 forbids counter modes to keys that a restart uses again, for numbers would begin at 1 again. Whoever
//! uses such keys all the same enrols them here first. Of each key, known by a fingerprint, the store keeps one number:
//! outbound every number up to it may have been taken, inbound every number up to it may have been received. Numbers are
//! reserved in blocks, and a block is on disk before a number of it is used; a key that was never seen begins at 1, and one
//! that was begins beyond its last block. What an SA that ended has left of its block is given back.
//!
//! A key that is asserted to be fresh, whose numbers are not kept, is noted before it is used, so that nobody takes it for
//! fresh once more, or puts it on record as one that was never seen.
//!
//! A key serves one direction of one SPI, for good, and one holder at a time. Whoever holds what
//! [`enrol`](Reservations::enrol) gave holds the keys; each is free again when the SA that it went into is dropped.
//!
//! Two things no store can help: a disk that is put back to what it was, and packets received within the last moments
//! before the process was killed, which the peer's numbers alone do not tell from new ones.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::num::NonZeroU32;
use std::path::Path;

use latchway_esp::{ReceivedTop, Reservation, SeqNum};
use zeroize::Zeroizing;

use self::book::{Book, Fingerprint, Record, Unrecorded};
use self::directory::Directory;
use self::disk::Disk;
use self::entry::{Entry, Holder};

use crate::install::{Keys, Resumption, SaKeys};

pub use self::book::Role;
pub use self::error::{EnrolError, EnrolFault, StoreError};

mod book;
mod directory;
mod disk;
mod entry;
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
    /// Where each key's entry is.
    places: HashMap<Fingerprint, usize>,
    /// Keys that were used, and of which there is no entry.
    unrecorded: BTreeSet<Unrecorded>,
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

/// One key of a single SA, and what the store is to know of it.
#[derive(Clone, Copy, Debug)]
pub enum Use<'k> {
    /// We send under it, and its numbers are on record.
    Sending(&'k SaKeys),
    /// We receive under it, and its numbers are on record.
    Receiving(&'k SaKeys),
    /// It is asserted to be fresh, and its numbers are not on record.
    Fresh(&'k SaKeys),
}

/// What became of a [`Use`].
#[derive(Debug)]
pub enum Enrolled {
    /// The numbers that may be sent.
    Sending(Sending),
    /// The numbers that were received.
    Receiving(Receiving),
    /// It is remembered that the key was used.
    Fresh,
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

    /// Enrols keys of single SAs, or goes on with them, and notes which fresh ones are used: all or none, with one write.
    ///
    /// # Errors
    /// [`EnrolFault`]; nothing changes then.
    pub fn enrol_each(&mut self, uses: &[Use<'_>]) -> Result<Vec<Enrolled>, EnrolFault> {
        let mut staged = self.stage();
        let enrolled = self.stage_each(&mut staged, uses);
        let place = enrolled.as_ref().err().and_then(|fault| fault.place);
        let settled = self.settle(staged, enrolled.map_err(|fault| fault.error));
        settled.map_err(|error| EnrolFault { place, error })
    }

    /// What [`enrol_each`](Self::enrol_each) would say, with nothing enrolled. No number can be taken of what it gives.
    ///
    /// # Errors
    /// [`EnrolFault`]
    pub fn rehearse_each(&mut self, uses: &[Use<'_>]) -> Result<Vec<Enrolled>, EnrolFault> {
        let mut staged = self.stage();
        let enrolled = self.stage_each(&mut staged, uses);
        self.put_back(staged);
        let idle = |enrolled| match enrolled {
            Enrolled::Sending(sending) => Enrolled::Sending(sending.idle()),
            other => other,
        };
        Ok(enrolled?.into_iter().map(idle).collect())
    }

    /// Whether a key was used before, on record or not, and is fresh no more.
    #[must_use]
    pub fn knows(&self, keys: &SaKeys) -> bool {
        let fingerprint = self.fingerprint(keys);
        self.places.contains_key(&fingerprint) || self.unrecorded.contains(&fingerprint.short())
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
        let mut store = Self {
            disk,
            secret,
            entries: Vec::new(),
            places: HashMap::new(),
            unrecorded: BTreeSet::new(),
            block: DEFAULT_BLOCK,
            unsaved: true,
        };
        store.save()?;
        Ok(store)
    }

    fn open_on(mut disk: Box<dyn Disk + Send>) -> Result<Self, StoreError> {
        let octets = disk.read()?.ok_or_else(|| StoreError::Missing(disk.folder().to_owned()))?;
        let Book { secret, records, unrecorded } = Book::decode(&octets)
            .map_err(|damage| StoreError::Damaged { folder: disk.folder().to_owned(), damage })?;
        let places = records.iter().enumerate().map(|(place, record)| (record.fingerprint, place)).collect();
        let entries = records.into_iter().map(|record| Entry { record, holder: Holder::Nobody }).collect();
        // What was read may be a file that was renamed and not synced before its writer was killed.
        Ok(Self { disk, secret, entries, places, unrecorded, block: DEFAULT_BLOCK, unsaved: true })
    }

    /// Begins changes that are all made or none.
    fn stage(&mut self) -> Staged {
        // First of all, so that a key whose SA ended is free.
        self.follow();
        Staged { known: self.entries.len(), replaced: Vec::new(), unrecorded: Vec::new(), changed: false }
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

    fn stage_each(&mut self, staged: &mut Staged, uses: &[Use<'_>]) -> Result<Vec<Enrolled>, EnrolFault> {
        let one = |(place, used): (usize, &Use<'_>)| {
            let enrolled = match used {
                Use::Sending(keys) => self.stage_outbound(staged, keys).map(Enrolled::Sending),
                Use::Receiving(keys) => self.stage_inbound(staged, keys).map(Enrolled::Receiving),
                Use::Fresh(keys) => self.stage_fresh(staged, keys).map(|()| Enrolled::Fresh),
            };
            enrolled.map_err(|error| EnrolFault { place: Some(place), error })
        };
        uses.iter().enumerate().map(one).collect()
    }

    fn stage_fresh(&mut self, staged: &mut Staged, keys: &SaKeys) -> Result<(), EnrolError> {
        let fingerprint = self.fingerprint(keys);
        if self.places.contains_key(&fingerprint) {
            return Err(EnrolError::Recorded(keys.spi));
        }
        if self.unrecorded.len() >= Book::MOST_UNRECORDED {
            return Err(EnrolError::Full(Book::MOST_UNRECORDED));
        }
        if !self.unrecorded.insert(fingerprint.short()) {
            return Err(EnrolError::Unrecorded(keys.spi));
        }
        staged.unrecorded.push(fingerprint.short());
        staged.changed = true;
        Ok(())
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
        let fingerprint = self.fingerprint(keys);
        if self.unrecorded.contains(&fingerprint.short()) {
            return Err(EnrolError::Unrecorded(spi));
        }
        let known = self.places.get(&fingerprint).copied();
        let Some((place, found)) = known.and_then(|place| Some((place, self.entries.get(place)?))) else {
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

    fn fingerprint(&self, keys: &SaKeys) -> Fingerprint {
        Fingerprint(keys.material.fingerprint_under(&self.secret))
    }

    fn put(&mut self, staged: &mut Staged, place: Option<usize>, entry: Entry) {
        match place.and_then(|place| Some((place, self.entries.get_mut(place)?))) {
            Some((place, known)) => {
                staged.changed |= known.record != entry.record;
                staged.replaced.push((place, mem::replace(known, entry)));
            }
            None => {
                staged.changed = true;
                self.places.insert(entry.record.fingerprint, self.entries.len());
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
        for entry in self.entries.drain(staged.known.min(self.entries.len())..) {
            self.places.remove(&entry.record.fingerprint);
        }
        for key in staged.unrecorded {
            self.unrecorded.remove(&key);
        }
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
        self.disk.store(&Book::encode(&self.secret, records, &self.unrecorded))?;
        self.unsaved = false;
        for entry in &self.entries {
            if let Holder::Sender { reservation, .. } = &entry.holder {
                reservation.raise(entry.record.seq);
            }
        }
        Ok(())
    }
}

impl Sending {
    /// The same, with no number to take.
    fn idle(self) -> Self {
        let reservation = Reservation::new(SeqNum(self.next.0.saturating_sub(1)));
        Self { reservation, ..self }
    }
}

impl std::fmt::Debug for Reservations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservations")
            .field("folder", &self.disk.folder())
            .field("keys", &self.entries.len())
            .field("unrecorded", &self.unrecorded.len())
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
    /// Keys noted as used.
    unrecorded: Vec<Unrecorded>,
    changed: bool,
}

/// 2^20 numbers: half of a block lasts a sender of two million packets a second for a quarter of a second.
const DEFAULT_BLOCK: u64 = 1 << 20;
