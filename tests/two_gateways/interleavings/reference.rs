//! What a child would write down: each latch with the class it began with, what became of it, and what passed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use latchway_datapath::drop::Direction;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{BreakReason, LatchId, LatchState, LatchTerms, Model, OnConflict};
use latchway_datapath::sad::{Sad, Usage};
use latchway_datapath::time::Time;
use latchway_datapath::traffic::Traffic;
use latchway_tagging::ClassId;
use latchway_ulp_shim::LatchView;

use crate::interleavings::step::Kind;

/// Every latch there is, and the handles of those there were.
#[derive(Default)]
pub struct Reference {
    latches: BTreeMap<LatchId, Latch>,
    dead: BTreeSet<LatchId>,
    /// Latches of which somebody was told that they broke.
    pub told: BTreeSet<LatchId>,
    /// Latches whose handle was given back.
    pub released: BTreeSet<LatchId>,
}

/// One latch.
#[derive(Clone, Copy, Debug)]
pub struct Latch {
    pub id: LatchId,
    pub flow: FlowKey,
    pub terms: LatchTerms,
    pub class: Option<ClassId>,
    pub bypass: bool,
    pub state: LatchState,
    pub reason: Option<BreakReason>,
    pub owned: bool,
    /// Which sides something passed from: inbound, outbound.
    pub spoken: [bool; 2],
    fins: [bool; 2],
    reset: bool,
    ended: bool,
    seen: Time,
}

/// How a packet passed.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    pub direction: Direction,
    pub kind: Kind,
    /// The class of the SA; `None` in the clear.
    pub class: Option<ClassId>,
    /// Whether policy may have let it pass without a latch.
    pub unlatched: bool,
}

impl Reference {
    /// The latch of a connection.
    pub fn of(&self, flow: &FlowKey) -> Option<Latch> {
        let is_its = |latch: &&Latch| latch.flow == *flow && latch.state != LatchState::Listener;
        self.latches.values().find(is_its).copied()
    }

    /// Every latch, in the order of handles.
    pub fn latches(&self) -> Vec<Latch> {
        self.latches.values().copied().collect()
    }

    /// Handles that name nothing any more.
    pub fn dead(&self) -> Vec<LatchId> {
        self.dead.iter().copied().collect()
    }

    /// Writes down what became of latches in one step, under the SAs that whoever made latches knew of.
    pub fn observe(&mut self, views: &[LatchView], sad: &Sad, now: Time) {
        let mut left = std::mem::take(&mut self.latches);
        for view in views {
            assert!(!self.dead.contains(&view.id), "L-64: a handle lives again: {view:?}");
            let latch = match left.remove(&view.id) {
                Some(before) => before.becomes(view, sad, now),
                None => Latch::born(view, sad, now),
            };
            self.latches.insert(view.id, latch);
        }
        let connections = self.latches.values().filter(|latch| latch.state != LatchState::Listener);
        let flows: Vec<_> = connections.map(|latch| latch.flow).collect();
        let distinct: BTreeSet<_> = flows.iter().map(|flow| flow.words()).collect();
        assert_eq!(distinct.len(), flows.len(), "a connection has two latches");
        for (id, latch) in left {
            assert!(latch.may_go(now), "L-22: a latch in force was forgotten: {latch:?}");
            self.dead.insert(id);
        }
    }

    /// Writes down that a packet passed, of a connection that had this latch before.
    pub fn passed(&mut self, flow: &FlowKey, before: Option<Latch>, passed: Passed, now: Time) {
        let after = self.of(flow);
        let what = (before, after, passed);
        let Some(latch) = after else {
            assert!(before.is_none_or(|latch| latch.may_go(now)), "R-12: past a latch: {what:?}");
            assert!(passed.unlatched, "L-4, L-5: without a latch that policy wants: {what:?}");
            return;
        };
        // A reset may be the last that passes.
        let ended = passed.kind == Kind::Reset && latch.reason == Some(BreakReason::ConnectionEnded);
        assert!(latch.state == LatchState::Established || ended, "L-22, L-23, R-12: {what:?}");
        assert_eq!(latch.class, passed.class, "L-2, L-3, L-24 to L-27: {what:?}");
        assert_eq!(latch.bypass, passed.class.is_none(), "L-112: {what:?}");
        match before {
            Some(before) if before.id == latch.id => {
                let begins = before.state == LatchState::Larval && !before.owned;
                assert!(begins || before.state == LatchState::Established, "L-22, R-12: {what:?}");
            }
            Some(before) => {
                let same = before.class == latch.class || passed.direction == Direction::Outbound;
                let free = same || before.has_ended() || before.is_idle(now);
                assert!(before.may_go(now) && free, "T37 g: {what:?}");
            }
            None => {}
        }
        let Some(latch) = self.latches.get_mut(&latch.id) else { return };
        let side = passed.direction as usize;
        latch.seen = now;
        latch.spoken[side] = true;
        latch.fins[side] |= passed.kind == Kind::Fin;
        latch.reset |= passed.kind == Kind::Reset;
    }

    /// A gateway ended the connection.
    pub fn ended(&mut self, id: LatchId) {
        self.latches.get_mut(&id).into_iter().for_each(|latch| latch.ended = true);
    }

    /// L-74: no SA is in force that a strict latch in force does not go with, unless it is one that lets it be; and of
    /// those that broke for one, somebody was told.
    pub fn check_conflicts(&self, sad: &Sad) {
        let in_force = || sad.iter().filter(|slot| slot.usage != Usage::Pending);
        for latch in self.latches.values().filter(|latch| latch.is_strict() && latch.class.is_some()) {
            let conflicts = in_force().find(|slot| {
                Some(slot.entry.class) != latch.class && slot.entry.admits(&Traffic::of(&latch.flow))
            });
            let Some(conflict) = conflicts else { continue };
            let stands =
                latch.state == LatchState::Established && latch.terms.on_conflict != OnConflict::DropNewcomer;
            assert!(!stands, "L-74: {latch:?} beside {:?}", conflict.entry.class);
            let broke = latch.reason == Some(BreakReason::Conflict);
            assert!(!broke || self.told.contains(&latch.id), "L-74: untold: {latch:?}");
        }
    }
}

impl Latch {
    fn born(view: &LatchView, sad: &Sad, now: Time) -> Self {
        let latch = Self {
            id: view.id,
            flow: view.flow,
            terms: view.terms,
            class: view.class,
            bypass: view.bypass,
            state: view.state,
            reason: view.reason,
            owned: view.owned,
            spoken: [false; 2],
            fins: [false; 2],
            reset: false,
            ended: false,
            seen: now,
        };
        assert_ne!(view.state, LatchState::Closed, "L-20: {view:?}");
        latch.check_rivals(sad);
        latch
    }

    fn becomes(self, view: &LatchView, sad: &Sad, now: Time) -> Self {
        use LatchState::{Broken, Closed, Established, Larval, Listener};
        let what = (self, view);
        assert_eq!(
            (self.flow, self.terms, self.bypass),
            (view.flow, view.terms, view.bypass),
            "L-37: {what:?}"
        );
        let chosen = self.state == Larval && self.class.is_none();
        assert!(chosen || self.class == view.class, "L-37: {what:?}");
        let legal = match (self.state, view.state) {
            (Listener, Closed) | (Larval, Established | Broken | Closed) | (Established, Broken | Closed) => {
                true
            }
            (Broken, Established) => self.terms.on_conflict == OnConflict::Wait,
            (Broken, Closed) => true,
            (before, after) => before == after,
        };
        assert!(legal, "L-16 to L-20: {what:?}");
        let seen = if self.state == view.state { self.seen } else { now };
        let (state, class, reason, owned) = (view.state, view.class, view.reason, view.owned);
        let latch = Self { state, class, reason, owned, seen, ..self };
        if self.state != Established {
            latch.check_rivals(sad);
        }
        latch
    }

    /// L-71: a strict latch comes into force under SAs of one class alone.
    fn check_rivals(&self, sad: &Sad) {
        if self.state == LatchState::Established && self.is_strict() && self.class.is_some() {
            let rival = sad.iter().find(|slot| {
                Some(slot.entry.class) != self.class && slot.entry.admits(&Traffic::of(&self.flow))
            });
            assert!(rival.is_none(), "L-71: {self:?} beside {:?}", rival.map(|slot| slot.entry.class));
        }
    }

    fn is_strict(&self) -> bool {
        self.terms.model == Model::Strict
    }

    /// Whether its connection has ended by packets that passed, or by its gateway.
    pub fn has_ended(&self) -> bool {
        self.reset || self.ended || self.fins == [true; 2]
    }

    /// Whether either side has begun to end it.
    pub fn is_ending(&self) -> bool {
        self.has_ended() || self.fins != [false; 2]
    }

    fn is_over(&self) -> bool {
        self.has_ended() || self.state == LatchState::Closed
    }

    fn is_idle(&self, now: Time) -> bool {
        now.since(self.seen) >= IDLE
    }

    fn may_go(&self, now: Time) -> bool {
        let holds = self.class.is_some() && self.state != LatchState::Closed;
        !holds || self.is_over() || self.is_idle(now)
    }
}

/// The least idle time of anything that holds to a class (RFC 4787 REQ-5).
const IDLE: Duration = Duration::from_secs(120);
