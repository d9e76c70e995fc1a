//! A gateway with three peers: bob and mallory, of equal standing, and carol, of the least, who may all have the same
//! inner addresses.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use latchway_datapath::arrival::Arrival;
use latchway_datapath::drop::Direction;
use latchway_datapath::event::Event;
use latchway_datapath::latching::{BreakReason, LatchId, LatchState, LatchTerms, Model};
use latchway_datapath::outbound::Outbound;
use latchway_datapath::sad::Usage;
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::snapshot::Snapshot;
use latchway_datapath::spd::{Action, Freedom, Latching, Protection, Rule, Spd};
use latchway_datapath::time::Time;
use latchway_datapath::traffic::Traffic;
use latchway_esp::{EspHeader, NextHeader, OutboundConfig, OutboundSa, Spi, Suite};
use latchway_keying::{
    Alerts, Asked, Change, ConnectionRequest, Constraints, Keys, ListenerRequest, Narrowing, Op, Origin, Pad,
    PadEntry, PairId, PeerPattern, Privilege, RuleNumber, Start, Transaction,
};
use latchway_tagging::{AuthMethod, ClassId, Identity, Mode, PadEntryId};
use latchway_ulp_shim::{LatchView, Limits, Listening};

use crate::interleavings::reference::{Latch, Passed, Reference};
use crate::interleavings::step::{FLOWS, Kind, Policy, Step, Turn, Wish};
use crate::support::gateway::{Gateway, Host, Terms, keys, proposal};
use crate::support::net::{ALICE, BOB, MALLORY};
use crate::support::packet::{Flow, Segment, with_header};

/// What is put to the test, with what it should be like.
pub struct World {
    gateway: Gateway,
    reference: Reference,
    pairs: Vec<Made>,
    /// Whose each class is.
    peers: HashMap<ClassId, usize>,
    holders: Vec<Holding>,
    rules: Vec<RuleNumber>,
    configured: [Policy; 2],
    /// What the worker goes by.
    seen: Arc<Snapshot>,
    resting: bool,
    /// When the worker's batch began, which is what time it is to packets.
    begun: Time,
    now: Time,
    number: u16,
    /// What happened in it.
    pub tally: Tally,
}

/// How often things happened, so that a test of nothing does not pass for one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    inbound: u64,
    outbound: u64,
    refused: u64,
    clear: u64,
    granted: u64,
    broken: u64,
    restored: u64,
    asked: u64,
}

/// A pair of SAs, and the peer's end of it.
struct Made {
    id: PairId,
    peer: usize,
    class: ClassId,
    sealer: OutboundSa,
    inbound: Spi,
    outbound: Spi,
}

/// A holder, with what it asked for and has.
struct Holding {
    alerts: Alerts,
    latches: Vec<LatchId>,
}

/// What became of a packet of an inner host.
enum Left {
    Under(Spi),
    InTheClear,
    Nothing,
}

const CAROL: Host = Host { name: "carol", inner: 2, outer: 4 };
const PEERS: [Host; 3] = [BOB, MALLORY, CAROL];

impl World {
    /// Peers, and no SA.
    pub fn new() -> Self {
        let limits = Limits { half_open: 64, half_open_of_peer: 64, ..Limits::for_flows(64) };
        let mut gateway = Gateway::with_limits(ALICE, &PEERS, Protection::LATCHED, limits);
        let change = Change { pad: Some(pad()), ..Change::default() };
        gateway.keying.begin_change(change, Time::default()).unwrap();
        gateway.settle(Time::default());
        let seen = Arc::clone(gateway.keying.snapshot());
        Self {
            gateway,
            reference: Reference::default(),
            pairs: Vec::new(),
            peers: HashMap::new(),
            holders: Vec::new(),
            rules: Vec::new(),
            configured: [Policy::Latched(LatchTerms::default()); 2],
            seen,
            resting: false,
            begun: Time::default(),
            now: Time::default(),
            number: 0,
            tally: Tally::default(),
        }
    }

    /// Begins an interleaving, with terms and connections of its own, and SAs of one peer in most of them.
    pub fn begin(&mut self, number: u16, random: &mut fastrand::Rng) {
        self.number = number;
        self.set_policy(2, Policy::Latched(crate::interleavings::step::terms(random)), false);
        self.settle();
        if random.u8(..4) > 0 {
            let peer = random.usize(..PEERS.len());
            self.join(peer, None, [false; 3]);
            self.settle();
        }
    }

    /// Does one step, and looks whether all is as it should be.
    pub fn take(&mut self, step: Step, random: &mut fastrand::Rng) {
        match step {
            Step::Inbound { pair, flow, kind, fresh } => self.inbound(pair, flow, kind, fresh),
            Step::Unprotected { flow, kind } => self.unprotected(flow, kind),
            Step::Outbound { flow, kind, fresh } => self.outbound(flow, kind, fresh),
            Step::Batch => self.batch(),
            Step::Rest => {
                self.gateway.datapath.end();
                self.gateway.datapath.quiesce();
                self.resting = true;
            }
            Step::Wait { seconds } => self.now = self.now + Duration::from_secs(seconds),
            Step::Poll => self.poll(random.bool()),
            Step::Recover => self.gateway.keying.recover(self.now),
            Step::Gone { peer, why } => {
                let identity = Identity::Fqdn(PEERS[peer].name.to_owned());
                self.gateway.keying.peer_gone(&identity, why, self.now);
            }
            Step::Join { .. } | Step::Rekey { .. } | Step::Turn { .. } => self.change_sas(step),
            Step::Policy { place, policy, by_hand } => self.set_policy(place, policy, by_hand),
            Step::Unrule => {
                if let Some(rule) = self.rules.pop()
                    && self.gateway.keying.delete_rule(rule).is_err()
                {
                    self.rules.push(rule);
                }
            }
            _ => self.call(step),
        }
        self.look(matches!(step, Step::Batch | Step::Rest));
    }

    /// Ends an interleaving: the counters are what is counted, and when everybody is gone nothing is left.
    pub fn end(&mut self) {
        self.recount();
        self.holders.clear();
        self.settle();
        for rule in std::mem::take(&mut self.rules) {
            self.gateway.keying.delete_rule(rule).unwrap();
            self.settle();
        }
        for pair in self.gateway.keying.pairs() {
            self.gateway.keying.commit(Transaction::new(vec![Op::Remove(pair.id)]), self.now).unwrap();
        }
        self.settle();
        // Each longer than any idle time; then what is sticky is asked about, and answered for.
        for seconds in [3 * 3600, 1, 3 * 3600, 1, 1] {
            self.now = self.now + Duration::from_secs(seconds);
            self.poll(true);
            self.batch();
            self.look(true);
        }
        assert_eq!(self.reference.latches().len(), 0, "L-21, T37 i: {:?}", self.reference.latches());
        self.recount();
        self.pairs.clear();
    }

    /// Writes down what became of latches.
    fn look(&mut self, by_worker: bool) {
        let views: Vec<LatchView> = self.gateway.database.dump().collect();
        let sad = if by_worker { &self.seen.sad } else { &self.gateway.keying.snapshot().sad };
        let before = self.reference.latches();
        self.reference.observe(&views, sad, self.now);
        for latch in before {
            let after = views.iter().find(|view| view.id == latch.id).map(|view| view.state);
            self.tally.broken +=
                u64::from(after == Some(LatchState::Broken) && latch.state != LatchState::Broken);
            let restored = latch.state == LatchState::Broken && after == Some(LatchState::Established);
            self.tally.restored += u64::from(restored);
        }
        self.reference.check_conflicts(&self.gateway.keying.snapshot().sad);
        for id in &self.reference.released {
            assert!(self.gateway.keying.inquire_latch(*id).is_err(), "L-64: {id} was released");
        }
    }

    fn batch(&mut self) {
        self.gateway.datapath.end();
        self.gateway.datapath.begin(self.now);
        self.begun = self.now;
        self.seen = Arc::clone(self.gateway.keying.snapshot());
        self.resting = false;
    }

    /// The key manager polls. It hears of packets that broke latches now, or later.
    fn poll(&mut self, hears: bool) {
        self.gateway.keying.poll(self.now);
        if hears {
            self.hear();
        } else {
            while let Some(event) = self.gateway.keying.next_broken() {
                self.gateway.keying.broken_told();
                self.note(&event);
            }
        }
    }

    fn hear(&mut self) {
        for event in self.gateway.events() {
            self.note(&event);
        }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::LatchBroken { latch, latched, offender, .. } => {
                self.reference.told.insert(*latch);
                let carols = |class: ClassId| self.peers.get(&class) == Some(&2);
                let lesser = offender.is_some_and(|offender| carols(offender.class));
                assert!(!lesser || latched.is_some_and(carols), "L-70: {event:?}");
            }
            Event::LatchIdle { latch, .. } => drop(self.gateway.database.forget(*latch, self.now)),
            _ => {}
        }
    }

    fn settle(&mut self) {
        loop {
            self.batch();
            let settling = self.gateway.keying.poll(self.now).settling;
            self.hear();
            self.look(false);
            if !settling {
                self.batch();
                return;
            }
        }
    }

    /// The numbers that the Latch Database keeps are those that are found by counting.
    fn recount(&self) {
        let database = &self.gateway.database;
        let views: Vec<_> = database.dump().filter(|view| view.state != LatchState::Listener).collect();
        let half_open = views.iter().filter(|view| view.progress.is_half_open()).count();
        assert_eq!(database.counts().half_open, half_open as u64, "{views:?}");
        for class in self.peers.keys() {
            let holders = views.iter().filter(|view| view.class == Some(*class)).count();
            assert_eq!(database.peers().latches(*class) as usize, holders, "D.2");
            let strict = |view: &&LatchView| {
                view.state == LatchState::Established && view.terms.model == Model::Strict && !view.bypass
            };
            let others = views.iter().filter(strict).any(|view| view.class != Some(*class));
            assert_eq!(database.strict_others(*class), others, "D.2");
        }
    }

    fn set_policy(&mut self, place: usize, policy: Policy, by_hand: bool) {
        let rule = |place: Option<usize>, policy| Rule {
            freedom: Freedom::Bypass,
            ..Rule::new(selector(place), None, action(policy))
        };
        let keying = &mut self.gateway.keying;
        if by_hand {
            let place = Some(place).filter(|place| *place < 2);
            let first =
                keying.policy().iter().find(|view| view.origin != Origin::Latch).map(|view| view.number);
            self.rules.extend(keying.add_rule(vec![rule(place, policy)], first));
            return;
        }
        let mut configured = self.configured;
        let meant = configured.iter_mut().enumerate().filter(|(at, _)| place == 2 || *at == place);
        meant.for_each(|(_, one)| *one = policy);
        let rules = configured.iter().enumerate().map(|(at, policy)| rule(Some(at), *policy)).collect();
        if keying.commit(Transaction::new(vec![Op::SetSpd(Spd::new(rules))]), self.now).is_ok() {
            self.configured = configured;
        }
    }

    fn change_sas(&mut self, step: Step) {
        let made = |at: usize| (!self.pairs.is_empty()).then(|| at % self.pairs.len().max(1));
        match step {
            Step::Join { peer, place, weak, narrowed, standby } => {
                self.join(peer, place, [weak, narrowed, standby])
            }
            Step::Rekey { pair } => {
                let Some(old) = made(pair) else { return };
                let (id, peer, class) = (self.pairs[old].id, self.pairs[old].peer, self.pairs[old].class);
                let suite = self.pairs[old].sealer.suite();
                let (terms, spis) = (Terms { suite, ..Terms::default() }, self.draw_spis());
                let keys = keys(&terms, spis.0, spis.1, PEERS[peer]);
                if let Ok(new) = self.gateway.keying.rekey(id, keys, self.now) {
                    self.remember(new, peer, class, (terms, spis));
                }
            }
            Step::Turn { pair, turn } => {
                let Some(pair) = made(pair) else { return };
                let id = self.pairs[pair].id;
                let op = match turn {
                    Turn::Activate => Op::Activate(id),
                    Turn::Retire => Op::Retire(id),
                    Turn::Drain => Op::Drain(id),
                    Turn::Remove => Op::Remove(id),
                };
                // Whoever is gone, or not in force yet, is not turned.
                drop(self.gateway.keying.commit(Transaction::new(vec![op]), self.now));
            }
            _ => {}
        }
    }

    fn join(&mut self, peer: usize, place: Option<usize>, [weak, narrowed, standby]: [bool; 3]) {
        let suite = if weak { Suite::AES_128_CBC_HMAC_SHA_256 } else { Suite::AES_128_GCM };
        let terms = Terms { suite, ..Terms::default() };
        let narrowing = if narrowed { Narrowing::Allowed } else { Narrowing::Forbidden };
        let wanted = proposal(ALICE, PEERS[peer], &terms);
        let wanted = latchway_keying::Proposal { selectors: vec![selector(place)], narrowing, ..wanted };
        let Ok(offer) = self.gateway.keying.propose(wanted, self.now) else { return };
        self.peers.insert(offer.class, peer);
        let spis = self.draw_spis();
        let start = if standby { Start::Standby } else { Start::Active };
        let keys = Keys { start, ..keys(&terms, spis.0, spis.1, PEERS[peer]) };
        let id = self.gateway.keying.install(offer.ticket, keys, self.now).unwrap();
        self.remember(id, peer, offer.class, (terms, spis));
    }

    fn draw_spis(&mut self) -> (Spi, Spi) {
        (self.gateway.draw_spi(), self.gateway.draw_spi())
    }

    /// Notes a pair, and makes the peer's end of it.
    fn remember(&mut self, id: PairId, peer: usize, class: ClassId, (terms, spis): (Terms, (Spi, Spi))) {
        let ours = keys(&terms, spis.0, spis.1, PEERS[peer]).inbound;
        let sealer = OutboundSa::new(OutboundConfig {
            spi: spis.0,
            suite: terms.suite,
            keys: &ours.material,
            sequence: terms.sequence,
            reservation: None,
        });
        let (inbound, outbound) = spis;
        self.pairs.push(Made { id, peer, class, sealer: sealer.unwrap(), inbound, outbound });
    }

    fn inbound(&mut self, pair: usize, flow: usize, kind: Kind, fresh: bool) {
        if self.pairs.is_empty() {
            return;
        }
        let (at, flow) = (pair % self.pairs.len(), self.flow(flow));
        if fresh || self.resting {
            self.batch();
        }
        let before = self.reference.of(&flow.key());
        let pair = &mut self.pairs[at];
        let mut sealed = seal(&mut pair.sealer, &packet(flow.reversed(), kind));
        let (class, spi) = (pair.class, pair.inbound);
        self.gateway.units.clear();
        let arrival = Arrival::udp(sealed.len(), PEERS[pair.peer].address());
        self.gateway.datapath.inbound(&mut sealed, &arrival, &mut self.gateway.units);
        let passed = self.gateway.units.units().count() > 0;
        self.look(true);
        let slot = self.seen.sad.iter().find(|slot| slot.entry.is_inbound() && slot.entry.spi == spi);
        let receives = slot
            .is_some_and(|slot| slot.usage != Usage::Pending && slot.entry.admits(&Traffic::of(&flow.key())));
        if passed {
            self.tally.inbound += 1;
            assert!(receives, "L-74: {flow:?} passed under an SA that is not in force");
            self.pass(flow, before, (Direction::Inbound, kind, Some(class)));
        } else {
            self.tally.refused += 1;
            let due = fresh && receives && is_due(before, class, kind);
            assert!(
                !due,
                "L-98: {kind:?} of {before:?} did not pass under {class:?}: {:?}",
                self.gateway.drops()
            );
        }
    }

    fn unprotected(&mut self, flow: usize, kind: Kind) {
        let flow = self.flow(flow);
        if self.resting {
            self.batch();
        }
        let before = self.reference.of(&flow.key());
        let packet = packet(flow.reversed(), kind);
        let passed = self.gateway.datapath.unprotected(&mut with_header(&packet));
        self.look(true);
        if passed {
            self.tally.clear += 1;
            self.pass(flow, before, (Direction::Inbound, kind, None));
        }
    }

    fn outbound(&mut self, flow: usize, kind: Kind, fresh: bool) {
        let flow = self.flow(flow);
        if fresh || self.resting {
            self.batch();
        }
        let before = self.reference.of(&flow.key());
        let left = self.send(&packet(flow, kind));
        self.look(true);
        match left {
            Left::Under(spi) => {
                self.tally.outbound += 1;
                let class = self.pairs.iter().find(|pair| pair.outbound == spi).unwrap().class;
                let slot =
                    self.seen.sad.iter().find(|slot| !slot.entry.is_inbound() && slot.entry.spi == spi);
                assert_eq!(slot.map(|slot| slot.usage), Some(Usage::Active), "L-74");
                self.pass(flow, before, (Direction::Outbound, kind, Some(class)));
            }
            Left::InTheClear => {
                self.tally.clear += 1;
                self.pass(flow, before, (Direction::Outbound, kind, None));
            }
            Left::Nothing => {
                // Whoever resets has no connection any more, whether or not the other hears of it.
                let resets = before.filter(|_| kind == Kind::Reset);
                resets.iter().for_each(|latch| self.reference.ended(latch.id));
                let serves =
                    |class| self.seen.sad.select(&Traffic::of(&flow.key()), Some(class), None).is_some();
                let served = before.and_then(|latch| latch.class).filter(|class| serves(*class));
                let due = fresh && served.is_some_and(|class| is_due(before, class, kind));
                assert!(!due, "L-98: {kind:?} of {before:?} did not leave: {:?}", self.gateway.drops());
            }
        }
    }

    fn send(&mut self, packet: &[u8]) -> Left {
        let Gateway { datapath, batch, .. } = &mut self.gateway;
        batch.clear();
        match datapath.outbound(&mut with_header(packet), batch) {
            Outbound::Sealed => {
                let mut datagrams = batch.runs().flat_map(|run| run.datagrams());
                Left::Under(EspHeader::parse(datagrams.next().unwrap()).unwrap().spi)
            }
            Outbound::Bypass => Left::InTheClear,
            Outbound::Dropped | Outbound::Kept | Outbound::Answered => Left::Nothing,
        }
    }

    fn pass(
        &mut self,
        flow: Flow,
        before: Option<Latch>,
        (direction, kind, class): (Direction, Kind, Option<ClassId>),
    ) {
        let unlatched = match self.seen.spd.action(&Traffic::of(&flow.key()), Direction::Outbound) {
            Some(Action::Protect(protection)) => protection.latching == Latching::Off && class.is_some(),
            Some(Action::Bypass) => class.is_none() || direction == Direction::Inbound,
            _ => false,
        };
        self.tally.granted += u64::from(class.is_none() && before.is_some());
        let passed = Passed { direction, kind, class, unlatched };
        self.reference.passed(&flow.key(), before, passed, self.begun);
    }

    /// What holders and administrators do.
    fn call(&mut self, step: Step) {
        let latches = self.reference.latches();
        let chosen = |at: usize| latches.get(at % latches.len().max(1)).copied();
        let holder = |at: usize, of: &[Holding]| (!of.is_empty()).then(|| at % of.len().max(1));
        match step {
            Step::Holder if self.holders.len() < 4 => {
                let alerts = self.gateway.keying.open_holder().unwrap();
                self.holders.push(Holding { alerts, latches: Vec::new() });
            }
            Step::Connect { .. } | Step::Listen { .. } => self.ask(step),
            Step::Release { holder: by, latch } => {
                let (Some(by), Some(latch)) = (holder(by, &self.holders), chosen(latch)) else { return };
                let by = self.holders[by].alerts.holder();
                // Of one that ended by itself, the tombstone says so until it falls.
                let ended = latch.reason == Some(BreakReason::ConnectionEnded);
                if self.gateway.keying.release_latch(latch.id, by, self.now).is_ok() && !ended {
                    self.reference.released.insert(latch.id);
                }
            }
            Step::Close { latch } => {
                let Some(latch) = chosen(latch) else { return };
                drop(self.gateway.keying.close_latch(latch.id, self.now));
            }
            Step::Dispose { latch } => {
                let broken = |latch: &&Latch| {
                    latch.state == LatchState::Broken && self.reference.told.contains(&latch.id)
                };
                let broken: Vec<_> = latches.iter().filter(broken).collect();
                let Some(latch) = broken.get(latch % broken.len().max(1)) else { return };
                self.gateway.database.ended(latch.id, self.now);
                self.reference.ended(latch.id);
            }
            Step::Death { holder: by } => {
                let Some(by) = holder(by, &self.holders) else { return };
                let Holding { alerts, latches } = self.holders.swap_remove(by);
                drop(alerts);
                self.poll(true);
                let database = &self.gateway.database;
                let held = |id: &LatchId| {
                    database.inquire(*id).is_some_and(|view| view.owned || view.state != LatchState::Closed)
                };
                assert!(!latches.iter().any(held), "L-21: {latches:?}");
                let ended = |id: &LatchId| {
                    database
                        .inquire(*id)
                        .is_some_and(|view| view.reason == Some(BreakReason::ConnectionEnded))
                };
                self.reference.released.extend(latches.into_iter().filter(|id| !ended(id)));
            }
            Step::Stale { latch } => {
                let dead = self.reference.dead();
                let Some(id) = dead.get(latch % dead.len().max(1)) else { return };
                let before: Vec<_> = self.gateway.database.dump().collect();
                let keying = &mut self.gateway.keying;
                let closed = keying.close_latch(*id, self.now).is_ok();
                let released = self
                    .holders
                    .first()
                    .is_some_and(|by| keying.release_latch(*id, by.alerts.holder(), self.now).is_ok());
                assert!(!closed && !released && keying.inquire_latch(*id).is_err(), "L-64: {id}");
                assert_eq!(self.gateway.database.dump().collect::<Vec<_>>(), before, "L-64");
            }
            _ => {}
        }
    }

    fn ask(&mut self, step: Step) {
        let (by, now) = (self.holders.len(), self.now);
        let keying = &mut self.gateway.keying;
        let created = match step {
            _ if by == 0 => return,
            Step::Connect { holder, flow, wish, on_conflict } => {
                let (holder, flow) = (holder % by, flow_of(self.number, flow).key());
                let request = ConnectionRequest {
                    flow,
                    constraints: constraints(wish),
                    on_conflict,
                    report_after: None,
                };
                let by = self.holders[holder].alerts.holder();
                keying
                    .create_connection_latch(&request, by, Privilege::Operator, now)
                    .map(|made| (holder, made))
            }
            Step::Listen { holder, picky, on_conflict } => {
                let (holder, local) = (holder % by, flow_of(self.number, 0).local);
                let listening = Listening { address: local.ip(), protocol: 6, port: local.port() };
                let constraints = constraints(if picky { Wish::Peer(0) } else { Wish::Nothing });
                let request = ListenerRequest { listening, constraints, on_conflict };
                let by = self.holders[holder].alerts.holder();
                keying
                    .create_listener_latch(&request, by, Privilege::Operator, now)
                    .map(|made| (holder, made))
            }
            _ => return,
        };
        if let Ok((holder, created)) = created {
            self.tally.asked += 1;
            self.holders[holder].latches.push(created.latch);
        }
    }

    fn flow(&self, index: usize) -> Flow {
        flow_of(self.number, index)
    }
}

impl Tally {
    /// Adds what happened in another world.
    pub fn add(&mut self, other: &Self) {
        self.inbound += other.inbound;
        self.outbound += other.outbound;
        self.refused += other.refused;
        self.clear += other.clear;
        self.granted += other.granted;
        self.broken += other.broken;
        self.restored += other.restored;
        self.asked += other.asked;
    }

    /// Whether everything happened often in so many interleavings.
    pub fn is_rich(&self, interleavings: u64) -> bool {
        let often = [self.inbound, self.outbound, self.refused].iter().all(|count| *count >= interleavings);
        let seldom = [self.clear, self.broken, self.asked].iter().all(|count| *count >= interleavings / 10);
        often && seldom && self.granted >= interleavings / 100 && self.restored >= interleavings / 100
    }
}

/// Whether a packet of an answered connection is to pass under this class.
fn is_due(latch: Option<Latch>, class: ClassId, kind: Kind) -> bool {
    latch.is_some_and(|latch| {
        latch.state == LatchState::Established
            && latch.class == Some(class)
            && latch.spoken == [true; 2]
            && !latch.is_ending()
            && kind == Kind::Ack
    })
}

/// Bob and mallory alike, and carol, who is trusted less than either.
fn pad() -> Pad {
    let entry = |(id, peer): (u32, &Host)| PadEntry {
        id: PadEntryId(id),
        name: peer.name.to_owned(),
        peer: PeerPattern::Exact(Identity::Fqdn(peer.name.to_owned())),
        methods: vec![AuthMethod::Manual],
        standing: (peer.name == CAROL.name).then_some(AuthMethod::Btns),
        ranges: peer.networks().into(),
        local: Identity::Fqdn(ALICE.name.to_owned()),
    };
    Pad::new((1..).zip(&PEERS).map(entry).collect()).unwrap()
}

const fn action(policy: Policy) -> Action {
    match policy {
        Policy::Latched(terms) => {
            Action::Protect(Protection { reqid: None, template: None, latching: Latching::On(terms) })
        }
        Policy::Unlatched => Action::Protect(Protection::UNLATCHED),
        Policy::Bypass => Action::Bypass,
        Policy::Discard => Action::Discard,
    }
}

fn constraints(wish: Wish) -> Constraints {
    let named = |peer: usize| Some(Identity::Fqdn(PEERS[peer].name.to_owned()));
    match wish {
        Wish::Nothing => Constraints::default(),
        Wish::Peer(peer) => Constraints { peer: named(peer), ..Constraints::default() },
        Wish::Strong(peer) => Constraints {
            mode: Some(Mode::Tunnel),
            suites: vec![Suite::AES_128_GCM],
            replay_checked: true,
            peer: named(peer),
            local: Some(Identity::Fqdn(ALICE.name.to_owned())),
            ..Constraints::default()
        },
        Wish::Bypass => Constraints { protection: Asked::Bypass, ..Constraints::default() },
    }
}

/// One of the two places where connections go, or all.
fn selector(place: Option<usize>) -> Selector {
    let [local, remote] = [ALICE, BOB].map(|host| host.networks()[0]);
    let remote = place.map_or(remote, |place| AddressRange::single(HERE[place].parse().unwrap()));
    Selector::between(local, remote)
}

/// A connection of an interleaving: most are of TCP.
fn flow_of(number: u16, index: usize) -> Flow {
    let local = format!("10.0.1.10:{}", 1000 + number * FLOWS as u16 + (index / 2) as u16);
    let remote = format!("{}:80", HERE[index % 2]);
    if index < 4 { Flow::tcp(&local, &remote) } else { Flow::udp(&local, &remote) }
}

fn packet(flow: Flow, kind: Kind) -> Vec<u8> {
    if flow.protocol != 6 {
        return flow.datagram(b"");
    }
    let ack = Segment { seq: 1001, ack: Some(1001), ..Segment::default() };
    flow.segment(match kind {
        Kind::Syn => Segment { seq: 1000, syn: true, ..Segment::default() },
        Kind::SynAck => Segment { seq: 1000, syn: true, ..ack },
        Kind::Ack => ack,
        Kind::Fin => Segment { fin: true, ..ack },
        Kind::LastAck => Segment { seq: 1002, ack: Some(1002), ..ack },
        Kind::Reset => Segment { rst: true, ..ack },
    })
}

fn seal(sa: &mut OutboundSa, packet: &[u8]) -> Vec<u8> {
    let mut sealed = vec![0; sa.sealed_len(packet.len())];
    let at = sa.payload_offset();
    sealed[at..at + packet.len()].copy_from_slice(packet);
    let number = sa.take(1).unwrap().next_seq().unwrap();
    sa.seal(number, NextHeader::IPV4, &mut sealed, packet.len()).unwrap();
    sealed
}

const HERE: [&str; 2] = ["10.0.2.20", "10.0.2.21"];
