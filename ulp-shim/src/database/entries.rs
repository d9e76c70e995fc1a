//! Entries as the packet path reads, makes, changes and removes them.

use latchway_datapath::drop::DropReason;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::time::Time;
use latchway_tagging::{ClassId, InboundTag, SaRef, SnapshotId, StateVersion};

use crate::database::LatchDatabase;
use crate::entry::{Entry, Kind};
use crate::latch::{BreakReason, Latch, LatchId, LatchState};
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
    /// Of a latch.
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

    /// Makes an entry, unless the flow got one meanwhile. Returns whether it made one.
    ///
    /// # Errors
    /// [`DropReason::FlowTableFull`]: no slot, or too many half open (T37 i).
    pub(crate) fn create(&self, flow: &FlowKey, birth: &Birth) -> Result<bool, DropReason> {
        let entry = birth.entry;
        if !self.reserve(&entry) {
            return Err(DropReason::FlowTableFull);
        }
        if entry.kind != Kind::Unlatched {
            // L-89: before the new latch is visible.
            self.clock.advance();
        }
        let inserted = self.table.insert(&flow.words(), entry.pack(), |head, slot| birth.fill(head, slot));
        if inserted != Ok(Inserted::New) {
            self.account(&entry, None);
        }
        match inserted {
            Ok(Inserted::New) => Ok(true),
            Ok(Inserted::Existing) => Ok(false),
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
            if found.slot.change(head, head.with(Life::Live, after.pack())) {
                self.account(&before, Some(&after));
                return Some(after);
            }
        }
    }

    /// Removes an entry, unless it changed since it was read.
    pub(crate) fn remove(&self, known: &Known<'_>) -> bool {
        let removed = self.table.remove(known.found);
        if removed {
            self.account(&known.entry, None);
        }
        removed
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
        if broke && let Some(place) = self.table.offender(known.found.id) {
            place.version.store(offender.version.raw(), Ordering::Relaxed);
            place.sa.store(offender.sa.pack(), Ordering::Relaxed);
            place.class.store(u64::from(offender.class.raw()), Ordering::Release);
        }
        broke
    }

    /// The tag that broke a latch, once it is recorded.
    pub(crate) fn offender(&self, id: LatchId) -> Option<InboundTag> {
        let place = self.table.offender(id)?;
        let class = place.class.load(Ordering::Acquire);
        let sa = SaRef::unpack(place.sa.load(Ordering::Relaxed))?;
        let version = StateVersion::from_raw(place.version.load(Ordering::Relaxed));
        (class != 0).then_some(InboundTag { class: ClassId::from_raw(class as u32), sa, version })
    }

    fn reserve(&self, entry: &Entry) -> bool {
        let (half_open, unlatched) = (u64::from(self.limits.half_open), u64::from(self.limits.unlatched));
        let below = |counter: &AtomicU64, limit| counter.fetch_add(1, Ordering::Relaxed) < limit;
        let room = (!entry.is_half_open() || below(&self.half_open, half_open))
            && (entry.kind != Kind::Unlatched || below(&self.unlatched, unlatched));
        if !room {
            self.account(entry, None);
        }
        room
    }

    /// Keeps the counters when an entry becomes another, or goes.
    fn account(&self, before: &Entry, after: Option<&Entry>) {
        if before.is_half_open() && !after.is_some_and(Entry::is_half_open) {
            self.half_open.fetch_sub(1, Ordering::Relaxed);
        }
        if !before.is_half_open() && after.is_some_and(Entry::is_half_open) {
            self.half_open.fetch_add(1, Ordering::Relaxed);
        }
        if before.kind == Kind::Unlatched && after.is_none() {
            self.unlatched.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<'t> Known<'t> {
    #[inline]
    fn new(found: Found<'t>, [class, changed_at, hint, stamp]: [u64; 4]) -> Self {
        Self {
            found,
            entry: Entry::unpack(found.head.detail()),
            class: ClassId::from_raw(class as u32),
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

    /// When a packet last passed, or the state last changed.
    pub(crate) fn seen(&self) -> Time {
        Time::from_nanos(self.found.slot.seen.load(Ordering::Relaxed))
    }
}

impl Birth {
    fn fill(&self, head: Head, slot: &Slot) {
        slot.class.store(self.class.map_or(0, |class| u64::from(class.raw())), Ordering::Relaxed);
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
        (Kind::Latched(from), Kind::Latched(to)) => from == to || from.may_become(to),
        _ => false,
    }
}

/// An odd constant whose multiples spread over all 64 bits.
const SPREAD: u64 = 0xd6e8_feb8_6659_fd93;

/// How exactly the time of the last packet is kept: often enough for idle times of minutes, seldom enough to spare
/// the cache line.
const SEEN_STEP: u64 = 1_000_000_000;
