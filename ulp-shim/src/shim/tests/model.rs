//! Random interleavings of packets, rekeys, breaks, closes and sweeps, against a map that anyone can follow.

use std::collections::HashMap;

use latchway_datapath::drop::DropReason;
use latchway_datapath::flow::protocol;
use latchway_datapath::packet::flags::{ACK, SYN};
use latchway_tagging::{ClassId, StateVersion};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::bed::{A, A_OTHER_QOP, B, Bed};
use crate::BreakReason;
use crate::LatchState::{self, Broken, Closed, Established};

/// A kind of packet, on one of a few flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Syn,
    Segment,
    Datagram,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Inbound { port: u16, kind: Kind, class: ClassId, old: bool },
    Outbound { port: u16, kind: Kind, class: ClassId },
    Unprotected { port: u16 },
    Rekey,
    Suspend { port: u16 },
    Restore { port: u16 },
    Close { port: u16 },
    Ended { port: u16 },
    Second,
    Hours,
}

/// What the model remembers of a latch.
#[derive(Clone, Copy, Debug)]
struct Latch {
    class: ClassId,
    state: LatchState,
    /// Made from a packet of version 0, and not changed since: old packets pass.
    takes_old: bool,
    /// Its break can be taken back.
    conflict: bool,
    /// Its socket is gone.
    over: bool,
    /// It ended without a cause from outside.
    ended: bool,
    /// The local side has a part in it.
    answered: bool,
}

#[derive(Default)]
struct Model {
    latches: HashMap<(u16, bool), Latch>,
}

impl Model {
    fn inbound(
        &mut self,
        flow: (u16, bool),
        kind: Kind,
        class: ClassId,
        old: bool,
    ) -> Result<(), DropReason> {
        let is_syn = kind == Kind::Syn;
        let Some(latch) = self.latches.get_mut(&flow).filter(|latch| !(latch.over && is_syn)) else {
            let before = self.latches.get(&flow).filter(|latch| latch.class == class);
            let answered = kind == Kind::Datagram || before.is_some_and(|latch| latch.answered);
            return self.begin(flow, kind, class, (old, answered));
        };
        let timely = !old || latch.takes_old;
        match latch.state {
            Established if latch.class == class && timely && !latch.answered && !is_syn => {
                Err(DropReason::MidStream)
            }
            Established if latch.class == class && timely => Ok(()),
            Established if latch.class == class => Err(DropReason::StaleVersion),
            Established => {
                if timely && (latch.class == B) != (class == B) {
                    (latch.state, latch.conflict, latch.takes_old) = (Broken, false, false);
                }
                Err(DropReason::LatchMismatch)
            }
            _ => Err(DropReason::LatchBroken),
        }
    }

    fn outbound(&mut self, flow: (u16, bool), kind: Kind, class: ClassId) -> Result<ClassId, DropReason> {
        let is_syn = kind == Kind::Syn;
        let Some(latch) = self.latches.get_mut(&flow).filter(|latch| !(latch.state == Closed && is_syn))
        else {
            return self.begin(flow, kind, class, (false, true)).map(|()| class);
        };
        if latch.state == Established && !latch.answered && !is_syn {
            return Err(DropReason::MidStream);
        }
        if latch.state == Established {
            latch.answered = true;
            return Ok(latch.class);
        }
        if latch.ended && latch.state == Closed && kind == Kind::Segment {
            latch.over = false;
        }
        Err(DropReason::LatchBroken)
    }

    fn begin(
        &mut self,
        flow: (u16, bool),
        kind: Kind,
        class: ClassId,
        (takes_old, answered): (bool, bool),
    ) -> Result<(), DropReason> {
        if kind == Kind::Segment {
            return Err(DropReason::MidStream);
        }
        let (conflict, over, ended) = (false, false, false);
        let latch = Latch { class, state: Established, takes_old, conflict, over, ended, answered };
        self.latches.insert(flow, latch);
        Ok(())
    }

    /// Changes a latch as the control side does, if `allowed`.
    fn change(&mut self, flow: (u16, bool), allowed: impl Fn(&Latch) -> bool, to: impl Fn(&mut Latch)) {
        if let Some(latch) = self.latches.get_mut(&flow) {
            latch.takes_old = false;
            if allowed(latch) {
                to(latch);
            }
        }
    }
}

fn operation() -> impl Strategy<Value = Operation> {
    let kind = prop_oneof![Just(Kind::Syn), Just(Kind::Segment), Just(Kind::Datagram)];
    let class = prop_oneof![4 => Just(A), 1 => Just(A_OTHER_QOP), 2 => Just(B)];
    let port = 2u16..5;
    prop_oneof![
        12 => (port.clone(), kind.clone(), class.clone(), prop::bool::weighted(0.1))
            .prop_map(|(port, kind, class, old)| Operation::Inbound { port, kind, class, old }),
        12 => (port.clone(), kind, class).prop_map(|(port, kind, class)| Operation::Outbound { port, kind, class }),
        2 => port.clone().prop_map(|port| Operation::Unprotected { port }),
        2 => Just(Operation::Rekey),
        2 => port.clone().prop_map(|port| Operation::Suspend { port }),
        2 => port.clone().prop_map(|port| Operation::Restore { port }),
        1 => port.clone().prop_map(|port| Operation::Close { port }),
        1 => port.prop_map(|port| Operation::Ended { port }),
        2 => Just(Operation::Second),
        1 => Just(Operation::Hours),
    ]
}

fn apply(bed: &mut Bed, model: &mut Model, operation: Operation) {
    match operation {
        Operation::Inbound { port, kind, class, old } => {
            let version = if old { StateVersion::default() } else { bed.version() };
            let expected = model.inbound((port, kind == Kind::Datagram), kind, class, old);
            let bed = bed.to(port);
            let found = match kind {
                Kind::Syn => bed.tcp_in_at(version, (9000, 0, SYN), class),
                Kind::Segment => bed.tcp_in_at(version, (9001, 7, ACK), class),
                Kind::Datagram => bed.udp_in_at(version, class),
            };
            assert_eq!(found, expected, "{operation:?}");
        }
        Operation::Outbound { port, kind, class } => {
            let expected = model.outbound((port, kind == Kind::Datagram), kind, class);
            let bed = bed.to(port);
            let found = match kind {
                Kind::Syn => bed.tcp_out(1000, 0, SYN, class),
                Kind::Segment => bed.tcp_out(1001, 7, ACK, class),
                Kind::Datagram => bed.udp_out(class),
            };
            assert_eq!(found, expected, "{operation:?}");
        }
        Operation::Unprotected { port } => {
            let latched = model.latches.contains_key(&(port, false));
            assert_eq!(bed.to(port).unprotected(9001, 7, ACK).is_err(), latched);
        }
        Operation::Suspend { port }
        | Operation::Restore { port }
        | Operation::Close { port }
        | Operation::Ended { port } => {
            control(bed, model, operation, port);
        }
        Operation::Rekey => bed.rekey(),
        Operation::Second => {
            bed.pass(1);
            bed.sweep();
        }
        Operation::Hours => {
            bed.pass(3 * 3600);
            bed.sweep();
            model.latches.clear();
        }
    }
}

fn control(bed: &mut Bed, model: &mut Model, operation: Operation, port: u16) {
    let (flow, now) = ((port, false), bed.now());
    let Some(id) = bed.to(port).latch().map(|view| view.id) else { return };
    match operation {
        Operation::Suspend { .. } => {
            bed.database.suspend(id, BreakReason::Conflict, None, now);
            let to = |latch: &mut Latch| (latch.state, latch.conflict) = (Broken, true);
            model.change(flow, |latch| latch.state == Established, to);
        }
        Operation::Restore { .. } => {
            bed.database.restore(id, now);
            let to = |latch: &mut Latch| (latch.state, latch.conflict) = (Established, false);
            model.change(flow, |latch| latch.state == Broken && latch.conflict, to);
        }
        Operation::Close { .. } => {
            bed.database.close(id, BreakReason::Administrative, now);
            let to = |latch: &mut Latch| (latch.state, latch.conflict) = (Closed, false);
            model.change(flow, |latch| latch.state != Closed, to);
        }
        _ => {
            bed.database.ended(id, now);
            let to = |latch: &mut Latch| {
                latch.ended |= latch.state == Established;
                (latch.state, latch.conflict, latch.over) = (Closed, false, true);
            };
            model.change(flow, |_| true, to);
        }
    }
}

/// L-2, L-3: nothing passes on an established latch under another class than it was born with; R-12: nothing at all
/// on a broken one; and what is refused is refused for the reason that the map gives.
#[test]
fn l_2_l_3_r_12_no_interleaving_passes_what_the_model_refuses() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let ran = runner.run(&vec(operation(), 1..120), |operations| {
        let (mut bed, mut model) = (Bed::new(), Model::default());
        for operation in operations {
            apply(&mut bed, &mut model, operation);
        }
        let mut views: Vec<_> = bed.database.dump().collect();
        assert_eq!(views.len(), model.latches.len());
        for view in views.drain(..) {
            let latch =
                model.latches[&(view.flow.remote_port() - 1000, view.flow.protocol() == protocol::UDP)];
            assert_eq!((view.class, view.state), (Some(latch.class), latch.state));
        }
        Ok(())
    });
    ran.unwrap();
}
