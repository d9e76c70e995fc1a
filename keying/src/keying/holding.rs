//! The calls of latching-04 section 2.1 and RFC 5660 section 2.3: latches are made, released, closed and found.

use std::collections::HashSet;

use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{BreakReason, LatchId, LatchState, LatchTerms, Model, OnConflict};
use latchway_datapath::selector::Selector;
use latchway_datapath::spd::{Freedom, Spd};
use latchway_datapath::time::Time;
use latchway_datapath::traffic::Traffic;
use latchway_tagging::ClassId;
use latchway_ulp_shim::{Begin, CreateError, LatchView, Listening};

use crate::keying::Keying;
use crate::latching::{
    AlertKind, Alerts, ConnectionRequest, Constraints, Created, Held, Holder, LatchAlert, LatchError,
    ListenerRequest, Plea, Privilege, Sight, Waiting, aside,
};
use crate::narrow::MOST_SELECTORS;
use crate::notice::{Notice, Wanted};
use crate::origin::Origin;
use crate::pair::PairId;
use crate::transaction::{Op, Transaction};

impl Keying {
    /// Makes somebody who may hold latches. What they are told comes by the reading end, and when that is dropped, all
    /// that they hold is released (L-21).
    ///
    /// # Errors
    /// [`LatchError::TooManyHolders`]
    pub fn open_holder(&mut self) -> Result<Alerts, LatchError> {
        self.register.open()
    }

    /// Releases all that a holder has: it is gone (L-21). Returns how many latches that were.
    pub fn holder_gone(&mut self, holder: Holder, now: Time) -> usize {
        let latches = self.register.close(holder);
        self.mind_watchers();
        latches.iter().for_each(|(id, held)| self.end(*id, held, now));
        self.delete_narrow(latches.iter().map(|(_, held)| held.flow).collect(), now);
        latches.len()
    }

    /// Lets a holder hear what becomes of every latch, or of its own only. What it does not read in time is lost.
    ///
    /// # Errors
    /// [`LatchError::UnknownHolder`]
    pub fn watch_latches(&mut self, holder: Holder, all: bool) -> Result<(), LatchError> {
        self.register.watch(holder, all)?;
        self.mind_watchers();
        Ok(())
    }

    /// CREATE_LISTENER_LATCH (L-46 to L-50, L-79): connections to the 3-tuple are held to what is asked, and the holder
    /// is told of each (L-53).
    ///
    /// # Errors
    /// [`LatchError`], which says what to do; nothing changed then.
    pub fn create_listener_latch(
        &mut self,
        request: &ListenerRequest,
        holder: Holder,
        privilege: Privilege,
        now: Time,
    ) -> Result<Created, LatchError> {
        self.register.may_hold(holder)?;
        let constraints = spelt(&request.constraints)?;
        let plea = Plea { constraints: &constraints, privilege };
        let mut permit = plea.judge_listener(&request.listening, &self.policy.views(), &self.pad)?;
        permit.terms = with(permit.terms, request.on_conflict);
        let constraint = self.asking.acquire(&constraints)?;
        if constraint.is_some() {
            // Before anybody can be measured by it.
            self.accept_all();
        }
        let made = self.database.listen(&request.listening, constraint, permit.terms, now);
        let latch = match made {
            Ok(latch) => latch,
            Err(error) => {
                self.asking.release(&constraints);
                return Err(match error {
                    CreateError::Exists => LatchError::ListenerExists(request.listening),
                    CreateError::Full | CreateError::UnknownClass => LatchError::Full,
                });
            }
        };
        let flow = request.listening.flow();
        let held = Held::new(holder, flow, constraints, permit, LatchState::Listener);
        self.register.hold(latch, held);
        self.tell_made(latch, flow, LatchState::Listener, holder);
        Ok(Created { latch, state: LatchState::Listener })
    }

    /// CREATE_CONNECTION_LATCH (L-54 to L-61, L-82): LARVAL until SAs are what is asked, or ESTABLISHED at once where
    /// everything is given and such SAs are there (L-59), or where bypass is granted (L-112).
    ///
    /// # Errors
    /// [`LatchError`], which says what to do; nothing changed then.
    pub fn create_connection_latch(
        &mut self,
        request: &ConnectionRequest,
        holder: Holder,
        privilege: Privilege,
        now: Time,
    ) -> Result<Created, LatchError> {
        self.register.may_hold(holder)?;
        let flow = request.flow;
        let constraints = spelt(&request.constraints)?;
        let plea = Plea { constraints: &constraints, privilege };
        let mut permit = plea.judge_connection(&flow, &self.policy.views(), &self.pad)?;
        permit.terms = with(permit.terms, request.on_conflict);
        let mut held = Held::new(holder, flow, constraints, permit, LatchState::Larval);
        let begin = self.beginning(&held)?;
        let latch = self.database.connect(&flow, begin, permit.terms, now).map_err(|error| match error {
            CreateError::Exists => LatchError::ConnectionExists(flow),
            CreateError::Full => LatchError::Full,
            CreateError::UnknownClass => LatchError::ConflictingSas(flow),
        })?;
        held.report_after = request.report_after;
        held.unserved_since = Some(now);
        if matches!(begin, Begin::Larval) {
            let until = now + self.database.limits().larval;
            held.waiting = Some(Waiting { until, next_acquire: now, pause: FIRST_PAUSE });
        } else {
            held.state = LatchState::Established;
        }
        let state = held.state;
        self.register.hold(latch, held);
        self.tell_made(latch, flow, state, holder);
        if state == LatchState::Larval {
            self.acquire_for(latch, now);
        }
        Ok(Created { latch, state })
    }

    /// RELEASE_LATCH (L-64 to L-66, L-85, L-86): the latch is CLOSED and gone, its handle void, and SAs that were made
    /// for it alone are deleted (C-21). Who holds a listener's latch may release those that came of it.
    ///
    /// # Errors
    /// [`LatchError::UnknownLatch`], [`LatchError::NotHolder`]
    pub fn release_latch(&mut self, latch: LatchId, holder: Holder, now: Time) -> Result<(), LatchError> {
        let view = self.known(latch);
        let owner = match (self.register.get(latch), &view) {
            (Some(held), _) => held.holder,
            (None, Some(view)) => {
                let listener = self.register.listener_of(&view.flow);
                listener.map(|(_, held)| held.holder).ok_or(LatchError::NotHolder(latch))?
            }
            (None, None) => return Err(LatchError::UnknownLatch(latch)),
        };
        if owner != holder {
            return Err(LatchError::NotHolder(latch));
        }
        let flow = match (self.register.forget(latch), view) {
            (Some(held), view) => {
                self.end(latch, &held, now);
                // The Latch Database may have let go of it already.
                view.map_or(Err(LatchError::UnknownLatch(latch)), |_| Ok(held.flow))?
            }
            (None, Some(view)) => {
                self.database.release(latch, now);
                self.tell_ended(latch, view.flow, BreakReason::Released);
                view.flow
            }
            (None, None) => return Err(LatchError::UnknownLatch(latch)),
        };
        self.delete_narrow(HashSet::from([flow]), now);
        Ok(())
    }

    /// Closes a latch by order of an administrator, whoever holds it: to its connection that is as if the peer had
    /// reset it. Its holder is told.
    ///
    /// # Errors
    /// [`LatchError::UnknownLatch`]
    pub fn close_latch(&mut self, latch: LatchId, now: Time) -> Result<(), LatchError> {
        let view = self.known(latch).filter(|view| view.state != LatchState::Closed);
        let flow = view.ok_or(LatchError::UnknownLatch(latch))?.flow;
        self.database.close(latch, BreakReason::Administrative, now);
        self.see(latch);
        if self.register.get(latch).is_none() {
            // Nobody holds it, and whoever watches all hears of it here alone.
            self.tell_ended(latch, flow, BreakReason::Administrative);
        }
        Ok(())
    }

    /// FIND_LATCH: the latch of a connection.
    #[must_use]
    pub fn find_latch(&self, flow: &FlowKey) -> Option<LatchId> {
        self.database.find(flow).filter(|latch| self.known(*latch).is_some())
    }

    /// A latch that was not released: then its handle is void, though the Latch Database keeps what is late from passing
    /// (L-64).
    pub(super) fn known(&self, latch: LatchId) -> Option<LatchView> {
        self.database.inquire(latch).filter(|view| view.reason != Some(BreakReason::Released))
    }

    /// Tells the holder of a latch what became of it, where that is news.
    pub(super) fn see(&mut self, latch: LatchId) {
        let view = self.database.inquire(latch);
        let sight = view.map(|view| Sight { state: view.state, reason: view.reason });
        self.register.observe(latch, sight);
    }

    /// How a latch is born.
    fn beginning(&self, held: &Held) -> Result<Begin, LatchError> {
        if held.permit.bypass {
            // A policy that is about to be looks for what it breaks once, and may have looked.
            let forbids = |next: &Spd| self.current.forbids(next, &held.flow, None);
            let pending = self.current.pending.as_deref().is_some_and(forbids);
            let (rule, freedom, asked) = (held.permit.rule, Freedom::None, "bypass");
            let forbidden = LatchError::PolicyForbids { rule, freedom, asked };
            return if pending { Err(forbidden) } else { Ok(Begin::Bypass) };
        }
        let mut covering = self.current.sad.iter().filter(|slot| slot.entry.admits(&Traffic::of(&held.flow)));
        let class = covering.next().map(|slot| slot.entry.class);
        let strict = held.permit.terms.model == Model::Strict;
        if strict && class.is_some_and(|class| self.current.sad.admits_otherwise(&held.flow, class)) {
            // L-57, L-71: not while SAs differ.
            return Err(LatchError::ConflictingSas(held.flow));
        }
        // L-58, L-59: what is not asked for is decided by the SA, and later.
        let class = if held.constraints.is_complete() { self.serving(held) } else { None };
        Ok(class.map_or(Begin::Larval, |class| Begin::Established { class, version: self.clock.now() }))
    }

    /// The class of SAs in force that serve the connection as asked, and that nothing stands against (L-63, L-71).
    pub(super) fn serving(&self, held: &Held) -> Option<ClassId> {
        let Held { flow, permit, .. } = held;
        let satisfying = |class: &ClassId| {
            self.satisfies(*class, &held.constraints) && !self.current.bars(flow, *class, permit.terms.model)
        };
        let newest =
            self.current.sad.select(&Traffic::of(flow), None, permit.reqid).map(|slot| slot.entry.class);
        if let Some(class) = newest.filter(satisfying) {
            return Some(class);
        }
        let others = self.current.sad.iter().filter(|slot| slot.entry.admits(&Traffic::of(flow)));
        let others: HashSet<ClassId> = others.map(|slot| slot.entry.class).collect();
        let in_force = |class: &ClassId| {
            let slot = self.current.sad.select(&Traffic::of(flow), Some(*class), permit.reqid);
            slot.is_some_and(|slot| !slot.entry.use_.is_expired())
        };
        others.into_iter().filter(in_force).filter(satisfying).max()
    }

    /// What of these selectors SAs of a class had better have: nothing of listeners that ask for something else (L-51).
    /// Where that would leave nothing, or too much to tell of, it stays as it is, and those who come are turned away.
    pub(super) fn beside_listeners(&self, selectors: Vec<Selector>, class: ClassId) -> Vec<Selector> {
        let others = self.register.iter().filter(|(_, held)| {
            held.state == LatchState::Listener && !self.satisfies(class, &held.constraints)
        });
        others.fold(selectors, |selectors, (_, held)| {
            let listening = Listening::of(&held.flow);
            let left: Vec<_> = selectors.iter().flat_map(|selector| aside(selector, &listening)).collect();
            if left.is_empty() || left.len() > MOST_SELECTORS { selectors } else { left }
        })
    }

    /// Whether SAs of a class are what is asked for.
    pub(super) fn satisfies(&self, id: ClassId, constraints: &Constraints) -> bool {
        let Some(class) = self.class(id) else { return false };
        let ends = (self.identity(class.peer), self.standing(id), self.identity(class.local));
        let (Some(peer), Some(standing), Some(local)) = ends else { return false };
        constraints.satisfied_by(&class, (&peer, standing), &local)
    }

    /// Asks for SAs that a LARVAL latch waits for (L-60).
    pub(super) fn acquire_for(&mut self, latch: LatchId, now: Time) {
        let Some(held) = self.register.get(latch).cloned() else { return };
        let Some(mut waiting) = held.waiting else { return };
        if self.serving(&held).is_none() {
            let own = held.constraints.wants_narrow();
            let rules = self.policy.views().into_iter();
            let rule = rules.filter(|_| !own).find(|view| view.number == held.permit.rule);
            let constraints = Some(Box::new(held.constraints.clone()));
            let peer = held.constraints.peer.clone();
            let wanted = Wanted { flow: held.flow, rule, class: None, peer, constraints };
            self.notices.tell(Notice::Acquire(Box::new(wanted)));
        }
        waiting.next_acquire = now + waiting.pause;
        waiting.pause = waiting.pause.saturating_mul(2);
        self.register.look_at(latch, waiting.next_acquire.min(waiting.until));
        self.register.get_mut(latch).into_iter().for_each(|held| held.waiting = Some(waiting));
    }

    /// Ends a latch that nobody holds any more.
    fn end(&mut self, latch: LatchId, held: &Held, now: Time) {
        self.unask(held);
        self.database.release(latch, now);
        self.tell_ended(latch, held.flow, BreakReason::Released);
    }

    /// Nobody asks any more for what a listener did.
    pub(super) fn unask(&mut self, held: &Held) {
        if held.listens {
            self.asking.release(&held.constraints);
        }
    }

    /// Deletes SAs that were made by hand or by a provider for one of these connections alone (L-65, C-21). The provider
    /// is told by the notice, and tells the peer (L-66).
    pub(super) fn delete_narrow(&mut self, flows: HashSet<FlowKey>, now: Time) {
        let narrow = |(id, pair): (&PairId, &crate::pair::Pair)| {
            let flow = match pair.terms.selectors.as_slice() {
                [only] => only.only_flow()?,
                _ => return None,
            };
            (pair.origin == Origin::Hand && flows.contains(&flow)).then_some(*id)
        };
        let narrow: Vec<PairId> = self.pairs.iter().filter_map(narrow).collect();
        if narrow.is_empty() {
            return;
        }
        // Each was found just now, so that none is unknown.
        let _ = self.commit(Transaction::new(narrow.into_iter().map(Op::Remove).collect()), now);
    }

    fn tell_made(&self, latch: LatchId, flow: FlowKey, state: LatchState, holder: Holder) {
        let alert = LatchAlert { latch, flow, state, reason: None, listener: None, kind: AlertKind::Changed };
        self.register.tell_watchers(alert, Some(holder));
    }

    fn tell_ended(&self, latch: LatchId, flow: FlowKey, reason: BreakReason) {
        let (state, reason, kind) = (LatchState::Closed, Some(reason), AlertKind::Changed);
        let alert = LatchAlert { latch, flow, state, reason, listener: None, kind };
        self.register.tell_watchers(alert, None);
    }

    fn mind_watchers(&self) {
        self.database.watch(self.register.is_watched());
    }
}

pub(super) fn spelt(constraints: &Constraints) -> Result<Constraints, LatchError> {
    let nobody = LatchError::Contradiction("nobody can have such an identity");
    constraints.canonical().ok_or(nobody)
}

fn with(terms: LatchTerms, on_conflict: Option<OnConflict>) -> LatchTerms {
    LatchTerms { on_conflict: on_conflict.unwrap_or(terms.on_conflict), ..terms }
}

/// How long the first ACQUIRE has before there is another.
const FIRST_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
