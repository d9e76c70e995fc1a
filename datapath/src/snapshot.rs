//! What workers read of policy and SAs: one immutable snapshot, replaced whole.

use std::sync::Arc;

use latchway_tagging::{ClassId, SnapshotId};

use crate::drop::Direction;
use crate::flow::FlowKey;
use crate::latching::Model;
use crate::sad::Sad;
use crate::spd::{Action, Spd};
use crate::traffic::Traffic;

/// SAD and SPD, swapped together. A worker adopts one at the start of a batch and keeps to it until the next.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Names this snapshot; caches made under another one are misses.
    pub id: SnapshotId,
    /// The SAs.
    pub sad: Sad,
    /// The policy.
    pub spd: Spd,
    /// The policy that is about to be: no packet goes by it yet, but no latch is born that it would break (L-74, L-76).
    pub pending: Option<Arc<Spd>>,
}

impl Snapshot {
    /// Whether no latch of `class` may be born for the flow: in the strict model because an SA of another class admits it,
    /// pending ones included (L-71); in either because the policy that is about to be would break it (L-76).
    #[must_use]
    pub fn bars(&self, flow: &FlowKey, class: ClassId, model: Model) -> bool {
        (model == Model::Strict && self.sad.admits_otherwise(flow, class))
            || self.pending.as_ref().is_some_and(|next| self.forbids(next, flow, Some(class)))
    }

    /// Whether a connection that is held to `class`, or to bypass, could not go on under the policy `next` (L-75): in
    /// some direction it says something else of the flow than this snapshot's policy does, and that is neither PROTECT
    /// by SAs which the class has, nor the bypass that the connection was granted; or it no longer lets bypass be granted
    /// (L-112).
    #[must_use]
    pub fn forbids(&self, next: &Spd, flow: &FlowKey, class: Option<ClassId>) -> bool {
        let traffic = &Traffic::of(flow);
        [Direction::Outbound, Direction::Inbound].into_iter().any(|direction| {
            let (before, after) = (self.spd.action(traffic, direction), next.action(traffic, direction));
            let taken_back = class.is_none() && self.spd.grants_bypass(traffic, direction);
            !asks_the_same(before, after) && !self.lets(after, class)
                || taken_back && !next.grants_bypass(traffic, direction) && after != Some(Action::Bypass)
        })
    }

    /// Whether this snapshot's policy lets a connection go on that is held to `class`, or to bypass, both ways.
    #[must_use]
    pub fn permits(&self, flow: &FlowKey, class: Option<ClassId>) -> bool {
        let traffic = &Traffic::of(flow);
        [Direction::Outbound, Direction::Inbound]
            .into_iter()
            .all(|direction| self.lets(self.spd.action(traffic, direction), class))
    }

    fn lets(&self, action: Option<Action>, class: Option<ClassId>) -> bool {
        match (action, class) {
            (Some(Action::Protect(protection)), Some(class)) => {
                protection.reqid.is_none_or(|reqid| self.sad.serves(class, reqid))
            }
            (Some(Action::Bypass), None) => true,
            _ => false,
        }
    }
}

/// Whether two policies treat the packets of a flow alike. How connections are latched is not asked: a latch keeps the
/// terms it was born with (L-37).
fn asks_the_same(before: Option<Action>, after: Option<Action>) -> bool {
    match (before, after) {
        (Some(Action::Protect(before)), Some(Action::Protect(after))) => before.reqid == after.reqid,
        _ => before == after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::protocol;
    use crate::selector::{AddressRange, Selector};
    use crate::spd::{Freedom, Latching, Protection, Reqid, Rule};
    use crate::testing::{SaOptions, inbound_entry};

    fn flow() -> FlowKey {
        FlowKey::new(protocol::TCP, "10.0.1.9:5".parse().unwrap(), "10.0.2.9:80".parse().unwrap())
    }

    fn spd(outbound: Option<Action>, inbound: Option<Action>) -> Spd {
        let any = || Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
        let rules = [(Direction::Outbound, outbound), (Direction::Inbound, inbound)];
        let rule = |(direction, action): (_, Option<_>)| Some(Rule::new(any(), Some(direction), action?));
        Spd::new(rules.into_iter().filter_map(rule).collect())
    }

    /// L-75, L-76, D.3 4: a truth table of what policy said and will say.
    #[test]
    fn l_75_a_policy_forbids_what_it_bypasses_discards_or_gives_to_other_sas_and_what_is_new_in_that() {
        let mut snapshot = Snapshot::default();
        let options = SaOptions { class: 7, ..SaOptions::new(0x1001, 0) };
        snapshot.sad.insert(inbound_entry(1, 2, &options).unwrap(), crate::sad::Usage::Retired).unwrap();
        let by = |reqid| Some(Action::Protect(Protection { reqid, template: None, latching: Latching::Off }));
        let (any, own, other) = (by(None), by(Some(Reqid(0))), by(Some(Reqid(9))));
        let (bypass, discard) = (Some(Action::Bypass), Some(Action::Discard));
        let latched = Some(Action::Protect(Protection::LATCHED));
        for (before, after, class_7, granted_bypass) in [
            (any, any, false, false),
            (latched, any, false, false),
            (any, own, false, true),
            (any, other, true, true),
            (other, other, false, false),
            (any, bypass, true, false),
            (any, discard, true, true),
            (any, None, true, true),
            (None, any, false, true),
            (bypass, bypass, false, false),
            (bypass, any, false, true),
            (discard, discard, false, false),
        ] {
            for (old, new) in [
                (spd(before, any), spd(after, any)),
                (spd(any, before), spd(any, after)),
                (spd(before, before), spd(after, after)),
            ] {
                snapshot.spd = old;
                let class = |class| Some(ClassId::from_raw(class));
                let case = (before, after);
                assert_eq!(snapshot.forbids(&new, &flow(), class(7)), class_7, "{case:?}");
                assert_eq!(snapshot.forbids(&new, &flow(), None), granted_bypass, "{case:?}");
                snapshot.pending = None;
                assert!(!snapshot.bars(&flow(), ClassId::from_raw(7), Model::Tag));
                snapshot.pending = Some(Arc::new(new));
                assert_eq!(snapshot.bars(&flow(), ClassId::from_raw(7), Model::Tag), class_7, "{case:?}");
            }
        }
    }

    /// L-112, L-115: a grant of bypass does not outlive the freedom that it rests on.
    #[test]
    fn l_112_a_policy_that_takes_the_freedom_back_forbids_what_was_granted_by_it() {
        let any = || Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
        let protect = Action::Protect(Protection::LATCHED);
        let spd = |action, freedom| Spd::new(vec![Rule { freedom, ..Rule::new(any(), None, action) }]);
        let free = spd(protect, Freedom::Bypass);
        let snapshot = Snapshot { spd: free.clone(), ..Snapshot::default() };
        for (next, forbids) in [
            (free, false),
            (spd(protect, Freedom::Stronger), true),
            (spd(protect, Freedom::None), true),
            (spd(Action::Bypass, Freedom::None), false),
        ] {
            assert_eq!(snapshot.forbids(&next, &flow(), None), forbids, "{next:?}");
            assert_eq!(
                snapshot.forbids(&next, &flow(), Some(ClassId::from_raw(7))),
                next.action(&Traffic::of(&flow()), Direction::Outbound) == Some(Action::Bypass)
            );
        }
    }

    /// L-71, L-72: SAs of another class that admit the flow, however they are used, and no others.
    #[test]
    fn l_71_l_72_sas_of_another_class_are_found_whatever_they_are_used_for() {
        let mut sad = Sad::default();
        let own = ClassId::from_raw(1);
        for (index, peer) in (0_u32..200).zip(2_u8..) {
            let options = SaOptions { class: index + 1, ..SaOptions::new(0x1000 + index, index) };
            sad.insert(inbound_entry(1, peer, &options).unwrap(), crate::sad::Usage::Pending).unwrap();
        }
        assert!(!sad.admits_otherwise(&flow(), own), "the others speak of other networks");
        assert!(sad.admits_otherwise(&flow(), ClassId::from_raw(2)));
        let beside = SaOptions { class: 900, ..SaOptions::new(0x2000, 500) };
        let beside = inbound_entry(1, 2, &beside).unwrap();
        for usage in [crate::sad::Usage::Pending, crate::sad::Usage::Standby, crate::sad::Usage::Retired] {
            sad.insert(Arc::clone(&beside), usage).unwrap();
            assert!(sad.admits_otherwise(&flow(), own), "{usage:?}");
            sad.remove(beside.sa);
            assert!(!sad.admits_otherwise(&flow(), own));
        }
        sad.insert(Arc::clone(&beside), crate::sad::Usage::Active).unwrap();
        beside.use_.expire();
        assert!(!sad.admits_otherwise(&flow(), own), "its keys are gone");
    }
}
