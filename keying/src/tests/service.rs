//! The key manager as its clients meet it: changes one after the other, answers when they are true, and what is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam::channel::{Receiver, bounded};
use latchway_datapath::drop::Direction;
use latchway_datapath::event::{Event, Events, event_queue};
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::low::publish::Publisher;
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::snapshot::Snapshot;
use latchway_datapath::spd::{Action, Protection, Rule};
use latchway_datapath::time::Time;
use latchway_esp::Suite;
use latchway_tagging::{AuthMethod, ClassId};

use crate::testing::{fqdn, keying, keys, proposal, range};
use crate::{
    Change, Element, Inputs, InstallError, KeyManager, NewPair, Notice, Op, Problem, Question, Ticket,
    Transaction, Verdict,
};

struct World {
    manager: KeyManager,
    publisher: Arc<Publisher<Snapshot>>,
    events: Events,
    notices: Receiver<Notice>,
}

fn world() -> World {
    let keying = keying();
    let publisher = Arc::clone(keying.publisher());
    let (events, queue) = event_queue();
    let ((forward, _), (notices, noticed)) = (bounded(16), bounded(1024));
    // Every look at this clock is a microsecond later.
    let ticks = AtomicU64::new(0);
    let clock = Box::new(move || Time::from_nanos(1000 * ticks.fetch_add(1, Ordering::Relaxed)));
    let manager = KeyManager::spawn(keying, Inputs { events: queue, forward, notices, clock }).unwrap();
    World { manager, publisher, events, notices: noticed }
}

fn add(peer: &str, spi: u32) -> Change {
    let pair = NewPair { proposal: proposal(peer), keys: keys(spi, Suite::AES_128_GCM) };
    Change { add: vec![pair], ..Change::default() }
}

fn protect() -> Rule {
    let selector = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
    Rule::new(selector, None, Action::Protect(Protection::LATCHED))
}

fn flow(remote: &str) -> FlowKey {
    FlowKey::new(protocol::TCP, "10.0.0.1:5".parse().unwrap(), remote.parse().unwrap())
}

/// L-74: whoever is told may rely on it, at every worker.
#[test]
fn l_74_a_change_is_answered_when_it_is_in_force_on_every_worker() {
    let world = world();
    let mut worker = world.publisher.reader();
    worker.adopt();
    let client = world.manager.client();
    thread::scope(|scope| {
        let change = scope.spawn(|| client.change(add("bob", 0x1000)));
        while worker.adopt().0.sad.iter().next().is_none() {
            thread::yield_now();
        }
        while world.publisher.newest() == worker.adopted_id() {
            thread::yield_now();
        }
        for _ in 0..10 {
            client.pairs().unwrap();
        }
        assert!(!change.is_finished(), "the worker still takes the pair for pending");
        worker.adopt();
        assert_eq!(change.join().unwrap().unwrap().unwrap().added.len(), 1);
        // The same of rules.
        let rule = scope.spawn(|| client.add_rule(vec![protect()], None));
        while worker.adopt().0.pending.is_none() {
            thread::yield_now();
        }
        while world.publisher.newest() == worker.adopted_id() {
            thread::yield_now();
        }
        for _ in 0..10 {
            client.pairs().unwrap();
        }
        assert!(!rule.is_finished(), "the worker does not go by the rule yet");
        assert_eq!(worker.adopt().0.spd.rules(), [protect()]);
        let number = rule.join().unwrap().unwrap().unwrap();
        worker.quiesce();
        assert_eq!(client.delete_rule(number).unwrap(), Ok(vec![protect()]));
    });
}

#[test]
fn a_change_waits_for_the_one_before_it_and_other_requests_do_not() {
    let world = world();
    let mut worker = world.publisher.reader();
    worker.adopt();
    let client = world.manager.client();
    thread::scope(|scope| {
        let first = scope.spawn(|| client.change(add("bob", 0x1000)));
        while client.counts().unwrap().settling == 0 {
            thread::yield_now();
        }
        // They would be good before the first, and are not after it.
        let check = scope.spawn(|| client.check_change(add("bob", 0x1000)));
        let second = scope.spawn(|| client.change(add("bob", 0x1000)));
        let third = scope.spawn(|| client.change(add("carol", 0x1001)));
        for _ in 0..100 {
            assert_eq!(client.pairs().unwrap().len(), 1);
        }
        assert!(![first.is_finished(), second.is_finished(), third.is_finished()].contains(&true));
        assert!(!check.is_finished());
        worker.quiesce();
        assert_eq!(first.join().unwrap().unwrap().unwrap().added.len(), 1);
        let taken = |error: crate::ChangeError| {
            let fault = &error.faults[0];
            assert!(matches!(fault.element, Element::Added { index: 0, .. }));
            matches!(fault.problem, Problem::Install(InstallError::DuplicateSpi(_)))
        };
        assert!(taken(check.join().unwrap().unwrap().unwrap_err()));
        assert!(taken(second.join().unwrap().unwrap().unwrap_err()));
        assert!(third.join().unwrap().unwrap().is_ok());
    });
    assert_eq!(client.pairs().unwrap().len(), 2);
}

#[test]
fn an_installation_whose_pair_a_change_removes_is_answered_so() {
    let world = world();
    let mut worker = world.publisher.reader();
    worker.adopt();
    let client = world.manager.client();
    thread::scope(|scope| {
        let offer = client.propose(proposal("bob")).unwrap().unwrap();
        let install = scope.spawn(|| client.install(offer.ticket, keys(0x1000, Suite::AES_128_GCM)));
        while client.counts().unwrap().settling == 0 {
            thread::yield_now();
        }
        let pending = client.pairs().unwrap()[0].id;
        let change = Change { remove: vec![pending], ..Change::default() };
        let change = scope.spawn(|| client.change(change));
        // Both wait for the same publication; the pair may come into force first, and is not told of as there.
        worker.quiesce();
        assert_eq!(change.join().unwrap().unwrap().unwrap().outline.removed, [pending]);
        let installed = install.join().unwrap().unwrap();
        let gone = client.pairs().unwrap().iter().all(|pair| pair.id != pending || pair.drained_at.is_some());
        assert!(gone && matches!(installed, Err(InstallError::Removed) | Ok(_)), "{installed:?}");
    });
}

/// RFC 4301 4.4.1.2, L-60, T36: everything that a provider outside the process needs, by its texts and numbers alone.
#[test]
fn l_60_a_provider_is_driven_by_what_it_is_told() {
    let world = world();
    let client = world.manager.client();
    let number = client.add_rule(vec![protect()], None).unwrap().unwrap();
    let wanted = flow("10.1.0.1:80");
    assert!(world.events.send(Event::Acquire { flow: wanted, required: None }));
    let acquire = world.notices.iter().find_map(|notice| match notice {
        Notice::Acquire(wanted) => Some(wanted),
        _ => None,
    });
    let acquire = acquire.unwrap();
    assert_eq!((acquire.flow, acquire.rule.as_ref().map(|rule| rule.number)), (wanted, Some(number)));
    assert_eq!((acquire.class, acquire.peer), (None, None));
    // Propose, and install under the text of the ticket.
    let offer = client.propose(proposal("bob")).unwrap().unwrap();
    let (text, class) = (offer.ticket.into_text(), offer.class);
    let ticket: Ticket = text.as_str().parse().unwrap();
    let old = client.install(ticket, keys(0x1000, Suite::AES_128_GCM)).unwrap().unwrap();
    assert_eq!(world.notices.recv(), Ok(Notice::PairAdded { pair: old, peer: fqdn("bob"), class }));
    let question = Question { flow: wanted, direction: Direction::Outbound, required: None };
    let verdict = client.explain(question).unwrap().verdict;
    assert!(
        matches!(verdict, Verdict::Protected(carrier) if carrier.owner.pair() == Some(old) && carrier.class == Some(class))
    );
    // Its limits, by the pair; then rekey and commit.
    let (sa, direction) = (client.pairs().unwrap()[0].outbound.sa, Direction::Outbound);
    assert!(world.events.send(Event::SoftExpired { sa, direction }));
    let soft = Notice::SoftExpired { pair: old, peer: fqdn("bob"), direction };
    assert_eq!(world.notices.recv(), Ok(soft));
    let new = client.rekey(old, keys(0x1001, Suite::AES_128_GCM)).unwrap().unwrap();
    client.commit(Transaction::new(vec![Op::Activate(new), Op::Drain(old)])).unwrap().unwrap();
    let told: Vec<_> = world.notices.iter().take(3).collect();
    let peer = fqdn("bob");
    let expected = [
        Notice::PairAdded { pair: new, peer: peer.clone(), class },
        Notice::PairActivated { pair: new, peer: peer.clone(), class },
        Notice::PairRetired { pair: old, peer: peer.clone() },
    ];
    assert_eq!(told, expected);
    assert!(world.events.send(Event::HardExpired { sa, direction }));
    assert_eq!(world.notices.recv(), Ok(Notice::HardExpired { pair: old, peer, direction }));
    // A latched flow says of which class, and whose.
    assert!(world.events.send(Event::Acquire { flow: wanted, required: Some(class) }));
    let Ok(Notice::Acquire(latched)) = world.notices.recv() else { panic!() };
    assert_eq!((latched.rule, latched.class, latched.peer), (None, Some(class), Some(fqdn("bob"))));
    assert!(world.events.send(Event::Acquire { flow: wanted, required: Some(ClassId::from_raw(99)) }));
    let Ok(Notice::Acquire(unknown)) = world.notices.recv() else { panic!() };
    assert_eq!(unknown.peer, None);
}

/// RFC 4301 4.4.3: who may be a peer, and who is.
#[test]
fn the_peers_are_shown_with_their_standing_ranges_and_pairs() {
    let world = world();
    let client = world.manager.client();
    let pair = client.change(add("bob", 0x1000)).unwrap().unwrap().added[0];
    let peers = client.peers().unwrap();
    assert_eq!(peers.iter().map(|peer| peer.name.as_str()).collect::<Vec<_>>(), ["bob", "mallory", "carol"]);
    assert_eq!((peers[0].standing, &peers[0].pairs), (Some(AuthMethod::Manual), &vec![pair]));
    assert_eq!((peers[1].standing, &peers[1].pairs), (None, &vec![]));
    assert_eq!(peers[0].ranges, [range("10.1.0.0", "10.1.0.255")]);
    assert_eq!((&peers[0].methods, &peers[0].local), (&vec![AuthMethod::Manual], &fqdn("here")));
    assert_eq!(client.pad().unwrap().entries().len(), 3);
    assert!(AuthMethod::Btns < AuthMethod::Manual && AuthMethod::Manual < AuthMethod::Certificate);
}
