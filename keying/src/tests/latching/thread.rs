//! The calls by many threads at once, and over a restart of the key manager (L-50, L-21).

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam::channel::bounded;
use latchway_datapath::event::event_queue;

use super::*;
use crate::{Inputs, KeyManager};

fn spawned() -> (KeyManager, impl Sized) {
    let keying = key_manager(HolderLimits::default());
    let (events, queue) = event_queue();
    let ((forward, forwarded), (notices, noticed)) = (bounded(64), bounded(4096));
    // Every look at this clock is a microsecond later.
    let ticks = AtomicU64::new(0);
    let clock = Box::new(move || Time::from_nanos(1000 * ticks.fetch_add(1, Ordering::Relaxed)));
    let manager = KeyManager::spawn(keying, Inputs { events: queue, forward, notices, clock }).unwrap();
    (manager, (events, forwarded, noticed))
}

/// L-50: of identical calls at once, exactly one succeeds, of either kind.
#[test]
fn l_50_of_n_identical_calls_at_once_exactly_one_succeeds() {
    let (manager, _open) = spawned();
    for round in 0..20_u16 {
        let start = Barrier::new(8);
        let made = AtomicU64::new(0);
        let alerts: Vec<_> = (0..8).map(|_| manager.client().open_holder().unwrap().unwrap()).collect();
        thread::scope(|scope| {
            for one in &alerts {
                let (client, holder, start, made) = (manager.client(), one.holder(), &start, &made);
                scope.spawn(move || {
                    start.wait();
                    let (port, privilege) = (100 + round, Privilege::Application);
                    let outcomes = [
                        client.create_connection_latch(to(1, port), holder, privilege).unwrap(),
                        client.create_listener_latch(at_port("10.0.0.1", port), holder, privilege).unwrap(),
                    ];
                    for outcome in outcomes {
                        match outcome {
                            Ok(_) => drop(made.fetch_add(1, Ordering::Relaxed)),
                            Err(error) => assert!(matches!(
                                error,
                                LatchError::ConnectionExists(_) | LatchError::ListenerExists(_)
                            )),
                        }
                    }
                });
            }
        });
        assert_eq!(made.into_inner(), 2);
    }
}

/// L-21, L-40: a restart of the key manager leaves holders, what they hold and what they were not told yet.
#[test]
fn l_21_l_40_holders_survive_a_restart_of_the_key_manager() {
    let (mut manager, _open) = spawned();
    let client = manager.client();
    let (mine, gone) = (client.open_holder().unwrap().unwrap(), client.open_holder().unwrap().unwrap());
    let ask = |alerts: &Alerts, port| {
        client
            .create_connection_latch(to(1, port), alerts.holder(), Privilege::Application)
            .unwrap()
            .unwrap()
            .latch
    };
    let (kept, lost) = (ask(&mine, 5), ask(&gone, 6));
    manager.restart().unwrap();
    assert_eq!(client.inquire_latch(kept).unwrap().unwrap().holder, Some(mine.holder()));
    drop(gone);
    manager.restart().unwrap();
    // The thread attends to what is gone before it answers.
    assert_eq!(client.inquire_latch(lost).unwrap(), Err(LatchError::UnknownLatch(lost)));
    let offer = client.propose(wide("bob", 1, Suite::AES_256_GCM)).unwrap().unwrap();
    client.install(offer.ticket, keys(0x1001, Suite::AES_256_GCM)).unwrap().unwrap();
    mine.bell().recv().unwrap();
    let told: Vec<_> = mine.take().alerts.iter().map(|alert| (alert.latch, alert.state)).collect();
    assert_eq!(told, [(kept, LatchState::Established)]);
    assert_eq!(client.release_latch(kept, mine.holder()).unwrap(), Ok(()));
    assert_eq!(client.holder_gone(mine.holder()).unwrap(), 0);
}
