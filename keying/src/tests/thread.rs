//! The thread: requests from many sides, graces that hold up nobody, events, and its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use latchway_datapath::drop::Direction;
use latchway_datapath::event::{Event, Events, event_queue};
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::{BreakReason, LatchId, Offender};
use latchway_datapath::low::publish::Publisher;
use latchway_datapath::sad::Usage;
use latchway_datapath::snapshot::Snapshot;
use latchway_datapath::time::Time;
use latchway_esp::Suite;
use latchway_tagging::{AuthMethod, Class, ClassId, SaIndex, SaRef, StateClock};

use crate::testing::{entry, keying, keys, proposal};
use crate::{
    ClassObserver, ClassRefused, Inputs, InstallError, KeyManager, Keying, Notice, Op, Pad, RekeyError,
    Settings, Stopped, Transaction,
};

struct World {
    manager: KeyManager,
    publisher: Arc<Publisher<Snapshot>>,
    events: Events,
    forwarded: Receiver<Event>,
    notices: Receiver<Notice>,
}

fn world(keying: Keying) -> World {
    let publisher = Arc::clone(keying.publisher());
    let (events, queue) = event_queue();
    let (forward, forwarded) = bounded(16);
    // Every look at this clock is a microsecond later.
    let ticks = AtomicU64::new(0);
    let clock = move || Time::from_nanos(1000 * ticks.fetch_add(1, Ordering::Relaxed));
    let (notices, noticed) = bounded(64);
    let inputs = Inputs { events: queue, forward, notices, clock: Box::new(clock) };
    let manager = KeyManager::spawn(keying, inputs).unwrap();
    World { manager, publisher, events, forwarded, notices: noticed }
}

#[test]
fn requests_of_four_threads_are_all_answered_and_all_take_effect() {
    let world = world(keying());
    let mut worker = world.publisher.reader();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4_u32)
            .map(|number| {
                let client = world.manager.client();
                scope.spawn(move || {
                    for n in 0..25 {
                        let spi = 0x1000 + 100 * number + n;
                        let offer = client.propose(proposal("bob")).unwrap().unwrap();
                        let keys = keys(spi, Suite::AES_128_GCM);
                        let id = client.install(offer.ticket, keys).unwrap().unwrap();
                        assert!(client.pairs().unwrap().iter().any(|pair| pair.id == id));
                        if n % 2 == 0 {
                            client.commit(Transaction::new(vec![Op::Remove(id)])).unwrap().unwrap();
                        }
                    }
                })
            })
            .collect();
        // A worker that takes one batch after the other, until they are done.
        while threads.iter().any(|thread| !thread.is_finished()) {
            worker.adopt();
            thread::yield_now();
        }
        worker.quiesce();
    });
    let pairs = world.manager.client().pairs().unwrap();
    assert_eq!(pairs.len(), 4 * 12);
    assert!(pairs.iter().all(|pair| pair.usage == Usage::Active && pair.class == pairs[0].class));
    assert_eq!(world.publisher.reader().adopt().0.sad.iter().count(), 2 * 4 * 12);
}

#[test]
fn l_74_a_grace_holds_up_its_own_installation_and_no_other_request() {
    let world = world(keying());
    let mut worker = world.publisher.reader();
    worker.adopt();
    let client = world.manager.client();
    thread::scope(|scope| {
        let (installer, rekeyer) = (world.manager.client(), world.manager.client());
        let offer = client.propose(proposal("bob")).unwrap().unwrap();
        let install = scope.spawn(move || installer.install(offer.ticket, keys(0x1000, Suite::AES_128_GCM)));
        while client.counts().unwrap().settling == 0 {
            thread::yield_now();
        }
        let first = client.pairs().unwrap()[0].id;
        let rekey = scope.spawn(move || rekeyer.rekey(first, keys(0x1001, Suite::AES_128_GCM)));
        while client.counts().unwrap().settling == 1 {
            thread::yield_now();
        }
        // The worker's batch lasts; the key manager answers all the same.
        for _ in 0..100 {
            assert!(client.pairs().unwrap().iter().all(|pair| pair.usage == Usage::Pending));
        }
        assert!(!install.is_finished() && !rekey.is_finished());
        let second = client.pairs().unwrap()[1].id;
        client.commit(Transaction::new(vec![Op::Remove(second)])).unwrap().unwrap();
        let removed = rekey.join().unwrap().unwrap();
        assert_eq!(removed, Err(RekeyError::Install(InstallError::Removed)));
        assert!(!install.is_finished());
        let seen: Vec<_> = worker.adopt().0.sad.iter().map(|slot| slot.usage).collect();
        assert_eq!(seen, [Usage::Pending, Usage::Pending]);
        let usages = |snapshot: &Snapshot| snapshot.sad.iter().map(|slot| slot.usage).collect::<Vec<_>>();
        while usages(worker.adopt().0) != [Usage::Active, Usage::Active] {
            thread::yield_now();
        }
        assert_eq!(install.join().unwrap().unwrap(), Ok(first));
    });
}

/// Whoever is told that a pair is in force lets the peer send under it at once, so every worker must be receiving.
#[test]
fn r_2_an_installation_is_answered_once_every_worker_receives_under_it() {
    let world = world(keying());
    let mut worker = world.publisher.reader();
    worker.adopt();
    let client = world.manager.client();
    let offer = client.propose(proposal("bob")).unwrap().unwrap();
    thread::scope(|scope| {
        let install = scope.spawn(|| client.install(offer.ticket, keys(0x1000, Suite::AES_128_GCM)));
        let usage = |snapshot: &Snapshot| snapshot.sad.iter().map(|slot| slot.usage).next();
        while usage(worker.adopt().0) != Some(Usage::Pending) {
            thread::yield_now();
        }
        while world.publisher.newest() == worker.adopted_id() {
            thread::yield_now();
        }
        for _ in 0..10 {
            client.pairs().unwrap();
        }
        assert!(!install.is_finished(), "the worker still takes the pair for pending");
        assert_eq!(usage(worker.adopt().0), Some(Usage::Active));
        install.join().unwrap().unwrap().unwrap();
    });
}

/// L-60: the datapath asks, a provider hears.
/// Whoever ends connections is slow, and more latches break than its queue holds.
#[test]
fn l_100_l_109_no_broken_latch_is_lost_on_its_way_to_who_ends_its_connection() {
    let world = world(keying());
    let broken = |port: u16| {
        let flow = FlowKey::new(protocol::TCP, ([10, 0, 0, 1], port).into(), ([10, 1, 0, 1], 80).into());
        let sa = SaRef { index: SaIndex::new(1), generation: 1 };
        let (latch, reason) = (LatchId::new(u32::from(port), 1), BreakReason::OtherPeer);
        let offender = Some(Offender { class: ClassId::from_raw(2), sa: Some(sa) });
        Event::LatchBroken { latch, flow, latched: Some(ClassId::from_raw(1)), reason, offender }
    };
    for port in 0..100 {
        assert!(world.events.send(broken(port)));
    }
    while !world.forwarded.is_full() {
        world.manager.client().counts().unwrap();
    }
    // Requests are answered meanwhile, and each gives the thread a chance to lose an event.
    for _ in 0..1000 {
        world.manager.client().counts().unwrap();
    }
    for port in 0..100 {
        assert_eq!(world.forwarded.recv_timeout(Duration::from_secs(30)), Ok(broken(port)));
    }
}

/// L-60: the datapath asks, a provider hears.
#[test]
fn l_60_an_acquire_arrives_at_the_provider_and_an_expiry_in_the_views() {
    let world = world(keying());
    let client = world.manager.client();
    let flow = FlowKey::new(protocol::TCP, "10.0.0.1:5".parse().unwrap(), "10.1.0.1:80".parse().unwrap());
    let acquire = Event::Acquire { flow, required: None };
    assert!(world.events.send(acquire));
    assert_eq!(world.forwarded.recv(), Ok(acquire));
    let offer = client.propose(proposal("bob")).unwrap().unwrap();
    client.install(offer.ticket, keys(0x1000, Suite::AES_128_GCM)).unwrap().unwrap();
    let sa = client.pairs().unwrap()[0].outbound.sa;
    let expired = Event::HardExpired { sa, direction: Direction::Outbound };
    assert!(world.events.send(expired));
    assert_eq!(world.forwarded.recv(), Ok(expired));
    assert!(client.pairs().unwrap()[0].outbound.expired);
    let class = client.class(client.pairs().unwrap()[0].class).unwrap().unwrap();
    assert!(client.identity(class.peer).unwrap().is_some());
}

#[test]
fn a_full_or_forsaken_event_queue_stops_nothing() {
    let World { manager, events, forwarded, notices, .. } = world(keying());
    let flow = FlowKey::new(protocol::TCP, "10.0.0.1:5".parse().unwrap(), "10.1.0.1:80".parse().unwrap());
    for _ in 0..100 {
        events.send(Event::Acquire { flow, required: None });
    }
    let client = manager.client();
    assert!(client.pairs().is_ok());
    drop(events);
    drop(forwarded);
    drop(notices);
    assert!(client.propose(proposal("bob")).unwrap().is_ok());
}

#[test]
fn the_end_is_told_to_every_asker_and_workers_keep_what_was_published() {
    let world = world(keying());
    let client = world.manager.client();
    let offer = client.propose(proposal("bob")).unwrap().unwrap();
    client.install(offer.ticket, keys(0x1000, Suite::AES_128_GCM)).unwrap().unwrap();
    drop(world.manager);
    assert_eq!(client.pairs(), Err(Stopped));
    assert_eq!(world.publisher.reader().adopt().0.sad.iter().count(), 2);
}

/// Panics at the second class.
struct Fragile(AtomicU64);

impl ClassObserver for Fragile {
    fn class_interned(&self, _: ClassId, _: &Class, _: AuthMethod) -> Result<(), ClassRefused> {
        assert_eq!(self.0.fetch_add(1, Ordering::Relaxed), 0, "on purpose");
        Ok(())
    }
}

#[test]
fn a_panic_of_the_key_manager_leaves_the_datapath_its_state() {
    let pad = vec![entry(1, "bob", "10.1.0.0", "10.1.0.255"), entry(3, "carol", "10.3.0.0", "10.3.0.255")];
    let observer = Arc::new(Fragile(AtomicU64::new(0)));
    let clock = Arc::new(StateClock::new());
    let keying = crate::testing::keying_with(Pad::new(pad).unwrap(), Settings::default(), clock, observer);
    let world = world(keying);
    let client = world.manager.client();
    let offer = client.propose(proposal("bob")).unwrap().unwrap();
    client.install(offer.ticket, keys(0x1000, Suite::AES_128_GCM)).unwrap().unwrap();
    assert!(matches!(client.propose(proposal("carol")), Err(Stopped)));
    assert_eq!(client.pairs(), Err(Stopped));
    let mut worker = world.publisher.reader();
    let seen: Vec<_> = worker.adopt().0.sad.iter().map(|slot| slot.usage).collect();
    assert_eq!(seen, [Usage::Active, Usage::Active]);
    drop(world.manager);
}
