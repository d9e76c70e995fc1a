//! What the key manager and those who end connections do to latches: break, restore, close, and let go.

use latchway_datapath::latching::{BreakReason, LatchId, LatchState, OnConflict};
use latchway_datapath::time::Time;
use latchway_tagging::ClassId;

use crate::database::{LatchDatabase, flow_of};
use crate::entry::{Entry, Holds, Kind};
use crate::progress::Progress;
use crate::sync::Ordering;
use crate::table::Found;

impl LatchDatabase {
    /// Breaks an established latch: an SA of `offender`, or a policy, with which it conflicts is about to be installed, or
    /// the peer is gone (L-74, L-76, R-6). Telling the holder is the caller's. Returns whether it did.
    pub fn suspend(&self, id: LatchId, reason: BreakReason, offender: Option<ClassId>, now: Time) -> bool {
        let Some(found) = self.by_id(id) else { return false };
        self.mark_change(found, now);
        let broken = |entry: Entry| {
            let established = entry.kind == Kind::Latched(LatchState::Established);
            let (kind, reason) = (Kind::Latched(LatchState::Broken), Some(reason));
            established.then_some(Entry { kind, reason, announced: true, ..entry })
        };
        let broke = self.change(found, broken).is_some();
        if broke && let Some(class) = offender {
            self.record_offender(id, class, None);
        }
        broke
    }

    /// Puts a broken latch into force again, its conflicts being gone. Tags from before are stale. Where another
    /// peer's packet broke it, only terms that wait for such a peer to go allow that. Returns whether it did.
    pub fn restore(&self, id: LatchId, now: Time) -> bool {
        let Some(found) = self.by_id(id) else { return false };
        self.mark_change(found, now);
        let restored = |entry: Entry| {
            let passed = entry.reason.is_some_and(BreakReason::can_pass);
            let waits = entry.terms.on_conflict == OnConflict::Wait;
            let may = entry.kind == Kind::Latched(LatchState::Broken)
                && passed
                && (entry.reason != Some(BreakReason::OtherPeer) || waits);
            let (kind, reason) = (Kind::Latched(LatchState::Established), None);
            may.then_some(Entry { kind, reason, announced: false, ..entry })
        };
        self.change(found, restored).is_some()
    }

    /// Closes a latch: its packets are dropped either way from now on. Returns whether there was one to
    /// close.
    pub fn close(&self, id: LatchId, reason: BreakReason, now: Time) -> bool {
        let Some(found) = self.by_id(id) else { return false };
        self.mark_change(found, now);
        self.change(found, |entry| closed(entry, reason)).is_some()
    }

    /// Lets go of a latch (RELEASE_LATCH, L-64): it is CLOSED. What held a connection to a class stays as a tombstone for
    /// as long as the connection may live, so that it does not go on without (L-22); anything else is gone at once, and
    /// with it what it granted (L-115, L-118). Returns whether there was one.
    pub fn release(&self, id: LatchId, now: Time) -> bool {
        let Some(found) = self.by_id(id) else { return false };
        self.mark_change(found, now);
        let released = |entry: Entry| match entry.kind {
            Kind::Latched(LatchState::Closed) => {
                // That a connection ended by itself decides who may begin on its 5-tuple next.
                let ended = entry.reason.filter(|reason| *reason == BreakReason::ConnectionEnded);
                Some(Entry { owned: false, reason: ended.or(Some(BreakReason::Released)), ..entry })
            }
            _ => closed(entry, BreakReason::Released).map(|entry| Entry { owned: false, ..entry }),
        };
        let Some(left) = self.change(found, released) else { return false };
        if left.holds != Holds::Class {
            self.vacate(id);
        }
        true
    }

    /// Records that the local end of a connection is gone: its latch is CLOSED, and once its tombstone falls, or a new
    /// connection begins, the 5-tuple is free (L-100, T37 g). Returns whether there was a latch.
    pub fn ended(&self, id: LatchId, now: Time) -> bool {
        let Some(found) = self.by_id(id) else { return false };
        self.mark_change(found, now);
        let ended = |entry: Entry| match entry.kind {
            Kind::Latched(_) => Some(Entry {
                kind: Kind::Latched(LatchState::Closed),
                progress: Progress::Ended,
                reason: entry.reason.or(Some(BreakReason::ConnectionEnded)),
                ..entry
            }),
            Kind::Unlatched => None,
        };
        self.change(found, ended).is_some()
    }

    /// Answers that the connection of an idle latch lives yet: it stays for another idle time (L-104). Returns whether
    /// there is such a latch.
    pub fn keep(&self, id: LatchId, now: Time) -> bool {
        let Some(found) = self.by_id(id) else { return false };
        found.slot.seen.fetch_max(now.as_nanos(), Ordering::Relaxed);
        self.change(found, |entry| Some(Entry { asked: false, ..entry })).is_some()
    }

    /// Answers that no socket has the connection of an idle latch any more: it is gone (L-104). Returns whether it was
    /// there, in force, and nothing had passed since the question.
    pub fn forget(&self, id: LatchId, now: Time) -> bool {
        let Some(known) = self.known(id) else { return false };
        let entry = &known.entry;
        let in_force = entry.kind == Kind::Latched(LatchState::Established) && !entry.owned;
        let idle =
            now.since(known.seen()) >= self.limits().stay(entry, flow_of(known.found.slot.key()).protocol());
        entry.asked && in_force && idle && self.remove(&known)
    }

    /// Takes out a latch that is CLOSED.
    fn vacate(&self, id: LatchId) {
        while let Some(known) = self.known(id) {
            if known.entry.kind != Kind::Latched(LatchState::Closed) || self.remove(&known) {
                return;
            }
        }
    }

    /// The version of a latch's last change, made before the change is: until it is, packets already opened are
    /// refused as stale (L-89).
    pub(crate) fn mark_change(&self, found: Found<'_>, now: Time) {
        let version = self.clock.advance();
        found.slot.changed_at.fetch_max(version.raw(), Ordering::AcqRel);
        found.slot.seen.fetch_max(now.as_nanos(), Ordering::Relaxed);
    }
}

fn closed(entry: Entry, reason: BreakReason) -> Option<Entry> {
    match entry.kind {
        Kind::Latched(LatchState::Closed) | Kind::Unlatched => None,
        Kind::Latched(_) => {
            Some(Entry { kind: Kind::Latched(LatchState::Closed), reason: Some(reason), ..entry })
        }
    }
}
