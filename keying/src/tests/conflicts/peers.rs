//! Peers that are gone, withdrawn or forgotten (R-6, R-14, RFC 4301 4.4.3).

use super::*;

/// a peer that is gone takes its latches and its pairs with it, those of the last batch included.
#[test]
fn r_6_the_latches_of_a_peer_that_is_gone_break_whatever_their_terms() {
    for (why, reason) in [
        (PeerGone::Dead, BreakReason::PeerGone),
        (PeerGone::InitialContact, BreakReason::PeerGone),
        (PeerGone::Withdrawn, BreakReason::Withdrawn),
    ] {
        let mut keying = keying();
        let (pair, bob) = joined(&mut keying, "bob", 0x1000);
        let (_, carol) = joined(&mut keying, "carol", 0x1001);
        let of = |on_conflict, model| LatchTerms { on_conflict, model, ..STRICT };
        let ids = [
            latch(&keying, 5, bob, STRICT),
            latch(&keying, 6, bob, of(OnConflict::RejectNewcomer, Model::Tag)),
            latch(&keying, 7, bob, of(OnConflict::Wait, Model::Strict)),
        ];
        let elsewhere = FlowKey::new(protocol::TCP, ([10, 0, 0, 1], 5).into(), ([10, 3, 0, 1], 80).into());
        let other = born(&keying, keying.snapshot().sad.clone(), &elsewhere, (carol, STRICT));
        let mut worker = keying.publisher().reader();
        worker.adopt();
        assert_eq!(keying.peer_gone(&fqdn("bob"), why, at(0)), Gone { latches: 3, pairs: vec![pair] });
        let states = ids.map(|id| state(&keying, id).0);
        assert_eq!(states, [LatchState::Broken, LatchState::Broken, LatchState::Closed]);
        // The worker is in the middle of a batch, under the SAs of before.
        let late = latch_of(&keying, 8, bob);
        worker.adopt();
        let told = settle_with(&mut keying, &mut worker);
        assert_eq!(told.len(), 4);
        assert!(
            told.iter().all(|event| matches!(event, Event::LatchBroken { reason: of, .. } if *of == reason))
        );
        assert_eq!(state(&keying, late).0, LatchState::Broken);
        assert_eq!((state(&keying, other), keying.pairs().len()), (IN_FORCE, 1));
        assert_eq!(keying.peer_gone(&fqdn("nobody"), why, at(0)), Gone::default());
        drop(worker);
        joined(&mut keying, "bob", 0x1003);
        assert!(
            ids.iter().all(|id| state(&keying, *id).0 != LatchState::Established),
            "it does not come back"
        );
    }
}

/// RFC 4301 4.4.3: whom the PAD does not allow any more, or not there, keeps no latch, though its SAs be gone already.
#[test]
fn latches_that_a_new_pad_does_not_allow_are_withdrawn() {
    type Edit = fn(&mut Vec<crate::PadEntry>);
    let edits: [(Edit, bool); 4] = [
        (|entries| entries.retain(|entry| entry.name != "bob"), true),
        (|entries| entries[0].ranges = vec![range("10.1.0.128", "10.1.0.255")], true),
        (|entries| entries[0].ranges = vec![range("10.1.0.0", "10.1.0.7")], false),
        (|entries| entries.retain(|entry| entry.name != "carol"), false),
    ];
    for (edit, withdrawn) in edits {
        let mut keying = keying();
        let (pair, bob) = joined(&mut keying, "bob", 0x1000);
        let id = latch(&keying, 5, bob, LatchTerms { model: Model::Tag, ..STRICT });
        keying.commit(Transaction::new(vec![Op::Remove(pair)]), at(0)).unwrap();
        let mut entries = vec![
            entry(1, "bob", "10.1.0.0", "10.1.0.255"),
            entry(2, "mallory", "10.1.0.0", "10.1.0.255"),
            entry(3, "carol", "10.3.0.0", "10.3.0.255"),
        ];
        edit(&mut entries);
        let change = || Change { pad: Some(Pad::new(entries.clone()).unwrap()), ..Change::default() };
        let outline = keying.check_change(&change()).unwrap();
        assert_eq!(
            (outline.breaks, outline.breaking.len()),
            (usize::from(withdrawn), usize::from(withdrawn))
        );
        keying.begin_change(change(), at(0)).unwrap();
        let expected = [broken(id, 5, bob, BreakReason::Withdrawn, None)];
        assert_eq!(settle(&mut keying), expected[..usize::from(withdrawn)]);
        assert_eq!(state(&keying, id).0 == LatchState::Broken, withdrawn);
    }
}

/// latches of whom nobody knows any more whose they are.
#[test]
fn r_14_latches_to_lost_identities_are_closed_by_a_recovery() {
    let mut keying = keying();
    let (_, bob) = joined(&mut keying, "bob", 0x1000);
    let id = latch(&keying, 5, bob, STRICT);
    let mut other = crate::Keying::new(
        keying.pad().clone(),
        crate::Settings::default(),
        Arc::new(latchway_tagging::StateClock::new()),
        Arc::clone(keying.database()),
        Arc::new(crate::Unobserved),
    );
    other.recover(at(0));
    assert_eq!(state(&keying, id), (LatchState::Closed, Some(BreakReason::IdentityLost)));
    assert_eq!(settle(&mut other), [broken(id, 5, bob, BreakReason::IdentityLost, None)]);
    keying.recover(at(0));
    assert_eq!(settle(&mut keying), []);
}
