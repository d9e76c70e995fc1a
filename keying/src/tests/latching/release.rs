//! RELEASE_LATCH and optional protection (L-64 to L-66, L-111 to L-118, C-21): what goes, and what stays.

use latchway_datapath::latching::BreakReason;

use super::*;
use crate::Origin;
use crate::latching::Parameters;
use crate::{Notice, RuleError};

/// L-65, L-66, C-21: SAs that were made for the connection alone go, others stay, and the provider is told.
#[test]
fn l_65_l_66_c_21_narrow_sas_go_with_their_latch_and_wide_ones_stay() {
    let mut world = World::new();
    let wide_pair = world.install(wide("bob", 1, Suite::AES_256_GCM));
    let own = world.install(narrow("bob", &flow(1, 5), Suite::AES_256_GCM));
    let other = world.install(narrow("bob", &flow(1, 6), Suite::AES_256_GCM));
    let latch = world.connect(&to(1, 5)).unwrap().latch;
    world.poll();
    world.keying.take_notices().for_each(drop);
    world.release(latch).unwrap();
    let left: Vec<_> = world.keying.pairs().iter().map(|pair| pair.id).collect();
    assert_eq!(left, [wide_pair, other]);
    let removed: Vec<_> = world
        .keying
        .take_notices()
        .filter_map(|notice| match notice {
            Notice::PairRemoved { pair, .. } => Some(pair),
            _ => None,
        })
        .collect();
    assert_eq!(removed, [own]);
    // The same where the owner goes.
    let latch = world.connect(&to(1, 6)).unwrap().latch;
    world.poll();
    assert_eq!(world.state(latch), Some(LatchState::Established));
    let holder = world.holder();
    world.keying.holder_gone(holder, world.now);
    assert_eq!(world.keying.pairs().iter().map(|pair| pair.id).collect::<Vec<_>>(), [wide_pair]);
}

/// L-78, L-111, L-115 to L-118: the entry is there with the latch, and with it gone; an operator sees it and cannot delete it.
#[test]
fn l_111_l_115_to_l_118_an_entry_for_the_connection_comes_and_goes_with_its_latch() {
    let mut world = World::new();
    let before = world.keying.policy();
    let entries = |world: &World| {
        let latched = world.keying.policy().into_iter().filter(|rule| rule.origin == Origin::Latch);
        latched.collect::<Vec<_>>()
    };
    let latch = world.connect(&asking(6, 5, protected(Asked::Authenticated))).unwrap().latch;
    let [entry] = entries(&world).try_into().unwrap();
    assert_eq!(entry.rule.selector.only_flow(), Some(flow(6, 5)));
    assert!(matches!(entry.rule.action, Action::Protect(_)));
    assert_eq!(
        world.keying.policy().first().map(|rule| rule.number),
        Some(entry.number),
        "L-77: at the head"
    );
    assert_eq!(world.keying.inquire_latch(latch).unwrap().entry, Some(entry.clone()));
    assert_eq!(world.keying.delete_rule(entry.number), Err(RuleError::Latched(entry.number)));
    // L-78, L-118: what workers and configuration have is without it.
    assert_eq!(world.keying.snapshot().spd.rules().len(), before.len());
    world.release(latch).unwrap();
    assert_eq!(world.keying.policy(), before);
    // By the deadline as well.
    world.connect(&asking(6, 5, protected(Asked::Confidential))).unwrap();
    world.pass(80);
    assert_eq!(world.keying.policy(), before);
}

/// L-112: a privileged application has its connection in the clear, for as long as it holds the latch.
#[test]
fn l_112_bypass_is_granted_to_one_connection_and_for_as_long_as_its_latch() {
    let mut world = World::new();
    let before = world.keying.policy();
    let created = world.connect(&asking(4, 5, protected(Asked::Bypass))).unwrap();
    assert_eq!(created.state, LatchState::Established);
    assert_eq!(world.wanted(), vec![], "no SA is wanted");
    let inquiry = world.keying.inquire_latch(created.latch).unwrap();
    assert_eq!((inquiry.parameters, inquiry.fit_for_channel_binding), (Parameters::Bypass, false));
    assert_eq!(inquiry.entry.map(|entry| entry.rule.action), Some(Action::Bypass));
    let holder = world.holder();
    world.keying.holder_gone(holder, world.now);
    assert_eq!((world.keying.policy(), world.keying.find_latch(&flow(4, 5))), (before, None));
}

/// L-75, L-112, L-115: a grant goes with the freedom that it rests on, and none is made that a policy about to be would
/// have broken.
#[test]
fn l_75_l_112_a_grant_of_bypass_does_not_outlive_the_policy_that_gave_it() {
    let rule = |action, freedom| Rule {
        freedom,
        ..Rule::new(Selector::between(range("10.0.0.0", "10.0.0.255"), network(4)), None, action)
    };
    let protect = Action::Protect(Protection::LATCHED);
    for next in [rule(protect, Freedom::None), rule(Action::Discard, Freedom::Bypass)] {
        let mut world = World::new();
        let bypass = || asking(4, 5, protected(Asked::Bypass));
        let made = world.connect(&bypass()).unwrap().latch;
        world.rules(vec![next.clone()]);
        assert_ne!(world.state(made), Some(LatchState::Established), "{next:?}");

        let mut world = World::new();
        let change = Change { rules: Some(vec![next.clone()]), ..Change::default() };
        world.keying.begin_change(change, world.now).unwrap();
        assert!(world.connect(&bypass()).is_err(), "{next:?}");
        world.poll();
        assert!(world.connect(&bypass()).is_err());
    }
}

/// L-65: what is latched only by packets goes by its connection, and nobody else releases it.
#[test]
fn l_64_what_packets_made_is_released_by_its_connection_alone() {
    let mut world = World::new();
    let pair = world.install(wide("bob", 1, Suite::AES_256_GCM));
    let class = world.keying.pairs().iter().find(|view| view.id == pair).unwrap().class;
    let begin = latchway_ulp_shim::Begin::Established { class, version: Default::default() };
    let database = Arc::clone(world.keying.database());
    let latch = database.connect(&flow(1, 5), begin, LatchTerms::default(), world.now).unwrap();
    assert_eq!(world.release(latch), Err(LatchError::NotHolder(latch)));
    let inquiry = world.keying.inquire_latch(latch).unwrap();
    assert_eq!(
        (inquiry.holder, inquiry.constraints, inquiry.fit_for_channel_binding),
        (None, None, false),
        "L-43"
    );
    // an administrator closes it all the same.
    world.keying.close_latch(latch, world.now).unwrap();
    let closed = world.keying.inquire_latch(latch).unwrap().latch;
    assert_eq!((closed.state, closed.reason), (LatchState::Closed, Some(BreakReason::Administrative)));
    assert_eq!(world.keying.close_latch(latch, world.now), Err(LatchError::UnknownLatch(latch)));
}

/// a connection that ended by itself has no latch any more, and whoever holds it hears of that.
#[test]
fn r_16_the_end_of_a_connection_closes_its_latch() {
    let mut world = World::new();
    world.install(wide("bob", 1, Suite::AES_256_GCM));
    let latch = world.connect(&to(1, 5)).unwrap().latch;
    world.poll();
    world.told();
    let database = Arc::clone(world.keying.database());
    assert!(database.ended(latch, world.now));
    world.pass(1);
    let told: Vec<_> = world.told().iter().map(|alert| (alert.state, alert.reason)).collect();
    assert_eq!(told, [(LatchState::Closed, Some(BreakReason::ConnectionEnded))]);
    assert!(world.connect(&to(1, 5)).is_ok(), "L-56");
}

/// L-43, L-105, L-121: a channel may be bound to a latch in force that somebody holds, for as long as it is; to nothing else.
#[test]
fn l_43_l_105_l_121_only_a_latch_in_force_that_somebody_holds_is_fit_for_channel_binding() {
    let mut world = World::new();
    let fit = |world: &World, latch| world.keying.inquire_latch(latch).unwrap().fit_for_channel_binding;
    let listener = world.listen(&at_port("10.0.0.1", 25)).unwrap().latch;
    let latch = world.connect(&to(1, 5)).unwrap().latch;
    assert!(!fit(&world, listener) && !fit(&world, latch), "nothing protects it yet");
    let pair = world.install(wide("bob", 1, Suite::AES_256_GCM));
    assert!(fit(&world, latch));
    let class = world.keying.pairs().iter().find(|view| view.id == pair).unwrap().class;
    let database = Arc::clone(world.keying.database());
    let begin = latchway_ulp_shim::Begin::Established { class, version: Default::default() };
    let inferred = database.connect(&flow(1, 6), begin, LatchTerms::default(), world.now).unwrap();
    assert!(!fit(&world, inferred), "as good, but nobody's");
    let spawned = database.spawn(&flow(1, 7), class, LatchTerms::default(), world.now).unwrap();
    assert!(fit(&world, spawned), "the listener's holder asked for it");
    assert!(database.suspend(latch, BreakReason::Conflict, None, world.now));
    assert!(!fit(&world, latch));
    assert!(database.restore(latch, world.now));
    assert!(fit(&world, latch));
    world.keying.close_latch(latch, world.now).unwrap();
    assert!(!fit(&world, latch));
}

/// L-41: what was made for a connection that ended by itself goes when its latch is let go of, and not what the next
/// connection of the 5-tuple has by then.
#[test]
fn l_41_narrow_sas_go_with_a_connection_that_ended_by_itself() {
    for again in [false, true] {
        let mut world = World::new();
        let wide_pair = world.install(wide("bob", 1, Suite::AES_256_GCM));
        let own = world.install(narrow("bob", &flow(1, 5), Suite::AES_256_GCM));
        let latch = world.connect(&to(1, 5)).unwrap().latch;
        world.poll();
        let database = Arc::clone(world.keying.database());
        assert!(database.ended(latch, world.now));
        world.pass(2);
        assert_eq!(world.keying.pairs().len(), 2, "a reset may be on its way");
        if again {
            world.connect(&to(1, 5)).unwrap();
        }
        world.pass(database.limits().msl.as_secs() * 2 + 2);
        let left: Vec<_> = world.keying.pairs().iter().map(|pair| pair.id).collect();
        assert_eq!(left, if again { vec![wide_pair, own] } else { vec![wide_pair] });
    }
}
