//! The Latch Database: every latch, and for unlatched flows what was looked up, in one table that all workers share.
//!
//! latching-04 section 2.1 gives the calls (FIND_LATCH, INQUIRE_LATCH, the break and the close); they are safe from
//! any thread while packets pass. The state clock is advanced before a change of a latch becomes visible (L-89).

mod entries;
mod flows;
mod view;

use std::fmt;
use std::sync::Arc;

use latchway_datapath::flow::FlowKey;
use latchway_datapath::time::Time;
use latchway_tagging::StateClock;

use crate::entry::{Entry, Kind};
use crate::latch::{BreakReason, LatchId, LatchState};
use crate::limits::{Limits, LimitsError};
use crate::peers::ClassPeers;
use crate::progress::Progress;
use crate::sync::{AtomicU64, Ordering};
use crate::table::{FlowTable, Found, Seed};

pub(crate) use self::entries::{Birth, Known};
pub use self::flows::FlowView;
pub use self::view::{LatchCounts, LatchView};

/// The latches of the gateway, shared by its workers and the key manager.
pub struct LatchDatabase {
    table: FlowTable,
    peers: ClassPeers,
    clock: Arc<StateClock>,
    limits: Limits,
    half_open: AtomicU64,
    unlatched: AtomicU64,
}

impl LatchDatabase {
    /// An empty database. All its memory is taken now.
    ///
    /// # Errors
    /// [`LimitsError`]
    pub fn new(limits: Limits, clock: Arc<StateClock>, seed: Seed) -> Result<Self, LimitsError> {
        limits.check()?;
        Ok(Self {
            table: FlowTable::new(limits.flows, seed),
            peers: ClassPeers::new(limits.classes),
            clock,
            limits,
            half_open: AtomicU64::new(0),
            unlatched: AtomicU64::new(0),
        })
    }

    /// Whose class is whose, for the key manager to keep.
    #[must_use]
    pub const fn peers(&self) -> &ClassPeers {
        &self.peers
    }

    /// The bounds it was made with.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Every latch, one by one as each was when it was read (INQUIRE_LATCH for all; L-16 to L-20).
    pub fn dump(&self) -> impl Iterator<Item = LatchView> {
        (0..self.table.capacity()).filter_map(|index| self.view_at(index))
    }

    /// The latch of a flow (FIND_LATCH, R-11).
    #[must_use]
    pub fn find(&self, flow: &FlowKey) -> Option<LatchId> {
        let known = self.probe(flow)?;
        matches!(known.entry.kind, Kind::Latched(_)).then_some(known.found.id)
    }

    /// What a latch is (INQUIRE_LATCH, L-12, L-28).
    #[must_use]
    pub fn inquire(&self, id: LatchId) -> Option<LatchView> {
        self.view_of(id)
    }

    /// How full the database is, and with what.
    #[must_use]
    pub fn counts(&self) -> LatchCounts {
        let mut counts = LatchCounts {
            capacity: self.table.capacity(),
            half_open: self.half_open.load(Ordering::Relaxed),
            unlatched: self.unlatched.load(Ordering::Relaxed),
            ..LatchCounts::default()
        };
        self.dump().for_each(|view| counts.count(view.state));
        counts
    }

    /// Closes a latch by order of an administrator: its packets are dropped either way from now on. Returns
    /// whether there was one to close.
    pub fn close(&self, id: LatchId, now: Time) -> bool {
        self.leave(id, LatchState::Closed, BreakReason::Administrative, now)
    }

    /// Breaks an established latch that conflicts with an SA or a policy about to be installed (L-74). Returns whether
    /// it did.
    pub fn suspend(&self, id: LatchId, now: Time) -> bool {
        self.leave(id, LatchState::Broken, BreakReason::Conflict, now)
    }

    /// Puts a broken latch into force again, its conflicts being gone. Tags from before are stale. Returns
    /// whether it did.
    pub fn restore(&self, id: LatchId, now: Time) -> bool {
        let Some(found) = self.by_id(id) else { return false };
        self.mark_change(found, now);
        let restored = |entry: Entry| {
            let conflict = entry.reason == Some(BreakReason::Conflict);
            let reason = None;
            conflict.then_some(Entry { kind: Kind::Latched(LatchState::Established), reason, ..entry })
        };
        self.change(found, restored).is_some()
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

    fn leave(&self, id: LatchId, state: LatchState, reason: BreakReason, now: Time) -> bool {
        let Some(found) = self.by_id(id) else { return false };
        self.mark_change(found, now);
        let left = |entry: Entry| match entry.kind {
            Kind::Latched(from) if from != state => {
                Some(Entry { kind: Kind::Latched(state), reason: Some(reason), ..entry })
            }
            _ => None,
        };
        self.change(found, left).is_some()
    }

    /// The version of a latch's last change, made before the change is: until it is, packets already opened are
    /// refused as stale (L-89).
    pub(crate) fn mark_change(&self, found: Found<'_>, now: Time) {
        let version = self.clock.advance();
        found.slot.changed_at.fetch_max(version.raw(), Ordering::AcqRel);
        found.slot.seen.fetch_max(now.as_nanos(), Ordering::Relaxed);
    }
}

impl fmt::Debug for LatchDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatchDatabase").field("limits", &self.limits).finish_non_exhaustive()
    }
}
