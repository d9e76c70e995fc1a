//! How many entries there are of each kind that has a bound, and of each class: kept at every birth, change and removal.

use latchway_datapath::drop::DropReason;
use latchway_datapath::latching::{LatchState, Model};
use latchway_tagging::ClassId;

use crate::database::{Known, LatchDatabase};
use crate::entry::{Entry, Holds, Kind};
use crate::progress::Progress;
use crate::sync::{AtomicU64, Ordering};

/// What an entry counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Weight {
    unlatched: bool,
    listener: bool,
    half_open: bool,
    /// Half open, and the remote side began.
    begun_by_peer: bool,
    class: Option<ClassId>,
    /// A strict latch in force.
    strict: bool,
}

impl Weight {
    /// What an entry with this class in its slot counts for.
    pub(super) fn of(entry: &Entry, class: ClassId) -> Self {
        let class = (entry.holds == Holds::Class).then_some(class);
        let half_open = entry.is_half_open();
        let established = entry.kind == Kind::Latched(LatchState::Established);
        Self {
            unlatched: entry.kind == Kind::Unlatched,
            listener: entry.kind == Kind::Latched(LatchState::Listener),
            half_open,
            begun_by_peer: half_open && class.is_some() && entry.progress == Progress::RemoteOnly,
            class,
            strict: class.is_some() && established && entry.terms.model == Model::Strict,
        }
    }
}

impl Weight {
    /// As if the latch had held its class already, and been as strict, because that is counted apart.
    pub(super) const fn promoted(self, to: &Self) -> Self {
        Self { class: to.class, strict: to.strict, ..self }
    }
}

impl LatchDatabase {
    /// Counts an entry about to be, if all bounds have room for it.
    ///
    /// # Errors
    /// [`DropReason::FlowTableFull`]: a bound is reached (T37 i, T41); [`DropReason::LatchBarred`]: its class is unknown, so
    /// that nobody could say whose latch it is.
    pub(super) fn admit(&self, weight: &Weight) -> Result<(), DropReason> {
        if weight.class.is_some_and(|class| !self.peers.enter(class)) {
            return Err(DropReason::LatchBarred);
        }
        let (half_open, unlatched) = (u64::from(self.limits.half_open), u64::from(self.limits.unlatched));
        let below = |counter: &AtomicU64, limit| counter.fetch_add(1, Ordering::Relaxed) < limit;
        let of_peer =
            |class| self.peers.count_half_open(class, true) < u64::from(self.limits.half_open_of_peer);
        // Each counter is raised whatever the others say, so that taking all back is right.
        let room = [
            !weight.half_open || below(&self.half_open, half_open),
            !weight.unlatched || below(&self.unlatched, unlatched),
            !weight.begun_by_peer || weight.class.is_some_and(of_peer),
        ];
        if weight.listener {
            self.listeners.fetch_add(1, Ordering::AcqRel);
        }
        if let Some(class) = weight.class.filter(|_| weight.strict) {
            self.peers.count_strict(class, true);
        }
        if room == [true; 3] {
            return Ok(());
        }
        self.account(weight, &Weight::default());
        Err(DropReason::FlowTableFull)
    }

    /// Removes, of a few entries, the oldest connection that the same peer began and nobody answered, if that peer has as
    /// many as it may (T41): its own flood costs it its own. Returns whether there was one.
    pub(super) fn evict(&self, weight: &Weight) -> bool {
        let Some(class) = weight.class.filter(|_| weight.begun_by_peer) else { return false };
        if self.peers.half_open(class) < u64::from(self.limits.half_open_of_peer) {
            return false;
        }
        let first = self.evicting.fetch_add(SAMPLE, Ordering::Relaxed);
        let capacity = u64::from(self.table.capacity()).max(1);
        let of_peer = |known: &Known<'_>| {
            let counted = Weight::of(&known.entry, known.class);
            counted.begun_by_peer && !known.entry.owned && self.peers.same_peer(known.class, class)
        };
        let sample = (first..first + SAMPLE).filter_map(|at| self.at((at % capacity) as u32));
        let oldest =
            sample.filter(of_peer).min_by_key(|known| known.found.slot.opened.load(Ordering::Relaxed));
        oldest.is_some_and(|known| self.remove(&known))
    }

    /// Keeps the counters when an entry becomes another, or goes.
    pub(super) fn account(&self, before: &Weight, after: &Weight) {
        count(&self.half_open, before.half_open, after.half_open);
        count(&self.unlatched, before.unlatched, after.unlatched);
        count(&self.listeners, before.listener, after.listener);
        let change = |before: bool, after: bool| (before != after).then_some(after);
        let class = before.class.or(after.class);
        if let Some((class, comes)) = class.zip(change(before.begun_by_peer, after.begun_by_peer)) {
            self.peers.count_half_open(class, comes);
        }
        if let Some((class, comes)) = class.zip(change(before.strict, after.strict)) {
            self.peers.count_strict(class, comes);
        }
        if let Some(class) = before.class.filter(|_| after.class.is_none()) {
            self.peers.leave(class);
        }
    }
}

/// How many entries are looked at for one to evict: a flood must not cost more than it brings.
const SAMPLE: u64 = 64;

fn count(counter: &AtomicU64, before: bool, after: bool) {
    match (before, after) {
        (true, false) => counter.fetch_sub(1, Ordering::AcqRel),
        (false, true) => counter.fetch_add(1, Ordering::AcqRel),
        _ => 0,
    };
}
