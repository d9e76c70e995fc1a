//! Transactions: one snapshot, all or nothing; SAD and SPD are swapped together.

use latchway_datapath::sad::Usage;
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::spd::{Action, Protection, Rule, Spd};
use latchway_esp::Suite;

use crate::testing::{at, commit, keying, keys, proposal};
use crate::{CommitError, Keying, Op, PairId, SpdChange, Transaction};

fn rule(action: Action) -> Rule {
    let selector = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
    Rule::new(selector, None, action)
}

fn with_pairs(count: u32) -> (Keying, Vec<PairId>) {
    let mut keying = keying();
    let ids = (0..count).map(|n| {
        let offer = keying.propose(proposal("bob"), at(0)).unwrap();
        keying.install(offer.ticket, keys(0x1000 + n, Suite::AES_128_GCM), at(0)).unwrap()
    });
    let ids = ids.collect();
    keying.poll(at(0));
    (keying, ids)
}

fn usages(keying: &Keying) -> Vec<(PairId, Usage)> {
    keying.pairs().iter().map(|pair| (pair.id, pair.usage)).collect()
}

#[test]
fn everything_of_a_transaction_is_in_one_snapshot() {
    let (mut keying, ids) = with_pairs(2);
    let before = keying.snapshot().id;
    let spd = Spd::new(vec![rule(Action::Protect(Protection::LATCHED)), rule(Action::Discard)]);
    let ops = vec![Op::Retire(ids[0]), Op::SetSpd(spd.clone()), Op::Remove(ids[1])];
    let committed = commit(&mut keying, ops);
    assert_eq!(committed.snapshot.raw(), before.raw() + 2, "pending, and in force");
    assert_eq!((&committed.activated, &committed.retired), (&vec![], &vec![ids[0]]));
    assert_eq!(committed.removed, [ids[1]]);
    assert_eq!(committed.spd, Some(SpdChange { added: 2, removed: 0 }));
    let mut worker = keying.publisher().reader();
    let snapshot = worker.adopt().0;
    assert_eq!((snapshot.id, &snapshot.spd), (committed.snapshot, &spd));
    let seen: Vec<_> = snapshot.sad.iter().map(|slot| slot.usage).collect();
    assert_eq!(seen, [Usage::Retired, Usage::Retired]);
    drop(worker);
    // Only a reordering: it changes what matches first, so it counts as a change.
    let turned = Spd::new(spd.rules().iter().rev().cloned().collect());
    let committed = commit(&mut keying, vec![Op::SetSpd(turned)]);
    assert_eq!(committed.spd, Some(SpdChange { added: 0, removed: 0 }));
}

#[test]
fn a_transaction_with_one_impossible_change_changes_nothing() {
    let (mut keying, ids) = with_pairs(2);
    let (before, seen) = (keying.snapshot().clone(), usages(&keying));
    let nobody = PairId::from_raw(99);
    let spd = || Op::SetSpd(Spd::new(vec![rule(Action::Bypass)]));
    for (ops, error) in [
        (vec![Op::Retire(ids[0]), spd(), Op::Remove(nobody)], CommitError::UnknownPair(nobody)),
        (vec![Op::Remove(ids[0]), Op::Remove(ids[0])], CommitError::UnknownPair(ids[0])),
        (vec![Op::Remove(ids[1]), Op::Activate(ids[1])], CommitError::UnknownPair(ids[1])),
    ] {
        assert_eq!(keying.commit(Transaction::new(ops), at(0)), Err(error));
        assert_eq!((keying.snapshot().id, &keying.snapshot().spd), (before.id, &before.spd));
        assert_eq!(usages(&keying), seen);
        assert_eq!(keying.counts().resting_spis, 0);
    }
}

#[test]
fn a_transaction_that_changes_nothing_is_not_published() {
    let (mut keying, ids) = with_pairs(1);
    let before = keying.snapshot().id;
    let ops = vec![Op::Activate(ids[0]), Op::Retire(ids[0]), Op::Activate(ids[0])];
    let committed = commit(&mut keying, ops);
    assert_eq!((committed.snapshot, keying.snapshot().id), (before, before));
    assert_eq!((committed.activated, committed.retired), (vec![], vec![]));
    let same = Op::SetSpd(Spd::default());
    assert_eq!(commit(&mut keying, vec![same]).spd, None);
    assert_eq!(commit(&mut keying, vec![]).snapshot, before);
    keying.poll(at(1));
    assert_eq!(keying.snapshot().id, before, "nor is a poll that brings nothing");
}

#[test]
fn without_policy_everything_is_discarded() {
    assert_eq!(keying().snapshot().spd.rules(), []);
}
