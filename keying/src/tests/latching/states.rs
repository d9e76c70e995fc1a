//! All 25 pairs of states, by the calls (L-16 to L-20): what can be done leads where it may, and elsewhere nothing does.

use latchway_datapath::latching::BreakReason;

use super::*;

/// A latch in this state.
fn in_state(state: LatchState) -> (World, LatchId) {
    let mut world = World::new();
    let latch = match state {
        LatchState::Listener => world.listen(&at_port("10.0.0.1", 25)).unwrap().latch,
        _ => world.connect(&to(1, 5)).unwrap().latch,
    };
    if !matches!(state, LatchState::Listener | LatchState::Larval) {
        world.install(wide("bob", 1, Suite::AES_256_GCM));
    }
    let database = Arc::clone(world.keying.database());
    match state {
        LatchState::Broken => assert!(database.suspend(latch, BreakReason::Conflict, None, world.now)),
        LatchState::Closed => world.keying.close_latch(latch, world.now).unwrap(),
        _ => {}
    }
    assert_eq!(world.state(latch), Some(state));
    (world, latch)
}

/// Whatever makes a latch ESTABLISHED, BROKEN or CLOSED, tried on it. No call makes one a LISTENER or LARVAL.
fn drive(world: &mut World, latch: LatchId, to: LatchState) {
    let database = Arc::clone(world.keying.database());
    match to {
        LatchState::Established => {
            database.restore(latch, world.now);
            let known = world.keying.pairs().first().map(|pair| pair.class);
            let class = known.unwrap_or_else(|| {
                world.install(wide("bob", 1, Suite::AES_256_GCM));
                world.keying.pairs().first().unwrap().class
            });
            database.establish(latch, class, world.now);
        }
        LatchState::Broken => {
            database.suspend(latch, BreakReason::Conflict, None, world.now);
        }
        LatchState::Closed => {
            // Refused for what is CLOSED already.
            let _ = world.keying.close_latch(latch, world.now);
        }
        LatchState::Listener | LatchState::Larval => {
            let _ = (world.listen(&at_port("10.0.0.1", 25)), world.connect(&super::to(1, 5)));
        }
    }
}

#[test]
fn l_16_to_l_20_of_all_25_pairs_exactly_the_legal_ones_can_be_brought_about() {
    let mut made = 0;
    for from in LatchState::ALL {
        for to in LatchState::ALL {
            let (mut world, latch) = in_state(from);
            drive(&mut world, latch, to);
            let after = world.state(latch);
            // What is CLOSED gives way to a new latch of the same connection (L-56), and is gone then.
            let again = matches!(to, LatchState::Listener | LatchState::Larval);
            let replaced = from == LatchState::Closed && again && after.is_none();
            let expected = if from.may_become(to) { to } else { from };
            assert!(replaced || after == Some(expected), "{from:?} -> {to:?}: {after:?}");
            made += u32::from(from.may_become(to));
        }
    }
    assert_eq!(made, 7);
}

/// L-37, R-3: nothing changes the parameters of a latch in force, neither SAs nor policy nor calls.
#[test]
fn l_37_parameters_never_change_while_a_latch_lives() {
    let (mut world, latch) = in_state(LatchState::Established);
    let parameters = |world: &World| world.keying.inquire_latch(latch).unwrap().parameters;
    let before = parameters(&world);
    let pair = world.keying.pairs().first().unwrap().id;
    let successor = world.keying.rekey(pair, keys(0x9000, Suite::AES_256_GCM), world.now).unwrap();
    world.poll();
    world.keying.commit(crate::Transaction::replace(pair, successor), world.now).unwrap();
    assert!(world.connect(&to(1, 5)).is_err());
    world.pass(3);
    assert_eq!(parameters(&world), before, "R-2");
    let gone = crate::Transaction::new(vec![crate::Op::Remove(pair), crate::Op::Remove(successor)]);
    world.keying.commit(gone, world.now).unwrap();
    world.pass(300);
    assert_eq!((parameters(&world), world.state(latch)), (before, Some(LatchState::Established)), "R-3");
}
