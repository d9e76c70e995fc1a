//! Latches that come back when their conflicts are gone.

use super::*;

/// R-9, C-26: what waits comes back when the conflict is gone, under its own class and with a newer version.
#[test]
fn r_9_a_latch_that_waits_is_in_force_again_when_all_conflicts_are_gone() {
    let mut keying = keying();
    let (_, bob) = joined(&mut keying, "bob", 0x1000);
    let waits = LatchTerms { on_conflict: OnConflict::Wait, ..STRICT };
    let (id, ends) = (latch(&keying, 5, bob, waits), latch(&keying, 6, bob, STRICT));
    let (mallory, other) = joined(&mut keying, "mallory", 0x1001);
    assert_eq!(state(&keying, id), (LatchState::Broken, Some(BreakReason::Conflict)));
    let (second, _) = joined(&mut keying, "mallory", 0x1002);
    keying.commit(Transaction::new(vec![Op::Remove(mallory)]), at(0)).unwrap();
    settle(&mut keying);
    assert_eq!(state(&keying, id).0, LatchState::Broken, "the other conflict is still there");
    let mut worker = keying.publisher().reader();
    worker.adopt();
    let before = keying.database().inquire(id).unwrap();
    keying.commit(Transaction::new(vec![Op::Remove(second)]), at(0)).unwrap();
    assert!(keying.poll(at(0)).settling);
    assert_eq!(state(&keying, id).0, LatchState::Broken, "a worker may still use it");
    worker.adopt();
    settle(&mut keying);
    let after = keying.database().inquire(id).unwrap();
    assert_eq!((after.state, after.reason, after.class), (LatchState::Established, None, Some(bob)));
    assert!(after.changed_at > before.changed_at, "L-89");
    assert_eq!(state(&keying, ends).0, LatchState::Broken, "whose terms are to end");
    // A packet of another peer broke it: the same.
    keying.database().suspend(id, BreakReason::OtherPeer, Some(other), at(0));
    keying.note(&broken(id, 5, bob, BreakReason::OtherPeer, Some(other)));
    worker.adopt();
    settle(&mut keying);
    assert_eq!(state(&keying, id), IN_FORCE);
}

/// R-9, L-76, R-6: a worker may break a latch for another peer's packet after it was looked at and before it is broken
/// for what does not pass with that peer. It does not come back with the peer gone.
#[test]
fn r_9_l_76_r_6_a_latch_that_a_packet_broke_just_before_does_not_come_back_without_its_policy_or_peer() {
    for (reason, comes_back) in [
        (BreakReason::Policy, false),
        (BreakReason::Withdrawn, false),
        (BreakReason::PeerGone, false),
        (BreakReason::Conflict, true),
    ] {
        let mut keying = keying();
        let (_, bob) = joined(&mut keying, "bob", 0x1000);
        let waits = LatchTerms { on_conflict: OnConflict::Wait, ..STRICT };
        let id = latch(&keying, 5, bob, waits);
        let looked_at = keying.database().inquire(id).unwrap();
        assert!(keying.database().suspend(id, BreakReason::OtherPeer, None, at(0)));
        keying.break_latch(&looked_at, reason, None, at(0));
        keying.fence();
        keying.note(&broken(id, 5, bob, BreakReason::OtherPeer, None));
        let told = settle(&mut keying);
        let expected = if comes_back { IN_FORCE } else { (LatchState::Closed, Some(reason)) };
        assert_eq!(state(&keying, id), expected);
        let closed = (!comes_back).then_some(broken(id, 5, bob, reason, None));
        assert_eq!(told, Vec::from_iter(closed), "whoever holds it is told");
    }
}
