//! Which SAs speak of a remote address: the inbound ones, whatever they are used for, since a worker must know them before
//! a latch is born (latching-04 section 2.1, L-71); and the outbound ones that send.
//!
//! The remote ranges of all selectors in order, in parts of a bounded size, so that a change copies one part and not
//! all. Over the parts there is an interval tree without pointers: the middle of each run of parts is its root, and knows
//! how far the run reaches. Of a pair of SAs the inbound one stands for both where latches are concerned.

use std::sync::Arc;

use latchway_tagging::{ClassId, SaIndex};

use crate::flow::FlowKey;
use crate::sad::SadEntry;

/// The tree. A copy of it shares the parts.
#[derive(Clone, Debug, Default)]
pub(super) struct Covering {
    /// In order; none is empty.
    parts: Vec<Arc<Part>>,
    /// The last remote address of the run of parts that has its root there.
    reach: Vec<u128>,
}

/// A few selectors, in order.
#[derive(Clone, Debug, Default)]
struct Part {
    covers: Vec<Cover>,
    /// The last remote address of all.
    reach: u128,
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
    /// What the SA was inserted with.
    pub(super) order: u64,
}

impl Covering {
    /// Adds the selectors of an SA, each with `order`.
    pub(super) fn insert(&mut self, entry: &SadEntry, order: u64) {
        for cover in covers(entry, order) {
            let place = self.part_of(&cover).min(self.parts.len().saturating_sub(1));
            match self.parts.get_mut(place) {
                Some(part) => {
                    let split = Arc::make_mut(part).insert(cover);
                    split.into_iter().for_each(|upper| self.parts.insert(place + 1, Arc::new(upper)));
                }
                None => self.parts.push(Arc::new(Part::of(vec![cover]))),
            }
        }
        self.measure();
    }

    /// Takes out the selectors of an SA.
    pub(super) fn remove(&mut self, entry: &SadEntry) {
        // As the first of its kind, so that any order is found.
        for cover in covers(entry, 0) {
            let place = self.part_of(&cover);
            let Some(part) = self.parts.get_mut(place) else { continue };
            Arc::make_mut(part).remove(&cover);
            self.join(place);
        }
        self.measure();
    }

    /// Whether `wanted` holds for any selector whose remote range has the flow's remote address. Takes the time of a
    /// search for each that has it.
    pub(super) fn any(&self, flow: &FlowKey, wanted: impl Fn(&Cover) -> bool) -> bool {
        self.any_of(0, self.parts.len(), flow.remote_number(), &wanted)
    }

    fn any_of(&self, start: usize, end: usize, remote: u128, wanted: &impl Fn(&Cover) -> bool) -> bool {
        if start >= end {
            return false;
        }
        let root = middle(start, end);
        let (Some(part), Some(reach)) = (self.parts.get(root), self.reach.get(root)) else { return false };
        if *reach < remote {
            return false;
        }
        let begun = part.covers.first().is_some_and(|cover| cover.first <= remote);
        (begun && part.any(remote, wanted))
            || self.any_of(start, root, remote, wanted)
            || (begun && self.any_of(root + 1, end, remote, wanted))
    }

    /// The first part that does not end before a selector.
    fn part_of(&self, cover: &Cover) -> usize {
        self.parts.partition_point(|part| part.covers.last() < Some(cover))
    }

    /// Lets a part that became small go up in the one after it.
    fn join(&mut self, place: usize) {
        let len = |part: &Arc<Part>| part.covers.len();
        let (own, next) = (self.parts.get(place).map_or(0, len), self.parts.get(place + 1).map_or(0, len));
        if own > 0 && (next == 0 || own + next > MOST / 2) {
            return;
        }
        let small = self.parts.remove(place);
        if let Some(part) = self.parts.get_mut(place).filter(|_| own > 0) {
            *part = Arc::new(Part::of(small.covers.iter().chain(&part.covers).copied().collect()));
        }
    }

    fn measure(&mut self) {
        self.reach.clear();
        self.reach.resize(self.parts.len(), 0);
        self.measure_run(0, self.parts.len());
    }

    fn measure_run(&mut self, start: usize, end: usize) -> u128 {
        if start >= end {
            return 0;
        }
        let root = middle(start, end);
        let (before, after) = (self.measure_run(start, root), self.measure_run(root + 1, end));
        let own = self.parts.get(root).map_or(0, |part| part.reach);
        let reach = own.max(before).max(after);
        self.reach.get_mut(root).into_iter().for_each(|place| *place = reach);
        reach
    }
}

impl Part {
    fn of(covers: Vec<Cover>) -> Self {
        let reach = covers.iter().map(|cover| cover.last).max().unwrap_or_default();
        Self { covers, reach }
    }

    /// Adds a selector. Returns the upper half where there are too many then.
    fn insert(&mut self, cover: Cover) -> Option<Self> {
        let place = self.covers.partition_point(|other| *other < cover);
        self.covers.insert(place, cover);
        self.reach = self.reach.max(cover.last);
        if self.covers.len() <= MOST {
            return None;
        }
        let upper = Self::of(self.covers.split_off(MOST / 2));
        *self = Self::of(std::mem::take(&mut self.covers));
        Some(upper)
    }

    fn remove(&mut self, cover: &Cover) {
        let place = self.covers.partition_point(|other| other < cover);
        if self.covers.get(place).is_some_and(|other| Cover { order: cover.order, ..*other } == *cover) {
            self.covers.remove(place);
        }
        *self = Self::of(std::mem::take(&mut self.covers));
    }

    fn any(&self, remote: u128, wanted: &impl Fn(&Cover) -> bool) -> bool {
        let begun = self.covers.iter().take_while(|cover| cover.first <= remote);
        self.reach >= remote && begun.into_iter().any(|cover| remote <= cover.last && wanted(cover))
    }
}

fn covers(entry: &SadEntry, order: u64) -> impl Iterator<Item = Cover> + '_ {
    entry.selectors.iter().map(move |selector| {
        let (first, last) = selector.remote.numbers();
        Cover { first, last, class: entry.class, index: entry.sa.index, order }
    })
}

const fn middle(start: usize, end: usize) -> usize {
    start + end.saturating_sub(start) / 2
}

/// Selectors in a part at most: how much a change copies, and how many a search may look at that do not count.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use latchway_tagging::SaRef;

    use super::*;
    use crate::flow::protocol;
    use crate::selector::{AddressRange, Selector};
    use crate::testing::{SaOptions, inbound_entry};

    /// An SA with remote ranges in 10.0.0.0/16.
    fn entry(index: u32, ranges: &[(u16, u16)]) -> SadEntry {
        let address = |number: u16| std::net::Ipv4Addr::from_bits(10 << 24 | u32::from(number)).into();
        let range = |&(first, last): &(u16, u16)| AddressRange::new(address(first), address(last)).unwrap();
        let selectors = ranges.iter().map(|ends| Selector::between(AddressRange::ANY_V4, range(ends)));
        let options = SaOptions { class: index, ..SaOptions::new(0x1000 + index, index) };
        let entry = Arc::into_inner(inbound_entry(1, 2, &options).unwrap()).unwrap();
        SadEntry {
            sa: SaRef { index: SaIndex::new(index), generation: 1 },
            selectors: selectors.collect(),
            ..entry
        }
    }

    /// L-71: after any coming and going of SAs, with equal ranges and some that hold all others, what is found is what a
    /// look at every selector finds, whether there are few SAs or many.
    #[test]
    fn l_71_what_covers_an_address_is_found_as_by_looking_at_everything() {
        let mut state = 1_u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (mut tree, mut all) = (Covering::default(), BTreeMap::new());
        for step in 0..3000_u32 {
            let grows = if step < 1500 { 3 } else { 1 };
            if draw(4) < grows {
                let ranges: Vec<_> = (0..=draw(3))
                    .map(|_| {
                        let (first, wide) = (draw(60_000), draw(20) == 0);
                        let last = if wide { 65_535 } else { first + draw(50) };
                        (first as u16, last as u16)
                    })
                    .collect();
                tree.insert(&entry(step, &ranges), 0);
                all.insert(step, ranges);
            } else if let Some((&index, _)) = all.iter().nth(draw(all.len().max(1) as u64) as usize) {
                tree.remove(&entry(index, &all.remove(&index).unwrap()));
            }
            let remote = draw(65_536) as u16;
            let flow = FlowKey::new(
                protocol::TCP,
                ([10, 1, 0, 1], 1).into(),
                (std::net::Ipv4Addr::from_bits(10 << 24 | u32::from(remote)), 80).into(),
            );
            let found = std::cell::RefCell::new(Vec::new());
            tree.any(&flow, |cover| {
                found.borrow_mut().push(cover.index.get() as u32);
                false
            });
            let holds = |(first, last): &(u16, u16)| (*first..=*last).contains(&remote);
            let expected = all.iter().flat_map(|(index, ranges)| {
                ranges.iter().filter(|ends| holds(ends)).map(|_| *index).collect::<Vec<_>>()
            });
            let mut found = found.into_inner();
            found.sort_unstable();
            assert_eq!(found, expected.collect::<Vec<_>>(), "step {step}");
            assert!(tree.parts.iter().all(|part| (1..=MOST).contains(&part.covers.len())));
        }
        for (index, ranges) in all {
            tree.remove(&entry(index, &ranges));
        }
        assert!(tree.parts.is_empty());
    }
}
