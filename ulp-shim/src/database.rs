//! The Latch Database: every latch, and for unlatched flows what was looked up, in one table that all workers share.
//!
//! latching-04 section 2.1 and RFC 5660 section 2.3 give the calls; they are safe from any thread while packets pass. The
//! state clock is advanced before a change of a latch becomes visible (L-89). A listener's latch is an entry like any
//! other, under a key that no packet has.

mod accounts;
mod changes;
mod conflicts;
mod entries;
mod flows;
mod listeners;
mod requests;
mod view;

use std::fmt;
use std::sync::Arc;

use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::LatchId;
use latchway_tagging::{ClassId, StateClock};

use crate::entry::Kind;
use crate::limits::{Limits, LimitsError};
use crate::peers::ClassPeers;
use crate::requirements::Requirements;
use crate::sync::{AtomicU64, Ordering};
use crate::table::{FlowTable, Seed};

pub(crate) use self::entries::{Birth, Known};
pub use self::flows::FlowView;
pub use self::listeners::Listening;
pub(crate) use self::listeners::{Listener, flow_of};
pub use self::requests::{Begin, CreateError};
pub use self::view::{LatchCounts, LatchView};

/// The latches of the gateway, shared by its workers and the key manager.
pub struct LatchDatabase {
    table: FlowTable,
    peers: ClassPeers,
    requirements: Requirements,
    clock: Arc<StateClock>,
    limits: Limits,
    half_open: AtomicU64,
    unlatched: AtomicU64,
    listeners: AtomicU64,
    /// Not zero while somebody wants every change told.
    watched: AtomicU64,
    /// Where half-open entries of a peer with too many are looked for next.
    evicting: AtomicU64,
}

impl LatchDatabase {
    /// An empty database. All its memory is taken now.
    ///
    /// # Errors
    /// [`LimitsError`]
    pub fn new(limits: Limits, clock: Arc<StateClock>, seed: Seed) -> Result<Self, LimitsError> {
        limits.check()?;
        let zero = || AtomicU64::new(0);
        Ok(Self {
            table: FlowTable::new(limits.flows, seed),
            peers: ClassPeers::new(limits.classes),
            requirements: Requirements::new(),
            clock,
            limits,
            half_open: zero(),
            unlatched: zero(),
            listeners: zero(),
            watched: zero(),
            evicting: zero(),
        })
    }

    /// Whose class is whose, for the key manager to keep.
    #[must_use]
    pub const fn peers(&self) -> &ClassPeers {
        &self.peers
    }

    /// What applications require of their sockets' flows.
    #[must_use]
    pub const fn requirements(&self) -> &Requirements {
        &self.requirements
    }

    /// The bounds it was made with.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Every latch, one by one as each was when it was read (INQUIRE_LATCH for all; L-16 to L-20, L-44).
    pub fn dump(&self) -> impl Iterator<Item = LatchView> {
        (0..self.table.capacity()).filter_map(|index| self.view_at(index))
    }

    /// The latch of a flow (FIND_LATCH, R-11).
    #[must_use]
    pub fn find(&self, flow: &FlowKey) -> Option<LatchId> {
        let known = self.probe(flow)?;
        matches!(known.entry.kind, Kind::Latched(_)).then_some(known.found.id)
    }

    /// What a latch is (INQUIRE_LATCH, L-12, L-28, L-67).
    #[must_use]
    pub fn inquire(&self, id: LatchId) -> Option<LatchView> {
        self.view_of(id)
    }

    /// Whether a latch holds the class, tombstones included, so that it must not be retired.
    #[must_use]
    pub fn is_latched(&self, class: ClassId) -> bool {
        self.peers.latches(class) > 0
    }

    /// Whether every change of a latch is told as an event, and not only what somebody must act on.
    #[must_use]
    pub fn watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed) != 0
    }

    /// Has every change of a latch told, or no longer (L-68).
    pub fn watch(&self, watched: bool) {
        self.watched.store(u64::from(watched), Ordering::Relaxed);
    }

    /// How full the database is, and with what.
    #[must_use]
    pub fn counts(&self) -> LatchCounts {
        let mut counts = LatchCounts {
            capacity: self.table.capacity(),
            half_open: self.half_open.load(Ordering::Relaxed),
            unlatched: self.unlatched.load(Ordering::Relaxed),
            requirements: self.requirements.count() + self.requirements.rooms().count(),
            ..LatchCounts::default()
        };
        self.dump().for_each(|view| counts.count(view.state));
        counts
    }
}

#[cfg(all(test, loom))]
mod tests;

impl fmt::Debug for LatchDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatchDatabase").field("limits", &self.limits).finish_non_exhaustive()
    }
}
