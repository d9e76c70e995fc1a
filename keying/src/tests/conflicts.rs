//! Conflicts of latches with SAs, policies and peers: found, broken, told in order, and gone again (latching-04 2.1).

mod newcomers;
mod peers;
mod policy;
mod protection;
mod steps;
mod waiting;

use std::net::IpAddr;
use std::sync::Arc;

use latchway_datapath::drop::Direction;
use latchway_datapath::event::{Event, event_queue};
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::{
    BreakReason, LatchId, LatchState, LatchTerms, Model, Offender, OnConflict, OnPolicyChange,
};
use latchway_datapath::packet::IpPacket;
use latchway_datapath::sad::{Sad, Usage};
use latchway_datapath::selector::{AddressRange, PortRange, Selector};
use latchway_datapath::snapshot::Snapshot;
use latchway_datapath::spd::{Action, Latching, Protection, Reqid, Rule, Spd};
use latchway_datapath::traffic::Traffic;
use latchway_datapath::ulp::{Context, Ulp};
use latchway_esp::Suite;
use latchway_tagging::{AuthMethod, ClassId, Feedback, SaIndex, SaRef, StateVersion, WorkerId};
use latchway_ulp_shim::Shim;

use crate::testing::{at, entry, fqdn, keying, keys, proposal, range};
use crate::{
    Change, Commitment, Gone, InstallError, Keying, Keys, Narrowing, NewPair, Op, Pad, PairId, PeerGone,
    Problem, Proposal, Refusal, Start, Suites, Transaction,
};

const STRICT: LatchTerms = LatchTerms {
    model: Model::Strict,
    on_conflict: OnConflict::Terminate,
    on_policy_change: OnPolicyChange::Break,
    unlatchable: latchway_datapath::latching::Unlatchable::Refuse,
    sticky: false,
};

fn flow(port: u16) -> FlowKey {
    FlowKey::new(protocol::TCP, ([10, 0, 0, 1], port).into(), ([10, 1, 0, 1], 80).into())
}

/// A pair in force.
fn joined(keying: &mut Keying, peer: &str, spi: u32) -> (PairId, ClassId) {
    let offer = keying.propose(proposal(peer), at(0)).unwrap();
    let class = offer.class;
    let id = keying.install(offer.ticket, keys(spi, Suite::AES_128_GCM), at(0)).unwrap();
    settle(keying);
    (id, class)
}

/// As a worker makes it, of the first packet.
fn latch(keying: &Keying, port: u16, class: ClassId, terms: LatchTerms) -> LatchId {
    let sad = keying.snapshot().sad.clone();
    assert!(!keying.snapshot().bars(&flow(port), class, terms.model));
    born(keying, sad, &flow(port), (class, terms))
}

/// As a worker made it before the SAs that bar it now.
fn latch_of(keying: &Keying, port: u16, class: ClassId) -> LatchId {
    born(keying, Sad::default(), &flow(port), (class, STRICT))
}

fn born(keying: &Keying, sad: Sad, flow: &FlowKey, (class, terms): (ClassId, LatchTerms)) -> LatchId {
    let protection = Protection { reqid: None, template: None, latching: Latching::On(terms) };
    let spd = Spd::new(vec![rule(Action::Protect(protection))]);
    let snapshot = Snapshot { id: keying.snapshot().id, sad, spd, pending: None };
    let version = StateVersion::default();
    let context = Context { snapshot: &snapshot, version, now: at(0) };
    let mut shim = Shim::new(Arc::clone(keying.database()), WorkerId(0), event_queue().0);
    let octets = syn(flow);
    shim.outbound(&IpPacket::parse(&octets, Direction::Outbound).unwrap(), &context).unwrap();
    let sa = SaRef { index: SaIndex::new(0), generation: 1 };
    shim.feedback(flow, Feedback::Protected { class, sa, version }, &context).unwrap();
    keying.database().find(flow).unwrap()
}

fn syn(flow: &FlowKey) -> Vec<u8> {
    let (IpAddr::V4(local), IpAddr::V4(remote)) = (flow.local().ip(), flow.remote().ip()) else { panic!() };
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol::TCP, 0, 0];
    packet.extend(local.octets());
    packet.extend(remote.octets());
    packet.extend(flow.local_port().to_be_bytes());
    packet.extend(flow.remote_port().to_be_bytes());
    packet.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    packet
}

fn state(keying: &Keying, id: LatchId) -> (LatchState, Option<BreakReason>) {
    let view = keying.database().inquire(id).unwrap();
    (view.state, view.reason)
}

const IN_FORCE: (LatchState, Option<BreakReason>) = (LatchState::Established, None);

/// Lets everything come into force. Returns the breaks that were told.
fn settle(keying: &mut Keying) -> Vec<Event> {
    assert!((0..100).any(|_| !keying.poll(at(0)).settling), "a worker is in the middle of a batch");
    told(keying)
}

fn told(keying: &mut Keying) -> Vec<Event> {
    let mut told = Vec::new();
    while let Some(event) = keying.next_broken() {
        told.push(event);
        keying.broken_told();
    }
    told
}

fn broken(id: LatchId, port: u16, class: ClassId, reason: BreakReason, offender: Option<ClassId>) -> Event {
    let offender = offender.map(|class| Offender { class, sa: None });
    Event::LatchBroken { latch: id, flow: flow(port), latched: Some(class), reason, offender }
}

fn rule(action: Action) -> Rule {
    Rule::new(Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4), None, action)
}

const PROTECT: Action = Action::Protect(Protection { reqid: None, template: None, latching: Latching::Off });

fn configure(keying: &mut Keying, rules: Vec<Rule>) -> Vec<Event> {
    let committed = keying.commit(Transaction::new(vec![Op::SetSpd(Spd::new(rules))]), at(0)).unwrap();
    assert_eq!(committed, Commitment::Staged);
    settle(keying)
}

fn settle_with(
    keying: &mut Keying,
    worker: &mut latchway_datapath::low::publish::Reader<latchway_datapath::snapshot::Snapshot>,
) -> Vec<Event> {
    let mut events = Vec::new();
    while keying.poll(at(0)).settling {
        let before = told(keying);
        events.extend(before);
        worker.adopt();
    }
    worker.adopt();
    events.extend(settle(keying));
    events
}
