//! Changes of everything at once: judged as a whole under the new PAD, then staged, and in force in one publication.

use std::collections::{BTreeMap, HashSet};

use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::LatchId;
use latchway_datapath::sad::Usage;
use latchway_datapath::time::Time;
use latchway_esp::Protocol;

use crate::change::{Change, ChangeError, Element, Fault, NewPair, Outline, PadChange, Problem};
use crate::install::InstallError;
use crate::judge::{judge, judge_again, still_allows};
use crate::keying::Keying;
use crate::keying::entering::Names;
use crate::keying::settling::Staged;
use crate::origin::Origin;
use crate::pad::Pad;
use crate::pair::{Pair, PairId};
use crate::ticket::Promise;
use crate::transaction::{CommitError, SpdChange};

impl Keying {
    /// Whether a change can be, and what it would do. Nothing changes.
    ///
    /// # Errors
    /// [`ChangeError`], with every fault there is.
    pub fn check_change(&self, change: &Change) -> Result<Outline, ChangeError> {
        if self.staged.is_some() {
            return Err(ChangeError::of(Element::Whole, Problem::Busy));
        }
        let pad = change.pad.as_ref().unwrap_or(&self.pad);
        let mut faults = Vec::new();
        self.check_named(change, &mut faults);
        self.check_staying(change, pad, &mut faults);
        self.check_by_hand(change, &mut faults);
        let mut names = Names::default();
        self.check_revisions(change, &mut names, &mut faults);
        let mut breaking = self.check_additions(change, (pad, &mut names), &mut faults);
        if !faults.is_empty() {
            return Err(ChangeError { faults });
        }
        let outline = self.outline(change);
        breaking.extend(self.conflicts_with_change(change));
        let breaks = breaking.len();
        Ok(Outline { breaks, breaking: breaking.into_values().take(MOST_TOLD).collect(), ..outline })
    }

    /// Begins a change: its new pairs are published as pending, and its PAD judges from now on. The first
    /// [`poll`](Self::poll) after their grace brings all of it into force in one publication (L-74).
    ///
    /// # Errors
    /// [`ChangeError`], with every fault there is; nothing changed then.
    pub fn begin_change(&mut self, change: Change, now: Time) -> Result<(), ChangeError> {
        self.expire_tickets(now);
        let outline = self.check_change(&change)?;
        let Change { pad, rules, add, revise, activate, retire, remove, cut } = change;
        let mut sad = self.current.sad.clone();
        let mut prepared = Vec::new();
        for (index, new) in add.iter().enumerate() {
            match self.prepare_new(new, pad.as_ref(), &mut sad, now) {
                Ok(pair) => prepared.push(pair),
                Err(problem) => {
                    prepared.into_iter().for_each(|pair| self.unprepare(&pair, now));
                    return Err(ChangeError::of(new.element(index), problem));
                }
            }
        }
        for (new, pair) in add.iter().zip(&prepared) {
            self.spent_keys.spend(&new.keys);
            self.interned.keep(pair.class, &new.proposal);
        }
        let added: Vec<_> = prepared.into_iter().map(|pair| self.remember(pair)).collect();
        let policy = rules.map(|rules| self.policy.with_configured(&rules));
        let lists = Staged { added, revise, activate, retire, remove, cut, ..Staged::new(outline) };
        self.stage(Staged { pad, policy, ..lists }, sad);
        self.enact_pad(now);
        Ok(())
    }

    /// Makes the staged PAD the one that judges. Offers that it does not allow are void.
    pub(super) fn enact_pad(&mut self, now: Time) {
        let Some(pad) = self.staged.as_mut().and_then(|staged| staged.pad.take()) else { return };
        self.pad = pad;
        self.interned.restand(&self.pad);
        self.accept_all();
        let pad = &self.pad;
        let void = self.tickets.void(|promise| !still_allows(pad, &promise.terms, promise.entry));
        self.give_back(void, now);
    }

    /// What the change says of pairs that are there.
    fn check_named(&self, change: &Change, faults: &mut Vec<Fault>) {
        let wishes = [
            (&change.activate, Some(Usage::Active)),
            (&change.retire, Some(Usage::Retired)),
            (&change.remove, None),
            (&change.cut, None),
        ];
        let mut named = HashSet::new();
        for (ids, usage) in wishes {
            for id in ids {
                let problem = self.check_wish(*id, usage).err().map(Problem::from);
                let twice = (!named.insert(*id)).then_some(Problem::NamedTwice);
                let faulty = problem.into_iter().chain(twice);
                faults.extend(faulty.map(|problem| Fault { element: self.element(*id), problem }));
            }
        }
        for revision in &change.revise {
            let problem = (!named.insert(revision.pair)).then_some(Problem::NamedTwice);
            faults.extend(problem.map(|problem| Fault { element: self.element(revision.pair), problem }));
        }
    }

    fn check_wish(&self, id: PairId, usage: Option<Usage>) -> Result<(), CommitError> {
        let pair = self.pairs.get(&id).ok_or(CommitError::UnknownPair(id))?;
        match usage {
            Some(_) if pair.usage == Usage::Pending => Err(CommitError::StillPending(id)),
            Some(Usage::Active) if pair.state(&self.current.sad).expired => Err(CommitError::Expired(id)),
            _ => Ok(()),
        }
    }

    /// Whether the new PAD allows every pair that stays, under the entry that it had (L-11).
    fn check_staying(&self, change: &Change, pad: &Pad, faults: &mut Vec<Fault>) {
        if change.pad.is_none() {
            return;
        }
        let leaving: HashSet<_> = change.remove.iter().chain(&change.cut).collect();
        let stays = |id: &PairId, pair: &Pair| !leaving.contains(id) && pair.drained_at.is_none();
        for (id, pair) in self.pairs.iter().filter(|(id, pair)| stays(id, pair)) {
            let problem = match judge_again(pad, &pair.terms) {
                Err(refusal) => Problem::NoLongerAllowed(refusal),
                Ok(entry) if entry.id != pair.entry => Problem::OtherEntry { entry: entry.name.clone() },
                Ok(_) => continue,
            };
            faults.push(Fault { element: self.element(*id), problem });
        }
        self.check_singles_under(pad, faults);
    }

    /// The latches that break by the policy and the PAD of a change.
    fn conflicts_with_change(&self, change: &Change) -> BTreeMap<LatchId, FlowKey> {
        let next = change.rules.as_ref().map(|rules| self.policy.with_configured(rules).spd());
        let withdrawn = change.pad.as_ref().map(|pad| self.withdrawn(pad)).unwrap_or_default();
        let latches = self.conflicts_with_policy(next.as_ref()).into_iter().chain(withdrawn);
        latches.map(|latch| (latch.id, latch.flow)).collect()
    }

    /// Whether the new PAD leaves the rules made by hand as safe as they were.
    fn check_by_hand(&self, change: &Change, faults: &mut Vec<Fault>) {
        let Some(pad) = &change.pad else { return };
        let by_hand = self.policy.views().into_iter().filter(|view| view.origin == Origin::Hand);
        let problems = by_hand.filter_map(|view| {
            let entry = pad.anybody_behind(&view.rule)?.name.clone();
            Some(Problem::ByTag { rule: view.number, entry })
        });
        faults.extend(problems.map(|problem| Fault { element: Element::Whole, problem }));
    }

    /// Whether all the new pairs can be, beside each other and beside those that are there. Returns the latches that they
    /// break.
    fn check_additions(
        &self,
        change: &Change,
        (pad, names): (&Pad, &mut Names),
        faults: &mut Vec<Fault>,
    ) -> BTreeMap<LatchId, FlowKey> {
        let mut breaking = BTreeMap::new();
        if change.add.is_empty() {
            return breaking;
        }
        let mut rehearsal = self.interned.rehearsal();
        let (mut keys, mut room) = (HashSet::new(), self.slots.available());
        let leaving: HashSet<_> = change.remove.iter().chain(&change.cut).copied().collect();
        for (index, NewPair { proposal, keys: of }) in change.add.iter().enumerate() {
            let allowed = judge(pad, proposal).and_then(|judged| {
                let (class, _) = rehearsal.intern(proposal, &judged)?;
                rehearsal.keep(class, proposal);
                self.stakes(&judged.selectors, (class, judged.standing))
            });
            let named = self.check_names(of, names).map_err(|error| self.hint(error, &leaving));
            let wanted = of.each().count();
            let fits = if room >= wanted { Ok(()) } else { Err(InstallError::Full) };
            room = room.saturating_sub(wanted);
            let usable = of.check(proposal).and_then(|()| Ok(of.check_config()?));
            let problems = [usable, named, self.spent_keys.check_with(of, &mut keys), fits];
            let problems = problems.into_iter().filter_map(Result::err).map(Problem::from);
            let element = || Element::Added { index, peer: proposal.peer.clone(), spi: of.inbound.spi };
            let faulty = allowed.as_ref().err().cloned().map(Problem::from).into_iter().chain(problems);
            faults.extend(faulty.map(|problem| Fault { element: element(), problem }));
            let breaks = allowed.map(|stakes| stakes.breaking).unwrap_or_default();
            breaking.extend(breaks.into_iter().map(|latch| (latch.id, latch.flow)));
        }
        breaking
    }

    /// An SPI that is taken by a pair which this very change removes is not free yet.
    fn hint(&self, error: InstallError, leaving: &HashSet<PairId>) -> InstallError {
        let InstallError::DuplicateSpi(spi) = error else { return error };
        let holds = |protocol| self.holder(protocol, spi).and_then(|pair| self.by_sa.get(&pair.inbound));
        let holder = holds(Protocol::Esp).or_else(|| holds(Protocol::Ah));
        if holder.is_some_and(|id| leaving.contains(id)) { InstallError::DrainingSpi(spi) } else { error }
    }

    /// What a change that was found good will do.
    fn outline(&self, change: &Change) -> Outline {
        let becomes = |ids: &[PairId], usage| {
            let differs = |id: &&PairId| self.pairs.get(*id).is_some_and(|pair| pair.usage != usage);
            ids.iter().filter(differs).copied().collect()
        };
        let policy = change.rules.as_ref().map(|rules| self.policy.with_configured(rules).spd());
        Outline {
            added: change.add.len(),
            revised: change.revise.iter().map(|revision| revision.pair).collect(),
            activated: becomes(&change.activate, Usage::Active),
            retired: becomes(&change.retire, Usage::Retired),
            removed: change.remove.iter().chain(&change.cut).copied().collect(),
            spd: policy.and_then(|spd| SpdChange::between(&self.current.spd, &spd)),
            pad: change.pad.as_ref().and_then(|pad| PadChange::between(&self.pad, pad)),
            ..Outline::default()
        }
    }

    /// A pair as the change wants it, in `sad` and nowhere else yet.
    fn prepare_new(
        &mut self,
        new: &NewPair,
        pad: Option<&Pad>,
        sad: &mut latchway_datapath::sad::Sad,
        now: Time,
    ) -> Result<Pair, Problem> {
        let judged = judge(pad.unwrap_or(&self.pad), &new.proposal)?;
        let class = self.interned.acquire(&new.proposal, &judged)?;
        self.accept(class);
        let terms = judged.terms(&new.proposal);
        let promise =
            Promise { terms, entry: judged.entry, class, origin: Origin::Configuration, expires: now };
        let prepared = self.prepare(promise, &new.keys, sad, now);
        if prepared.is_err() {
            self.interned.release(class, now);
        }
        Ok(prepared?)
    }

    fn unprepare(&mut self, pair: &Pair, now: Time) {
        self.rest_slots(pair.sas(), now);
        self.interned.release(pair.class, now);
    }

    pub(super) fn element(&self, id: PairId) -> Element {
        self.pairs.get(&id).map_or(Element::Missing(id), |pair| Element::Pair {
            pair: id,
            peer: pair.terms.peer.clone(),
            spi: pair.inbound_spi,
        })
    }
}

impl NewPair {
    fn element(&self, index: usize) -> Element {
        Element::Added { index, peer: self.proposal.peer.clone(), spi: self.keys.inbound.spi }
    }
}

impl ChangeError {
    fn of(element: Element, problem: Problem) -> Self {
        Self { faults: vec![Fault { element, problem }] }
    }
}

/// How many connections an outline names.
const MOST_TOLD: usize = 100;
