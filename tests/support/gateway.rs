//! One gateway, without devices, threads or clock.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam::channel::Receiver;
use latchway_datapath::arrival::{Arrival, Carrier};
use latchway_datapath::coalesce::{Coalescer, Offloads, Unit};
use latchway_datapath::drop::{Counters, Direction, DropReason};
use latchway_datapath::event::{Event, event_queue};
use latchway_datapath::gateway::{Datapath, Shared};
use latchway_datapath::lifetime;
use latchway_datapath::outbound::Outbound;
use latchway_datapath::oversize::Oversize;
use latchway_datapath::sad::{Follow, Path, Scope, Shape};
use latchway_datapath::selector::{AddressRange, Selector};
use latchway_datapath::send_batch::SendBatch;
use latchway_datapath::spd::{Action, Protection, Reqid, Rule, Spd};
use latchway_datapath::time::Time;
use latchway_datapath::virtio::VNET_HDR_LEN;
use latchway_esp::{Align, AntiReplay, KeyMaterial, Protocol, SequenceKind, Spi, Suite, WindowSize};
use latchway_keying::{
    ClassObserver, ClassRefused, Commitment, Committed, Evidence, KeyOrigin, Keying, Keys, Narrowing, Nat,
    Offer, Op, Pad, PadEntry, PairId, PairView, PeerPattern, Proposal, SaKeys, Settings, Start, Suites,
    Transaction,
};
use latchway_tagging::{AuthMethod, Class, ClassId, Identity, Mode, PadEntryId, StateClock, WorkerId};
use latchway_ulp_shim::{LatchDatabase, LatchView, Limits, Seed, Shim};

use crate::support::packet::{Flow, with_header};
use crate::support::wire::Datagram;

/// Who a gateway is and what lies behind it: 10.0.`inner`.0/24 and fd00:`inner`::/32, at 192.0.2.`outer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its identity, and its entry in the PAD of others.
    pub name: &'static str,
    /// Its inner networks.
    pub inner: u8,
    /// Its place on the wire.
    pub outer: u8,
}

/// How a pair of SAs protects.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The suite of both directions.
    pub suite: Suite,
    /// The lifetime of both SAs.
    pub limits: lifetime::Limits,
    /// How wide the numbers are.
    pub sequence: SequenceKind,
}

/// A gateway made of its real parts.
pub struct Gateway {
    /// Who it is.
    pub host: Host,
    /// Its key manager.
    pub keying: Keying,
    /// Its latches.
    pub database: Arc<LatchDatabase>,
    /// Its two streets.
    pub datapath: Datapath<Shim>,
    /// Sealed packets of the batch at hand.
    pub batch: SendBatch,
    /// Opened packets of the batch at hand.
    pub units: Coalescer,
    events: Receiver<Event>,
    last_spi: u32,
}

impl Host {
    /// Its address on the wire.
    pub fn address(self) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, self.outer], 4500))
    }

    /// Its inner networks, one of each family.
    pub fn networks(self) -> [AddressRange; 2] {
        let inner = self.inner;
        let range = |first: String, last: String| {
            AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
        };
        let v6_last = format!("fd00:{inner}:ffff:ffff:ffff:ffff:ffff:ffff");
        [
            range(format!("10.0.{inner}.0"), format!("10.0.{inner}.255")),
            range(format!("fd00:{inner}::"), v6_last),
        ]
    }

    /// The flows between its networks and another's.
    pub fn selectors(self, other: Host) -> Vec<Selector> {
        let pairs = self.networks().into_iter().zip(other.networks());
        pairs.map(|(local, remote)| Selector::between(local, remote)).collect()
    }

    fn identity(self) -> Identity {
        Identity::Fqdn(self.name.to_owned())
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            suite: Suite::AES_128_GCM,
            limits: lifetime::Limits::default(),
            sequence: SequenceKind::Extended,
        }
    }
}

impl Gateway {
    /// A gateway that knows `peers`, may claim what theirs is to each, and protects all traffic with them so.
    pub fn new(host: Host, peers: &[Host], protection: Protection) -> Self {
        // What one side sends without an answer counts as half open, and it is all of one peer.
        let limits = Limits::for_flows(4096);
        let limits = Limits { half_open_of_peer: limits.half_open, ..limits };
        Self::with_limits(host, peers, protection, limits)
    }

    /// The same, with these bounds of its Latch Database.
    pub fn with_limits(host: Host, peers: &[Host], protection: Protection, limits: Limits) -> Self {
        let clock = Arc::new(StateClock::new());
        let database = LatchDatabase::new(limits, Arc::clone(&clock), Seed::Fixed(7)).unwrap();
        let database = Arc::new(database);
        let observer = Arc::new(Peers(Arc::clone(&database)));
        let keying = Keying::new(
            pad(host, peers),
            Settings::default(),
            Arc::clone(&clock),
            Arc::clone(&database),
            observer,
        );
        let (sender, events) = event_queue();
        let shim = Shim::new(Arc::clone(&database), WorkerId(0), sender.clone());
        let shared = Shared {
            snapshots: keying.publisher().reader(),
            clock,
            counters: Arc::new(Counters::new()),
            events: sender,
            oversize: Oversize::default(),
        };
        let datapath = Datapath::new(WorkerId(0), shim, shared);
        let (batch, units) = (SendBatch::new(), Coalescer::new(Offloads { tcp: true, udp: true }));
        let last_spi = 0x1_0000 * u32::from(host.outer);
        let mut gateway = Self { host, keying, database, datapath, batch, units, events, last_spi };
        let actions: Vec<_> = peers.iter().map(|&peer| (peer, Action::Protect(protection))).collect();
        gateway.set_policy(&actions, Time::default());
        gateway
    }

    /// Makes these the actions for traffic with these peers, and discard that for everything else.
    pub fn set_policy(&mut self, actions: &[(Host, Action)], now: Time) {
        let rules = actions.iter().flat_map(|&(peer, action)| {
            let selectors = self.host.selectors(peer).into_iter();
            selectors.map(move |selector| Rule::new(selector, None, action))
        });
        let spd = Spd::new(rules.collect());
        self.commit(vec![Op::SetSpd(spd)], now);
    }

    /// Commits changes. The worker meets them with its next batch; changes of policy take batches of their own.
    pub fn commit(&mut self, ops: Vec<Op>, now: Time) -> Committed {
        match self.keying.commit(Transaction::new(ops), now).unwrap() {
            Commitment::InForce(committed) => committed,
            Commitment::Staged => loop {
                self.datapath.begin(now);
                if let Some(changed) = self.keying.poll(now).changed {
                    break changed.into();
                }
            },
        }
    }

    /// What a pair with `peer` would be, as its key manager offers it.
    pub fn offer(&mut self, peer: Host, terms: &Terms, now: Time) -> Offer {
        self.keying.propose(proposal(self.host, peer, terms), now).unwrap()
    }

    /// An SPI that no SA of this gateway had yet.
    pub fn draw_spi(&mut self) -> Spi {
        self.last_spi += 1;
        Spi::new(self.last_spi).unwrap()
    }

    /// Lets the worker finish its batch, so that graces end, and the worker adopt what comes of it. Returns the pairs
    /// that came into force.
    pub fn settle(&mut self, now: Time) -> Vec<PairId> {
        let mut settled = Vec::new();
        loop {
            self.datapath.begin(now);
            let progress = self.keying.poll(now);
            settled.extend(progress.settled);
            if !progress.settling {
                self.datapath.begin(now);
                return settled;
            }
        }
    }

    /// Sends one packet of an inner host.
    pub fn send(&mut self, packet: &[u8], now: Time) -> Vec<Datagram> {
        self.send_super_packet(&mut with_header(packet), now)
    }

    /// Sends one super-packet, virtio header first.
    pub fn send_super_packet(&mut self, octets: &mut [u8], now: Time) -> Vec<Datagram> {
        self.datapath.begin(now);
        self.batch.clear();
        let outcome = self.datapath.outbound(octets, &mut self.batch);
        assert_eq!(outcome == Outbound::Sealed, !self.batch.is_empty());
        assert_ne!(outcome, Outbound::Bypass, "no policy here says BYPASS to what leaves");
        let (from, runs) = (self.host.address(), self.batch.runs());
        let datagrams = runs.flat_map(|run| {
            run.datagrams().map(move |one| Datagram { from, to: run.to, octets: one.to_vec() })
        });
        datagrams.collect()
    }

    /// Receives a train of datagrams from one sender. Returns the packets that reach the inner hosts.
    pub fn receive(&mut self, train: &[Datagram], now: Time) -> Vec<Vec<u8>> {
        let octets: Vec<u8> = train.iter().flat_map(|datagram| datagram.octets.iter().copied()).collect();
        self.receive_as(octets, &Arrival::udp(train[0].octets.len(), train[0].from), now)
    }

    /// Receives what arrived so. Returns the packets that reach the inner hosts.
    pub fn receive_as(&mut self, mut buffer: Vec<u8>, arrival: &Arrival, now: Time) -> Vec<Vec<u8>> {
        self.datapath.begin(now);
        self.units.clear();
        self.datapath.inbound(&mut buffer, arrival, &mut self.units);
        self.units.units().flat_map(|unit| packets(&unit, &buffer)).collect()
    }

    /// Receives one packet in the clear, at the bypass port. Returns whether it may reach the inner hosts.
    pub fn receive_unprotected(&mut self, packet: &[u8], now: Time) -> bool {
        self.datapath.begin(now);
        self.datapath.unprotected(&mut with_header(packet))
    }

    /// What the datapath told since this was asked last. The key manager hears it too.
    pub fn events(&mut self) -> Vec<Event> {
        let mut events: Vec<_> = self.events.try_iter().collect();
        events.iter().for_each(|event| self.keying.note(event));
        while let Some(broken) = self.keying.next_broken() {
            events.push(broken);
            self.keying.broken_told();
        }
        events
    }

    /// Every reason for which it dropped packets, with the count.
    pub fn drops(&self) -> Vec<(Direction, DropReason, u64)> {
        let all = [Direction::Inbound, Direction::Outbound].into_iter().flat_map(|direction| {
            DropReason::ALL.iter().map(move |&reason| (direction, reason, self.dropped(direction, reason)))
        });
        all.filter(|(_, _, count)| *count > 0).collect()
    }

    /// How many packets it dropped, for whatever reason.
    pub fn dropped_in_all(&self) -> u64 {
        self.drops().iter().map(|(_, _, count)| count).sum()
    }

    /// The latch of a flow.
    pub fn latch(&self, flow: Flow) -> Option<LatchView> {
        self.database.find(&flow.key()).and_then(|id| self.database.inquire(id))
    }

    /// A pair of SAs.
    pub fn pair(&self, id: PairId) -> PairView {
        self.keying.pairs().into_iter().find(|pair| pair.id == id).unwrap()
    }

    fn dropped(&self, direction: Direction, reason: DropReason) -> u64 {
        self.datapath.counters().street(direction).dropped(reason)
    }
}

/// A pair of `host` with `peer`.
pub fn proposal(host: Host, peer: Host, terms: &Terms) -> Proposal {
    Proposal {
        peer: peer.identity(),
        method: AuthMethod::Manual,
        local: host.identity(),
        selectors: host.selectors(peer),
        narrowing: Narrowing::Forbidden,
        mode: Mode::Tunnel,
        suites: Suites::both(terms.suite),
        header: None,
        replay_checked: true,
        reqid: Reqid(1),
        evidence: Evidence::default(),
        local_evidence: Evidence::default(),
        nat: Nat::default(),
    }
}

/// The keys of one end: what it receives under `inbound` and sends under `outbound`. Each SPI has a key of its own, and
/// always the same.
pub fn keys(terms: &Terms, inbound: Spi, outbound: Spi, peer: Host) -> Keys {
    let direction = |spi: Spi| {
        let mut octets = vec![0; terms.suite.key_len() + terms.suite.salt_len()];
        fastrand::Rng::with_seed(u64::from(spi.get())).fill(&mut octets);
        let material = KeyMaterial::new(terms.suite, &octets).unwrap();
        SaKeys { spi, material, sequence: terms.sequence, limits: terms.limits }
    };
    let path = match terms.suite.protocol() {
        Protocol::Esp => Path::udp(0, peer.address(), 1500),
        // AH is never in UDP, and covers our own address. Whoever cares which it is revises it.
        Protocol::Ah => {
            let (from, carrier) = ([192, 0, 2, 254].into(), Carrier::Native);
            Path { from, carrier, ..Path::udp(0, peer.address(), 1500) }
        }
    };
    Keys {
        inbound: direction(inbound),
        anti_replay: AntiReplay::Window(WindowSize::default()),
        outbound: direction(outbound),
        header: None,
        align: Align::Rfc,
        path,
        shape: Shape::default(),
        follow: Follow::Fixed,
        scope: Scope::Selectors,
        origin: KeyOrigin::Ephemeral,
        resumption: None,
        worker: WorkerId(0),
        start: Start::Active,
    }
}

fn pad(host: Host, peers: &[Host]) -> Pad {
    let entry = |(id, peer): (u32, &Host)| PadEntry {
        id: PadEntryId(id),
        name: peer.name.to_owned(),
        peer: PeerPattern::Exact(peer.identity()),
        methods: vec![AuthMethod::Manual],
        standing: None,
        ranges: peer.networks().into(),
        local: host.identity(),
    };
    Pad::new((1..).zip(peers).map(entry).collect()).unwrap()
}

/// The packets of a unit, as the kernel would segment it.
fn packets(unit: &Unit<'_>, buffer: &[u8]) -> Vec<Vec<u8>> {
    let (mut parts, mut packets) = (unit.parts(), Vec::new());
    while let Some(part) = parts.next_part(buffer) {
        packets.push([&part.header[VNET_HDR_LEN..], part.payload].concat());
    }
    packets
}

/// Tells the shim which class belongs to which peer (C-19).
struct Peers(Arc<LatchDatabase>);

impl ClassObserver for Peers {
    fn class_interned(&self, id: ClassId, class: &Class, standing: AuthMethod) -> Result<(), ClassRefused> {
        self.0.peers().publish(id, class.peer, standing, 0).map_err(|_| ClassRefused)
    }

    fn latched(&self, classes: &HashSet<ClassId>) -> HashSet<ClassId> {
        classes.iter().copied().filter(|&class| self.0.is_latched(class)).collect()
    }

    fn class_released(&self, id: ClassId) {
        self.0.peers().retire(id);
    }
}
