//! Random interleavings of packets, rekeys, requests, breaks, closes and sweeps, against a map that anyone can follow.

use std::collections::HashMap;

use latchway_datapath::drop::DropReason;
use latchway_datapath::flow::protocol;
use latchway_datapath::latching::{LatchTerms, OnConflict};
use latchway_datapath::packet::flags::{ACK, SYN};
use latchway_tagging::{ClassId, StateVersion};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::bed::{A, A_OTHER_QOP, B, Bed, LESSER};
use crate::BreakReason::{self, Administrative, Conflict, ConnectionEnded, OtherPeer, Released, TimedOut};
use crate::LatchState::{self, Broken, Closed, Established, Larval};
use crate::{Begin, ConstraintId, CreateError};

/// A kind of packet, on one of a few flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Syn,
    Segment,
    Datagram,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Inbound {
        port: u16,
        kind: Kind,
        class: ClassId,
        old: bool,
    },
    Outbound {
        port: u16,
        kind: Kind,
        class: ClassId,
    },
    /// A SYN for which there is no SA.
    Unserved {
        port: u16,
    },
    Unprotected {
        port: u16,
    },
    Rekey,
    /// Another rule, on these terms.
    Terms(OnConflict),
    Listen {
        demanding: bool,
        on_conflict: OnConflict,
    },
    Unlisten,
    Control {
        port: u16,
        control: Control,
    },
    Second,
    Hours,
}

/// What is done to the TCP latch of a port.
#[derive(Clone, Copy, Debug)]
enum Control {
    Suspend,
    Restore,
    Close,
    Ended,
    Release,
    Connect(Wanted),
    Establish(ClassId),
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    Larval,
    Class(ClassId),
    Bypass,
}

/// What the model remembers of a latch.
#[derive(Clone, Copy, Debug)]
struct Latch {
    class: Option<ClassId>,
    bypass: bool,
    state: LatchState,
    on_conflict: OnConflict,
    reason: Option<BreakReason>,
    owned: bool,
    /// Made from a packet of version 0, and not changed since: old packets pass.
    takes_old: bool,
    /// Its socket is gone.
    over: bool,
    /// The local side has a part in it.
    answered: bool,
}

/// A TCP port or a UDP one.
type Flow = (u16, bool);

#[derive(Default)]
struct Model {
    latches: HashMap<Flow, Latch>,
    on_conflict: OnConflict,
    /// The terms of the listener, and whether it demands A.
    listener: Option<(OnConflict, bool)>,
}

impl Latch {
    fn new(class: Option<ClassId>, state: LatchState) -> Self {
        let on_conflict = OnConflict::default();
        let (bypass, owned, takes_old, over, answered) = (false, false, false, false, true);
        Self { class, bypass, state, on_conflict, reason: None, owned, takes_old, over, answered }
    }

    /// Its connection ended by itself, and this is the class of its peer.
    fn has_reset(&self, class: ClassId) -> bool {
        self.state == Closed
            && self.reason == Some(ConnectionEnded)
            && !self.bypass
            && self.class == Some(class)
    }

    /// A packet of another class came.
    fn offend(&mut self, by: ClassId) {
        let ends = matches!(self.on_conflict, OnConflict::Terminate | OnConflict::Wait);
        let peer = |class| if class == A_OTHER_QOP { A } else { class };
        let Some(own) = self.class else { return };
        if ends && !self.over && peer(own) != peer(by) && (by != LESSER || own == LESSER) {
            (self.state, self.reason, self.takes_old) = (Broken, Some(OtherPeer), false);
        }
    }
}

impl Model {
    fn inbound(&mut self, flow: Flow, kind: Kind, class: ClassId, old: bool) -> Result<(), DropReason> {
        let is_syn = kind == Kind::Syn;
        let begins_again = |latch: &Latch| latch.over || latch.has_reset(class);
        let latch = self.latches.get_mut(&flow);
        let Some(latch) = latch.filter(|latch| !(is_syn && begins_again(latch))) else {
            let before = self.latches.remove(&flow).filter(|latch| latch.class == Some(class));
            let answered = kind == Kind::Datagram || before.is_some_and(|latch| latch.answered);
            return self.begin_inbound(flow, kind, class, (old, answered));
        };
        let timely = !old || latch.takes_old;
        match latch.state {
            Established if latch.class != Some(class) => {
                if timely {
                    latch.offend(class);
                }
                Err(DropReason::LatchMismatch)
            }
            Established if !timely => Err(DropReason::StaleVersion),
            Established if !latch.answered && kind == Kind::Segment => Err(DropReason::MidStream),
            Established if is_syn && class != A && self.listener.is_some_and(|(_, demanding)| demanding) => {
                Err(DropReason::ListenerRefused)
            }
            Established => Ok(()),
            Larval if latch.owned || !is_syn => Err(DropReason::LatchLarval),
            Larval if !timely => Err(DropReason::StaleVersion),
            Larval => {
                (latch.state, latch.class) = (Established, Some(class));
                Ok(())
            }
            _ => Err(DropReason::LatchBroken),
        }
    }

    /// `unserved`: policy has no SA for it.
    fn outbound(
        &mut self,
        flow: Flow,
        kind: Kind,
        class: ClassId,
        unserved: bool,
    ) -> Result<ClassId, DropReason> {
        let is_syn = kind == Kind::Syn;
        let gives_way = |latch: &&mut Latch| latch.state == Closed && is_syn && !latch.owned;
        let Some(latch) = self.latches.get_mut(&flow).filter(|latch| !gives_way(latch)) else {
            self.latches.remove(&flow);
            if kind == Kind::Segment {
                return Err(DropReason::MidStream);
            }
            let (class_if, state) = if unserved { (None, Larval) } else { (Some(class), Established) };
            let latch = Latch { on_conflict: self.on_conflict, ..Latch::new(class_if, state) };
            self.latches.insert(flow, latch);
            return Ok(class);
        };
        match latch.state {
            Established if !latch.answered && kind == Kind::Segment => Err(DropReason::MidStream),
            Established => {
                latch.answered = true;
                Ok(latch.class.unwrap_or(class))
            }
            Larval if latch.owned || !is_syn => Err(DropReason::LatchLarval),
            Larval if unserved => Ok(class),
            Larval => {
                (latch.state, latch.class) = (Established, Some(class));
                Ok(class)
            }
            _ => {
                let speaks = latch.state == Closed && kind != Kind::Datagram;
                if speaks && latch.reason == Some(ConnectionEnded) {
                    latch.over = false;
                }
                Err(DropReason::LatchBroken)
            }
        }
    }

    fn unprotected(&self, flow: Flow) -> Result<(), DropReason> {
        match self.latches.get(&flow) {
            None => Ok(()),
            Some(latch) if !latch.bypass => Err(DropReason::LatchUnprotected),
            Some(latch) if latch.state != Established => Err(DropReason::LatchBroken),
            Some(latch) if !latch.answered => Err(DropReason::MidStream),
            Some(_) => Ok(()),
        }
    }

    fn begin_inbound(
        &mut self,
        flow: Flow,
        kind: Kind,
        class: ClassId,
        (takes_old, answered): (bool, bool),
    ) -> Result<(), DropReason> {
        if kind == Kind::Segment {
            return Err(DropReason::MidStream);
        }
        let listener = self.listener.filter(|_| kind == Kind::Syn);
        if listener.is_some_and(|(_, demanding)| demanding && class != A) {
            return Err(DropReason::ListenerRefused);
        }
        let on_conflict = listener.map_or(self.on_conflict, |(on_conflict, _)| on_conflict);
        let latch = Latch { on_conflict, takes_old, answered, ..Latch::new(Some(class), Established) };
        self.latches.insert(flow, latch);
        Ok(())
    }

    fn control(&mut self, flow: Flow, control: Control) {
        if let Control::Connect(wanted) = control {
            return self.connect(flow, wanted);
        }
        let Some(latch) = self.latches.get_mut(&flow) else { return };
        latch.takes_old = false;
        match (control, latch.state) {
            (Control::Suspend, Established) => (latch.state, latch.reason) = (Broken, Some(Conflict)),
            (Control::Restore, Broken) => {
                let waits = latch.reason == Some(OtherPeer) && latch.on_conflict == OnConflict::Wait;
                if waits || latch.reason == Some(Conflict) {
                    (latch.state, latch.reason) = (Established, None);
                }
            }
            (Control::Close, Larval | Established | Broken) => {
                (latch.state, latch.reason) = (Closed, Some(Administrative));
            }
            (Control::Ended, _) => {
                (latch.state, latch.over) = (Closed, true);
                latch.reason = latch.reason.or(Some(ConnectionEnded));
            }
            (Control::Release, state) => {
                latch.owned = false;
                if state != Closed || latch.reason != Some(ConnectionEnded) {
                    (latch.state, latch.reason) = (Closed, Some(Released));
                }
                if latch.class.is_none() {
                    self.latches.remove(&flow);
                }
            }
            (Control::Establish(class), Larval) => (latch.state, latch.class) = (Established, Some(class)),
            _ => {}
        }
    }

    /// A latch is asked for.
    fn connect(&mut self, flow: Flow, wanted: Wanted) {
        if self.latches.get(&flow).is_some_and(|latch| latch.state != Closed) {
            return;
        }
        let (class, bypass, state) = match wanted {
            Wanted::Larval => (None, false, Larval),
            Wanted::Class(class) => (Some(class), false, Established),
            Wanted::Bypass => (None, true, Established),
        };
        let latch = Latch { bypass, owned: true, answered: false, ..Latch::new(class, state) };
        self.latches.insert(flow, latch);
    }

    /// Three hours pass. Only who asked for a latch has it still.
    fn idle(&mut self) {
        self.latches.retain(|_, latch| latch.owned && latch.state != Closed);
        for latch in self.latches.values_mut().filter(|latch| latch.state == Larval) {
            (latch.state, latch.reason, latch.takes_old) = (Closed, Some(TimedOut), false);
        }
    }
}

fn on_conflict() -> impl Strategy<Value = OnConflict> {
    prop_oneof![Just(OnConflict::Terminate), Just(OnConflict::DropNewcomer), Just(OnConflict::Wait)]
}

fn class() -> impl Strategy<Value = ClassId> {
    prop_oneof![4 => Just(A), 1 => Just(A_OTHER_QOP), 2 => Just(B), 1 => Just(LESSER)]
}

fn control() -> impl Strategy<Value = Control> {
    prop_oneof![
        2 => Just(Control::Suspend),
        2 => Just(Control::Restore),
        1 => Just(Control::Close),
        1 => Just(Control::Ended),
        1 => Just(Control::Release),
        1 => Just(Control::Connect(Wanted::Larval)),
        1 => class().prop_map(|class| Control::Connect(Wanted::Class(class))),
        1 => Just(Control::Connect(Wanted::Bypass)),
        2 => class().prop_map(Control::Establish),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let kind = prop_oneof![Just(Kind::Syn), Just(Kind::Segment), Just(Kind::Datagram)];
    let port = 2u16..5;
    let listen = (any::<bool>(), on_conflict());
    prop_oneof![
        12 => (port.clone(), kind.clone(), class(), prop::bool::weighted(0.1))
            .prop_map(|(port, kind, class, old)| Operation::Inbound { port, kind, class, old }),
        12 => (port.clone(), kind, class()).prop_map(|(port, kind, class)| Operation::Outbound { port, kind, class }),
        2 => port.clone().prop_map(|port| Operation::Unserved { port }),
        2 => port.clone().prop_map(|port| Operation::Unprotected { port }),
        2 => Just(Operation::Rekey),
        1 => on_conflict().prop_map(Operation::Terms),
        1 => listen.prop_map(|(demanding, on_conflict)| Operation::Listen { demanding, on_conflict }),
        1 => Just(Operation::Unlisten),
        10 => (port, control()).prop_map(|(port, control)| Operation::Control { port, control }),
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
            let expected = model.outbound((port, kind == Kind::Datagram), kind, class, false);
            let bed = bed.to(port);
            let found = match kind {
                Kind::Syn => bed.tcp_out(1000, 0, SYN, class),
                Kind::Segment => bed.tcp_out(1001, 7, ACK, class),
                Kind::Datagram => bed.udp_out(class),
            };
            assert_eq!(found, expected, "{operation:?}");
        }
        Operation::Unserved { port } => {
            let expected = model.outbound((port, false), Kind::Syn, A, true);
            assert_eq!(bed.to(port).unserved_out(1000, 0, SYN), expected.map(|_| ()));
        }
        Operation::Unprotected { port } => {
            assert_eq!(bed.to(port).unprotected(9001, 7, ACK), model.unprotected((port, false)));
        }
        Operation::Control { port, control } => {
            model.control((port, false), control);
            act(bed.to(port), control);
        }
        Operation::Rekey => bed.rekey(),
        Operation::Terms(on_conflict) => {
            model.on_conflict = on_conflict;
            bed.terms(LatchTerms { on_conflict, ..LatchTerms::default() });
        }
        Operation::Listen { .. } | Operation::Unlisten => listen(bed, model, operation),
        Operation::Second => {
            bed.pass(1);
            bed.sweep();
        }
        Operation::Hours => {
            bed.pass(3 * 3600);
            bed.sweep();
            model.idle();
        }
    }
}

fn act(bed: &mut Bed, control: Control) {
    let now = bed.now();
    if let Control::Connect(wanted) = control {
        let version = bed.version();
        let outcome = bed.connect(match wanted {
            Wanted::Larval => Begin::Larval,
            Wanted::Class(class) => Begin::Established { class, version },
            Wanted::Bypass => Begin::Bypass,
        });
        assert!(matches!(outcome, Ok(_) | Err(CreateError::Exists)));
        return;
    }
    let Some(id) = bed.latch().map(|view| view.id) else { return };
    match control {
        Control::Suspend => bed.database.suspend(id, Conflict, None, now),
        Control::Restore => bed.database.restore(id, now),
        Control::Close => bed.database.close(id, Administrative, now),
        Control::Ended => bed.database.ended(id, now),
        Control::Release => bed.database.release(id, now),
        Control::Establish(class) => bed.database.establish(id, class, now),
        Control::Connect(_) => false,
    };
}

fn listen(bed: &Bed, model: &mut Model, operation: Operation) {
    const HERE: [u8; 4] = [10, 0, 0, 1];
    match operation {
        Operation::Listen { demanding, on_conflict } => {
            let constraint = ConstraintId::new(1).filter(|_| demanding);
            let outcome = bed.listen(HERE, constraint, LatchTerms { on_conflict, ..LatchTerms::default() });
            assert_eq!(outcome.is_ok(), model.listener.is_none(), "L-48");
            model.listener = model.listener.or(Some((on_conflict, demanding)));
        }
        _ => {
            let listener = bed.database.dump().find(|view| view.state == LatchState::Listener);
            assert_eq!(listener.is_some(), model.listener.take().is_some());
            listener.map(|view| bed.database.release(view.id, bed.now()));
        }
    }
}

/// What the database says in the end is what the map does, its counters included.
fn compare(bed: &Bed, model: &Model) {
    let views: Vec<_> = bed.database.dump().filter(|view| view.state != LatchState::Listener).collect();
    assert_eq!(views.len(), model.latches.len());
    for view in &views {
        let latch = model.latches[&(view.flow.remote_port() - 1000, view.flow.protocol() == protocol::UDP)];
        let found = (view.class, view.bypass, view.state, view.reason, view.owned, view.terms.on_conflict);
        let expected = (latch.class, latch.bypass, latch.state, latch.reason, latch.owned, latch.on_conflict);
        assert_eq!(found, expected);
    }
    for class in [A, A_OTHER_QOP, B, LESSER] {
        let holders = views.iter().filter(|view| view.class == Some(class)).count();
        assert_eq!(bed.database.peers().latches(class) as usize, holders, "D.2");
        let other = |view: &&crate::LatchView| view.state == Established && view.class != Some(class);
        let others = views.iter().filter(other).any(|view| view.class.is_some());
        assert_eq!(bed.database.strict_others(class), others, "D.2");
    }
    let half_open = views.iter().filter(|view| view.progress.is_half_open()).count();
    assert_eq!(bed.database.counts().half_open as usize, half_open);
}

/// L-2, L-3: nothing passes on an established latch under another class than it was born with; L-22, L-23: nothing at
/// all on a larval one, and R-12: on a broken one; L-26: nothing unprotected, unless that was granted; L-70: no peer of
/// lesser standing breaks a latch; and what is refused is refused for the reason that the map gives.
#[test]
fn l_2_l_3_l_22_l_26_l_70_r_12_no_interleaving_passes_what_the_model_refuses() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let ran = runner.run(&vec(operation(), 1..120), |operations| {
        let (mut bed, mut model) = (Bed::new(), Model::default());
        bed.database.peers().set_accepts(A, ConstraintId::new(1).map_or(0, ConstraintId::bit));
        for operation in operations {
            apply(&mut bed, &mut model, operation);
        }
        compare(&bed, &model);
        Ok(())
    });
    ran.unwrap();
}
