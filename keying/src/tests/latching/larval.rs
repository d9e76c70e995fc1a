//! LARVAL latches (C-20, L-38, L-39, L-58 to L-63): what they wait for, how long, and what they ask for.

use std::time::Duration;

use latchway_datapath::latching::BreakReason;
use latchway_tagging::Mode;

use super::*;
use crate::latching::{AlertKind, Parameters};
use crate::testing::fqdn;

/// C-20: LARVAL for 75 seconds, and not longer.
#[test]
fn c_20_a_larval_latch_is_given_up_after_75_seconds_and_its_holder_told() {
    let mut world = World::new();
    let latch = world.connect(&to(1, 5)).unwrap().latch;
    world.pass(74);
    assert_eq!((world.state(latch), world.told()), (Some(LatchState::Larval), vec![]), "L-38");
    world.pass(2);
    let told: Vec<_> = world.told().iter().map(|alert| (alert.state, alert.reason)).collect();
    assert_eq!(told, [(LatchState::Closed, Some(BreakReason::TimedOut))]);
    assert!(world.connect(&to(1, 5)).is_ok(), "L-56: the tuple is free again");
}

/// L-60, D.7: one ACQUIRE, then fewer and fewer; none where the SAs are there.
#[test]
fn l_60_providers_are_asked_once_and_then_less_and_less_often() {
    let mut world = World::new();
    world.connect(&to(1, 5)).unwrap();
    let mut asked = Vec::new();
    for second in 0..80 {
        asked.extend(world.wanted().into_iter().map(|wanted| (second, wanted.flow)));
        world.pass(1);
    }
    let at: Vec<_> = asked.iter().map(|(second, _)| *second).collect();
    assert_eq!(at, [0, 1, 3, 7, 15, 31, 63]);
    assert!(asked.iter().all(|(_, of)| *of == flow(1, 5)));
    let mut world = World::new();
    world.install(wide("bob", 1, Suite::AES_256_GCM));
    world.connect(&to(1, 5)).unwrap();
    assert_eq!(world.wanted(), vec![]);
}

/// R-8, L-54: what is asked goes to whoever makes SAs, and a quality of one's own means SAs of one's own.
#[test]
fn r_8_a_provider_learns_what_is_asked_and_whether_the_sas_are_for_it_alone() {
    let mut world = World::new();
    world.connect(&to(3, 5)).unwrap();
    let [plain] = world.wanted().try_into().unwrap();
    assert!(plain.rule.is_some() && plain.constraints.is_some_and(|asked| asked.is_empty()));
    let asked = Constraints { peer: Some(fqdn("walter")), ..suites(&[Suite::AES_256_GCM]) };
    world.connect(&asking(3, 6, asked.clone())).unwrap();
    let [narrow] = world.wanted().try_into().unwrap();
    assert_eq!((narrow.rule, narrow.peer), (None, Some(fqdn("walter"))));
    assert_eq!(narrow.constraints.as_deref(), Some(&asked));
}

/// L-28, L-58, L-59, L-63, R-5: LARVAL first, and with everything given and there, ESTABLISHED at once; parameters are the SA's.
#[test]
fn l_58_l_59_l_63_a_latch_takes_its_parameters_from_the_sa_that_serves_it() {
    let mut world = World::new();
    world.install(wide("peer3", 3, Suite::AES_256_GCM));
    let plain = world.connect(&to(3, 5)).unwrap();
    assert_eq!(plain.state, LatchState::Larval);
    let complete = Constraints {
        mode: Some(Mode::Tunnel),
        replay_checked: true,
        peer: Some(fqdn("peer3")),
        local: Some(fqdn("here")),
        ..suites(&[Suite::AES_256_GCM])
    };
    let made = world.connect(&asking(3, 6, complete.clone())).unwrap();
    assert_eq!(
        (made.state, world.state(made.latch)),
        (LatchState::Established, Some(LatchState::Established))
    );
    let other = Constraints { suites: vec![Suite::AES_128_GCM], ..complete };
    assert_eq!(world.connect(&asking(3, 7, other)).unwrap().state, LatchState::Larval);
    world.poll();
    let inquiry = world.keying.inquire_latch(plain.latch).unwrap();
    let Parameters::Latched { class, peer, local, .. } = inquiry.parameters else { panic!("not latched") };
    assert_eq!((class.mode, class.replay_checked), (Mode::Tunnel, true));
    assert_eq!((peer.record.asserted, peer.entry.as_deref()), (fqdn("peer3"), Some("peer3")));
    assert_eq!((local.record.asserted, local.entry), (fqdn("here"), None));
    assert_eq!(inquiry.path.map(|path| path.to), Some(crate::testing::path(4500).to), "R-5");
    assert_eq!(inquiry.sa, Some(world.keying.pairs()[0].outbound.sa));
    assert!(inquiry.fit_for_channel_binding, "L-105: its holder asked for it");
}

/// L-13, L-63, L-33, L-82: each thing that can be asked keeps a latch LARVAL under SAs that are not so, and not under those that are.
#[test]
fn l_54_l_63_only_sas_that_are_what_was_asked_establish_a_latch() {
    let with = |constraints: Constraints| constraints;
    let default = Constraints::default;
    for (asked, no, yes) in [
        (
            suites(&[Suite::AES_256_GCM, Suite::CHACHA20_POLY1305]),
            Suite::AES_128_GCM,
            Suite::CHACHA20_POLY1305,
        ),
        (with(Constraints { key_bits: 256, ..default() }), Suite::AES_128_GCM, Suite::AES_256_GCM),
        (
            suites(&[Suite::AES_256_CBC_HMAC_SHA_256]),
            Suite::AES_128_CBC_HMAC_SHA_256,
            Suite::AES_256_CBC_HMAC_SHA_256,
        ),
    ] {
        for (suite, state) in [(no, LatchState::Larval), (yes, LatchState::Established)] {
            let mut world = World::new();
            world.install(wide("peer3", 3, suite));
            let latch = world.connect(&asking(3, 5, asked.clone())).unwrap().latch;
            world.pass(2);
            assert_eq!(world.state(latch), Some(state), "{asked:?} {suite}");
        }
    }
    let identity = |peer: &str| Constraints { peer: Some(fqdn(peer)), ..Constraints::default() };
    let least = |method| Constraints { standing: Some(method), ..Constraints::default() };
    let by_secret = Proposal { method: AuthMethod::PreSharedKey, ..wide("walter", 3, Suite::AES_256_GCM) };
    let unchecked = Proposal { replay_checked: false, ..wide("peer3", 3, Suite::AES_256_GCM) };
    for (asked, no, yes) in [
        (identity("walter"), wide("peer3", 3, Suite::AES_256_GCM), Some(by_secret.clone())),
        (least(AuthMethod::PreSharedKey), wide("peer3", 3, Suite::AES_256_GCM), Some(by_secret)),
    ] {
        for (terms, state) in [(Some(no), LatchState::Larval), (yes, LatchState::Established)] {
            let mut world = World::new();
            if let Some(terms) = terms {
                world.install(terms);
            }
            let latch = world.connect(&asking(3, 5, asked.clone())).unwrap().latch;
            world.pass(2);
            assert_eq!(world.state(latch), Some(state), "{asked:?}");
        }
    }
    assert!(!unchecked.replay_checked);
}

/// L-34, L-75: what policy gave is looked at again when there are SAs, for it may have become another meanwhile.
#[test]
fn l_75_a_larval_latch_is_not_established_against_the_policy_in_force_by_then() {
    for (action, reason) in [
        (Action::Discard, Some(BreakReason::Policy)),
        (Action::Bypass, Some(BreakReason::Policy)),
        (Action::Protect(Protection::LATCHED), None),
    ] {
        let mut world = World::new();
        let latch = world.connect(&to(3, 5)).unwrap().latch;
        world.rules(vec![Rule::new(
            Selector::between(range("10.0.0.0", "10.0.0.255"), network(3)),
            None,
            action,
        )]);
        assert_eq!(world.state(latch), Some(LatchState::Larval));
        world.install(wide("peer3", 3, Suite::AES_256_GCM));
        let inquiry = world.keying.inquire_latch(latch).unwrap().latch;
        let state = if reason.is_some() { LatchState::Closed } else { LatchState::Established };
        assert_eq!((inquiry.state, inquiry.reason), (state, reason), "{action:?}");
    }
}

/// several qualities would do, so none is told before there is an SA.
#[test]
fn r_7_a_quality_that_is_not_decided_is_told_as_indeterminate() {
    let mut world = World::new();
    let parameters = |world: &World, latch| world.keying.inquire_latch(latch).unwrap().parameters;
    let several =
        world.connect(&asking(3, 5, suites(&[Suite::AES_128_GCM, Suite::AES_256_GCM]))).unwrap().latch;
    let any = world.connect(&to(3, 6)).unwrap().latch;
    let one = world.connect(&asking(3, 7, suites(&[Suite::AES_256_GCM]))).unwrap().latch;
    assert_eq!(parameters(&world, several), Parameters::Indeterminate);
    assert_eq!(parameters(&world, any), Parameters::Indeterminate);
    assert_eq!(parameters(&world, one), Parameters::Wanted);
    world.install(wide("peer3", 3, Suite::AES_256_GCM));
    for latch in [several, any, one] {
        assert!(matches!(parameters(&world, latch), Parameters::Latched { .. }));
    }
}

/// L-39: only where it was asked for, once, and again only after there was an SA.
#[test]
fn l_39_whoever_wants_to_know_is_told_that_no_sa_serves_its_latch() {
    let mut world = World::new();
    let report_after = Some(Duration::from_secs(10));
    let latch = world.connect(&ConnectionRequest { report_after, ..to(1, 5) }).unwrap().latch;
    world.connect(&to(1, 6)).unwrap();
    world.pass(9);
    assert_eq!(world.told(), vec![]);
    world.pass(20);
    let told = world.told();
    assert_eq!(
        told.iter().map(|alert| (alert.latch, alert.kind)).collect::<Vec<_>>(),
        [(latch, AlertKind::Unserved)]
    );
    assert_eq!(world.state(latch), Some(LatchState::Larval), "L-38: it stays as it is");
    let pair = world.install(wide("bob", 1, Suite::AES_256_GCM));
    world.pass(2);
    world.told();
    let gone = crate::Transaction::new(vec![crate::Op::Remove(pair)]);
    world.keying.commit(gone, world.now).unwrap();
    world.pass(8);
    assert_eq!(world.told(), vec![]);
    world.pass(10);
    let told = world.told();
    assert_eq!(
        told.iter().map(|alert| (alert.latch, alert.kind)).collect::<Vec<_>>(),
        [(latch, AlertKind::Unserved)]
    );
    assert_eq!(world.state(latch), Some(LatchState::Established), "R-3: it outlives its SAs");
}

/// L-14: who asks for nothing gets the SAs that policy would choose, and no others, however good.
#[test]
fn l_14_who_asks_for_nothing_gets_what_policy_says() {
    let mut world = World::new();
    let terms = LatchTerms { model: Model::Tag, ..LatchTerms::default() };
    let action =
        Action::Protect(Protection { reqid: Some(Reqid(7)), template: None, latching: Latching::On(terms) });
    let rule = Rule::new(Selector::between(range("10.0.0.0", "10.0.0.255"), network(3)), None, action);
    let change = Change { rules: Some(vec![rule]), ..Change::default() };
    world.keying.begin_change(change, world.now).unwrap();
    world.poll();
    let latch = world.connect(&to(3, 5)).unwrap().latch;
    world.install(Proposal { reqid: Reqid(8), ..wide("rival3", 3, Suite::AES_256_GCM) });
    assert_eq!(world.state(latch), Some(LatchState::Larval));
    let pair = world.install(Proposal { reqid: Reqid(7), ..wide("peer3", 3, Suite::AES_128_GCM) });
    let class = world.keying.pairs().iter().find(|view| view.id == pair).unwrap().class;
    let parameters = world.keying.inquire_latch(latch).unwrap().parameters;
    assert!(matches!(parameters, Parameters::Latched { id, .. } if id == class), "{parameters:?}");
}
