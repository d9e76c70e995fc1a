//! Latches that somebody asks for: the calls of latching-04 section 2.1 and RFC 5660 section 2.3.

mod errors;
mod flow;
mod holders;
mod larval;
mod listeners;
mod model;
mod release;
mod requirements;
mod states;
mod thread;

use std::collections::HashSet;
use std::sync::Arc;

use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::{LatchId, LatchState, LatchTerms, Model};
use latchway_datapath::selector::{AddressRange, PortRange, Selector};
use latchway_datapath::spd::{Action, Freedom, Latching, Protection, Reqid, Rule};
use latchway_datapath::time::Time;
use latchway_esp::Suite;
use latchway_tagging::{AuthMethod, Class, ClassId, PadEntryId, StateClock};
use latchway_ulp_shim::{LatchDatabase, Limits, Listening, Seed};

use crate::latching::{
    Alerts, Asked, ConnectionRequest, Constraints, Created, Holder, LatchAlert, LatchError, ListenerRequest,
    Privilege,
};
use crate::testing::{at, entry, keys, proposal, range};
use crate::{
    Change, ClassObserver, ClassRefused, HolderLimits, Keying, Narrowing, Notice, Pad, PadEntry, PairId,
    Proposal, Settings, Suites, Wanted,
};

/// A key manager whose policy gives another freedom to each network:
///
/// 10.1 PROTECT, and nothing else may be asked · 10.2 PROTECT by tag, and more may be asked · 10.3 PROTECT, and more may
/// be asked · 10.4 PROTECT, and bypass may be asked · 10.5 BYPASS · 10.6 BYPASS, and more may be asked · 10.7 DISCARD ·
/// 10.8 PROTECT without latches · 10.9 no rule.
pub(super) struct World {
    pub(super) keying: Keying,
    pub(super) alerts: Alerts,
    pub(super) now: Time,
    spi: u32,
}

/// Tells the Latch Database whose class is whose, as the gateway does.
struct Peers(Arc<LatchDatabase>);

impl ClassObserver for Peers {
    fn class_interned(&self, id: ClassId, class: &Class, standing: AuthMethod) -> Result<(), ClassRefused> {
        self.0.peers().publish(id, class.peer, standing, 0).map_err(|_| ClassRefused)
    }

    fn latched(&self, classes: &HashSet<ClassId>) -> HashSet<ClassId> {
        classes.iter().copied().filter(|class| self.0.is_latched(*class)).collect()
    }

    fn class_released(&self, id: ClassId) {
        self.0.peers().retire(id);
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(HolderLimits::default())
    }

    pub(super) fn with(holders: HolderLimits) -> Self {
        let (mut keying, now) = (key_manager(holders), at(1));
        let alerts = keying.open_holder().unwrap();
        Self { keying, alerts, now, spi: 0x1000 }
    }

    pub(super) fn holder(&self) -> Holder {
        self.alerts.holder()
    }

    /// Lets time pass in which the key manager looks after everything.
    pub(super) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now + std::time::Duration::from_secs(1);
            self.poll();
        }
    }

    pub(super) fn poll(&mut self) {
        while self.keying.poll(self.now).settling {}
    }

    pub(super) fn connect(&mut self, request: &ConnectionRequest) -> Result<Created, LatchError> {
        let holder = self.holder();
        self.keying.create_connection_latch(request, holder, Privilege::Operator, self.now)
    }

    pub(super) fn listen(&mut self, request: &ListenerRequest) -> Result<Created, LatchError> {
        let holder = self.holder();
        self.keying.create_listener_latch(request, holder, Privilege::Operator, self.now)
    }

    pub(super) fn release(&mut self, latch: LatchId) -> Result<(), LatchError> {
        let holder = self.holder();
        self.keying.release_latch(latch, holder, self.now)
    }

    /// The state of a latch, as an inquiry tells it.
    pub(super) fn state(&self, latch: LatchId) -> Option<LatchState> {
        self.keying.inquire_latch(latch).ok().map(|inquiry| inquiry.latch.state)
    }

    /// Brings a pair of a peer into force.
    pub(super) fn install(&mut self, proposal: Proposal) -> PairId {
        self.spi += 1;
        let suite = proposal.suites.inbound;
        let offer = self.keying.propose(proposal, self.now).unwrap();
        let id = self.keying.install(offer.ticket, keys(self.spi, suite), self.now).unwrap();
        self.poll();
        id
    }

    /// Has another policy in force.
    pub(super) fn rules(&mut self, rules: Vec<Rule>) {
        let change = Change { rules: Some(rules), ..Change::default() };
        self.keying.begin_change(change, self.now).unwrap();
        self.poll();
    }

    /// What the holder was told since last time.
    pub(super) fn told(&self) -> Vec<LatchAlert> {
        self.alerts.take().alerts
    }

    /// What providers were asked for since last time.
    pub(super) fn wanted(&mut self) -> Vec<Wanted> {
        let wanted = |notice| match notice {
            Notice::Acquire(wanted) => Some(*wanted),
            _ => None,
        };
        self.keying.take_notices().filter_map(wanted).collect()
    }
}

fn key_manager(holders: HolderLimits) -> Keying {
    let clock = Arc::new(StateClock::new());
    let database = LatchDatabase::new(Limits::for_flows(256), Arc::clone(&clock), Seed::Fixed(7)).unwrap();
    let (database, settings) = (Arc::new(database), Settings { holders, ..Settings::default() });
    let observer = Arc::new(Peers(Arc::clone(&database)));
    let mut keying = Keying::new(Pad::new(pad()).unwrap(), settings, clock, database, observer);
    let change = Change { rules: Some(rules()), ..Change::default() };
    keying.begin_change(change, at(0)).unwrap();
    while keying.poll(at(0)).settling {}
    keying.take_notices().for_each(drop);
    keying
}

fn pad() -> Vec<PadEntry> {
    let named =
        |id: u32, name: &str, net: u8| entry(id, name, &format!("10.{net}.0.0"), &format!("10.{net}.0.255"));
    let strong = PadEntry { methods: vec![AuthMethod::PreSharedKey], ..named(9, "walter", 3) };
    let mut entries = vec![named(1, "bob", 1), named(2, "mallory", 1), strong];
    entries.extend(
        (2..=8).map(|net| PadEntry {
            id: PadEntryId(10 + u32::from(net)),
            ..named(0, &format!("peer{net}"), net)
        }),
    );
    entries.push(PadEntry { id: PadEntryId(30), ..named(0, "rival2", 2) });
    entries.push(PadEntry { id: PadEntryId(31), ..named(0, "rival3", 3) });
    entries
}

fn rules() -> Vec<Rule> {
    let terms = LatchTerms { model: Model::Tag, ..LatchTerms::default() };
    let by_tag = Action::Protect(Protection { reqid: None, template: None, latching: Latching::On(terms) });
    let (protect, unlatched) = (Action::Protect(Protection::LATCHED), Action::Protect(Protection::UNLATCHED));
    [
        (1, protect, Freedom::None),
        (2, by_tag, Freedom::Stronger),
        (3, protect, Freedom::Stronger),
        (4, protect, Freedom::Bypass),
        (5, Action::Bypass, Freedom::None),
        (6, Action::Bypass, Freedom::Stronger),
        (7, Action::Discard, Freedom::Bypass),
        (8, unlatched, Freedom::None),
    ]
    .into_iter()
    .map(|(net, action, freedom)| {
        let selector = Selector::between(range("10.0.0.0", "10.0.0.255"), network(net));
        Rule { freedom, ..Rule::new(selector, None, action) }
    })
    .collect()
}

fn network(net: u8) -> AddressRange {
    range(&format!("10.{net}.0.0"), &format!("10.{net}.0.255"))
}

/// A connection from port `port` to the network with this number.
pub(super) fn flow(net: u8, port: u16) -> FlowKey {
    let (local, remote) = (format!("10.0.0.1:{port}"), format!("10.{net}.0.1:80"));
    FlowKey::new(protocol::TCP, local.parse().unwrap(), remote.parse().unwrap())
}

pub(super) fn to(net: u8, port: u16) -> ConnectionRequest {
    asking(net, port, Constraints::default())
}

pub(super) fn asking(net: u8, port: u16, constraints: Constraints) -> ConnectionRequest {
    ConnectionRequest { flow: flow(net, port), constraints, on_conflict: None, report_after: None }
}

pub(super) fn at_port(address: &str, port: u16) -> ListenerRequest {
    let listening = Listening { address: address.parse().unwrap(), protocol: protocol::TCP, port };
    ListenerRequest { listening, constraints: Constraints::default(), on_conflict: None }
}

pub(super) fn suites(suites: &[Suite]) -> Constraints {
    Constraints { suites: suites.to_vec(), ..Constraints::default() }
}

pub(super) fn protected(protection: Asked) -> Constraints {
    Constraints { protection, ..Constraints::default() }
}

/// A pair of `peer` for a whole network.
pub(super) fn wide(peer: &str, net: u8, suite: Suite) -> Proposal {
    Proposal {
        selectors: vec![Selector::between(range("10.0.0.0", "10.0.0.255"), network(net))],
        suites: Suites::both(suite),
        reqid: Reqid(u32::from(net)),
        ..proposal(peer)
    }
}

/// A pair of `peer` for one connection alone.
pub(super) fn narrow(peer: &str, flow: &FlowKey, suite: Suite) -> Proposal {
    let (local, remote) = (flow.local(), flow.remote());
    let port = |port: u16| PortRange::new(&(port..=port));
    let selector = Selector {
        protocol: Some(flow.protocol()),
        local_ports: port(local.port()),
        remote_ports: port(remote.port()),
        ..Selector::between(AddressRange::single(local.ip()), AddressRange::single(remote.ip()))
    };
    Proposal {
        selectors: vec![selector],
        narrowing: Narrowing::Forbidden,
        suites: Suites::both(suite),
        ..proposal(peer)
    }
}
