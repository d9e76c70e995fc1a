//! Flows as status output shows them: those with a latch, and those that are only remembered.

use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::LatchState;
use latchway_datapath::time::Time;
use latchway_tagging::{ClassId, SaRef};

use crate::database::LatchDatabase;
use crate::entry::{Entry, Holds, Kind};
use crate::progress::Progress;
use crate::sync::Ordering;
use crate::table::{Found, Key, Slot};

/// One flow that is tracked, at the moment it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowView {
    /// The flow.
    pub flow: FlowKey,
    /// The state of its latch; `None` where policy wants no latch.
    pub latch: Option<LatchState>,
    /// Whether it is without the latch that policy wanted, which its terms let pass (L-83).
    pub passed: bool,
    /// The class that the latch holds it to.
    pub class: Option<ClassId>,
    /// How far the connection is.
    pub progress: Progress,
    /// The SA that its packets left under last. It may be gone by now.
    pub outbound: Option<SaRef>,
    /// The SA that its last packet came in under, where it has a latch. It may be gone by now.
    pub inbound: Option<SaRef>,
    /// When a packet last passed, to the second, or when the latch's state last changed.
    pub seen: Time,
}

impl LatchDatabase {
    /// Every flow that is tracked, with a latch or without, one by one as each was when it was read. Flows without one
    /// are remembered only while there is room.
    pub fn flows(&self) -> impl Iterator<Item = FlowView> {
        (0..self.table.capacity()).filter_map(|index| self.flow_at(index))
    }

    /// One flow that is tracked, with a latch or without.
    #[must_use]
    pub fn flow(&self, flow: &FlowKey) -> Option<FlowView> {
        let (found, read) = self.table.find(&flow.words(), Read::of)?;
        Self::flow_of(found, read)
    }

    fn flow_at(&self, index: u32) -> Option<FlowView> {
        let (found, read) = self.table.at(index, Read::of)?;
        Self::flow_of(found, read)
    }

    fn flow_of(found: Found<'_>, read: Read) -> Option<FlowView> {
        let entry = Entry::unpack(found.head.detail());
        let latch = match entry.kind {
            Kind::Unlatched => None,
            Kind::Latched(LatchState::Listener) => return None,
            Kind::Latched(state) => Some(state),
        };
        let class = (entry.holds == Holds::Class).then_some(ClassId::from_raw(read.class as u32));
        Some(FlowView {
            flow: FlowKey::from_words(read.key),
            latch,
            passed: entry.passed,
            class,
            progress: entry.progress,
            outbound: SaRef::unpack(read.hint),
            inbound: SaRef::unpack(read.last_sa),
            seen: Time::from_nanos(read.seen),
        })
    }
}

/// What a view takes of a slot.
struct Read {
    key: Key,
    class: u64,
    hint: u64,
    last_sa: u64,
    seen: u64,
}

impl Read {
    fn of(slot: &Slot) -> Self {
        Self {
            key: slot.key(),
            class: slot.class.load(Ordering::Relaxed),
            hint: slot.hint.load(Ordering::Relaxed),
            last_sa: slot.last_sa.load(Ordering::Relaxed),
            seen: slot.seen.load(Ordering::Relaxed),
        }
    }
}
