//! Finds the first rule that speaks of a packet, at about the same cost whether there are ten rules or ten thousand.
//!
//! A trie per address would not do: rules are ranges in seven dimensions, and the first in order decides, not the longest
//! prefix. A bitmap per value and dimension would take 25 megabytes for 10,000 rules and as many words to look through.
//! So there are decision trees, whose size is linear in the number of rules ([`Tree`]). Rules whose addresses are wide
//! beside those of the others would be on both sides of most cuts; they have trees of their own, by which side is wide. So
//! there are four trees for each family at most, and the search begins with the one whose rules come first.

use crate::drop::Direction;
use crate::spd::Rule;
use crate::spd::extent::{Extent, LOCAL, REMOTE, Values};
use crate::spd::tree::{LEAF, Tree};
use crate::traffic::Traffic;

/// Where to look for rules.
#[derive(Clone, Debug, Default)]
pub(super) struct Classifier {
    /// For both addresses of IPv6, for those of mixed families (of which there is no packet), and for both of IPv4.
    families: [Box<[Tree]>; 4],
}

impl Classifier {
    /// Of the rules in their order.
    pub(super) fn of(rules: &[Rule]) -> Self {
        let mut families: [Vec<(u32, Extent)>; 4] = Default::default();
        for (place, rule) in rules.iter().enumerate() {
            let family = family(rule.selector.local.is_ipv4(), rule.selector.remote.is_ipv4());
            let members = u32::try_from(place).ok().zip(families.get_mut(family));
            if let (Some((place, members)), Some(extent)) = (members, Extent::of(rule)) {
                members.push((place, extent));
            }
        }
        let [v6, from_v6, from_v4, v4] = families;
        let trees = |members: &[_], are_v4| trees(members, Extent::between(are_v4));
        let (v6, v4) = (trees(&v6, [false; 2]), trees(&v4, [true; 2]));
        Self { families: [v6, trees(&from_v6, [false, true]), trees(&from_v4, [true, false]), v4] }
    }

    /// The place of the first rule that speaks of the packet.
    #[inline]
    pub(super) fn find(&self, rules: &[Rule], traffic: &Traffic, direction: Direction) -> Option<usize> {
        let is_v4 = |number: u128| number >> 32 == 0xffff;
        let family = family(is_v4(traffic.flow.local_number()), is_v4(traffic.flow.remote_number()));
        let (mut values, mut found) = (None, u32::MAX);
        for tree in self.families.get(family)? {
            if found < tree.first {
                break;
            }
            let speaks = |place: &&u32| {
                rules.get(**place as usize).is_some_and(|rule| rule.speaks_of(traffic, direction))
            };
            let candidates = tree.few().unwrap_or_else(|| {
                tree.candidates(values.get_or_insert_with(|| Values::of(traffic, direction)))
            });
            let before = candidates.iter().take_while(|place| **place < found);
            found = before.into_iter().find(speaks).copied().unwrap_or(found);
        }
        (found < u32::MAX).then_some(found as usize)
    }

    /// How many places all leaves hold, and how many nodes there are.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        let sizes = self.families.iter().flatten().map(Tree::size);
        sizes.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    /// How many rules there are in the leaves where a packet is looked for.
    #[cfg(test)]
    pub(super) fn looked_at(&self, traffic: &Traffic, direction: Direction) -> usize {
        let values = Values::of(traffic, direction);
        self.families.iter().flatten().map(|tree| tree.candidates(&values).len()).sum()
    }
}

const fn family(local_v4: bool, remote_v4: bool) -> usize {
    (local_v4 as usize) << 1 | remote_v4 as usize
}

/// The trees of one family, in the order of their first rules.
fn trees(members: &[(u32, Extent)], whole: Extent) -> Box<[Tree]> {
    if members.is_empty() {
        return Box::default();
    }
    if members.len() <= 2 * LEAF {
        return [Tree::of_few(members)].into();
    }
    let ends = [LOCAL, REMOTE].map(|side| ends(members, side));
    let mut groups: [Vec<(u32, Extent)>; 4] = Default::default();
    for member @ (_, extent) in members {
        let [local, remote] = [LOCAL, REMOTE].map(|side| {
            let (span, ends) = (extent.span(side), ends.get(side).map_or(&[][..], Vec::as_slice));
            let before = |end| ends.partition_point(|other| *other < end);
            let inside = before(span.last).saturating_sub(before(span.first.saturating_add(1)));
            inside * WIDE > ends.len()
        });
        groups.get_mut(family(local, remote)).into_iter().for_each(|group| group.push(*member));
    }
    let mut trees: Vec<_> =
        groups.iter().filter(|group| !group.is_empty()).map(|group| Tree::over(group, whole)).collect();
    trees.sort_by_key(|tree| tree.first);
    trees.into()
}

/// Where the addresses of one side begin and end, in order.
fn ends(members: &[(u32, Extent)], side: usize) -> Vec<u128> {
    let spans = members.iter().map(|(_, extent)| extent.span(side));
    let mut ends: Vec<_> = spans.flat_map(|span| [span.first, span.last]).collect();
    ends.sort_unstable();
    ends
}

/// Addresses are wide where more than one in so many ends of all others lie among them.
const WIDE: usize = 4;
