//! Owners (L-21): what they are told (ALERT, R-11), and what happens when they go.

use latchway_datapath::event::Event;
use latchway_datapath::latching::BreakReason;

use super::*;
use crate::latching::{AlertKind, Delivery};

/// L-21: by whichever way an owner goes, all that it held is released, and nothing is ownerless.
#[test]
fn l_21_whoever_goes_takes_all_its_latches_along_and_none_of_others() {
    let mut world = World::new();
    let other = world.keying.open_holder().unwrap();
    let now = world.now;
    let theirs: Vec<_> = (1..=20)
        .map(|port| {
            world.keying.create_connection_latch(&to(1, port), other.holder(), Privilege::Application, now)
        })
        .map(|created| created.unwrap().latch)
        .collect();
    let mine = world.connect(&to(1, 21)).unwrap().latch;
    let listener = world.listen(&at_port("10.0.0.1", 25)).unwrap().latch;
    // It is dropped, as by a panic of whoever read it.
    drop(other);
    world.poll();
    assert!(theirs.iter().all(|latch| world.state(*latch).is_none()));
    assert_eq!(
        (world.state(mine), world.state(listener)),
        (Some(LatchState::Larval), Some(LatchState::Listener))
    );
    let holder = world.holder();
    assert_eq!(world.keying.holder_gone(holder, now), 2);
    assert_eq!(world.keying.holder_gone(holder, now), 0);
    assert_eq!(world.keying.database().dump().count(), 0);
}

/// handle, 5-tuple, state and reason, for each thing that happens and once.
#[test]
fn r_11_a_holder_is_told_of_each_state_with_its_reason_and_once() {
    let mut world = World::new();
    let latch = world.connect(&to(1, 5)).unwrap().latch;
    world.pass(1);
    assert_eq!(world.told(), vec![], "it knows already");
    world.install(wide("bob", 1, Suite::AES_256_GCM));
    let alert = |state, reason| LatchAlert {
        latch,
        flow: flow(1, 5),
        state,
        reason,
        listener: None,
        kind: AlertKind::Changed,
    };
    assert_eq!(world.told(), vec![alert(LatchState::Established, None)]);
    let database = Arc::clone(world.keying.database());
    database.suspend(latch, BreakReason::Conflict, None, world.now);
    world.keying.note(&Event::LatchBroken {
        latch,
        flow: flow(1, 5),
        latched: None,
        reason: BreakReason::Conflict,
        offender: None,
    });
    world.poll();
    assert_eq!(world.told(), vec![alert(LatchState::Broken, Some(BreakReason::Conflict))]);
    database.restore(latch, world.now);
    world.pass(1);
    assert_eq!(world.told(), vec![alert(LatchState::Established, None)], "R-9: seen though nobody told");
    world.keying.close_latch(latch, world.now).unwrap();
    assert_eq!(world.told(), vec![alert(LatchState::Closed, Some(BreakReason::Administrative))]);
    assert_eq!(world.state(latch), Some(LatchState::Closed), "L-20: reported before it is deleted");
    world.pass(125);
    assert_eq!(world.told(), vec![]);
    // L-64: its handle is void, and the Latch Database keeps what is late from passing.
    assert_eq!(world.keying.inquire_latch(latch), Err(LatchError::UnknownLatch(latch)));
    assert_eq!(world.release(latch), Err(LatchError::UnknownLatch(latch)));
    assert_eq!(database.inquire(latch).map(|view| view.state), Some(LatchState::Closed));
}

/// A holder that never reads loses the oldest, is told how many, and never loses that a latch is CLOSED.
#[test]
fn r_11_who_never_reads_is_bounded_and_hears_of_every_closed_latch() {
    let mut world = World::with(HolderLimits { holders: 4, latches: 8, alerts: 4 });
    world.install(wide("bob", 1, Suite::AES_256_GCM));
    let latches: Vec<_> = (1..=8).map(|port| world.connect(&to(1, port)).unwrap().latch).collect();
    world.poll();
    for latch in &latches {
        world.keying.close_latch(*latch, world.now).unwrap();
    }
    world.pass(130);
    // Unread news counts: memory is bounded whatever the holder does.
    assert_eq!(world.connect(&to(1, 9)), Err(LatchError::TooManyLatches(8)));
    let Delivery { alerts, lost } = world.alerts.take();
    assert_eq!((alerts.len(), lost), (12, 4), "{alerts:?}");
    let closed: Vec<_> =
        alerts.iter().filter(|alert| alert.state == LatchState::Closed).map(|alert| alert.latch).collect();
    assert_eq!(closed, latches);
    assert!(world.connect(&to(1, 9)).is_ok());
    assert_eq!(world.alerts.take(), Delivery::default());
}

/// A thousand holders, one of which reads nothing: the others hear of theirs.
#[test]
fn r_11_a_thousand_holders_do_not_starve_each_other() {
    let mut world = World::new();
    let others: Vec<_> = (0..1000).map(|_| world.keying.open_holder().unwrap()).collect();
    let now = world.now;
    for (port, alerts) in (100..).zip(others.iter().take(50)) {
        let request = to(1, port);
        let holder = alerts.holder();
        world.keying.create_connection_latch(&request, holder, Privilege::Application, now).unwrap();
    }
    world.install(wide("bob", 1, Suite::AES_256_GCM));
    for alerts in others.iter().take(50) {
        assert!(alerts.bell().try_recv().is_ok());
        let told = alerts.take().alerts;
        assert_eq!(told.iter().map(|alert| alert.state).collect::<Vec<_>>(), [LatchState::Established]);
    }
    assert!(others.iter().skip(50).all(|alerts| alerts.bell().is_empty()));
    drop(others);
    world.poll();
    assert_eq!(world.keying.counts().held, 0);
    assert!((100..150).all(|port| world.keying.find_latch(&flow(1, port)).is_none()));
}

/// L-68: who watches hears of every latch, also of those of others.
#[test]
fn l_68_who_watches_hears_of_every_change() {
    let mut world = World::new();
    let watcher = world.keying.open_holder().unwrap();
    world.keying.watch_latches(watcher.holder(), true).unwrap();
    assert!(world.keying.database().watched());
    let made = world.connect(&to(1, 5)).unwrap().latch;
    world.install(wide("bob", 1, Suite::AES_256_GCM));
    world.release(made).unwrap();
    let states: Vec<_> = watcher.take().alerts.iter().map(|alert| (alert.latch, alert.state)).collect();
    let (larval, established, closed) = (LatchState::Larval, LatchState::Established, LatchState::Closed);
    assert_eq!(states, [(made, larval), (made, established), (made, closed)]);
    // One that only packets made.
    let unheld = LatchId::from_raw(9 << 32);
    let (flow, state) = (flow(1, 77), LatchState::Established);
    world.keying.note(&Event::LatchChanged { latch: unheld, flow, state, reason: None });
    world.poll();
    assert_eq!(watcher.take().alerts.iter().map(|alert| alert.latch).collect::<Vec<_>>(), [unheld]);
    world.keying.watch_latches(watcher.holder(), false).unwrap();
    assert!(!world.keying.database().watched());
    let gone = Holder::from_raw(77);
    assert_eq!(world.keying.watch_latches(gone, true), Err(LatchError::UnknownHolder(gone)));
    world.keying.watch_latches(watcher.holder(), true).unwrap();
    drop(watcher);
    world.poll();
    assert!(!world.keying.database().watched());
}

/// L-21: what a key manager made and did not write down, since it ended in between, is nobody's, and goes.
#[test]
fn l_21_a_latch_that_nobody_was_given_goes_with_the_recovery() {
    let mut world = World::new();
    let (database, now) = (Arc::clone(world.keying.database()), world.now);
    let mine = world.connect(&to(1, 5)).unwrap().latch;
    let begin = latchway_ulp_shim::Begin::Larval;
    let lost = database.connect(&flow(1, 6), begin, LatchTerms::default(), now).unwrap();
    let gone = world.connect(&to(1, 7)).unwrap().latch;
    assert!(database.release(gone, now));
    world.keying.recover(now);
    assert_eq!((world.state(mine), world.state(lost)), (Some(LatchState::Larval), None));
    let told: Vec<_> = world.told().iter().map(|alert| (alert.latch, alert.state)).collect();
    assert_eq!(told, [(gone, LatchState::Closed)]);
}
