//! What time and SAs bring to latches that are held: LARVAL ones come into force or are given up, listeners get theirs,
//! and holders hear of what became of the others.

use std::collections::HashSet;
use std::time::Duration;

use latchway_datapath::event::Event;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{BreakReason, LatchId, LatchState};
use latchway_datapath::time::Time;
use latchway_datapath::traffic::Traffic;
use latchway_tagging::ClassId;
use latchway_ulp_shim::{LatchView, Progress};

use crate::keying::Keying;
use crate::latching::{AlertKind, Constraints, Held, LatchAlert, LatchError, Permit, Plea, Privilege};
use crate::pair::PairId;

impl Keying {
    /// Looks after latches that are held. Returns whether there is more to look at soon.
    pub(super) fn attend(&mut self, now: Time) -> bool {
        for holder in self.register.gone() {
            self.holder_gone(holder, now);
        }
        let begun = std::mem::take(&mut self.begun);
        begun.into_iter().for_each(|id| self.spawn_for(id, now));
        if self.attended != self.current.id {
            self.attended = self.current.id;
            self.register.stir();
        }
        for _ in 0..BUDGET {
            let Some(latch) = self.register.take_stirred() else { break };
            self.promote(latch, now);
        }
        for _ in 0..BUDGET {
            let Some(latch) = self.register.take_due(now) else { break };
            self.attend_one(latch, now);
        }
        if now.since(self.walked) >= STEP {
            self.walked = now;
            self.register.walk(WALK).into_iter().for_each(|latch| self.conclude(latch, now));
        }
        self.register.rest_closed(now + self.database.limits().msl.saturating_mul(2));
        self.register.is_stirred()
    }

    /// Takes note of what workers tell of latches.
    pub(super) fn hear(&mut self, event: &Event) {
        let (latch, alert) = match *event {
            Event::LatchBroken { latch, flow, reason, .. } => {
                self.see(latch);
                let (state, kind) = (LatchState::Broken, AlertKind::Changed);
                (latch, LatchAlert { latch, flow, state, reason: Some(reason), listener: None, kind })
            }
            Event::LatchChanged { latch, flow, state, reason } => {
                self.see(latch);
                let kind = AlertKind::Changed;
                (latch, LatchAlert { latch, flow, state, reason, listener: None, kind })
            }
            Event::LatchSpawned { listener, latch, flow, .. } => {
                let (state, kind) = (LatchState::Established, AlertKind::Spawned);
                return self.tell_spawned(LatchAlert {
                    latch,
                    flow,
                    state,
                    reason: None,
                    listener: Some(listener),
                    kind,
                });
            }
            _ => return,
        };
        if self.register.get(latch).is_none() {
            // Nobody holds it but its connection; whose listener it came of hears of it all the same.
            let holder = self.register.listener_of(&alert.flow).map(|(id, held)| (id, held.holder));
            let listener = holder.map(|(id, _)| id);
            let alert = LatchAlert { listener, ..alert };
            holder.into_iter().for_each(|(_, holder)| self.register.tell(holder, alert));
            self.register.tell_watchers(alert, holder.map(|(_, holder)| holder));
        }
    }

    /// Which of the things that listeners ask for a class is (bit by bit), for workers to see before it has an SA.
    pub(super) fn accept(&self, id: ClassId) {
        if self.asking.is_empty() {
            return;
        }
        let accepted = self.asking.mask(|constraints| self.satisfies(id, constraints));
        self.database.peers().set_accepts(id, accepted);
    }

    /// The same of every class, after what is asked for changed.
    pub(super) fn accept_all(&self) {
        for id in self.interned.ids() {
            self.accept(id);
        }
    }

    /// Brings a LARVAL latch into force where there are SAs for it (L-63).
    fn promote(&mut self, latch: LatchId, now: Time) {
        let Some(held) = self.register.get(latch).filter(|held| held.state == LatchState::Larval) else {
            return;
        };
        let Some(class) = self.serving(held) else { return };
        // Policy may have changed since it was asked for (L-34, L-75).
        match self.judge_anew(&held.flow, &held.constraints) {
            Ok(permit) if permit.reqid == held.permit.reqid => {
                self.database.establish(latch, class, now);
            }
            _ => {
                self.database.close(latch, BreakReason::Policy, now);
            }
        }
        self.see(latch);
    }

    /// What the policy in force gives to whom was given a latch under another.
    fn judge_anew(&self, flow: &FlowKey, constraints: &Constraints) -> Result<Permit, LatchError> {
        let plea = Plea { constraints, privilege: Privilege::Application };
        plea.judge_connection(flow, &self.policy.views(), &self.pad)
    }

    /// Does what is due for a latch.
    fn attend_one(&mut self, latch: LatchId, now: Time) {
        self.see(latch);
        let Some(held) = self.register.get(latch).cloned() else { return };
        if held.let_go_at.is_some_and(|moment| moment <= now) {
            return self.let_go(latch, &held, now);
        }
        match held.waiting {
            Some(waiting) if waiting.until <= now => {
                // C-20: not for ever.
                self.database.close(latch, BreakReason::TimedOut, now);
                return self.see(latch);
            }
            Some(waiting) if waiting.next_acquire <= now => self.acquire_for(latch, now),
            _ => {}
        }
        self.report(latch, now);
    }

    /// Forgets a latch that was CLOSED for long enough, with the SAs that were made for its connection alone (L-41), unless
    /// that has another latch by now.
    fn let_go(&mut self, latch: LatchId, held: &Held, now: Time) {
        let successor = self.database.find(&held.flow).is_some_and(|found| found != latch);
        self.register.forget(latch);
        self.unask(held);
        self.database.release(latch, now);
        if !successor {
            self.delete_narrow(HashSet::from([held.flow]), now);
        }
    }

    /// Closes a latch whose connection has ended, and after which nothing more is expected (L-84, R-16), and tells what
    /// else became of it.
    fn conclude(&mut self, latch: LatchId, now: Time) {
        let tombstone = self.database.limits().msl.saturating_mul(2);
        let over = |view: &LatchView| {
            view.progress == Progress::Ended
                || view.progress == Progress::TimeWait && now.since(view.seen) >= tombstone
        };
        let view = self.database.inquire(latch).filter(|view| view.state != LatchState::Closed);
        if view.as_ref().is_some_and(over) {
            self.database.close(latch, BreakReason::ConnectionEnded, now);
        }
        self.see(latch);
    }

    /// Tells the holder that no SA serves its latch, where it wanted to know (L-39).
    fn report(&mut self, latch: LatchId, now: Time) {
        let Some(held) = self.register.get(latch) else { return };
        let Some(after) = held.report_after.filter(|_| held.state != LatchState::Closed) else { return };
        let served = self.is_served(latch, held);
        let Some(held) = self.register.get_mut(latch) else { return };
        let since = match (served, held.unserved_since) {
            (true, _) => None,
            (false, since) => Some(since.unwrap_or(now)),
        };
        held.unserved_since = since;
        held.reported &= !served;
        let over = since.is_some_and(|since| now.since(since) >= after);
        let tell = over && !held.reported;
        held.reported |= tell;
        let (holder, flow, state) = (held.holder, held.flow, held.state);
        self.register.look_at(latch, now + STEP);
        if tell {
            let kind = AlertKind::Unserved;
            self.register.tell(holder, LatchAlert { latch, flow, state, reason: None, listener: None, kind });
        }
    }

    fn is_served(&self, latch: LatchId, held: &Held) -> bool {
        let class = match held.state {
            LatchState::Larval => None,
            _ => self.database.inquire(latch).and_then(|view| view.class),
        };
        let slot =
            class.and_then(|class| self.current.sad.select(&Traffic::of(&held.flow), Some(class), None));
        slot.is_some_and(|slot| !slot.entry.use_.is_expired())
    }

    /// Makes the latch of a connection whose SAs came before its first packet, where a listener awaits it (L-52, C-22).
    fn spawn_for(&mut self, id: PairId, now: Time) {
        let Some(pair) = self.pairs.get(&id) else { return };
        let [only] = pair.terms.selectors.as_slice() else { return };
        let (Some(flow), class) = (only.only_flow(), pair.class) else { return };
        let Some((listener, held)) = self.register.listener_of(&flow) else { return };
        let (terms, constraints) = (held.permit.terms, &held.constraints);
        if !self.satisfies(class, constraints) || self.current.bars(&flow, class, terms.model) {
            return;
        }
        // The listener was judged by every rule that speaks of any connection to it, and this is one of them.
        if self.judge_anew(&flow, constraints).is_err() {
            return;
        }
        // It is the listener's holder's, like any that is asked for: without room for it, the first packet makes it.
        let (holder, permit, constraints) = (held.holder, held.permit, constraints.clone());
        if self.register.may_hold(holder).is_err() {
            return;
        }
        let Ok(latch) = self.database.spawn(&flow, class, terms, now) else { return };
        let spawned = Held::new(holder, flow, constraints, permit, LatchState::Established);
        self.register.hold(latch, spawned);
        let (state, kind) = (LatchState::Established, AlertKind::Spawned);
        self.tell_spawned(LatchAlert { latch, flow, state, reason: None, listener: Some(listener), kind });
    }

    /// Tells the holder of a listener's latch of one that came of it (L-53).
    fn tell_spawned(&mut self, alert: LatchAlert) {
        let holder = alert.listener.and_then(|listener| self.register.get(listener)).map(|held| held.holder);
        holder.into_iter().for_each(|holder| self.register.tell(holder, alert));
        self.register.tell_watchers(alert, holder);
    }
}

/// How many latches are looked at in one go, so that requests wait little.
const BUDGET: usize = 64;

/// How often latches are looked at that nothing was heard of, and how many at a time.
const STEP: Duration = Duration::from_secs(1);
const WALK: usize = 1024;
