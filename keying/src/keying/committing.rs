//! Transactions and single rules. What changes policy is staged, so that no latch is ever under a policy that it was not
//! looked at for (L-75, L-76); what changes only pairs is in force at once.

use latchway_datapath::sad::Usage;
use latchway_datapath::spd::Rule;
use latchway_datapath::time::Time;

use crate::change::Outline;
use crate::keying::Keying;
use crate::keying::settling::Staged;
use crate::policy::{Policy, RuleError, RuleNumber};
use crate::transaction::{CommitError, Commitment, Committed, Draft, SpdChange, Transaction};

impl Keying {
    /// Applies changes of pairs and policy in one snapshot, all or nothing. Where policy changes, the first
    /// [`poll`](Self::poll) after the grace brings all of it into force.
    ///
    /// # Errors
    /// [`CommitError`]; nothing changed then.
    pub fn commit(&mut self, transaction: Transaction, now: Time) -> Result<Commitment, CommitError> {
        if self.staged.is_some() && transaction.changes_policy() {
            return Err(CommitError::Busy);
        }
        let draft = transaction
            .draft(&self.current.sad, |id| self.pairs.get(&id).map(|pair| pair.state(&self.current.sad)))?;
        let policy = draft.spd.as_ref().map(|spd| self.policy.with_configured(spd.rules()));
        let outline = Outline {
            activated: draft.became(Some(Usage::Active)),
            retired: draft.became(Some(Usage::Retired)),
            removed: draft.became(None),
            spd: policy.as_ref().and_then(|policy| SpdChange::between(&self.current.spd, &policy.spd())),
            ..Outline::default()
        };
        match policy {
            Some(policy) if outline.spd.is_some() => {
                let (activate, retire) = (outline.activated.clone(), draft.retiring());
                let (remove, cut) = (draft.draining.iter().copied().collect(), outline.removed.clone());
                let lists = Staged { activate, retire, remove, cut, ..Staged::new(outline) };
                self.stage(Staged { policy: Some(policy), ..lists }, self.current.sad.clone());
                Ok(Commitment::Staged)
            }
            same => {
                same.into_iter().for_each(|policy| self.policy = policy);
                Ok(Commitment::InForce(self.carry_out(draft, outline, now)))
            }
        }
    }

    /// Adds a rule by hand, before another one made by hand, or after all of those, and before those that single SAs serve and
    /// the configured ones. One with several selectors is given as several, and has one number. The first
    /// [`poll`](Self::poll) after the grace brings it into force.
    ///
    /// # Errors
    /// [`RuleError`]; nothing changed then.
    pub fn add_rule(
        &mut self,
        rules: Vec<Rule>,
        before: Option<RuleNumber>,
    ) -> Result<RuleNumber, RuleError> {
        if self.staged.is_some() {
            return Err(RuleError::Busy);
        }
        let place = self.policy.place_before(before)?;
        let number = self.policy.draw_number();
        self.stage_policy(self.policy.with(number, rules, place));
        Ok(number)
    }

    /// Deletes a rule that was made by hand. The first [`poll`](Self::poll) after the grace does away with it.
    ///
    /// # Errors
    /// [`RuleError`]; nothing changed then.
    pub fn delete_rule(&mut self, number: RuleNumber) -> Result<Vec<Rule>, RuleError> {
        if self.staged.is_some() {
            return Err(RuleError::Busy);
        }
        if self.entries().any(|entry| entry.number == number) {
            return Err(RuleError::Latched(number));
        }
        let (policy, rules) = self.policy.without(number)?;
        self.stage_policy(policy);
        Ok(rules)
    }

    /// Replaces the rules that single SAs serve. The first [`poll`](Self::poll) after the grace brings them into force.
    ///
    /// # Errors
    /// [`RuleError::Busy`]
    pub fn replace_templated(&mut self, rules: &[Rule]) -> Result<(), RuleError> {
        if self.staged.is_some() {
            return Err(RuleError::Busy);
        }
        self.stage_policy(self.policy.with_templated(rules));
        Ok(())
    }

    /// Publishes what is about to be (L-74): pairs as pending, in `sad`, and policy beside the one in force.
    pub(super) fn stage(&mut self, staged: Staged, sad: latchway_datapath::sad::Sad) {
        let next = staged.policy.as_ref().map(Policy::spd).filter(|next| *next != self.current.spd);
        let publishes = next.is_some() || !staged.added.is_empty();
        self.staged = Some(staged);
        if publishes {
            self.publish_with(sad, self.current.spd.clone(), next.map(std::sync::Arc::new));
        }
        self.await_staged();
    }

    fn stage_policy(&mut self, policy: Policy) {
        let spd = SpdChange::between(&self.current.spd, &policy.spd());
        let outline = Outline { spd, ..Outline::default() };
        self.stage(Staged { policy: Some(policy), ..Staged::new(outline) }, self.current.sad.clone());
    }

    /// Brings into force what changes nothing but pairs.
    fn carry_out(&mut self, draft: Draft, outline: Outline, now: Time) -> Committed {
        let Outline { activated, retired, removed, .. } = outline;
        if [&activated, &retired, &removed].iter().any(|ids| !ids.is_empty()) {
            self.publish(draft.sad, self.current.spd.clone());
        }
        for (id, (_, usage)) in draft.pairs {
            let drained_at = draft.draining.contains(&id).then(|| now + self.settings.drain);
            self.note_usage(id, usage, drained_at, now);
        }
        self.tell(&activated, &retired, None);
        let (snapshot, version) = (self.current.id, self.version);
        Committed { snapshot, version, activated, retired, removed, spd: None }
    }
}
