//! Entries as the packet path reads, makes, changes and removes them.

use std::net::IpAddr;

use latchway_datapath::drop::DropReason;
use latchway_datapath::flow::{FlowKey, number};
use latchway_datapath::latching::{BreakReason, LatchId, LatchState, Model, Offender};
use latchway_datapath::time::Time;
use latchway_tagging::{ClassId, Demand, InboundTag, SaRef, SnapshotId, StateVersion};

use crate::database::accounts::Weight;
use crate::database::{LatchDatabase, flow_of};
use crate::entry::{Entry, Holds, Kind};
use crate::latch::Latch;
use crate::progress::Side;
use crate::sync::{AtomicU64, Ordering};
use crate::table::{Found, Head, Inserted, Life, Slot};

/// An entry, and what one probe read of it.
#[derive(Clone, Copy)]
pub(crate) struct Known<'t> {
    pub(crate) found: Found<'t>,
    pub(crate) entry: Entry,
    pub(crate) class: ClassId,
    changed_at: StateVersion,
    hint: u64,
    stamp: u64,
}

/// An entry about to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    pub(crate) entry: Entry,
    /// Of a latch that holds to one; of a listener, the number of what it demands.
    pub(crate) class: Option<ClassId>,
    /// The version of the tag or feedback it is made from: never newer.
    pub(crate) changed_at: StateVersion,
    pub(crate) hint: Option<SaRef>,
    pub(crate) snapshot: SnapshotId,
    pub(crate) now: Time,
    pub(crate) sent: Side,
    pub(crate) received: Side,
    pub(crate) tag: Option<InboundTag>,
}

impl LatchDatabase {
    /// The entry of a flow: the one probe of a packet.
    #[inline]
    pub(crate) fn probe(&self, flow: &FlowKey) -> Option<Known<'_>> {
        let (found, read) = self.table.find(&flow.words(), read)?;
        Some(Known::new(found, read))
    }

    /// The entry in a slot.
    pub(crate) fn at(&self, index: u32) -> Option<Known<'_>> {
        let (found, read) = self.table.at(index, read)?;
        Some(Known::new(found, read))
    }

    pub(crate) fn by_id(&self, id: LatchId) -> Option<Found<'_>> {
        self.table.by_id(id, |_| ()).map(|(found, ())| found)
    }

    /// The entry that a handle names.
    pub(crate) fn known(&self, id: LatchId) -> Option<Known<'_>> {
        let (found, read) = self.table.by_id(id, read)?;
        Some(Known::new(found, read))
    }

    /// Makes an entry, unless the flow got one meanwhile: then there is no handle.
    ///
    /// # Errors
    /// [`DropReason::FlowTableFull`]: no slot, or too many half open (T37 i, T41). [`DropReason::LatchBarred`]: the class
    /// is unknown.
    pub(crate) fn create(&self, flow: &FlowKey, birth: &Birth) -> Result<Option<LatchId>, DropReason> {
        let entry = birth.entry;
        let weight = Weight::of(&entry, birth.class.unwrap_or(NO_CLASS));
        self.admit(&weight).or_else(
            |full| {
                if self.evict(&weight) { self.admit(&weight) } else { Err(full) }
            },
        )?;
        if entry.kind != Kind::Unlatched {
            // L-89: before the new latch is visible.
            self.clock.advance();
        }
        let inserted = self.table.insert(&flow.words(), entry.pack(), |head, slot| birth.fill(head, slot));
        if !matches!(inserted, Ok(Inserted::New(_))) {
            self.account(&weight, &Weight::default());
        }
        match inserted {
            Ok(Inserted::New(id)) => Ok(Some(id)),
            Ok(Inserted::Existing) => Ok(None),
            Err(_full) => Err(DropReason::FlowTableFull),
        }
    }

    /// Changes what the head says, as long as the same entry is there and the latch's state machine allows it. `to`
    /// says what it becomes, or that nothing is to change. Returns what it became.
    pub(crate) fn change(&self, found: Found<'_>, to: impl Fn(Entry) -> Option<Entry>) -> Option<Entry> {
        loop {
            let head = found.slot.head();
            if head.generation() != found.head.generation() || head.life() != Life::Live {
                return None;
            }
            let before = Entry::unpack(head.detail());
            let after = to(before)?;
            if !is_legal(&before, &after) {
                return None;
            }
            // Set for good before the head said that there is one.
            let class = class_of(found.slot.class.load(Ordering::Relaxed));
            if found.slot.change(head, head.with(Life::Live, after.pack())) {
                self.account(&Weight::of(&before, class), &Weight::of(&after, class));
                return Some(after);
            }
        }
    }

    /// Notes whether a latch is what somebody required of its connection, by whom that is looked at again.
    pub(crate) fn note_required(&self, known: &Known<'_>, required: bool) {
        let noted = |entry: Entry| {
            let differs = matches!(entry.kind, Kind::Latched(_)) && entry.required != required;
            differs.then_some(Entry { required, ..entry })
        };
        self.change(known.found, noted);
    }

    /// Makes a LARVAL latch ESTABLISHED in a class. Of several workers that do it at the
    /// same time for one class all succeed; the first class wins, and stays (L-37, R-15).
    ///
    /// # Errors
    /// The reason to drop the packet that would have had it.
    pub(crate) fn promote(&self, found: Found<'_>, class: ClassId) -> Result<(), DropReason> {
        let larval = Entry::unpack(found.head.detail());
        if larval.kind != Kind::Latched(LatchState::Larval) {
            return Err(DropReason::LatchBroken);
        }
        if !self.peers.enter(class) {
            return Err(DropReason::LatchBarred);
        }
        let (none, claimed) = (class_word(found.head, NO_CLASS), class_word(found.head, class));
        let claim = found.slot.class.compare_exchange(none, claimed, Ordering::AcqRel, Ordering::Acquire);
        if claim.is_err_and(|other| other != claimed) {
            self.peers.leave(class);
            return Err(DropReason::LatchMismatch);
        }
        let is_strict = larval.terms.model == Model::Strict;
        if is_strict {
            // Before it is in force: whoever asks for conflicts must not miss it.
            self.peers.count_strict(class, true);
        }
        let promoted = self.raise(found, class);
        if promoted != Ok(true) {
            if is_strict {
                self.peers.count_strict(class, false);
            }
            self.peers.leave(class);
        }
        promoted.map(|_| ())
    }

    /// Whether this call took the latch from LARVAL to ESTABLISHED; another one may have, in the same class.
    fn raise(&self, found: Found<'_>, class: ClassId) -> Result<bool, DropReason> {
        loop {
            let head = found.slot.head();
            if head.generation() != found.head.generation() || head.life() != Life::Live {
                return Err(DropReason::LatchBroken);
            }
            let before = Entry::unpack(head.detail());
            match before.kind {
                Kind::Latched(LatchState::Larval) => {}
                Kind::Latched(LatchState::Established) if before.holds == Holds::Class => return Ok(false),
                _ => return Err(DropReason::LatchBroken),
            }
            let kind = Kind::Latched(LatchState::Established);
            let after = Entry { kind, holds: Holds::Class, ..before };
            self.clock.advance();
            if found.slot.change(head, head.with(Life::Live, after.pack())) {
                let (was, is) = (Weight::of(&before, class), Weight::of(&after, class));
                self.account(&was.promoted(&is), &is);
                return Ok(true);
            }
        }
    }

    /// Removes an entry, unless it changed since it was read.
    pub(crate) fn remove(&self, known: &Known<'_>) -> bool {
        let removed = self.table.remove(known.found);
        if removed {
            self.account(&Weight::of(&known.entry, known.class), &Weight::default());
        }
        removed
    }

    /// Forgets the flows of an address, which is another's from now on, but for latches that somebody holds.
    pub fn forget_flows_of(&self, address: IpAddr) {
        let address = number(address);
        for known in (0..self.table.capacity()).filter_map(|index| self.at(index)) {
            let is_free = !known.entry.owned && known.entry.kind != Kind::Latched(LatchState::Listener);
            if is_free && flow_of(known.found.slot.key()).local_number() == address {
                self.remove(&known);
            }
        }
    }

    /// Breaks a latch because of a packet under `offender`. Returns whether this call did it.
    pub(crate) fn break_for(&self, known: &Known<'_>, offender: &InboundTag, now: Time) -> bool {
        self.mark_change(known.found, now);
        let broken = |entry: Entry| {
            let established = entry.kind == Kind::Latched(LatchState::Established);
            let (kind, reason) = (Kind::Latched(LatchState::Broken), Some(BreakReason::OtherPeer));
            established.then_some(Entry { kind, reason, announced: false, ..entry })
        };
        let broke = self.change(known.found, broken).is_some();
        if broke {
            self.record_offender(known.found.id, offender.class, Some(offender.sa));
        }
        broke
    }

    /// Remembers whom a latch met when it broke.
    pub(crate) fn record_offender(&self, id: LatchId, class: ClassId, sa: Option<SaRef>) {
        let Some(place) = self.table.offender(id) else { return };
        place.sa.store(sa.map_or(0, SaRef::pack), Ordering::Relaxed);
        let word = u64::from(id.generation()) << 32 | u64::from(class.raw());
        place.class.store(word, Ordering::Release);
    }

    /// Whom a latch met when it broke, once that is recorded.
    pub(crate) fn offender(&self, id: LatchId) -> Option<Offender> {
        let place = self.table.offender(id)?;
        let word = place.class.load(Ordering::Acquire);
        let sa = SaRef::unpack(place.sa.load(Ordering::Relaxed));
        let is_its = word >> 32 == u64::from(id.generation()) && word as u32 != 0;
        is_its.then_some(Offender { class: class_of(word), sa })
    }
}

impl<'t> Known<'t> {
    #[inline]
    fn new(found: Found<'t>, [class, changed_at, hint, stamp]: [u64; 4]) -> Self {
        Self {
            found,
            entry: Entry::unpack(found.head.detail()),
            class: class_of(class),
            changed_at: StateVersion::from_raw(changed_at),
            hint,
            stamp,
        }
    }

    /// What a tag is checked against, in a state that the entry is in.
    #[inline]
    pub(crate) const fn latch(&self, state: LatchState) -> Latch {
        Latch { state, class: self.class, changed_at: self.changed_at }
    }

    /// Whether the latch changed since a packet with this tag was opened (C-31).
    pub(crate) fn is_newer_than(&self, tag: &InboundTag) -> bool {
        tag.version < self.changed_at
    }

    /// What a packet of the established latch must leave under.
    #[inline]
    pub(crate) const fn demand(&self) -> Demand {
        match self.entry.holds {
            Holds::Class => Demand::Class(self.class),
            Holds::Bypass => Demand::Bypass,
            // No latch in force holds to nothing: an SA of no class is none.
            Holds::Nothing => Demand::Class(NO_CLASS),
        }
    }

    /// Whether the cache of the entry was made under `snapshot`.
    #[inline]
    pub(crate) const fn is_current(&self, snapshot: SnapshotId) -> bool {
        self.stamp == stamp(self.found.head, snapshot, self.hint)
    }

    /// The SA that served the flow under `snapshot`.
    #[inline]
    pub(crate) fn hint(&self, snapshot: SnapshotId) -> Option<SaRef> {
        if self.is_current(snapshot) { self.last_hint() } else { None }
    }

    /// The SA that served the flow under the snapshot that the entry is current for.
    #[inline]
    pub(crate) const fn last_hint(&self) -> Option<SaRef> {
        SaRef::unpack(self.hint)
    }

    /// Remembers which SA serves the flow under `snapshot`.
    pub(crate) fn remember(&self, hint: Option<SaRef>, snapshot: SnapshotId) {
        remember(self.found.slot, self.found.head, hint, snapshot);
    }

    /// Records that a packet passed.
    #[inline]
    pub(crate) fn touch(&self, now: Time) {
        let seen = &self.found.slot.seen;
        if now.as_nanos().saturating_sub(seen.load(Ordering::Relaxed)) >= SEEN_STEP {
            seen.store(now.as_nanos(), Ordering::Relaxed);
        }
    }

    /// Records the tag of a packet that passed.
    #[inline]
    pub(crate) fn note(&self, tag: &InboundTag) {
        store_changed(&self.found.slot.last_sa, tag.sa.pack());
        store_changed(&self.found.slot.last_version, tag.version.raw());
    }

    /// When the entry was made, or when it was last asked whose its flow is.
    pub(crate) fn opened(&self) -> Time {
        Time::from_nanos(self.found.slot.opened.load(Ordering::Relaxed))
    }

    /// Records that its flow is whose it was.
    pub(crate) fn renew(&self, now: Time) {
        self.found.slot.opened.fetch_max(now.as_nanos(), Ordering::Relaxed);
    }

    /// When a packet last passed, or the state last changed.
    pub(crate) fn seen(&self) -> Time {
        Time::from_nanos(self.found.slot.seen.load(Ordering::Relaxed))
    }
}

impl Birth {
    /// The birth of an entry without anything else to say of it.
    pub(crate) fn new(entry: Entry, now: Time) -> Self {
        Self {
            entry,
            class: None,
            changed_at: StateVersion::default(),
            hint: None,
            snapshot: SnapshotId::default(),
            now,
            sent: Side::default(),
            received: Side::default(),
            tag: None,
        }
    }

    fn fill(&self, head: Head, slot: &Slot) {
        slot.class.store(class_word(head, self.class.unwrap_or(NO_CLASS)), Ordering::Relaxed);
        slot.changed_at.store(self.changed_at.raw(), Ordering::Relaxed);
        slot.seen.store(self.now.as_nanos(), Ordering::Relaxed);
        slot.opened.store(self.now.as_nanos(), Ordering::Relaxed);
        slot.sent.store(self.sent.pack(), Ordering::Relaxed);
        slot.received.store(self.received.pack(), Ordering::Relaxed);
        slot.last_sa.store(self.tag.map_or(0, |tag| tag.sa.pack()), Ordering::Relaxed);
        slot.last_version.store(self.tag.map_or(0, |tag| tag.version.raw()), Ordering::Relaxed);
        remember(slot, head, self.hint, self.snapshot);
    }
}

/// What a probe takes of a slot.
#[inline]
fn read(slot: &Slot) -> [u64; 4] {
    [&slot.class, &slot.changed_at, &slot.hint, &slot.stamp].map(|word| word.load(Ordering::Relaxed))
}

fn remember(slot: &Slot, head: Head, hint: Option<SaRef>, snapshot: SnapshotId) {
    let hint = hint.map_or(0, SaRef::pack);
    slot.hint.store(hint, Ordering::Relaxed);
    slot.stamp.store(stamp(head, snapshot, hint), Ordering::Relaxed);
}

/// Binds a hint to the entry and the snapshot it was found under. Two workers may write hint and stamp at the same
/// time, or one write late into a recycled slot: what does not belong together then does not agree.
#[inline]
const fn stamp(head: Head, snapshot: SnapshotId, hint: u64) -> u64 {
    let bound = (hint ^ (head.generation() as u64).rotate_left(17)).wrapping_mul(SPREAD);
    (bound ^ (bound >> 29)).wrapping_mul(SPREAD) ^ snapshot.raw()
}

/// A class as its slot keeps it: with the generation of the entry, so that who comes late to a recycled slot does not give
/// a class to another's latch.
const fn class_word(head: Head, class: ClassId) -> u64 {
    (head.generation() as u64) << 32 | class.raw() as u64
}

#[inline]
const fn class_of(word: u64) -> ClassId {
    ClassId::from_raw(word as u32)
}

/// The class that no SA has.
const NO_CLASS: ClassId = ClassId::from_raw(0);

#[inline]
fn store_changed(place: &AtomicU64, word: u64) {
    if place.load(Ordering::Relaxed) != word {
        place.store(word, Ordering::Relaxed);
    }
}

/// Only the legal transitions; an unlatched entry and a latch never become each other (L-37: they would without a new
/// entry, and so without a new handle).
fn is_legal(before: &Entry, after: &Entry) -> bool {
    match (before.kind, after.kind) {
        (Kind::Unlatched, Kind::Unlatched) => true,
        (Kind::Latched(from), Kind::Latched(to)) => {
            before.holds == after.holds && (from == to || from.may_become(to))
        }
        _ => false,
    }
}

/// An odd constant whose multiples spread over all 64 bits.
const SPREAD: u64 = 0xd6e8_feb8_6659_fd93;

/// How exactly the time of the last packet is kept: often enough for idle times of minutes, seldom enough to spare
/// the cache line.
const SEEN_STEP: u64 = 1_000_000_000;
