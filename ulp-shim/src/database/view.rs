//! A latch as status output and inquiries show it.

use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{BreakReason, LatchId, LatchState, LatchTerms, Offender};
use latchway_datapath::time::Time;
use latchway_tagging::{ClassId, InboundTag, SaRef, StateVersion};

use crate::constraint::ConstraintId;
use crate::database::LatchDatabase;
use crate::database::listeners::flow_of;
use crate::entry::{Entry, Holds, Kind};
use crate::progress::Progress;
use crate::sync::Ordering;
use crate::table::{Found, Key, Slot};

/// One latch, at the moment it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatchView {
    /// Its handle.
    pub id: LatchId,
    /// Its connection; of a listener, the local side of those that come to it.
    pub flow: FlowKey,
    /// Its state.
    pub state: LatchState,
    /// The class it holds its connection to: none while it is LARVAL, of a listener, and of one that grants bypass.
    pub class: Option<ClassId>,
    /// Whether it lets its connection be unprotected, whatever policy says (L-112).
    pub bypass: bool,
    /// The terms it was born with.
    pub terms: LatchTerms,
    /// What a listener demands.
    pub constraint: Option<ConstraintId>,
    /// Whether someone asked for it, and it lasts until its owner releases it.
    pub owned: bool,
    /// Whether its connection began under what somebody required, of its socket or by a listener's latch (L-43, L-105).
    pub required: bool,
    /// The version of its last change.
    pub changed_at: StateVersion,
    /// When it was made.
    pub opened: Time,
    /// When a packet last passed, to the second, or when the state last changed.
    pub seen: Time,
    /// The tag of the last packet that came in, its version to the last change of it.
    pub last_inbound: Option<InboundTag>,
    /// How far the connection is.
    pub progress: Progress,
    /// Why it is not in force.
    pub reason: Option<BreakReason>,
    /// Whom it met when it broke.
    pub offender: Option<Offender>,
}

/// How many entries of which kind there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LatchCounts {
    /// Room for entries.
    pub capacity: u32,
    /// Unlatched flows, cached.
    pub unlatched: u64,
    /// Latches on whose connection only one side has spoken.
    pub half_open: u64,
    /// Latches in state LISTENER.
    pub listener: u64,
    /// Latches in state LARVAL.
    pub larval: u64,
    /// Latches in state ESTABLISHED.
    pub established: u64,
    /// Latches in state BROKEN.
    pub broken: u64,
    /// Latches in state CLOSED.
    pub closed: u64,
    /// Sockets and addresses of rooms that something is required of.
    pub requirements: u64,
}

impl LatchDatabase {
    pub(super) fn view_at(&self, index: u32) -> Option<LatchView> {
        let (found, read) = self.table.at(index, Read::of)?;
        self.view(found, read)
    }

    pub(super) fn view_of(&self, id: LatchId) -> Option<LatchView> {
        let (found, read) = self.table.by_id(id, Read::of)?;
        self.view(found, read)
    }

    fn view(&self, found: Found<'_>, read: Read) -> Option<LatchView> {
        let entry = Entry::unpack(found.head.detail());
        let Kind::Latched(state) = entry.kind else { return None };
        let class = ClassId::from_raw(read.class as u32);
        let version = StateVersion::from_raw(read.last_version);
        let listens = state == LatchState::Listener;
        let demanded = u8::try_from(class.raw()).ok().filter(|_| listens);
        let class = (entry.holds == Holds::Class).then_some(class);
        let last = SaRef::unpack(read.last_sa).zip(class);
        Some(LatchView {
            id: found.id,
            flow: flow_of(read.key),
            state,
            class,
            bypass: entry.holds == Holds::Bypass,
            terms: entry.terms,
            constraint: demanded.and_then(ConstraintId::new),
            owned: entry.owned,
            required: entry.required,
            changed_at: StateVersion::from_raw(read.changed_at),
            opened: Time::from_nanos(read.opened),
            seen: Time::from_nanos(read.seen),
            last_inbound: last.map(|(sa, class)| InboundTag { class, sa, version }),
            progress: entry.progress,
            reason: entry.reason,
            offender: entry.reason.and_then(|_| self.offender(found.id)),
        })
    }
}

impl LatchCounts {
    pub(super) const fn count(&mut self, state: LatchState) {
        match state {
            LatchState::Listener => self.listener += 1,
            LatchState::Larval => self.larval += 1,
            LatchState::Established => self.established += 1,
            LatchState::Broken => self.broken += 1,
            LatchState::Closed => self.closed += 1,
        }
    }
}

/// What a view takes of a slot.
struct Read {
    key: Key,
    class: u64,
    changed_at: u64,
    opened: u64,
    seen: u64,
    last_sa: u64,
    last_version: u64,
}

impl Read {
    fn of(slot: &Slot) -> Self {
        Self {
            key: slot.key(),
            class: slot.class.load(Ordering::Relaxed),
            changed_at: slot.changed_at.load(Ordering::Relaxed),
            opened: slot.opened.load(Ordering::Relaxed),
            seen: slot.seen.load(Ordering::Relaxed),
            last_sa: slot.last_sa.load(Ordering::Relaxed),
            last_version: slot.last_version.load(Ordering::Relaxed),
        }
    }
}
