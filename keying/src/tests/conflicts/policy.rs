//! What a change of policy breaks, and what a dry run says of it (L-45, L-75 to L-77).

use super::*;

/// L-75, L-76, L-77, C-24, T37 j: a change of policy breaks what it would change, by whatever call it comes, unless the
/// latch is to be preserved; and touches nothing else.
#[test]
fn l_76_l_77_c_24_t37_j_a_latch_that_policy_would_change_is_broken_before_or_preserved() {
    let by_calls: [fn(&mut Keying, Action); 4] = [
        |keying, action| {
            keying.add_rule(vec![rule(action)], None).unwrap();
        },
        |keying, action| {
            let spd = Spd::new(vec![rule(action)]);
            keying.commit(Transaction::new(vec![Op::SetSpd(spd)]), at(0)).unwrap();
        },
        |keying, action| {
            let rules = Some(vec![rule(action), rule(Action::Discard)]);
            keying.begin_change(Change { rules, ..Change::default() }, at(0)).unwrap();
        },
        |keying, action| {
            let number = keying.add_rule(vec![rule(PROTECT)], None).unwrap();
            settle(keying);
            keying.commit(Transaction::new(vec![Op::SetSpd(Spd::new(vec![rule(action)]))]), at(0)).unwrap();
            settle(keying);
            keying.delete_rule(number).unwrap();
        },
    ];
    let serves = |reqid| Action::Protect(Protection { reqid: Some(Reqid(reqid)), ..Protection::UNLATCHED });
    for (place, call) in by_calls.iter().enumerate() {
        for (action, breaks) in [
            (Action::Bypass, true),
            (Action::Discard, true),
            (serves(9), true),
            (serves(1), false),
            (Action::Protect(Protection::LATCHED), false),
        ] {
            let mut keying = keying();
            let (_, bob) = joined(&mut keying, "bob", 0x1000);
            assert_eq!(configure(&mut keying, vec![rule(PROTECT)]), []);
            let preserved = LatchTerms { on_policy_change: OnPolicyChange::Preserve, ..STRICT };
            let (id, kept) = (latch(&keying, 5, bob, STRICT), latch(&keying, 6, bob, preserved));
            let mut worker = keying.publisher().reader();
            worker.adopt();
            if place < 3 {
                call(&mut keying, action);
                assert!(keying.is_changing());
                let in_force = keying.snapshot().spd.clone();
                keying.poll(at(0));
                assert_eq!((state(&keying, id), keying.snapshot().spd == in_force), (IN_FORCE, true));
                // L-71 for policy: what is about to be keeps latches from being born that it would break.
                assert_eq!(worker.adopt().0.bars(&flow(7), bob, Model::Tag), breaks, "{place} {action:?}");
                keying.poll(at(0));
                assert_eq!(state(&keying, id).0 == LatchState::Broken, breaks, "{place} {action:?}");
                assert_eq!((keying.snapshot().spd == in_force, keying.next_broken()), (breaks, None));
            }
            drop(worker);
            if place == 3 {
                call(&mut keying, action);
            }
            let expected = [broken(id, 5, bob, BreakReason::Policy, None)];
            assert_eq!(settle(&mut keying), expected[..usize::from(breaks)], "{place} {action:?}");
            assert_eq!((state(&keying, kept), keying.is_changing()), (IN_FORCE, false));
            assert_eq!(keying.snapshot().pending, None);
            let view = keying.database().inquire(id).unwrap();
            assert_eq!((view.class, view.terms), (Some(bob), STRICT), "L-37, L-77");
        }
    }
}

/// L-76: only what is about flows of the latch, and one change of policy at a time.
#[test]
fn l_76_policy_for_other_flows_breaks_nothing_and_one_change_waits_for_another() {
    let mut keying = keying();
    let (_, bob) = joined(&mut keying, "bob", 0x1000);
    configure(&mut keying, vec![rule(PROTECT)]);
    let id = latch(&keying, 5, bob, STRICT);
    let ssh = Selector {
        remote_ports: PortRange::new(&(22..=22)),
        ..Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4)
    };
    let number = keying.add_rule(vec![Rule::new(ssh, None, Action::Discard)], None).unwrap();
    assert_eq!(keying.add_rule(vec![rule(Action::Discard)], None), Err(crate::RuleError::Busy));
    assert_eq!(keying.delete_rule(number), Err(crate::RuleError::Busy));
    let spd = Transaction::new(vec![Op::SetSpd(Spd::default())]);
    assert_eq!(keying.commit(spd, at(0)), Err(crate::CommitError::Busy));
    assert_eq!((settle(&mut keying), state(&keying, id)), (vec![], IN_FORCE));
    keying.delete_rule(number).unwrap();
    assert_eq!((settle(&mut keying), state(&keying, id)), (vec![], IN_FORCE));
}

/// L-45, L-76: a dry run says what would break, by its pairs and by its policy, each once.
#[test]
fn a_dry_run_says_which_connections_would_break() {
    let mut keying = keying();
    let (pair, bob) = joined(&mut keying, "bob", 0x1000);
    configure(&mut keying, vec![rule(PROTECT)]);
    for port in 1..=150 {
        latch(&keying, port, bob, STRICT);
    }
    let add = || vec![NewPair { proposal: proposal("mallory"), keys: keys(0x1001, Suite::AES_128_GCM) }];
    let rules = || Some(vec![rule(Action::Bypass)]);
    for change in [
        Change { add: add(), ..Change::default() },
        Change { rules: rules(), ..Change::default() },
        Change { add: add(), rules: rules(), remove: vec![pair], ..Change::default() },
    ] {
        let outline = keying.check_change(&change).unwrap();
        assert_eq!((outline.breaks, outline.breaking.len()), (150, 100));
    }
    let same = Proposal { reqid: Reqid(1), ..proposal("bob") };
    let again = Keys { start: Start::Standby, ..keys(0x1002, Suite::AES_128_GCM) };
    let change = Change { add: vec![NewPair { proposal: same, keys: again }], ..Change::default() };
    assert_eq!(keying.check_change(&change).unwrap().breaks, 0);
}
