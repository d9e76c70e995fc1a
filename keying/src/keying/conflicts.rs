//! Conflicts between latches and what is about to be: found, broken, told, and gone again (latching-04 section 2.1; L-69
//! to L-76, R-9).
//!
//! Where every strict latch has the class of an SA, as after a rekey, one look at the counters of the Latch Database says
//! so. Elsewhere all latches are looked through, once per SA, on the key manager's thread.

use latchway_datapath::event::Event;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{
    BreakReason, LatchId, LatchState, Model, Offender, OnConflict, OnPolicyChange,
};
use latchway_datapath::selector::Selector;
use latchway_datapath::spd::{Rule, Spd};
use latchway_datapath::time::Time;
use latchway_datapath::traffic::Traffic;
use latchway_tagging::{AuthMethod, ClassId};
use latchway_ulp_shim::LatchView;

use crate::carve::carve;
use crate::conflict::{Claim, conflict};
use crate::install::InstallError;
use crate::keying::{Keying, Stage};
use crate::narrow::MOST_SELECTORS;
use crate::pair::PairId;
use crate::proposal::{LatchConflict, Narrowing, Refusal};

/// The class of an SA that is about to be, and the standing of its peer.
pub(super) type Newcomer = (ClassId, AuthMethod);

/// What stands between a newcomer and the latches it conflicts with.
#[derive(Debug, Default)]
pub(super) struct Stakes {
    /// Latches that break if it comes.
    pub(super) breaking: Vec<LatchView>,
    /// Latches that stand, and whose packets it does not get (L-110).
    pub(super) standing: Vec<LatchView>,
}

impl Keying {
    /// What of these selectors an SA of `class` may have beside the latches there are, and the latches that would break
    /// (L-73): it is narrowed around them, where it may be and where that is possible.
    ///
    /// # Errors
    /// As [`stakes`](Self::stakes).
    pub(super) fn fit(
        &self,
        selectors: &[Selector],
        newcomer: Newcomer,
        narrowing: Narrowing,
    ) -> Result<(Vec<Selector>, Vec<LatchConflict>), Refusal> {
        let Stakes { breaking, standing } = self.stakes(selectors, newcomer)?;
        let flows = breaking.iter().chain(&standing).map(|latch| &latch.flow);
        if narrowing == Narrowing::Allowed
            && !(breaking.is_empty() && standing.is_empty())
            && let Some(narrowed) = carve(selectors, flows, MOST_SELECTORS)
        {
            return Ok((narrowed, Vec::new()));
        }
        let conflict = |latch: &LatchView| Some(LatchConflict { flow: latch.flow, latched: latch.class? });
        Ok((selectors.to_vec(), breaking.iter().filter_map(conflict).collect()))
    }

    /// What an SA with these selectors conflicts with (L-72).
    ///
    /// # Errors
    /// [`Refusal::LesserStanding`] and [`Refusal::HolderKeeps`], where a latch does not give way to it (L-70, L-110).
    pub(super) fn stakes(&self, selectors: &[Selector], newcomer: Newcomer) -> Result<Stakes, Refusal> {
        let mut stakes = Stakes::default();
        let conflicts = |latch: &LatchView| {
            let covers = selectors.iter().any(|selector| selector.admits(&Traffic::of(&latch.flow)));
            let newcomer = Claim { class: newcomer.0, covers };
            latch.class.is_some_and(|class| conflict(newcomer, Claim { class, covers: true }))
        };
        for latch in self.database.conflicting(selectors, newcomer.0).into_iter().filter(conflicts) {
            if let Some(refusal) = self.stands_against(&latch, newcomer.1) {
                return Err(refusal);
            }
            match latch.terms.on_conflict {
                OnConflict::DropNewcomer => stakes.standing.push(latch),
                _ => stakes.breaking.push(latch),
            }
        }
        Ok(stakes)
    }

    /// Why a latch does not give way to a newcomer, if it does not.
    fn stands_against(&self, latch: &LatchView, offered: AuthMethod) -> Option<Refusal> {
        let (flow, class) = (latch.flow, latch.class?);
        let holder = || Some(self.identity(self.class(class)?.peer)?.asserted.to_string());
        let holder = || holder().unwrap_or_else(|| "a peer that is forgotten".to_owned());
        match self.standing(class) {
            Some(needed) if offered < needed => {
                Some(Refusal::LesserStanding { flow, holder: holder(), needed, offered })
            }
            _ if latch.terms.on_conflict == OnConflict::RejectNewcomer => {
                Some(Refusal::HolderKeeps { flow, holder: holder() })
            }
            _ => None,
        }
    }

    /// Breaks what stands against things that every worker has seen pending, and refuses pairs to which a latch that was
    /// born meanwhile does not give way. Returns those. Everything that was looked at waits for one grace more, unless
    /// nothing is broken that nobody was told of yet (L-74).
    pub(super) fn look_after_latches(&mut self, now: Time) -> Vec<(PairId, InstallError)> {
        let seen = |id: &PairId| {
            self.pairs.get(id).and_then(|pair| pair.settling).is_some_and(|stage| self.is_seen(stage))
        };
        let pairs: Vec<PairId> = self.settling.iter().copied().filter(seen).collect();
        let staged = self.staged.as_ref().filter(|staged| self.is_seen(staged.stage));
        if pairs.is_empty() && staged.is_none() {
            return Vec::new();
        }
        let added = staged.map(|staged| staged.added.clone()).unwrap_or_default();
        let (policy, withdraws) =
            (staged.is_some(), staged.is_some_and(|staged| staged.outline.pad.is_some()));
        let mut refused = Vec::new();
        for id in pairs.iter().chain(&added) {
            refused.extend(self.break_for(*id, now).err().map(|flow| (*id, InstallError::LatchStands(flow))));
        }
        self.send_away(&refused, now);
        if policy {
            self.break_for_policy(now);
        }
        if withdraws {
            self.break_withdrawn(now);
        }
        self.fence();
        let stage = Stage::Broken(self.untold.back().map_or(0, |(publication, _)| *publication));
        for id in &pairs {
            self.pairs.get_mut(id).into_iter().for_each(|pair| pair.settling = Some(stage));
        }
        if policy {
            self.staged.iter_mut().for_each(|staged| staged.stage = stage);
        }
        refused
    }

    /// Breaks what a pending pair conflicts with.
    ///
    /// # Errors
    /// The connection of a latch that does not give way. Nothing is broken then.
    fn break_for(&mut self, id: PairId, now: Time) -> Result<(), FlowKey> {
        let Some(pair) = self.pairs.get(&id) else { return Ok(()) };
        let class = pair.class;
        // The lowest, where the class is not known.
        let standing = self.standing(class).unwrap_or(AuthMethod::Btns);
        let stakes = self.stakes(&pair.terms.selectors, (class, standing)).map_err(|refusal| match refusal {
            Refusal::LesserStanding { flow, .. } | Refusal::HolderKeeps { flow, .. } => Some(flow),
            _ => None,
        });
        match stakes {
            Ok(stakes) => {
                for latch in &stakes.breaking {
                    self.break_latch(latch, BreakReason::Conflict, Some(class), now);
                }
                Ok(())
            }
            Err(Some(flow)) => Err(flow),
            Err(None) => Ok(()),
        }
    }

    /// Takes pairs out that were refused before they came into force.
    fn send_away(&mut self, refused: &[(PairId, InstallError)], now: Time) {
        if refused.is_empty() {
            return;
        }
        let mut sad = self.current.sad.clone();
        for (id, _) in refused {
            self.pairs.get(id).into_iter().for_each(|pair| pair.turn(&mut sad, None));
        }
        self.publish(sad, self.current.spd.clone());
        refused.iter().for_each(|(id, _)| self.bury(*id, now));
    }

    /// Breaks the latches that cannot go on under the policy that is about to be, unless they are to be preserved (L-76,
    /// C-24).
    fn break_for_policy(&mut self, now: Time) {
        for latch in self.conflicts_with_policy(self.current.pending.as_deref()) {
            self.break_latch(&latch, BreakReason::Policy, None, now);
        }
    }

    /// The latches that would break under another policy.
    pub(super) fn conflicts_with_policy(&self, next: Option<&Spd>) -> Vec<LatchView> {
        let Some(next) = next else { return Vec::new() };
        let differing = differing(&self.current.spd, next);
        let touched = |flow: &FlowKey| differing.iter().any(|rule| rule.selector.admits(&Traffic::of(flow)));
        let breaks = |latch: &LatchView| {
            let holds = latch.class.is_some() || latch.bypass;
            holds
                && can_break(latch)
                && latch.terms.on_policy_change == OnPolicyChange::Break
                && touched(&latch.flow)
                && self.current.forbids(next, &latch.flow, latch.class)
        };
        self.database.dump().filter(breaks).collect()
    }

    /// Breaks a latch, or closes one that is broken already and would wait for a conflict to pass.
    pub(crate) fn break_latch(
        &mut self,
        latch: &LatchView,
        reason: BreakReason,
        offender: Option<ClassId>,
        now: Time,
    ) {
        let told = Event::LatchBroken {
            latch: latch.id,
            flow: latch.flow,
            latched: latch.class,
            reason,
            offender: offender.map(|class| Offender { class, sa: None }),
        };
        // Written down first: a key manager that ends in between tells of it all the same.
        self.untold.push_back((0, told));
        let broken = match latch.state {
            LatchState::Established => {
                self.database.suspend(latch.id, reason, offender, now)
                    || self.close_waiting(latch, reason, now)
            }
            _ => self.database.close(latch.id, reason, now),
        };
        if !broken {
            self.untold.pop_back();
        } else if latch.terms.on_conflict == OnConflict::Wait && latch.state == LatchState::Established {
            if reason.can_pass() {
                self.waiting.insert(latch.id);
            } else {
                self.database.close(latch.id, reason, now);
            }
        }
    }

    /// Closes a latch that a packet broke since it was looked at, and that would come back when its peer is gone, though
    /// what it is to break for now says nothing of that peer.
    fn close_waiting(&self, latch: &LatchView, reason: BreakReason, now: Time) -> bool {
        let waits = latch.terms.on_conflict == OnConflict::Wait;
        waits && reason != BreakReason::Conflict && self.database.close(latch.id, reason, now)
    }

    /// Begins the grace after which no packet is under way that passed what was just broken.
    pub(crate) fn fence(&mut self) {
        if self.untold.iter().all(|(publication, _)| *publication != 0) {
            return;
        }
        // The same snapshot under another number: caches stay good.
        self.publication = self.publisher.publish(std::sync::Arc::clone(&self.current));
        let fence = self.publication;
        self.untold.iter_mut().filter(|(of, _)| *of == 0).for_each(|(of, _)| *of = fence);
    }

    /// Queues the breaks whose grace is over, for whoever ends connections and whoever holds the latches.
    pub(super) fn tell_broken(&mut self) {
        while let Some((publication, event)) = self.untold.front().copied()
            && self.publisher.is_settled(publication)
        {
            // One at a time, and queued first: a key manager that ends in between tells of all of them all the same, and
            // does not end of the same one again.
            if let Event::LatchBroken { latch, .. } = event {
                self.broken.push(latch, event);
            }
            self.untold.pop_front();
            self.hear(&event);
        }
        if self.broken.len() > 2 * self.database.limits().flows as usize {
            self.broken.prune(|latch| self.database.inquire(latch).is_some());
        }
    }

    /// A break that is to be told, until [`broken_told`](Self::broken_told).
    #[must_use]
    pub fn next_broken(&self) -> Option<Event> {
        self.broken.first()
    }

    /// The break that [`next_broken`](Self::next_broken) gave was told.
    pub fn broken_told(&mut self) {
        self.broken.drop_first();
    }

    /// Notes that a packet broke a latch: if it is to wait, it comes back when the conflict is gone.
    pub(super) fn note_broken(&mut self, latch: LatchId) {
        let waits = |view: &LatchView| view.terms.on_conflict == OnConflict::Wait;
        if self.database.inquire(latch).is_some_and(|view| waits(&view)) {
            self.waiting.insert(latch);
            self.recheck = self.recheck.max(self.publication);
        }
    }

    /// Puts latches into force again whose conflicts are gone, once every worker goes by what made them go.
    pub(super) fn restore_waiting(&mut self, now: Time) {
        if self.recheck == 0 || !self.publisher.is_settled(self.recheck) {
            return;
        }
        self.recheck = 0;
        let current = std::sync::Arc::clone(&self.current);
        let waiting: Vec<LatchId> = self.waiting.iter().copied().collect();
        for id in waiting {
            let latch = self.database.inquire(id).filter(|latch| latch.state == LatchState::Broken);
            let Some(latch) = latch else {
                self.waiting.remove(&id);
                continue;
            };
            let barred = match latch.class {
                Some(class) => current.bars(&latch.flow, class, Model::Strict),
                None => false,
            };
            let lets = latch.reason != Some(BreakReason::Policy) || current.permits(&latch.flow, latch.class);
            if !barred && lets && self.database.restore(id, now) {
                self.waiting.remove(&id);
                let (state, flow) = (LatchState::Established, latch.flow);
                self.hear(&Event::LatchChanged { latch: id, flow, state, reason: None });
            }
        }
    }

    /// Finds latches that wait for a conflict to pass, whoever broke them.
    pub(super) fn find_waiting(&mut self) {
        let waits = |latch: &LatchView| latch.state == LatchState::Broken && can_break(latch);
        self.waiting = self.database.dump().filter(waits).map(|latch| latch.id).collect();
        self.recheck = if self.waiting.is_empty() { 0 } else { self.publication };
    }
}

/// Whether a latch is in force, or waits to be again: of others, whoever must know was told already.
pub(super) fn can_break(latch: &LatchView) -> bool {
    let waits =
        latch.terms.on_conflict == OnConflict::Wait && latch.reason.is_some_and(BreakReason::can_pass);
    latch.state == LatchState::Established || (latch.state == LatchState::Broken && waits)
}

/// The rules by which two policies can decide differently about a flow: those between what both begin with and what both
/// end with. A flow that none of them speaks of is decided alike by both.
fn differing<'s>(old: &'s Spd, new: &'s Spd) -> Vec<&'s Rule> {
    let (old, new) = (old.rules(), new.rules());
    let first = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let shorter = old.len().min(new.len()) - first;
    let last =
        old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count().min(shorter);
    let middle = |rules: &'s [Rule]| rules.get(first..rules.len() - last).unwrap_or_default();
    middle(old).iter().chain(middle(new)).collect()
}
