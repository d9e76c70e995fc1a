//! The key manager's thread ends, by wish or by a panic, and another takes over, with the datapath running (latching-04
//! section 2.1).

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crossbeam::channel::{Receiver, bounded};
use latchway_datapath::arrival::Arrival;
use latchway_datapath::coalesce::{Coalescer, Offloads};
use latchway_datapath::drop::{Counters, Direction, DropReason};
use latchway_datapath::event::{Event, event_queue};
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::gateway::{Datapath, Shared};
use latchway_datapath::lifetime::Limits;
use latchway_datapath::oversize::Oversize;
use latchway_datapath::packet::{Authenticated, IpPacket, Unprotected};
use latchway_datapath::sad::Usage;
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::send_batch::SendBatch;
use latchway_datapath::spd::{Action, Protection, Rule};
use latchway_datapath::time::Time;
use latchway_datapath::traffic::Traffic;
use latchway_datapath::ulp::{Context, Ulp};
use latchway_datapath::virtio::VNET_HDR_LEN;
use latchway_esp::{AntiReplay, SequenceKind, Spi, Suite, WindowSize};
use latchway_tagging::{AuthMethod, Class, ClassId, Feedback, OutboundTag, StateClock, WorkerId};

use crate::ephemeral::{self, End, Tunnel};
use crate::testing::{at, entry, fqdn, keys, path, proposal, range};
use crate::{
    Change, ClassObserver, ClassRefused, Inputs, KeyManager, KeyManagerClient, Keying, Keys, NewPair, Op,
    Pad, PairId, Proposal, Settings, Start, Stopped, Transaction, Unobserved,
};

/// One gateway of two: its key manager's thread, and what a worker needs.
struct Side {
    manager: KeyManager,
    datapath: Option<Datapath<Open>>,
    counters: Arc<Counters>,
    /// Kept, so that the queue stays open.
    _forwarded: Receiver<Event>,
}

/// An upper layer that asks for nothing and lets everything pass.
struct Open;

impl Ulp for Open {
    fn outbound(&mut self, _: &IpPacket<'_>, _: &Context<'_>) -> Result<OutboundTag, DropReason> {
        Ok(OutboundTag::default())
    }

    fn feedback(&mut self, _: &FlowKey, _: Feedback, _: &Context<'_>) -> Result<(), DropReason> {
        Ok(())
    }

    fn inbound(&mut self, _: &Authenticated<'_>, _: &Context<'_>) -> Result<(), DropReason> {
        Ok(())
    }

    fn unprotected(
        &mut self,
        _: &Unprotected<'_>,
        _: Option<Action>,
        _: &Context<'_>,
    ) -> Result<(), DropReason> {
        Ok(())
    }
}

fn side(local: &str, remote: &str) -> Side {
    let pad = Pad::new(vec![entry(1, "bob", remote, remote)]).unwrap();
    let clock = Arc::new(StateClock::new());
    let keying =
        crate::testing::keying_with(pad, Settings::default(), Arc::clone(&clock), Arc::new(Unobserved));
    let (events, queue) = event_queue();
    let (forward, forwarded) = bounded(16);
    let (notices, _) = bounded(0);
    let counters = Arc::new(Counters::new());
    let snapshots = keying.publisher().reader();
    let shared =
        Shared { snapshots, clock, counters: Arc::clone(&counters), events, oversize: Oversize::default() };
    let datapath = Some(Datapath::new(WorkerId(0), Open, shared));
    let inputs = Inputs { events: queue, forward, notices, clock: Box::new(ticking()) };
    let manager = KeyManager::spawn(keying, inputs).unwrap();
    let selector = Selector::between(range(local, local), range(remote, remote));
    let action = Action::Protect(Protection::UNLATCHED);
    let rules = Some(vec![Rule::new(selector, None, action)]);
    manager.client().change(Change { rules, ..Change::default() }).unwrap().unwrap();
    Side { manager, datapath, counters, _forwarded: forwarded }
}

/// Every look at this clock is a microsecond later.
fn ticking() -> impl Fn() -> Time + Send {
    let ticks = AtomicU64::new(0);
    move || Time::from_nanos(1000 * ticks.fetch_add(1, Ordering::Relaxed))
}

fn terms(local: &str, remote: &str) -> Proposal {
    let selectors = vec![Selector::between(range(local, local), range(remote, remote))];
    Proposal { selectors, ..proposal("bob") }
}

/// Keys of both ends, with SPIs that were never drawn before.
fn fresh(drawn: &mut Vec<Spi>, start: Start) -> (Keys, Keys) {
    let tunnel = Tunnel {
        suite: Suite::AES_128_GCM,
        sequence: SequenceKind::Extended,
        anti_replay: AntiReplay::Window(WindowSize::default()),
        limits: Limits::default(),
        start,
    };
    let end = End { path: path(4500), worker: WorkerId(0) };
    let keys = ephemeral::keys(&tunnel, (end, end), |spi| !drawn.contains(&spi)).unwrap();
    drawn.extend([keys.0.inbound.spi, keys.1.inbound.spi]);
    keys
}

/// An IPv4 datagram from 10.0.0.1 to 10.1.0.1, virtio header first.
fn super_packet() -> Vec<u8> {
    let mut octets = vec![0; VNET_HDR_LEN];
    octets.extend([0x45, 0, 0, 36, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 1, 0, 1]);
    octets.extend([0x10, 0, 0x20, 0, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    octets
}

/// Carries packets from one side to the other until it is told to end. Returns how many arrived, which must be all.
fn carry(mut one: Datapath<Open>, mut other: Datapath<Open>, end: &AtomicBool, carried: &AtomicU64) {
    let (mut batch, mut units) = (SendBatch::new(), Coalescer::new(Offloads::NONE));
    while !end.load(Ordering::Relaxed) {
        // Sealed, and a while later opened: both sides adopt what is new in between.
        let now = at(1);
        one.begin(now);
        batch.clear();
        for _ in 0..8 {
            let _ = one.outbound(&mut super_packet(), &mut batch);
        }
        one.end();
        thread::yield_now();
        other.begin(now);
        for datagram in batch.runs().flat_map(|run| run.datagrams().map(<[u8]>::to_vec).collect::<Vec<_>>()) {
            units.clear();
            let mut octets = datagram;
            let arrival = Arrival::udp(octets.len(), SocketAddr::from(([192, 0, 2, 1], 4500)));
            other.inbound(&mut octets, &arrival, &mut units);
        }
        other.end();
        carried.fetch_add(8, Ordering::Relaxed);
    }
    one.quiesce();
    other.quiesce();
}

fn drops(counters: &Counters) -> Vec<(Direction, DropReason, u64)> {
    let of = |direction| {
        DropReason::ALL
            .iter()
            .map(move |&reason| (direction, reason, counters.street(direction).dropped(reason)))
    };
    [Direction::Inbound, Direction::Outbound]
        .into_iter()
        .flat_map(of)
        .filter(|(.., count)| *count > 0)
        .collect()
}

/// Waits until a few more packets were carried.
fn more(carried: &AtomicU64) {
    let until = carried.load(Ordering::Relaxed) + 64;
    while carried.load(Ordering::Relaxed) < until {
        thread::yield_now();
    }
}

/// T14, R-2: restarts of both key managers and rekeys in turns, and not one packet is lost.
#[test]
fn t14_restarts_and_rekeys_with_a_worker_running_lose_no_packet() {
    let (mut alice, mut bob) = (side("10.0.0.1", "10.1.0.1"), side("10.1.0.1", "10.0.0.1"));
    let (mut drawn, end, carried) = (Vec::new(), AtomicBool::new(false), AtomicU64::new(0));
    let (ours, theirs) = fresh(&mut drawn, Start::Active);
    let install = |client: &KeyManagerClient, terms, keys| {
        let offer = client.propose(terms).unwrap().unwrap();
        client.install(offer.ticket, keys).unwrap().unwrap()
    };
    // The same clients are asked all the time.
    let (to_alice, to_bob) = (alice.manager.client(), bob.manager.client());
    let mut tunnel = (
        install(&to_alice, terms("10.0.0.1", "10.1.0.1"), ours),
        install(&to_bob, terms("10.1.0.1", "10.0.0.1"), theirs),
    );
    let class = to_alice.pairs().unwrap()[0].class;
    let (one, other) = (alice.datapath.take().unwrap(), bob.datapath.take().unwrap());
    thread::scope(|scope| {
        let worker = scope.spawn(|| carry(one, other, &end, &carried));
        for _ in 0..20 {
            more(&carried);
            alice.manager.restart().unwrap();
            more(&carried);
            let (ours, theirs) = fresh(&mut drawn, Start::Active);
            let next = (
                to_alice.rekey(tunnel.0, ours).unwrap().unwrap(),
                to_bob.rekey(tunnel.1, theirs).unwrap().unwrap(),
            );
            bob.manager.restart().unwrap();
            for (client, old, new) in [(&to_bob, tunnel.1, next.1), (&to_alice, tunnel.0, next.0)] {
                let change = Change { activate: vec![new], remove: vec![old], ..Change::default() };
                client.change(change).unwrap().unwrap();
            }
            more(&carried);
            // It had its time in packets, since the clocks of this test go slower than its worker.
            to_bob.commit(Transaction::new(vec![Op::Remove(tunnel.1)])).unwrap().unwrap();
            to_alice.commit(Transaction::new(vec![Op::Remove(tunnel.0)])).unwrap().unwrap();
            tunnel = next;
        }
        end.store(true, Ordering::Relaxed);
        worker.join().unwrap();
    });
    let carried = carried.into_inner();
    assert_eq!((drops(&alice.counters), drops(&bob.counters)), (vec![], vec![]));
    assert_eq!(alice.counters.street(Direction::Outbound).packets.get(), carried);
    assert_eq!(bob.counters.street(Direction::Inbound).packets.get(), carried);
    let pairs = to_alice.pairs().unwrap();
    assert_eq!((pairs.len(), pairs[0].class), (1, class));
}

/// Panics where and when the test says.
#[derive(Default)]
struct Fragile {
    at: Mutex<Option<&'static str>>,
}

impl Fragile {
    fn pass(&self, place: &'static str) {
        let breaks = self.at.lock().unwrap().take_if(|at| *at == place).is_some();
        assert!(!breaks, "on purpose, at {place}");
    }
}

impl ClassObserver for Fragile {
    fn class_interned(&self, _: ClassId, _: &Class, _: AuthMethod) -> Result<(), ClassRefused> {
        self.pass("interned");
        Ok(())
    }

    fn latched(&self, _: &HashSet<ClassId>) -> HashSet<ClassId> {
        self.pass("latched");
        HashSet::new()
    }

    fn class_released(&self, _: ClassId) {
        self.pass("released");
    }
}

fn fragile(observer: &Arc<Fragile>) -> Keying {
    let pad = vec![entry(1, "bob", "10.1.0.0", "10.1.0.255"), entry(3, "carol", "10.3.0.0", "10.3.0.255")];
    let observer: Arc<dyn ClassObserver> = Arc::<Fragile>::clone(observer);
    crate::testing::keying_with(
        Pad::new(pad).unwrap(),
        Settings::default(),
        Arc::new(StateClock::new()),
        observer,
    )
}

/// A manager whose clock stands where the test puts it.
fn spawned(keying: Keying) -> (KeyManager, Arc<AtomicU64>) {
    let (_, queue) = event_queue();
    let ((forward, _), (notices, _)) = (bounded(1), bounded(1));
    let seconds = Arc::new(AtomicU64::new(0));
    let read = Arc::clone(&seconds);
    let clock = Box::new(move || at(read.load(Ordering::Relaxed)));
    (KeyManager::spawn(keying, Inputs { events: queue, forward, notices, clock }).unwrap(), seconds)
}

fn install(client: &KeyManagerClient, peer: &str, spi: u32) -> PairId {
    let offer = client.propose(proposal(peer)).unwrap().unwrap();
    client.install(offer.ticket, keys(spi, Suite::AES_128_GCM)).unwrap().unwrap()
}

#[test]
fn after_a_panic_anywhere_a_restart_goes_on_with_what_was_published() {
    for place in ["interned", "latched", "released"] {
        let observer = Arc::new(Fragile::default());
        let keying = fragile(&observer);
        let publisher = Arc::clone(keying.publisher());
        let (mut manager, seconds) = spawned(keying);
        let client = manager.client();
        let bob = install(&client, "bob", 0x1000);
        let carol = install(&client, "carol", 0x1001);
        let class = client.pairs().unwrap()[0].class;
        client.commit(Transaction::new(vec![Op::Remove(carol)])).unwrap().unwrap();
        *observer.at.lock().unwrap() = Some(place);
        if place == "interned" {
            let wider = Proposal { suites: crate::Suites::both(Suite::AES_256_GCM), ..proposal("bob") };
            let add = vec![NewPair { proposal: wider, keys: keys(0x2000, Suite::AES_256_GCM) }];
            let change = Change { add, remove: vec![bob], ..Change::default() };
            assert!(matches!(client.change(change), Err(Stopped)));
        } else {
            // The class of the removed pair is to be forgotten now.
            seconds.store(121, Ordering::Relaxed);
            let _ = client.counts();
        }
        while !manager.has_ended() {
            thread::yield_now();
        }
        assert_eq!(client.pairs(), Err(Stopped), "{place}");
        assert_eq!(publisher.reader().adopt().0.sad.iter().count(), 2, "{place}: workers keep what there is");
        manager.restart().unwrap();
        assert!(!manager.has_ended());
        let pairs = client.pairs().unwrap();
        assert_eq!((pairs.len(), pairs[0].id, pairs[0].usage), (1, bob, Usage::Active), "{place}");
        // Nothing is used twice: ids, references, keys, SPIs at rest; and everything goes on.
        let next = client.rekey(bob, keys(0x1002, Suite::AES_128_GCM)).unwrap().unwrap();
        assert!(next > carol);
        client.commit(Transaction::replace(bob, next)).unwrap().unwrap();
        assert!(client.pairs().unwrap().iter().all(|pair| pair.class == class), "{place}");
        let again = client.propose(proposal("carol")).unwrap().unwrap();
        drop(again);
        seconds.store(1000, Ordering::Relaxed);
        client.commit(Transaction::new(vec![Op::Remove(bob), Op::Remove(next)])).unwrap().unwrap();
        seconds.store(2000, Ordering::Relaxed);
        while client.counts().unwrap().classes > 0 {
            thread::yield_now();
        }
        assert_eq!(client.counts().unwrap().resting_spis, 0, "{place}: nothing is held for ever");
    }
}

#[test]
fn a_restart_without_need_changes_nothing_and_offers_stand() {
    let (mut manager, _) = spawned(fragile(&Arc::new(Fragile::default())));
    let client = manager.client();
    let bob = install(&client, "bob", 0x1000);
    let rule_selector = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
    let rule = Rule::new(rule_selector, None, Action::Discard);
    let number = client.add_rule(vec![rule], None).unwrap().unwrap();
    let offer = client.propose(proposal("carol")).unwrap().unwrap();
    let written = client.propose(proposal("bob")).unwrap().unwrap().ticket.into_text();
    let before = (client.pairs(), client.policy(), client.peers(), client.counts());
    for _ in 0..3 {
        manager.restart().unwrap();
        assert_eq!((client.pairs(), client.policy(), client.peers(), client.counts()), before);
    }
    client.install(offer.ticket, keys(0x1001, Suite::AES_128_GCM)).unwrap().unwrap();
    let ticket = written.as_str().parse().unwrap();
    let second = client.install(ticket, keys(0x1002, Suite::AES_128_GCM)).unwrap().unwrap();
    assert!(second > bob);
    assert_eq!(client.policy().unwrap()[0].number, number);
    drop(manager);
    assert_eq!(client.pairs(), Err(Stopped));
}

/// What is written down and was not published is undone, and what nobody knows goes.
#[test]
fn recovery_undoes_what_was_not_published_and_removes_what_nobody_knows() {
    let mut keying = crate::testing::keying();
    let offer = keying.propose(proposal("bob"), at(0)).unwrap();
    let bob = keying.install(offer.ticket, keys(0x1000, Suite::AES_128_GCM), at(0)).unwrap();
    keying.poll(at(0));
    let known = (**keying.snapshot()).clone();
    let offer = keying.propose(proposal("carol"), at(0)).unwrap();
    let carol = keying.install(offer.ticket, keys(0x1001, Suite::AES_128_GCM), at(0)).unwrap();
    // As if the second had never been published.
    keying.publisher().publish(Arc::new(known));
    keying.recover(at(0));
    assert_eq!(keying.pairs().iter().map(|pair| pair.id).collect::<Vec<_>>(), [bob]);
    assert!(!keying.is_free(Spi::new(0x1001).unwrap()), "its SPI rests all the same");
    // As if another had been published and not written down.
    let mut stranger = crate::testing::keying();
    for spi in 0x7000..0x7003 {
        let offer = stranger.propose(proposal("bob"), at(0)).unwrap();
        stranger.install(offer.ticket, keys(spi, Suite::AES_128_GCM), at(0)).unwrap();
    }
    let mut foreign = (**keying.snapshot()).clone();
    for slot in stranger.snapshot().sad.iter().filter(|slot| slot.entry.sa.index.get() >= 4) {
        foreign.sad.insert(Arc::clone(&slot.entry), Usage::Active).unwrap();
    }
    assert_eq!(foreign.sad.iter().count(), 4);
    keying.publisher().publish(Arc::new(foreign));
    keying.recover(at(0));
    assert_eq!((keying.pairs().len(), keying.snapshot().sad.iter().count()), (1, 2));
    assert!(!keying.is_free(Spi::new(0x7002).unwrap()));
    let flow = FlowKey::new(protocol::TCP, "10.0.0.1:5".parse().unwrap(), "10.1.0.1:80".parse().unwrap());
    let chosen = keying.snapshot().sad.select(&Traffic::of(&flow), None, None).unwrap();
    assert_eq!(chosen.entry.spi.get(), 0x8000_1000, "bob's, and not the stranger's");
    let offer = keying.propose(proposal("carol"), at(0)).unwrap();
    let later = keying.install(offer.ticket, keys(0x1002, Suite::AES_128_GCM), at(0)).unwrap();
    assert!(later > carol, "ids are not used again");
    assert_eq!(keying.peers()[2].peer, crate::PeerPattern::Exact(fqdn("carol")));
}
