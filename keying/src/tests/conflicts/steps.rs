//! Each step of a break after the one before, whatever happens between them (L-74, L-71).

use super::*;

/// L-45, L-74, T37 d: pending; grace; broken; grace; told; in force. Each only after the one before.
#[test]
fn l_74_a_latch_is_broken_and_told_of_before_the_sa_that_it_conflicts_with_is_in_force() {
    let mut keying = keying();
    let (_, bob) = joined(&mut keying, "bob", 0x1000);
    let id = latch(&keying, 5, bob, STRICT);
    let mut worker = keying.publisher().reader();
    worker.adopt();
    let offer = keying.propose(proposal("mallory"), at(0)).unwrap();
    let mallory = offer.class;
    let flows: Vec<_> = offer.latches_that_would_break.iter().map(|conflict| conflict.flow).collect();
    assert_eq!(flows, [flow(5)]);
    let pair = keying.install(offer.ticket, keys(0x1001, Suite::AES_128_GCM), at(0)).unwrap();
    let usage = |keying: &Keying| keying.pairs().iter().find(|view| view.id == pair).unwrap().usage;
    for _ in 0..3 {
        assert!(keying.poll(at(0)).settling);
        assert_eq!((state(&keying, id), usage(&keying)), (IN_FORCE, Usage::Pending));
    }
    // No other such latch is born from now on.
    assert!(worker.adopt().0.bars(&flow(6), bob, Model::Strict));
    assert!(!worker.adopt().0.bars(&flow(6), bob, Model::Tag));
    for _ in 0..3 {
        assert!(keying.poll(at(0)).settling);
        let broken = (LatchState::Broken, Some(BreakReason::Conflict));
        assert_eq!(
            (state(&keying, id), usage(&keying), keying.next_broken()),
            (broken, Usage::Pending, None)
        );
    }
    let id_of_cache = keying.snapshot().id;
    assert_eq!(worker.adopt().0.id, id_of_cache, "what was looked up stays good");
    let progress = keying.poll(at(0));
    assert_eq!((progress.settled, usage(&keying)), (vec![pair], Usage::Active));
    assert_eq!(told(&mut keying), [broken(id, 5, bob, BreakReason::Conflict, Some(mallory))]);
    worker.adopt();
    assert_eq!(settle(&mut keying), [], "once");
}

/// The alert is queued before the SA is in force, whoever reads it when.
#[test]
fn l_74_nobody_is_waited_for_who_reads_of_breaks() {
    let mut keying = keying();
    let (_, bob) = joined(&mut keying, "bob", 0x1000);
    let ids: Vec<_> = (1..=600).map(|port| latch(&keying, port, bob, STRICT)).collect();
    let offer = keying.propose(proposal("mallory"), at(0)).unwrap();
    assert_eq!(offer.latches_that_would_break.len(), 600);
    keying.install(offer.ticket, keys(0x1001, Suite::AES_128_GCM), at(0)).unwrap();
    assert!((0..100).any(|_| !keying.poll(at(0)).settling));
    assert!(keying.pairs().iter().all(|pair| pair.usage == Usage::Active));
    let mut told: Vec<_> = told(&mut keying)
        .into_iter()
        .map(|event| if let Event::LatchBroken { latch, .. } = event { latch } else { panic!() })
        .collect();
    told.sort_unstable();
    let mut expected = ids;
    expected.sort_unstable();
    assert_eq!(told, expected);
}

/// L-74: whatever happens between the steps, nothing is told twice or never, and nothing comes into force early.
#[test]
fn l_74_a_pair_that_is_removed_between_the_steps_and_a_restart_at_any_of_them() {
    for (step, removed, restarts) in
        (0..4).flat_map(|step| [(step, false, true), (step, true, false), (step, true, true)])
    {
        let mut keying = keying();
        let (_, bob) = joined(&mut keying, "bob", 0x1000);
        let waits = LatchTerms { on_conflict: OnConflict::Wait, ..STRICT };
        let (id, waiting) = (latch(&keying, 5, bob, STRICT), latch(&keying, 6, bob, waits));
        let mut worker = keying.publisher().reader();
        worker.adopt();
        let offer = keying.propose(proposal("mallory"), at(0)).unwrap();
        let other = offer.class;
        let pair = keying.install(offer.ticket, keys(0x1001, Suite::AES_128_GCM), at(0)).unwrap();
        for _ in 0..step {
            keying.poll(at(0));
            worker.adopt();
        }
        if restarts {
            keying.recover(at(0));
        }
        let was_broken = state(&keying, id).0 == LatchState::Broken;
        assert_eq!(was_broken, step >= 2, "{step}");
        if removed {
            keying.commit(Transaction::new(vec![Op::Remove(pair)]), at(0)).unwrap();
        }
        drop(worker);
        let mut breaks = settle(&mut keying);
        breaks
            .sort_by_key(|event| if let Event::LatchBroken { latch, .. } = event { latch.raw() } else { 0 });
        let breaks: Vec<_> = breaks.into_iter().collect();
        let mut expected = vec![
            broken(id, 5, bob, BreakReason::Conflict, Some(other)),
            broken(waiting, 6, bob, BreakReason::Conflict, Some(other)),
        ];
        expected
            .sort_by_key(|event| if let Event::LatchBroken { latch, .. } = event { latch.raw() } else { 0 });
        if removed && !was_broken {
            expected.clear();
        }
        assert_eq!(breaks, expected, "{step} {removed} {restarts}");
        let back = removed;
        assert_eq!(state(&keying, waiting).0 == LatchState::Established, back, "{step} {removed} {restarts}");
    }
}

/// Two pairs of which each conflicts with the other: there is no latch in view of which they do, and none is born.
#[test]
fn l_71_two_pairs_that_are_pending_at_once_conflict_only_in_view_of_a_latch() {
    let mut keying = keying();
    let mut worker = keying.publisher().reader();
    worker.adopt();
    let offers = ["bob", "mallory"].map(|peer| keying.propose(proposal(peer), at(0)).unwrap());
    let classes = offers.each_ref().map(|offer| offer.class);
    for (spi, offer) in (0x1000..).zip(offers) {
        keying.install(offer.ticket, keys(spi, Suite::AES_128_GCM), at(0)).unwrap();
    }
    worker.adopt();
    assert_eq!(settle_with(&mut keying, &mut worker), []);
    assert!(keying.pairs().iter().all(|pair| pair.usage == Usage::Active));
    assert!(classes.iter().all(|class| keying.snapshot().bars(&flow(5), *class, Model::Strict)));
    // Both conflict with a third one's latch: it is told of before either is in force.
    let mut keying = crate::testing::keying();
    let (_, bob) = joined(&mut keying, "bob", 0x2000);
    let id = latch(&keying, 5, bob, STRICT);
    let mut worker = keying.publisher().reader();
    worker.adopt();
    let weaker = Proposal { suites: Suites::both(Suite::AES_256_GCM), ..proposal("bob") };
    for (proposal, suite, spi) in
        [(proposal("mallory"), Suite::AES_128_GCM, 0x2001), (weaker, Suite::AES_256_GCM, 0x2002)]
    {
        let offer = keying.propose(proposal, at(0)).unwrap();
        keying.install(offer.ticket, keys(spi, suite), at(0)).unwrap();
        worker.adopt();
        keying.poll(at(0));
    }
    assert_eq!((state(&keying, id).0, told(&mut keying).len()), (LatchState::Broken, 1));
    assert!(keying.pairs().iter().all(|pair| pair.usage == Usage::Active));
    assert_eq!(settle_with(&mut keying, &mut worker), [], "once");
}
