//! A decision tree over rules: each step halves what can still match, and a leaf holds a few rules in their order.
//!
//! A rule may lie on both sides of a cut. So that no policy makes the tree grow without bound, rules are in leaves at most
//! [`COPIES`] times on average and building looks at each [`LOOKS`] times at most; when that is spent, what is left to cut
//! stays whole: exact still, only slower. The largest parts are cut first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::spd::extent::{DIMENSIONS, Extent, Point};

/// The tree.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: Box<[Node]>,
    /// What the leaves hold, one after the other.
    places: Box<[u32]>,
    /// The place of the first rule of all.
    pub(super) first: u32,
}

#[derive(Clone, Copy, Debug)]
enum Node {
    /// Up to `at` in a dimension it goes on at `below`, else at `below + 1`.
    Cut { dimension: u8, below: u32, at: u128 },
    /// From `start`, so many places.
    Leaf { start: u32, len: u32 },
}

/// Rules of a leaf that need no cut.
pub(super) const LEAF: usize = 8;

/// In how many leaves a rule may be, on average.
const COPIES: usize = 16;

/// How often a rule may be looked at while the tree is built, on average.
const LOOKS: usize = 64;

/// How many rules are asked for the best cut.
const ASKED: usize = 256;

impl Tree {
    /// Over rules with their places, in order.
    pub(super) fn over(rules: &[(u32, Extent)]) -> Self {
        let mut building = Building {
            rules,
            nodes: vec![Node::Leaf { start: 0, len: 0 }],
            places: Vec::new(),
            copies: COPIES * rules.len().max(LEAF),
            looks: LOOKS * rules.len(),
            ends: Vec::new(),
        };
        building.build();
        let first = rules.first().map_or(u32::MAX, |(place, _)| *place);
        Self { nodes: building.nodes.into(), places: building.places.into(), first }
    }

    /// A leaf alone, for rules that are looked through as fast as a tree.
    pub(super) fn of_few(rules: &[(u32, Extent)]) -> Self {
        let places: Box<[u32]> = rules.iter().map(|(place, _)| *place).collect();
        let len = u32::try_from(places.len()).unwrap_or(0);
        let first = places.first().copied().unwrap_or(u32::MAX);
        Self { nodes: [Node::Leaf { start: 0, len }].into(), places, first }
    }

    /// The places of all rules that may have the point, in order.
    #[inline]
    pub(super) fn candidates(&self, point: &Point<'_>) -> &[u32] {
        let mut next = 0;
        loop {
            match self.nodes.get(next) {
                Some(&Node::Cut { dimension, below, at }) => {
                    let beyond = point.value(usize::from(dimension)) > at;
                    next = below as usize + usize::from(beyond);
                }
                Some(&Node::Leaf { start, len }) => {
                    let (start, len) = (start as usize, len as usize);
                    return self.places.get(start..start + len).unwrap_or_default();
                }
                None => return &[],
            }
        }
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
    ends: Vec<u128>,
}

/// A node that is yet to be cut, or to become a leaf.
struct Part {
    node: usize,
    extent: Extent,
    members: Vec<u32>,
}

impl Building<'_> {
    fn build(&mut self) {
        let all = (0..self.rules.len()).filter_map(|place| u32::try_from(place).ok());
        let whole = self.part(0, Extent::ALL, all.collect());
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

    fn cut(&mut self, part: &Part) -> Option<[Part; 2]> {
        let count = part.members.len();
        self.looks = self.looks.checked_sub(count).filter(|_| count > LEAF)?;
        let (dimension, at) = self.best(part)?;
        let (below, above) = part.extent.cut(dimension, at);
        let side = |within: &dyn Fn(u128, u128) -> bool| {
            let is_in = |member: &&u32| {
                let span = self.extent(**member).map(|extent| extent.span(dimension));
                span.is_some_and(|span| within(span.first, span.last))
            };
            part.members.iter().filter(is_in).copied().collect::<Vec<_>>()
        };
        let node = self.nodes.len();
        let parts = [
            self.part(node, below, side(&|first, _| first <= at)),
            self.part(node + 1, above, side(&|_, last| last > at)),
        ];
        let more = parts.iter().map(|part| part.members.len()).sum::<usize>().saturating_sub(count);
        self.copies = self.copies.checked_sub(more)?;
        let (dimension, below) = (u8::try_from(dimension).ok()?, u32::try_from(node).ok()?);
        self.nodes.extend([Node::Leaf { start: 0, len: 0 }; 2]);
        *self.nodes.get_mut(part.node)? = Node::Cut { dimension, below, at };
        Some(parts)
    }

    /// The dimension and value by which the fewest rules remain on either side: in each dimension the middle of where
    /// rules begin and end is tried.
    fn best(&mut self, part: &Part) -> Option<(usize, u128)> {
        let step = part.members.len() / ASKED + 1;
        let asked =
            || part.members.iter().step_by(step).filter_map(|member| self.rules.get(*member as usize));
        let mut best: Option<(usize, usize, u128)> = None;
        for dimension in 0..DIMENSIONS {
            let bounds = part.extent.span(dimension);
            self.ends.clear();
            for (_, extent) in asked() {
                let span = extent.span(dimension);
                self.ends.extend((span.first > bounds.first).then(|| span.first - 1));
                self.ends.extend((span.last < bounds.last).then_some(span.last));
            }
            let middle = self.ends.len() / 2;
            if self.ends.is_empty() {
                continue;
            }
            let (_, &mut at, _) = self.ends.select_nth_unstable(middle);
            let below = asked().filter(|(_, extent)| extent.span(dimension).first <= at).count();
            let above = asked().filter(|(_, extent)| extent.span(dimension).last > at).count();
            let cost = below + above + below.max(above);
            if best.is_none_or(|(least, ..)| cost < least) {
                best = Some((cost, dimension, at));
            }
        }
        best.map(|(_, dimension, at)| (dimension, at))
    }

    fn leaf(&mut self, part: &Part) {
        let Ok(start) = u32::try_from(self.places.len()) else { return };
        let rules = part.members.iter().filter_map(|member| self.rules.get(*member as usize));
        self.places.extend(rules.map(|(place, _)| *place));
        let len = u32::try_from(part.members.len()).unwrap_or(0);
        self.nodes.get_mut(part.node).into_iter().for_each(|node| *node = Node::Leaf { start, len });
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
