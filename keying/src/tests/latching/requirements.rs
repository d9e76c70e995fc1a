//! What is required of sockets, measured at what there is (Q-44, L-33).

use latchway_tagging::Mode;
use latchway_ulp_shim::{ConstraintId, RequirementId};

use super::*;
use crate::Parameters;

/// Requires this of a socket that is not connected.
fn require(world: &mut World, id: u64, constraints: Constraints) -> Result<ConstraintId, LatchError> {
    let somewhere = FlowKey::new(protocol::TCP, ([10, 0, 0, 1], 5).into(), ([0, 0, 0, 0], 0).into());
    world.keying.require(RequirementId(id), &constraints, Some(&somewhere))
}

fn of(peer: &str) -> Constraints {
    Constraints { peer: Some(crate::testing::fqdn(peer)), ..Constraints::default() }
}

/// Whether SAs with a network are what is required by a number.
fn accepts(world: &World, net: u8, number: ConstraintId) -> bool {
    match world.keying.inquire_flow(&flow(net, 5)).parameters {
        Some(Parameters::Latched { id, .. }) => world.keying.database().peers().accepts(id, number),
        _ => false,
    }
}

#[test]
fn q_44_every_class_is_measured_by_what_is_required_whichever_came_first() {
    let mut world = World::new();
    let bob = require(&mut world, 1, of("bob")).unwrap();
    world.install(wide("bob", 1, Suite::AES_256_GCM));
    world.install(wide("peer8", 8, Suite::AES_256_GCM));
    let other = require(&mut world, 2, of("peer8")).unwrap();
    assert_ne!(bob, other);
    assert_eq!([1, 8].map(|net| accepts(&world, net, bob)), [true, false]);
    assert_eq!([1, 8].map(|net| accepts(&world, net, other)), [false, true]);
    assert_eq!(require(&mut world, 3, of("BOB")), Ok(bob), "one spelling, one number");
    // After the key manager was ended in the middle of something.
    world.keying.recover(at(1));
    assert_eq!([1, 8].map(|net| accepts(&world, net, bob)), [true, false]);
    assert!(world.keying.unrequire(RequirementId(1)) && !world.keying.unrequire(RequirementId(1)));
    assert_eq!(require(&mut world, 4, of("bob")), Ok(bob), "somebody requires it yet");
    for id in [3, 4] {
        assert!(world.keying.unrequire(RequirementId(id)));
    }
    assert_ne!(require(&mut world, 5, of("bob")), Ok(bob), "a worker may have the number in hand yet");
}

#[test]
fn l_10_l_11_l_31_methods_keys_anchors_and_headers_are_part_of_what_is_required() {
    let mut world = World::new();
    world.install(wide("peer8", 8, Suite::AES_256_GCM));
    let plain = Constraints::default;
    for (number, (constraints, met)) in [
        (Constraints { methods: vec![AuthMethod::Manual], ..plain() }, true),
        (Constraints { methods: vec![AuthMethod::Certificate, AuthMethod::Manual], ..plain() }, true),
        (Constraints { key: Some([7; 32]), ..plain() }, false),
        (Constraints { anchor: Some([7; 32]), ..plain() }, false),
        (Constraints { options_protected: true, ..plain() }, true),
        (Constraints { mode: Some(Mode::Transport), ..plain() }, false),
        (Constraints { replay_checked: true, ..plain() }, true),
        (protected(Asked::Confidential), true),
        (suites(&[Suite::AES_128_GCM]), false),
    ]
    .into_iter()
    .enumerate()
    {
        let id = require(&mut world, number as u64, constraints.clone()).unwrap();
        assert_eq!(accepts(&world, 8, id), met, "{:?}", constraints.demands());
    }
}

#[test]
fn q_44_what_no_peer_could_be_is_refused_and_so_is_what_a_requirement_cannot_do() {
    let mut world = World::new();
    let key_and_anchor = Constraints { key: Some([7; 32]), anchor: Some([7; 32]), ..Constraints::default() };
    for constraints in [protected(Asked::Bypass), key_and_anchor, Constraints::default()] {
        assert!(matches!(require(&mut world, 1, constraints), Err(LatchError::Contradiction(_))));
    }
    assert!(matches!(require(&mut world, 1, of("nobody")), Err(LatchError::PadForbids { .. })));
    let there = world.keying.require(RequirementId(1), &of("bob"), Some(&flow(8, 5)));
    assert!(matches!(there, Err(LatchError::PadForbids { .. })), "bob is elsewhere");
    assert!(!world.keying.unrequire(RequirementId(1)));
}

#[test]
fn q_44_there_are_so_many_different_requirements_and_no_more() {
    let mut world = World::new();
    let bits = |bits: u64| Constraints { key_bits: bits as u16, ..Constraints::default() };
    for number in 1..=63 {
        require(&mut world, number, bits(number)).unwrap();
    }
    assert_eq!(require(&mut world, 64, bits(64)), Err(LatchError::TooManyConstraints(63)));
    require(&mut world, 65, bits(63)).unwrap();
    assert!(world.keying.unrequire(RequirementId(1)));
    require(&mut world, 64, bits(64)).unwrap();
}

/// L-33: what is on record holds though the PAD lets nobody be that any more: then nothing is as required.
#[test]
fn l_33_what_is_on_record_is_not_judged_again() {
    let mut world = World::new();
    assert!(matches!(require(&mut world, 1, of("nobody")), Err(LatchError::PadForbids { .. })));
    assert!(world.keying.require(RequirementId(1), &of("nobody"), None).is_ok());
    assert!(world.keying.unrequire(RequirementId(1)));
}
