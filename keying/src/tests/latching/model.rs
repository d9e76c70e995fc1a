//! Random calls by several holders against a naive model of who holds what (L-21, L-44, L-56, L-64).

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Call {
    Open,
    Gone(usize),
    Drop(usize),
    Connect(usize, u16),
    Listen(usize, u16),
    Release(usize, usize),
    Close(usize),
    Pass(u64),
    Sas,
}

/// What must be true, kept as plainly as can be: of each latch its holder, tuple, and until when it is LARVAL.
#[derive(Default)]
struct Model {
    latches: BTreeMap<LatchId, Naive>,
    /// SAs for everything are there.
    served: bool,
}

struct Naive {
    holder: Holder,
    flow: FlowKey,
    state: LatchState,
    /// When it changes by itself.
    until: Time,
}

fn call() -> impl Strategy<Value = Call> {
    let (holder, port, latch) = (0..4_usize, 1..5_u16, 0..8_usize);
    prop_oneof![
        1 => Just(Call::Open),
        1 => holder.clone().prop_map(Call::Gone),
        1 => holder.clone().prop_map(Call::Drop),
        6 => (holder.clone(), port.clone()).prop_map(|(holder, port)| Call::Connect(holder, port)),
        3 => (holder.clone(), port).prop_map(|(holder, port)| Call::Listen(holder, port)),
        5 => (holder, latch.clone()).prop_map(|(holder, latch)| Call::Release(holder, latch)),
        2 => latch.prop_map(Call::Close),
        2 => (1..60_u64).prop_map(Call::Pass),
        1 => Just(Call::Sas),
    ]
}

impl Model {
    fn holds(&self, flow: &FlowKey) -> bool {
        self.latches.values().any(|latch| latch.flow == *flow && latch.state != LatchState::Closed)
    }

    fn make(&mut self, latch: LatchId, holder: Holder, flow: FlowKey, state: LatchState, now: Time) {
        self.latches.retain(|_, other| other.flow != flow);
        let state = if state == LatchState::Larval && self.served { LatchState::Established } else { state };
        let until = now + std::time::Duration::from_secs(75);
        self.latches.insert(latch, Naive { holder, flow, state, until });
    }

    fn pass(&mut self, now: Time) {
        let tombstone = std::time::Duration::from_secs(120);
        self.latches.retain(|_, latch| {
            if latch.state == LatchState::Larval && latch.until <= now {
                (latch.state, latch.until) = (LatchState::Closed, latch.until + tombstone);
            }
            latch.state != LatchState::Closed || now < latch.until
        });
    }
}

/// Runs the calls on both and compares after each.
fn run(calls: &[Call]) -> Result<(), TestCaseError> {
    let mut world = World::with(HolderLimits { holders: 4, ..HolderLimits::default() });
    let mut model = Model::default();
    let mut open: Vec<Alerts> = Vec::new();
    let mut handles: Vec<LatchId> = Vec::new();
    for call in calls {
        step(call, &mut world, &mut model, &mut open, &mut handles)?;
        let (mut held, unheld): (Vec<_>, Vec<_>) =
            world.keying.database().dump().map(|view| (view.id, view.flow, view.state)).partition(
                |(id, ..)| world.keying.inquire_latch(*id).is_ok_and(|known| known.holder.is_some()),
            );
        let tombstones = unheld.iter().all(|(.., state)| *state == LatchState::Closed);
        prop_assert!(tombstones, "L-21: nothing is ownerless");
        held.sort_unstable_by_key(|(id, ..)| *id);
        let expected: Vec<_> =
            model.latches.iter().map(|(id, latch)| (*id, latch.flow, latch.state)).collect();
        prop_assert_eq!(held, expected, "L-44 after {:?}", call);
        for (id, latch) in &model.latches {
            let inquiry = world.keying.inquire_latch(*id).unwrap();
            prop_assert_eq!(inquiry.holder, Some(latch.holder));
        }
    }
    Ok(())
}

fn step(
    call: &Call,
    world: &mut World,
    model: &mut Model,
    open: &mut Vec<Alerts>,
    handles: &mut Vec<LatchId>,
) -> Result<(), TestCaseError> {
    let now = world.now;
    match *call {
        Call::Open => {
            let opened = world.keying.open_holder();
            prop_assert_eq!(opened.is_ok(), open.len() < 3, "beside the world's own");
            open.extend(opened);
        }
        Call::Gone(index) if index < open.len() => {
            let alerts = open.remove(index);
            let holder = alerts.holder();
            let expected = model.latches.values().filter(|latch| latch.holder == holder).count();
            prop_assert_eq!(world.keying.holder_gone(holder, now), expected);
            model.latches.retain(|_, latch| latch.holder != holder);
        }
        Call::Drop(index) if index < open.len() => {
            let holder = open.remove(index).holder();
            world.poll();
            model.latches.retain(|_, latch| latch.holder != holder);
        }
        Call::Connect(index, port) if index < open.len() => {
            let (holder, flow) = (open[index].holder(), flow(1, port));
            let made =
                world.keying.create_connection_latch(&to(1, port), holder, Privilege::Application, now);
            prop_assert_eq!(made.is_ok(), !model.holds(&flow), "L-56");
            if let Ok(created) = made {
                world.poll();
                handles.push(created.latch);
                model.make(created.latch, holder, flow, LatchState::Larval, now);
            }
        }
        Call::Listen(index, port) if index < open.len() => {
            let (holder, request) = (open[index].holder(), at_port("10.0.0.1", port));
            let made = world.keying.create_listener_latch(&request, holder, Privilege::Application, now);
            prop_assert_eq!(made.is_ok(), !model.holds(&request.listening.flow()), "L-48");
            if let Ok(created) = made {
                handles.push(created.latch);
                model.make(created.latch, holder, request.listening.flow(), LatchState::Listener, now);
            }
        }
        Call::Release(index, latch) if index < open.len() && latch < handles.len() => {
            let (holder, latch) = (open[index].holder(), handles[handles.len() - 1 - latch]);
            let released = world.keying.release_latch(latch, holder, now);
            let own = model.latches.get(&latch).is_some_and(|known| known.holder == holder);
            prop_assert_eq!(released.is_ok(), own, "L-64");
            if own {
                model.latches.remove(&latch);
            }
        }
        Call::Close(latch) if latch < handles.len() => {
            let latch = handles[handles.len() - 1 - latch];
            let closed = world.keying.close_latch(latch, now).is_ok();
            let known = model.latches.get_mut(&latch).filter(|known| known.state != LatchState::Closed);
            prop_assert_eq!(closed, known.is_some(), "R-10");
            if let Some(known) = known {
                known.state = LatchState::Closed;
                known.until = now + std::time::Duration::from_secs(120);
            }
        }
        Call::Pass(seconds) => {
            for _ in 0..seconds {
                world.pass(1);
                model.pass(world.now);
            }
        }
        Call::Sas if !model.served => {
            model.served = true;
            world.install(wide("bob", 1, Suite::AES_256_GCM));
            let larval = model.latches.values_mut().filter(|latch| latch.state == LatchState::Larval);
            larval.for_each(|latch| latch.state = LatchState::Established);
        }
        _ => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        rng_seed: proptest::test_runner::RngSeed::Fixed(0x1a7c),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn l_21_l_44_random_calls_leave_what_a_naive_register_says(calls in proptest::collection::vec(call(), 1..60)) {
        run(&calls)?;
    }
}
