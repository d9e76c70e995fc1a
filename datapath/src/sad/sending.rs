//! Which SAs in force may send a packet, the newest first (RFC 4301 section 5.1): by class, of which there are few each, or
//! by remote address, so that no packet looks at every SA.

use std::cell::Cell;
use std::collections::HashMap;

use foldhash::fast::RandomState;
use latchway_tagging::{ClassId, SaIndex};

use crate::flow::FlowKey;
use crate::sad::SadEntry;
use crate::sad::covering::Covering;

/// The outbound SAs in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Sending {
    by_class: HashMap<ClassId, Vec<Listed>, RandomState>,
    covering: Covering,
    /// How many were listed so far.
    count: u64,
}

/// An SA, with its place among all: the later it was listed, the higher.
#[derive(Clone, Copy, Debug)]
struct Listed {
    order: u64,
    index: SaIndex,
}

/// SAs of a class that are looked at one by one.
const FEW: usize = 16;

impl Sending {
    /// Lists an SA as the newest.
    pub(super) fn insert(&mut self, entry: &SadEntry) {
        self.count += 1;
        self.insert_at(entry, self.count);
    }

    /// Takes an SA off the list, if it is on it.
    pub(super) fn remove(&mut self, entry: &SadEntry) {
        self.take(entry);
    }

    /// Puts a revision of an SA in its place, if that is on the list.
    pub(super) fn replace(&mut self, old: &SadEntry, new: &SadEntry) {
        if let Some(order) = self.take(old) {
            self.insert_at(new, order);
        }
    }

    /// The SAs of a class, the newest first.
    pub(super) fn of_class(&self, class: ClassId) -> impl Iterator<Item = SaIndex> {
        self.by_class.get(&class).into_iter().flatten().map(|listed| listed.index)
    }

    /// The newest SA, of a class if one is required, of those that `serves` the flow; an expired one only where there is no
    /// other. `serves` says of an SA whether it is expired, or nothing where it does not serve.
    pub(super) fn newest(
        &self,
        flow: &FlowKey,
        class: Option<ClassId>,
        serves: impl Fn(SaIndex) -> Option<bool>,
    ) -> Option<SaIndex> {
        let best: Cell<Option<(bool, u64, SaIndex)>> = Cell::new(None);
        let beats =
            |live, order| best.get().is_none_or(|(is_live, newest, _)| (is_live, newest) < (live, order));
        let look = |order, index| {
            if beats(true, order)
                && let Some(expired) = serves(index)
                && beats(!expired, order)
            {
                best.set(Some((!expired, order, index)));
            }
        };
        match class.map(|class| self.by_class.get(&class).map_or(&[][..], Vec::as_slice)) {
            Some(few) if few.len() <= FEW => few.iter().for_each(|listed| look(listed.order, listed.index)),
            _ => {
                self.covering.any(flow, |cover| {
                    if class.is_none_or(|class| class == cover.class) {
                        look(cover.order, cover.index);
                    }
                    false
                });
            }
        }
        best.get().map(|(_, _, index)| index)
    }

    fn insert_at(&mut self, entry: &SadEntry, order: u64) {
        let list = self.by_class.entry(entry.class).or_default();
        let place = list.partition_point(|listed| listed.order > order);
        list.insert(place, Listed { order, index: entry.sa.index });
        self.covering.insert(entry, order);
    }

    /// Takes an SA off the list. Returns where it was.
    fn take(&mut self, entry: &SadEntry) -> Option<u64> {
        let list = self.by_class.get_mut(&entry.class)?;
        let place = list.iter().position(|listed| listed.index == entry.sa.index)?;
        let order = list.remove(place).order;
        if list.is_empty() {
            self.by_class.remove(&entry.class);
        }
        self.covering.remove(entry);
        Some(order)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use latchway_tagging::SaRef;

    use super::*;
    use crate::flow::protocol;
    use crate::sad::{Sad, Usage};
    use crate::selector::{AddressRange, Selector};
    use crate::spd::Reqid;
    use crate::testing::{SaOptions, outbound_entry};
    use crate::traffic::Traffic;

    fn range(first: u32, last: u32) -> AddressRange {
        let address = |number: u32| Ipv4Addr::from_bits(10 << 24 | number).into();
        AddressRange::new(address(first), address(last)).unwrap()
    }

    fn entry(index: u32, class: u32, reqid: u32, remotes: &[(u32, u32)]) -> Arc<SadEntry> {
        let selector =
            |&(first, last): &(u32, u32)| Selector::between(AddressRange::ANY_V4, range(first, last));
        let options = SaOptions { class, ..SaOptions::new(0x1000 + index, index) };
        let entry = Arc::into_inner(outbound_entry(1, 2, &options).unwrap()).unwrap();
        Arc::new(SadEntry {
            sa: SaRef { index: SaIndex::new(index), generation: 1 },
            selectors: remotes.iter().map(selector).collect(),
            reqid: Reqid(reqid),
            ..entry
        })
    }

    fn traffic(remote: u32) -> Traffic {
        let remote = Ipv4Addr::from_bits(10 << 24 | remote);
        Traffic::of(&FlowKey::new(protocol::TCP, ([10, 1, 0, 1], 1).into(), (remote, 80).into()))
    }

    fn drawing(mut state: u64) -> impl FnMut(u32) -> u32 {
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) as u32) % below
        }
    }

    /// RFC 4301 5.1: after any coming and going, the SA that is found is what a look at all of them, the newest first, finds.
    #[test]
    fn rfc_4301_5_1_the_newest_sa_that_serves_is_found_as_by_looking_at_each() {
        let mut draw = drawing(11);
        let (mut sad, mut newest_first) = (Sad::default(), Vec::<Arc<SadEntry>>::new());
        for step in 0..2000_u32 {
            if draw(3) > 0 || newest_first.is_empty() {
                let remotes: Vec<_> = (0..=draw(2))
                    .map(|_| {
                        let first = draw(200);
                        (first, if draw(9) == 0 { 255 } else { first + draw(20) })
                    })
                    .collect();
                // One class has many.
                let new = entry(step, draw(6) / 2, draw(3), &remotes);
                sad.insert(Arc::clone(&new), Usage::Active).unwrap();
                newest_first.insert(0, new);
            } else {
                let old = newest_first.remove(draw(newest_first.len() as u32) as usize);
                match draw(3) {
                    0 => drop(sad.remove(old.sa)),
                    1 => assert!(sad.set_usage(old.sa, Usage::Retired)),
                    _ => {
                        old.use_.expire();
                        newest_first.insert(0, Arc::clone(&old));
                        assert!(sad.set_usage(old.sa, Usage::Active), "listed anew");
                    }
                }
            }
            if newest_first.len() > 60 {
                let old = newest_first.pop().unwrap();
                sad.remove(old.sa);
            }
            for _ in 0..4 {
                let traffic = traffic(draw(256));
                let class = (draw(2) == 0).then(|| ClassId::from_raw(draw(3)));
                let reqid = (draw(2) == 0).then(|| Reqid(draw(3)));
                let serves = |entry: &&Arc<SadEntry>| {
                    class.is_none_or(|class| class == entry.class)
                        && reqid.is_none_or(|reqid| reqid == entry.reqid)
                        && entry.admits(&traffic)
                };
                let live = newest_first.iter().filter(serves).find(|entry| !entry.use_.is_expired());
                let expected = live.or(newest_first.iter().find(serves)).map(|entry| entry.sa);
                assert_eq!(sad.select(&traffic, class, reqid).map(|slot| slot.entry.sa), expected);
            }
        }
    }

    /// With ten thousand SAs, each for a network of its own, a packet looks at the one that it is for.
    #[test]
    fn rfc_4301_5_1_a_packet_does_not_look_at_ten_thousand_sas() {
        let mut sending = Sending::default();
        for number in 0..10_000 {
            sending.insert(&entry(number, 1 + number % 2, 0, &[(number * 4, number * 4 + 3)]));
        }
        for number in (0..10_000).step_by(97) {
            for class in [None, Some(ClassId::from_raw(1 + number % 2))] {
                let looked_at = Cell::new(0);
                let found = sending.newest(&traffic(number * 4 + 1).flow, class, |_| {
                    looked_at.set(looked_at.get() + 1);
                    Some(false)
                });
                assert_eq!((found, looked_at.get()), (Some(SaIndex::new(number)), 1));
            }
        }
    }
}
