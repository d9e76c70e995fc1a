//! Which octets of a datagram have passed, so that none passes twice (RFC 5722 section 4, RFC 1858 section 4; T20).

use crate::drop::DropReason;
use crate::packet::Fragment;

/// The octets of one datagram that have passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pieces {
    /// From the first to the last octet, in order, with a gap between any two.
    ranges: [(u16, u16); MOST],
    count: usize,
    /// How long the datagram is, once its last fragment has passed.
    len: Option<u16>,
    /// Whether fragments contradicted each other, so that no more of them pass.
    spoilt: bool,
}

/// Parts of a datagram with gaps between them.
const MOST: usize = 12;

impl Pieces {
    /// Of a datagram of which one fragment has passed.
    pub(super) fn of(fragment: &Fragment) -> Self {
        let mut ranges = [(0, 0); MOST];
        ranges.first_mut().into_iter().for_each(|range| *range = (fragment.start, fragment.end));
        let len = (!fragment.more).then_some(fragment.end);
        Self { ranges, count: 1, len, spoilt: false }
    }

    /// Lets a fragment pass.
    ///
    /// # Errors
    /// [`DropReason::FragmentOverlap`]: its octets have passed already, so that it is a duplicate; or some of them have, or
    /// it contradicts the datagram's length, and then nothing of the datagram passes any more.
    /// [`DropReason::FragmentUnresolved`]: too many gaps.
    pub(super) fn add(&mut self, fragment: &Fragment) -> Result<(), DropReason> {
        let (start, end) = (fragment.start, fragment.end);
        let ranges = self.ranges.get(..self.count).unwrap_or_default();
        let farthest = ranges.last().map_or(0, |(_, end)| *end);
        let contradicts = match self.len {
            Some(len) => end > len || (!fragment.more && end != len) || (fragment.more && end == len),
            None => !fragment.more && farthest > end,
        };
        let repeats = ranges.iter().any(|(first, last)| *first <= start && end <= *last);
        let meets = ranges.iter().any(|(first, last)| *first < end && start < *last);
        self.spoilt |= contradicts || (meets && !repeats);
        if self.spoilt || repeats {
            return Err(DropReason::FragmentOverlap);
        }
        self.insert(start, end)?;
        if !fragment.more {
            self.len = Some(end);
        }
        Ok(())
    }

    /// Whether all of the datagram has passed.
    pub(super) fn is_complete(&self) -> bool {
        self.count == 1
            && self.ranges.first().is_some_and(|(start, end)| *start == 0 && Some(*end) == self.len)
    }

    fn insert(&mut self, start: u16, end: u16) -> Result<(), DropReason> {
        let ranges = self.ranges.get(..self.count).unwrap_or_default();
        let place = ranges.partition_point(|(first, _)| *first < start);
        let joins_before = place > 0 && ranges.get(place - 1).is_some_and(|(_, last)| *last == start);
        let joins_after = ranges.get(place).is_some_and(|(first, _)| *first == end);
        match (joins_before, joins_after) {
            (true, true) => {
                let last = ranges.get(place).map_or(end, |(_, last)| *last);
                self.ranges.get_mut(place - 1).into_iter().for_each(|range| range.1 = last);
                self.ranges.copy_within(place + 1..self.count, place);
                self.count -= 1;
            }
            (true, false) => self.ranges.get_mut(place - 1).into_iter().for_each(|range| range.1 = end),
            (false, true) => self.ranges.get_mut(place).into_iter().for_each(|range| range.0 = start),
            (false, false) if self.count == MOST => return Err(DropReason::FragmentUnresolved),
            (false, false) => {
                self.ranges.copy_within(place..self.count, place + 1);
                self.ranges.get_mut(place).into_iter().for_each(|range| *range = (start, end));
                self.count += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::FragmentId;

    fn fragment(start: u16, end: u16, more: bool) -> Fragment {
        Fragment { id: FragmentId(1), start, end, more }
    }

    /// T20: against a set of octets, for drawn fragments: none passes twice, what repeats changes nothing, and after a
    /// contradiction nothing passes.
    #[test]
    fn t20_rfc_5722_4_no_octet_passes_twice_and_a_contradiction_ends_the_datagram() {
        let mut state = 1_u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % below) as u16
        };
        let (mut whole, mut spoilt) = (0, 0);
        for _ in 0..3000 {
            let len = 8 * (2 + draw(20));
            let mut pieces = Pieces::of(&fragment(0, 8, true));
            let (mut passed, mut known_len, mut is_spoilt) = ((0..8).collect::<Vec<u16>>(), None, false);
            for _ in 0..60 {
                // Mostly what a sender of that datagram would send; now and then something else.
                let odd = draw(40) == 0;
                let start = 8 * draw(u64::from(len / 8));
                let end = if odd { start + 8 + 8 * draw(6) } else { start + 8 };
                let more = if draw(400) == 0 { draw(2) == 0 } else { end < len };
                let octets: Vec<u16> = (start..end).collect();
                let all = octets.iter().all(|octet| passed.contains(octet));
                let any = octets.iter().any(|octet| passed.contains(octet));
                let beyond = passed.iter().any(|octet| *octet >= end);
                let contradicts = match known_len {
                    Some(known) => end > known || more == (end == known),
                    None => !more && beyond,
                };
                is_spoilt |= contradicts || (any && !all);
                match pieces.add(&fragment(start, end, more)) {
                    Ok(()) => {
                        assert!(!is_spoilt && !any);
                        passed.extend(octets);
                        known_len = known_len.or((!more).then_some(end));
                    }
                    Err(DropReason::FragmentOverlap) => assert!(is_spoilt || all),
                    Err(reason) => assert_eq!(reason, DropReason::FragmentUnresolved),
                }
                let complete = known_len.is_some_and(|known| usize::from(known) == passed.len());
                assert_eq!(pieces.is_complete(), complete);
            }
            whole += usize::from(pieces.is_complete());
            spoilt += usize::from(is_spoilt);
        }
        assert!(whole > 100 && spoilt > 100, "{whole} {spoilt}");
    }
}
