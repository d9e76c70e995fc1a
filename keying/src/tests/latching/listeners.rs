//! Listener latches (L-46 to L-53, C-22), and those that come of them.

use latchway_datapath::event::Event;
use latchway_datapath::latching::BreakReason;
use latchway_datapath::traffic::Traffic;

use super::*;
use crate::latching::AlertKind;

/// L-52, L-53, C-22: SAs for one connection make its latch when they come into force, and the holder is told; L-86: whoever
/// rejects the connection takes the latch away.
#[test]
fn l_52_l_53_c_22_narrow_sas_for_a_listener_make_a_latch() {
    let mut world = World::new();
    let listener = world.listen(&at_port("10.0.0.1", 25)).unwrap().latch;
    world.install(wide("bob", 1, Suite::AES_256_GCM));
    assert_eq!((world.told(), world.keying.find_latch(&flow(1, 25))), (vec![], None), "wide ones make none");
    world.install(narrow("bob", &flow(1, 26), Suite::AES_256_GCM));
    assert_eq!(world.keying.find_latch(&flow(1, 26)), None, "nobody listens there");
    world.install(narrow("bob", &flow(1, 25), Suite::AES_256_GCM));
    let latch = world.keying.find_latch(&flow(1, 25)).unwrap();
    assert_eq!(world.state(latch), Some(LatchState::Established));
    let told: Vec<_> = world.told().iter().map(|alert| (alert.latch, alert.listener, alert.kind)).collect();
    assert_eq!(told, [(latch, Some(listener), AlertKind::Spawned)]);
    assert_eq!(world.keying.inquire_latch(latch).unwrap().holder, Some(world.holder()), "L-21");
    world.release(latch).unwrap();
    assert_eq!(world.state(latch), None);
}

/// L-71: not while SAs differ. L-46: not by SAs that are not what the listener asks for.
#[test]
fn l_52_l_71_narrow_sas_that_are_not_what_is_asked_or_conflict_make_no_latch() {
    let mut world = World::new();
    let only = |net: u8| Rule {
        freedom: Freedom::Stronger,
        ..Rule::new(
            Selector::between(range("10.0.0.0", "10.0.0.255"), network(net)),
            None,
            Action::Protect(Protection::LATCHED),
        )
    };
    let change = Change { rules: Some(vec![only(3)]), ..Change::default() };
    world.keying.begin_change(change, world.now).unwrap();
    world.poll();
    let asked = ListenerRequest { constraints: suites(&[Suite::AES_256_GCM]), ..at_port("10.0.0.1", 25) };
    world.listen(&asked).unwrap();
    world.install(narrow("peer3", &flow(3, 25), Suite::AES_128_GCM));
    assert_eq!(world.keying.find_latch(&flow(3, 25)), None);
    world.listen(&at_port("10.0.0.1", 26)).unwrap();
    world.install(wide("rival3", 3, Suite::AES_256_GCM));
    world.install(narrow("peer3", &flow(3, 26), Suite::AES_256_GCM));
    assert_eq!(world.keying.find_latch(&flow(3, 26)), None);
}

/// D.4, L-48: the listener of the address comes before that of any address; L-85: its teardown ends its latch, and none of
/// those that came of it.
#[test]
fn d_4_the_listener_of_an_address_comes_before_that_of_any() {
    let mut world = World::new();
    let any = world.listen(&at_port("0.0.0.0", 25)).unwrap().latch;
    let one = world.listen(&at_port("10.0.0.1", 25)).unwrap().latch;
    let spawned_by = |world: &mut World, to: &FlowKey| {
        world.install(narrow("bob", to, Suite::AES_256_GCM));
        world.told().iter().find_map(|alert| alert.listener)
    };
    assert_eq!(spawned_by(&mut world, &flow(1, 25)), Some(one));
    let elsewhere = FlowKey::new(6, "10.0.0.2:25".parse().unwrap(), "10.1.0.2:9".parse().unwrap());
    assert_eq!(spawned_by(&mut world, &elsewhere), Some(any));
    world.release(one).unwrap();
    assert_eq!(world.state(one), None);
    assert!(world.keying.find_latch(&flow(1, 25)).is_some());
}

/// L-42, L-53: of a latch that a worker made of the first packet, the holder hears, too, and of what becomes of it.
#[test]
fn l_53_the_holder_hears_of_what_workers_make_for_its_listener() {
    let mut world = World::new();
    let listener = world.listen(&at_port("10.0.0.1", 25)).unwrap().latch;
    let pair = world.install(wide("bob", 1, Suite::AES_256_GCM));
    let class = world.keying.pairs().iter().find(|view| view.id == pair).unwrap().class;
    let latch = LatchId::from_raw(77 << 32);
    world.keying.note(&Event::LatchSpawned { listener, latch, flow: flow(1, 25), class });
    let (reason, latched, offender) = (BreakReason::OtherPeer, Some(class), None);
    world.keying.note(&Event::LatchBroken { latch, flow: flow(1, 25), latched, reason, offender });
    world.poll();
    let told: Vec<_> = world.told().iter().map(|alert| (alert.latch, alert.state, alert.listener)).collect();
    let states = [LatchState::Established, LatchState::Broken];
    assert_eq!(told, states.map(|state| (latch, state, Some(listener))));
}

/// L-46, L-54, L-79: a listener's wishes are a bit of each class before anybody comes, also of classes that come later.
#[test]
fn l_46_workers_see_which_classes_are_what_a_listener_asks_for() {
    let mut world = World::new();
    world.install(wide("bob", 1, Suite::AES_128_GCM));
    let rule = Rule::new(
        Selector::between(range("10.0.0.9", "10.0.0.9"), AddressRange::ANY_V4),
        None,
        Action::Protect(Protection::LATCHED),
    );
    let rules = vec![Rule { freedom: Freedom::Stronger, ..rule }];
    world.keying.begin_change(Change { rules: Some(rules), ..Change::default() }, world.now).unwrap();
    world.poll();
    let asked = ListenerRequest { constraints: suites(&[Suite::AES_256_GCM]), ..at_port("10.0.0.9", 25) };
    let latch = world.listen(&asked).unwrap().latch;
    world.install(wide("bob", 1, Suite::AES_256_GCM));
    let accepted = |world: &World, number| {
        let number = latchway_ulp_shim::ConstraintId::new(number).unwrap();
        let classes = world.keying.pairs();
        let peers = world.keying.database().peers();
        classes.iter().map(|pair| peers.accepts(pair.class, number)).collect::<Vec<_>>()
    };
    assert_eq!(accepted(&world, 1), [false, true]);
    world.release(latch).unwrap();
    let other = ListenerRequest { constraints: suites(&[Suite::AES_128_GCM]), ..asked };
    world.listen(&other).unwrap();
    assert_eq!(accepted(&world, 2), [true, false], "another wish has another number");
    assert_eq!(accepted(&world, 1), [false, false], "and nothing satisfies what nobody asks for");
}

/// L-51, C-32: a proposal that may be narrowed leaves out listeners that ask for something else, and no others.
#[test]
fn l_51_a_proposal_is_narrowed_around_listeners_that_ask_for_something_else() {
    let mut world = World::new();
    let rule = Rule::new(
        Selector::between(range("10.0.0.9", "10.0.0.9"), AddressRange::ANY_V4),
        None,
        Action::Protect(Protection::LATCHED),
    );
    let rules = vec![Rule { freedom: Freedom::Stronger, ..rule }];
    world.keying.begin_change(Change { rules: Some(rules), ..Change::default() }, world.now).unwrap();
    world.poll();
    let asked = ListenerRequest { constraints: suites(&[Suite::AES_256_GCM]), ..at_port("10.0.0.9", 25) };
    world.listen(&asked).unwrap();
    world.listen(&at_port("10.0.0.9", 26)).unwrap();
    let comes = |port| FlowKey::new(6, ([10, 0, 0, 9], port).into(), ([10, 1, 0, 1], 999).into());
    let mut admitted = |suite, narrowing| {
        let proposal = Proposal { narrowing, ..wide("bob", 1, suite) };
        let offer = world.keying.propose(proposal, world.now).unwrap();
        [25, 26, 27]
            .map(|port| offer.selectors.iter().any(|selector| selector.admits(&Traffic::of(&comes(port)))))
    };
    assert_eq!(admitted(Suite::AES_256_GCM, Narrowing::Allowed), [true, true, true]);
    assert_eq!(admitted(Suite::AES_128_GCM, Narrowing::Allowed), [false, true, true]);
    assert_eq!(admitted(Suite::AES_128_GCM, Narrowing::Forbidden), [true, true, true]);
}

/// RFC 4301 section 4.4.1: a listener is no reason to let pass what policy discards, and nor are SAs.
#[test]
fn l_49_l_52_narrow_sas_make_no_latch_of_what_policy_discards() {
    let mut world = World::new();
    world.listen(&at_port("10.0.0.1", 25)).unwrap();
    world.install(narrow("peer7", &flow(7, 25), Suite::AES_256_GCM));
    assert_eq!(world.keying.find_latch(&flow(7, 25)), None);
}

/// T37 g: SAs that a peer brings free no 5-tuple whose connection may live; nor does what they make stay for ever, and
/// keep the holder from latches of its own.
#[test]
fn t37_g_l_104_a_latch_made_for_narrow_sas_takes_nobodys_place_and_lasts_as_others_do() {
    let mut world = World::new();
    world.listen(&at_port("10.0.0.1", 25)).unwrap();
    world.install(narrow("bob", &flow(1, 25), Suite::AES_256_GCM));
    let latch = world.keying.find_latch(&flow(1, 25)).unwrap();
    let database = Arc::clone(world.keying.database());
    assert!(!database.inquire(latch).unwrap().owned);
    world.release(latch).unwrap();
    let tombstone = database.inquire(latch).unwrap();
    world.install(narrow("mallory", &flow(1, 25), Suite::AES_256_GCM));
    let left = database.inquire(latch).unwrap();
    assert_eq!((left.state, left.class), (LatchState::Closed, tombstone.class));
}
