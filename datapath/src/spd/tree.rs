//! A decision tree over rules: each step leaves an eighth of what can still match, and a leaf holds a few rules in their
//! order. A step reads one cache line, so that ten thousand rules are four lines away.
//!
//! A rule may lie on both sides of a cut. So that no policy makes the tree grow without bound, rules are in leaves at most
//! [`COPIES`] times on average and building looks at each [`LOOKS`] times at most; when that is spent, what is left to cut
//! stays whole: exact still, only slower. The largest parts are cut first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::spd::extent::{Axis, Extent, Values};

/// The tree.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: Box<[Node]>,
    /// What the leaves hold, one after the other.
    places: Box<[u32]>,
    /// The place of the first rule of all.
    pub(super) first: u32,
}

/// A node in a cache line of its own.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Node {
    /// Of a cut: as many of these as a value is beyond, so many nodes behind `start` it goes on. Those that there is no
    /// cut for are never passed. Of a leaf the first is how many places it has.
    keys: [u64; WAYS - 1],
    /// Of a cut the first node behind it; of a leaf the first of its places.
    start: u32,
    /// Along what it cuts; `None` is a leaf.
    axis: Option<Axis>,
}

/// Into how many parts a node cuts at most.
const WAYS: usize = 8;

/// Rules of a leaf that need no cut.
pub(super) const LEAF: usize = 8;

/// Rules that a cut leaves in each part where there are few.
const PART: usize = 3;

/// In how many leaves a rule may be, on average.
const COPIES: usize = 16;

/// How often a rule may be looked at while the tree is built, on average.
const LOOKS: usize = 64;

/// How many rules are asked for the best cut.
const ASKED: usize = 256;

impl Node {
    const EMPTY: Self = Self::leaf(0, 0);

    const fn leaf(start: u32, len: u64) -> Self {
        let mut keys = [u64::MAX; WAYS - 1];
        keys[0] = len;
        Self { keys, start, axis: None }
    }

    fn cut(axis: Axis, keys: &[u64], start: u32) -> Self {
        let mut node = Self { keys: [u64::MAX; WAYS - 1], start, axis: Some(axis) };
        node.keys.iter_mut().zip(keys).for_each(|(place, key)| *place = *key);
        node
    }
}

impl Tree {
    /// Over rules with their places, in order, all of them within `whole`.
    pub(super) fn over(rules: &[(u32, Extent)], whole: Extent) -> Self {
        let mut building = Building {
            rules,
            nodes: vec![Node::EMPTY],
            places: Vec::new(),
            copies: COPIES * rules.len().max(LEAF),
            looks: LOOKS * rules.len(),
            ends: Vec::new(),
        };
        building.build(whole);
        let first = rules.first().map_or(u32::MAX, |(place, _)| *place);
        Self { nodes: building.nodes.into(), places: building.places.into(), first }
    }

    /// A leaf alone, for rules that are looked through as fast as a tree.
    pub(super) fn of_few(rules: &[(u32, Extent)]) -> Self {
        let places: Box<[u32]> = rules.iter().map(|(place, _)| *place).collect();
        let first = places.first().copied().unwrap_or(u32::MAX);
        Self { nodes: [Node::leaf(0, places.len() as u64)].into(), places, first }
    }

    /// The places of all rules, in order, where there are so few that none is sought.
    #[inline]
    pub(super) fn few(&self) -> Option<&[u32]> {
        (self.nodes.len() == 1).then_some(&self.places)
    }

    /// The places of all rules that may have a packet, in order.
    #[inline]
    pub(super) fn candidates(&self, values: &Values) -> &[u32] {
        let mut next = 0;
        while let Some(node) = self.nodes.get(next) {
            let start = node.start as usize;
            let Some(axis) = node.axis else {
                let len = node.keys.first().map_or(0, |len| *len as usize);
                return self.places.get(start..start + len).unwrap_or_default();
            };
            let value = values.along(axis);
            next = start + node.keys.iter().map(|key| usize::from(value > *key)).sum::<usize>();
        }
        &[]
    }

    /// How many places all leaves hold, and how many nodes there are.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.places.len(), self.nodes.len())
    }
}

struct Building<'r> {
    rules: &'r [(u32, Extent)],
    nodes: Vec<Node>,
    places: Vec<u32>,
    /// How many more places leaves may hold than there are rules.
    copies: usize,
    looks: usize,
    /// Where the rules that are asked begin and end.
    ends: Vec<u64>,
}

/// A node that is yet to be cut, or to become a leaf.
struct Part {
    node: usize,
    extent: Extent,
    members: Vec<u32>,
}

impl Building<'_> {
    fn build(&mut self, whole: Extent) {
        let all = (0..self.rules.len()).filter_map(|place| u32::try_from(place).ok());
        let whole = self.part(0, whole, all.collect());
        let mut parts = BinaryHeap::from([whole]);
        while let Some(part) = parts.pop() {
            match self.cut(&part) {
                Some(cut) => parts.extend(cut),
                None => self.leaf(&part),
            }
        }
    }

    /// A part of the rules which may match there: none after one that always does.
    fn part(&self, node: usize, extent: Extent, mut members: Vec<u32>) -> Part {
        let covers = |member: &u32| self.extent(*member).is_some_and(|own| own.covers(&extent));
        if let Some(last) = members.iter().position(covers) {
            members.truncate(last + 1);
        }
        Part { node, extent, members }
    }

    fn cut(&mut self, part: &Part) -> Option<Vec<Part>> {
        let count = part.members.len();
        self.looks = self.looks.checked_sub(count).filter(|_| count > LEAF)?;
        let (axis, middle) = self.best(part)?;
        let keys = self.keys(part, axis);
        // Where many are on several sides of cuts, one cut alone may still help.
        self.cut_at(part, axis, &keys).or_else(|| self.cut_at(part, axis, &[middle]))
    }

    fn cut_at(&mut self, part: &Part, axis: Axis, keys: &[u64]) -> Option<Vec<Part>> {
        let (first, last) = part.extent.along(axis)?;
        let from = std::iter::once(first).chain(keys.iter().map(|key| key.saturating_add(1)));
        let to = keys.iter().copied().chain([last]);
        let start = self.nodes.len();
        let side = |(number, (from, to)): (usize, (u64, u64))| {
            let is_in = |member: &&u32| {
                let ends = self.extent(**member).map(|extent| part.extent.within(extent, axis));
                ends.is_some_and(|(begins, ends)| begins <= to && from <= ends)
            };
            let members = part.members.iter().filter(is_in).copied().collect();
            self.part(start + number, part.extent.between_values(axis, (from, to)), members)
        };
        let parts: Vec<_> = from.zip(to).enumerate().map(side).collect();
        let more = parts.iter().map(|part| part.members.len()).sum::<usize>();
        self.copies = self.copies.checked_sub(more.saturating_sub(part.members.len()))?;
        *self.nodes.get_mut(part.node)? = Node::cut(axis, keys, u32::try_from(start).ok()?);
        self.nodes.resize(start + parts.len(), Node::EMPTY);
        Some(parts)
    }

    /// The axis by which the fewest rules remain on either side of its middle, and that: along each axis the middle of where
    /// rules begin and end is tried.
    fn best(&mut self, part: &Part) -> Option<(Axis, u64)> {
        let mut best: Option<(usize, Axis, u64)> = None;
        for axis in Axis::ALL {
            self.gather(part, axis);
            let middle = self.ends.len() / 2;
            if self.ends.is_empty() {
                continue;
            }
            let (_, &mut at, _) = self.ends.select_nth_unstable(middle);
            let ends = || self.asked(part).map(|extent| part.extent.within(extent, axis));
            let below = ends().filter(|(first, _)| *first <= at).count();
            let above = ends().filter(|(_, last)| *last > at).count();
            let cost = below + above + below.max(above);
            if best.is_none_or(|(least, ..)| cost < least) {
                best = Some((cost, axis, at));
            }
        }
        best.map(|(_, axis, at)| (axis, at))
    }

    /// Where to cut along an axis, in order: so that as many rules begin and end in each part.
    fn keys(&mut self, part: &Part, axis: Axis) -> Vec<u64> {
        self.gather(part, axis);
        self.ends.sort_unstable();
        let ways = (part.members.len() / PART).clamp(2, WAYS);
        let quantiles = (1..ways).filter_map(|way| self.ends.get(way * self.ends.len() / ways));
        let mut keys: Vec<_> = quantiles.copied().collect();
        keys.dedup();
        keys
    }

    /// The last values before rules begin and where they end, of those that are asked, within the part.
    fn gather(&mut self, part: &Part, axis: Axis) {
        let mut ends = std::mem::take(&mut self.ends);
        ends.clear();
        if let Some((first, last)) = part.extent.along(axis) {
            for extent in self.asked(part) {
                let (begins, stops) = part.extent.within(extent, axis);
                ends.extend((begins > first).then(|| begins - 1));
                ends.extend((stops < last).then_some(stops));
            }
        }
        self.ends = ends;
    }

    fn asked<'p>(&'p self, part: &'p Part) -> impl Iterator<Item = &'p Extent> {
        let step = part.members.len() / ASKED + 1;
        part.members.iter().step_by(step).filter_map(|member| self.extent(*member))
    }

    fn leaf(&mut self, part: &Part) {
        let Ok(start) = u32::try_from(self.places.len()) else { return };
        let rules = part.members.iter().filter_map(|member| self.rules.get(*member as usize));
        self.places.extend(rules.map(|(place, _)| *place));
        let leaf = Node::leaf(start, part.members.len() as u64);
        self.nodes.get_mut(part.node).into_iter().for_each(|node| *node = leaf);
    }

    fn extent(&self, member: u32) -> Option<&Extent> {
        self.rules.get(member as usize).map(|(_, extent)| extent)
    }
}

/// The larger goes first.
impl Ord for Part {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.members.len(), other.node).cmp(&(other.members.len(), self.node))
    }
}

impl PartialOrd for Part {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Part {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Part {}
