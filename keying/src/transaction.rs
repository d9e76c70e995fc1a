//! Transactions: changes of pairs and policy that become visible in one published snapshot, or not at all.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::Hash;

use latchway_datapath::sad::{Sad, Usage};
use latchway_datapath::spd::Spd;
use latchway_tagging::{SaRef, SnapshotId, StateVersion};

use crate::change::{Changed, Outline};
use crate::pair::PairId;

/// Changes, applied in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    ops: Vec<Op>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The pair sends from now on.
    Activate(PairId),
    /// The pair sends no more, but receives what is under way.
    Retire(PairId),
    /// The pair sends no more, receives what is under way for [`Settings::drain`](crate::Settings::drain), and is gone
    /// then.
    Drain(PairId),
    /// The pair is gone.
    Remove(PairId),
    /// The configured rules of the policy are these. Those made by hand stay, and stay before them.
    SetSpd(Spd),
}

/// What a transaction changed. Pairs that already were as asked are not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The snapshot that shows it; the one before, where nothing changed.
    pub snapshot: SnapshotId,
    /// The state version counted before it was published (L-89).
    pub version: StateVersion,
    /// Pairs that send now and did not before.
    pub activated: Vec<PairId>,
    /// Pairs that only receive now.
    pub retired: Vec<PairId>,
    /// Pairs that are gone.
    pub removed: Vec<PairId>,
    /// How the policy changed, if it did.
    pub spd: Option<SpdChange>,
}

/// How far a transaction is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Commitment {
    /// In force.
    InForce(Committed),
    /// Policy changes, so that latches are looked after first (L-76). The [`Progress`](crate::Progress) of a later poll
    /// tells that it is in force.
    Staged,
}

/// How many rules came and went. A rule that only moved is neither, though moving it changes the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpdChange {
    /// Rules that were not there before.
    pub added: usize,
    /// Rules that are no longer there.
    pub removed: usize,
}

/// Why a transaction is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// There is no such pair, or not after the transaction's earlier changes.
    #[error("there is no pair {0}; nothing was changed")]
    UnknownPair(PairId),
    /// Latches are being looked after, and the pair is not in force yet (L-74).
    #[error(
        "pair {0} is not settled yet; nothing was changed, commit again when its installation is answered"
    )]
    StillPending(PairId),
    /// Its hard lifetime is over and its keys are gone.
    #[error("pair {0} has expired and cannot send; nothing was changed, make a new pair")]
    Expired(PairId),
    /// Another change of policy waits for its grace.
    #[error(
        "another change is being brought into force; nothing was changed, commit again when it is answered"
    )]
    Busy,
}

/// What a transaction needs to know of a pair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PairState {
    pub(crate) sas: [Option<SaRef>; 4],
    pub(crate) usage: Usage,
    pub(crate) expired: bool,
}

/// The databases with a transaction's changes so far.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) sad: Sad,
    pub(crate) spd: Option<Spd>,
    /// What each touched pair was, and is now; `None` is gone.
    pub(crate) pairs: BTreeMap<PairId, (Usage, Option<Usage>)>,
    /// Pairs on their way out.
    pub(crate) draining: BTreeSet<PairId>,
}

impl Transaction {
    /// These changes, in this order.
    #[must_use]
    pub const fn new(ops: Vec<Op>) -> Self {
        Self { ops }
    }

    /// What a rekey ends with: the new pair sends, the old one receives what is under way.
    #[must_use]
    pub fn replace(old: PairId, new: PairId) -> Self {
        Self::new(vec![Op::Activate(new), Op::Retire(old)])
    }

    /// Whether it says anything of policy.
    #[must_use]
    pub fn changes_policy(&self) -> bool {
        self.ops.iter().any(|op| matches!(op, Op::SetSpd(_)))
    }

    /// The databases after these changes.
    ///
    /// # Errors
    /// [`CommitError`] of the first change that cannot be.
    pub(crate) fn draft(
        self,
        sad: &Sad,
        state: impl Fn(PairId) -> Option<PairState>,
    ) -> Result<Draft, CommitError> {
        let mut draft =
            Draft { sad: sad.clone(), spd: None, pairs: BTreeMap::new(), draining: BTreeSet::new() };
        for op in self.ops {
            let drains = matches!(op, Op::Drain(_));
            let (id, wanted) = match op {
                Op::SetSpd(spd) => {
                    draft.spd = Some(spd);
                    continue;
                }
                Op::Activate(id) => (id, Some(Usage::Active)),
                Op::Retire(id) | Op::Drain(id) => (id, Some(Usage::Retired)),
                Op::Remove(id) => (id, None),
            };
            draft.change(id, &state(id).ok_or(CommitError::UnknownPair(id))?, wanted)?;
            if drains {
                draft.draining.insert(id)
            } else {
                draft.draining.remove(&id)
            };
        }
        Ok(draft)
    }
}

impl Draft {
    fn change(&mut self, id: PairId, pair: &PairState, wanted: Option<Usage>) -> Result<(), CommitError> {
        let now = self.pairs.get(&id).map_or(Some(pair.usage), |(_, now)| *now);
        let now = now.ok_or(CommitError::UnknownPair(id))?;
        match wanted {
            None => {
                pair.sas.into_iter().flatten().for_each(|sa| drop(self.sad.remove(sa)));
            }
            Some(_) if now == Usage::Pending => return Err(CommitError::StillPending(id)),
            Some(Usage::Active) if pair.expired => return Err(CommitError::Expired(id)),
            // Setting it again would only make it the newest of its class.
            Some(usage) if usage == now => {}
            Some(usage) => {
                for sa in pair.sas.into_iter().flatten() {
                    self.sad.set_usage(sa, usage);
                }
            }
        }
        self.pairs.entry(id).or_insert((pair.usage, None)).1 = wanted;
        Ok(())
    }

    /// Which pairs end as only receiving, and stay.
    pub(crate) fn retiring(&self) -> Vec<PairId> {
        let retired = |(id, (_, after)): &(&PairId, &(Usage, Option<Usage>))| {
            *after == Some(Usage::Retired) && !self.draining.contains(id)
        };
        self.pairs.iter().filter(retired).map(|(id, _)| *id).collect()
    }

    /// Which pairs end as `usage` and did not begin so.
    pub(crate) fn became(&self, usage: Option<Usage>) -> Vec<PairId> {
        let changed =
            self.pairs.iter().filter(|(_, (before, after))| *after == usage && Some(*before) != usage);
        changed.map(|(id, _)| *id).collect()
    }
}

impl From<Changed> for Committed {
    fn from(changed: Changed) -> Self {
        let Changed { snapshot, version, outline, .. } = changed;
        let Outline { activated, retired, removed, spd, .. } = outline;
        Self { snapshot, version, activated, retired, removed, spd }
    }
}

impl SpdChange {
    /// How `new` differs from `old`, if it does.
    pub(crate) fn between(old: &Spd, new: &Spd) -> Option<Self> {
        if old == new {
            return None;
        }
        Some(Self { added: missing(old.rules(), new.rules()), removed: missing(new.rules(), old.rules()) })
    }
}

/// How many of these the others do not have.
fn missing<T: Eq + Hash>(others: &[T], these: &[T]) -> usize {
    let others: HashSet<&T> = others.iter().collect();
    these.iter().filter(|one| !others.contains(one)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Counted, compared};

    #[test]
    fn rules_that_came_and_went_are_counted_without_comparing_each_with_each() {
        let (old, new): (Vec<_>, Vec<_>) =
            ((0..10_000).map(Counted).collect(), (9_000..19_500).map(Counted).collect());
        let (counts, effort) = compared(|| (missing(&old, &new), missing(&new, &old)));
        assert_eq!(counts, (9_500, 9_000));
        assert!(effort < 100_000, "{effort}");
        assert_eq!(missing(&[1, 1, 2], &[3, 3, 1]), 2);
    }
}
