//! Which inbound SAs admit a flow, whatever they are used for: what a worker must know before a latch is born
//! (latching-04 section 2.1, L-71).
//!
//! An interval tree over the remote addresses of all selectors, without pointers: a sorted list in which the middle of
//! each part is its root, and knows how far the part reaches. Of a pair of SAs the inbound one stands for both.

use latchway_tagging::{ClassId, SaIndex};

use crate::flow::FlowKey;
use crate::sad::SadEntry;

/// The tree. A copy of it is a copy of the list.
#[derive(Clone, Debug, Default)]
pub(super) struct Covering {
    covers: Vec<Cover>,
    /// The last remote address of the part that has its root there.
    reach: Vec<u128>,
}

/// A selector of an SA, as far as the tree needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cover {
    first: u128,
    last: u128,
    /// The SA's class.
    pub(super) class: ClassId,
    /// The SA's slot.
    pub(super) index: SaIndex,
}

impl Covering {
    /// Adds the selectors of an SA.
    pub(super) fn insert(&mut self, entry: &SadEntry) {
        for cover in covers(entry) {
            let place = self.covers.partition_point(|other| *other < cover);
            self.covers.insert(place, cover);
        }
        self.measure();
    }

    /// Takes out the selectors of an SA.
    pub(super) fn remove(&mut self, entry: &SadEntry) {
        self.covers.retain(|cover| cover.index != entry.sa.index);
        self.measure();
    }

    /// Whether `wanted` holds for any selector whose remote range has the flow's remote address. Takes the time of a
    /// search for each that has it.
    pub(super) fn any(&self, flow: &FlowKey, wanted: impl Fn(&Cover) -> bool) -> bool {
        self.any_of(0, self.covers.len(), flow.remote_number(), &wanted)
    }

    fn any_of(&self, start: usize, end: usize, remote: u128, wanted: &impl Fn(&Cover) -> bool) -> bool {
        if start >= end {
            return false;
        }
        let root = middle(start, end);
        let (Some(cover), Some(reach)) = (self.covers.get(root), self.reach.get(root)) else { return false };
        if *reach < remote {
            return false;
        }
        let begun = cover.first <= remote;
        (begun && remote <= cover.last && wanted(cover))
            || self.any_of(start, root, remote, wanted)
            || (begun && self.any_of(root + 1, end, remote, wanted))
    }

    fn measure(&mut self) {
        self.reach.clear();
        self.reach.resize(self.covers.len(), 0);
        self.measure_part(0, self.covers.len());
    }

    fn measure_part(&mut self, start: usize, end: usize) -> u128 {
        if start >= end {
            return 0;
        }
        let root = middle(start, end);
        let (before, after) = (self.measure_part(start, root), self.measure_part(root + 1, end));
        let own = self.covers.get(root).map_or(0, |cover| cover.last);
        let reach = own.max(before).max(after);
        self.reach.get_mut(root).into_iter().for_each(|place| *place = reach);
        reach
    }
}

fn covers(entry: &SadEntry) -> impl Iterator<Item = Cover> + '_ {
    entry.selectors.iter().map(|selector| {
        let (first, last) = selector.remote.numbers();
        Cover { first, last, class: entry.class, index: entry.sa.index }
    })
}

const fn middle(start: usize, end: usize) -> usize {
    start + end.saturating_sub(start) / 2
}
