//! Who may take a latch's place: by its terms, by standing, and by what can be left out (L-70, L-73, L-110).

use super::*;

/// L-110: by the terms of the latch.
#[test]
fn l_110_a_latch_may_stand_or_have_the_newcomer_refused() {
    let mut keying = keying();
    let (_, bob) = joined(&mut keying, "bob", 0x1000);
    let terms = |on_conflict| LatchTerms { on_conflict, ..STRICT };
    let stands = latch(&keying, 5, bob, terms(OnConflict::DropNewcomer));
    let offer = keying.propose(proposal("mallory"), at(0)).unwrap();
    assert_eq!(offer.latches_that_would_break, []);
    let keeps = latch(&keying, 6, bob, terms(OnConflict::RejectNewcomer));
    let refusal = keying.propose(proposal("mallory"), at(0)).unwrap_err();
    assert_eq!(refusal, Refusal::HolderKeeps { flow: flow(6), holder: "fqdn:bob".to_owned() });
    assert!(refusal.to_string().contains("10.0.0.1:6 with 10.1.0.1:80 is latched to fqdn:bob"), "{refusal}");
    // The offer stands, and is looked at again when it is made real.
    let pair = keying.install(offer.ticket, keys(0x1001, Suite::AES_128_GCM), at(0)).unwrap();
    let progress = keying.poll(at(0));
    assert_eq!(progress.refused, [(pair, InstallError::LatchStands(flow(6)))]);
    assert_eq!((keying.pairs().len(), keying.snapshot().sad.iter().count()), (1, 2));
    keying.database().close(keeps, BreakReason::Administrative, at(0));
    let (pair, _) = joined(&mut keying, "mallory", 0x1002);
    assert_eq!(keying.pairs().last().map(|view| (view.id, view.usage)), Some((pair, Usage::Active)));
    assert_eq!((state(&keying, stands), told(&mut keying)), (IN_FORCE, vec![]));
}

/// L-70: BTNS and leap of faith break nobody's latch who proved more.
#[test]
fn l_70_a_peer_of_lesser_standing_is_refused_and_one_of_greater_is_not() {
    let with = |methods: [AuthMethod; 2]| {
        let mut entries = vec![
            entry(1, "bob", "10.1.0.0", "10.1.0.255"),
            entry(2, "mallory", "10.1.0.0", "10.1.0.255"),
            entry(3, "carol", "10.3.0.0", "10.3.0.255"),
        ];
        for (entry, method) in entries.iter_mut().zip(methods) {
            entry.methods = vec![method];
        }
        let mut keying = keying();
        let change = Change { pad: Some(Pad::new(entries).unwrap()), ..Change::default() };
        keying.begin_change(change, at(0)).unwrap();
        settle(&mut keying);
        let of = |peer, method| Proposal { method, ..proposal(peer) };
        let offer = keying.propose(of("bob", methods[0]), at(0)).unwrap();
        let bob = offer.class;
        keying.install(offer.ticket, keys(0x1000, Suite::AES_128_GCM), at(0)).unwrap();
        settle(&mut keying);
        latch(&keying, 5, bob, STRICT);
        let newcomer = of("mallory", methods[1]);
        let narrowed = Proposal { narrowing: Narrowing::Allowed, ..newcomer.clone() };
        assert_eq!(
            keying.propose(newcomer.clone(), at(0)).is_ok(),
            keying.propose(narrowed, at(0)).is_ok(),
            "nothing is narrowed for whom everything is refused"
        );
        let add = vec![NewPair { proposal: newcomer.clone(), keys: keys(0x1001, Suite::AES_128_GCM) }];
        let checked = keying.check_change(&Change { add, ..Change::default() });
        let proposed = keying.propose(newcomer, at(0)).map(|offer| offer.latches_that_would_break.len());
        match (&checked, &proposed) {
            (Ok(outline), Ok(breaks)) => assert_eq!((outline.breaks, *breaks), (1, 1)),
            (Err(error), Err(refusal)) => {
                assert_eq!(error.faults[0].problem, Problem::Refused(refusal.clone()));
            }
            other => panic!("{other:?}"),
        }
        proposed
    };
    use AuthMethod::{LeapOfFaith, Manual, PreSharedKey};
    let refusal = with([PreSharedKey, Manual]).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::LesserStanding {
            flow: flow(5),
            holder: "fqdn:bob".into(),
            needed: PreSharedKey,
            offered: Manual
        }
    );
    assert!(refusal.to_string().contains("proven by pre-shared-key"), "{refusal}");
    assert_eq!(with([Manual, PreSharedKey]), Ok(1));
    assert_eq!(with([Manual, Manual]), Ok(1), "L-109");
    assert!(matches!(
        with([Manual, LeapOfFaith]),
        Err(Refusal::LesserStanding { .. } | Refusal::Evidence(_))
    ));
}

/// L-73, C-25: narrowed where that is allowed and possible, and never on a rekey.
#[test]
fn l_62_l_73_c_25_a_proposal_is_narrowed_around_latches() {
    let mut keying = keying();
    let (_, bob) = joined(&mut keying, "bob", 0x1000);
    let id = latch(&keying, 5, bob, STRICT);
    let narrowed = |peer: &str| Proposal { narrowing: Narrowing::Allowed, ..proposal(peer) };
    let offer = keying.propose(narrowed("mallory"), at(0)).unwrap();
    assert_eq!(offer.latches_that_would_break, []);
    let admits = |flow: &FlowKey| offer.selectors.iter().any(|selector| selector.admits(&Traffic::of(flow)));
    assert!(!admits(&flow(5)) && admits(&flow(6)));
    let pair = keying.install(offer.ticket, keys(0x1001, Suite::AES_128_GCM), at(0)).unwrap();
    assert_eq!((settle(&mut keying), state(&keying, id)), (vec![], IN_FORCE));
    assert!(!keying.snapshot().bars(&flow(5), bob, Model::Strict));
    // A rekey has the selectors that there were, whatever is latched by then.
    let before = keying.pairs().last().unwrap().selectors.clone();
    let next = keying.rekey(pair, keys(0x1002, Suite::AES_128_GCM), at(0)).unwrap();
    settle(&mut keying);
    assert_eq!(keying.pairs().iter().find(|view| view.id == next).unwrap().selectors, before);
    // More connections than selectors can leave out: they break.
    let ids: Vec<_> = (1000..1800).step_by(2).map(|port| latch_of(&keying, port, bob)).collect();
    let offer = keying.propose(narrowed("mallory"), at(0)).unwrap();
    assert_eq!(offer.latches_that_would_break.len(), ids.len() + 1);
}
