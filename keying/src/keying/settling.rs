//! What comes into force when its graces are over, and what goes when its time to drain is: all in one snapshot (L-74).
//!
//! To a packet, the Latch Database and SAD with SPD change at one moment, though they are not one piece of memory. What is
//! about to be is published as pending first: after a grace every worker refuses to let a latch be born that it would
//! break, so that the set of such latches only shrinks. They are broken one by one, each of which is one atomic step of
//! its entry: from then on its packets are dropped, whatever snapshot judges them. After another grace no packet is under
//! way that passed before that. Only then are holders told, and what was pending comes into force in one publication. So
//! no packet is ever judged by a latch of before and an SA or a policy of after, or the other way round; between the two
//! it is lost, as packets are.
//!
//! What is pending does not conflict with what else is pending: conflicts are in view of a latch, and while two SAs of
//! different classes admit a flow, no latch of it is born at all (L-71).

use latchway_datapath::sad::Usage;
use latchway_datapath::time::Time;

use crate::change::{Changed, Outline, RevisedPair};
use crate::judge::still_allows;
use crate::keying::{Keying, Progress};
use crate::notice::Notice;
use crate::pad::Pad;
use crate::pair::{Pair, PairId};
use crate::policy::Policy;

/// How far something is that waits to come into force (L-74).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Published as pending. Once every worker goes by this publication, no latch is born that it would break.
    Pending(u64),
    /// What it breaks is broken. Once every worker went on from this publication, no packet is under way that passed a
    /// latch before.
    Broken(u64),
}

/// A change that was found good, and is published as pending.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) stage: Stage,
    /// What it will have done.
    pub(super) outline: Outline,
    /// The new PAD, until it is in force: from the moment on at which the pending pairs are published.
    pub(super) pad: Option<Pad>,
    /// The new policy.
    pub(super) policy: Option<Policy>,
    /// The pairs that it adds.
    pub(super) added: Vec<PairId>,
    /// What it says anew of pairs that stay.
    pub(super) revise: Vec<RevisedPair>,
    pub(super) activate: Vec<PairId>,
    pub(super) retire: Vec<PairId>,
    pub(super) remove: Vec<PairId>,
    pub(super) cut: Vec<PairId>,
}

/// What one publication brings to pairs, in the order in which it does: how each is used then, and whether it is on its
/// way out.
type Turns = Vec<(PairId, Option<Usage>, Option<Time>)>;

impl Staged {
    /// A change that does nothing yet.
    pub(super) const fn new(outline: Outline) -> Self {
        Self {
            stage: Stage::Pending(0),
            outline,
            pad: None,
            policy: None,
            added: Vec::new(),
            revise: Vec::new(),
            activate: Vec::new(),
            retire: Vec::new(),
            remove: Vec::new(),
            cut: Vec::new(),
        }
    }
}

impl Keying {
    /// Brings into force what waited long enough, and takes out what drained.
    pub(super) fn settle(&mut self, now: Time) -> Progress {
        let refused = self.look_after_latches(now);
        self.say_farewell(now);
        self.tell_broken();
        let settled = self.settled();
        let due = self.staged.as_ref().is_some_and(|staged| self.is_through(staged.stage));
        let drained: Vec<_> =
            self.draining.iter().take_while(|(moment, _)| *moment <= now).map(|(_, id)| *id).collect();
        let mut progress = Progress { settled, drained, refused, ..Progress::default() };
        if due || !progress.settled.is_empty() || !progress.drained.is_empty() {
            progress.changed = self.turn_over(&progress, due, now);
        }
        self.restore_waiting(now);
        progress.settling = !self.settling.is_empty() || self.staged.is_some() || self.is_parting();
        progress
    }

    /// The staged change waits for the grace of what is published now.
    pub(super) fn await_staged(&mut self) {
        let publication = self.publication;
        self.staged.iter_mut().for_each(|staged| staged.stage = Stage::Pending(publication));
    }

    /// Whether every worker has seen it pending, and latches have not been looked at yet.
    pub(super) fn is_seen(&self, stage: Stage) -> bool {
        matches!(stage, Stage::Pending(publication) if self.publisher.is_settled(publication))
    }

    /// Whether nothing stands against it any more.
    fn is_through(&self, stage: Stage) -> bool {
        matches!(stage, Stage::Broken(publication) if self.publisher.is_settled(publication))
    }

    /// The pairs that settle by themselves and whose grace is over.
    fn settled(&self) -> Vec<PairId> {
        let over = |id: &&PairId| {
            let pair = self.pairs.get(*id);
            pair.is_none_or(|pair| pair.settling.is_some_and(|stage| self.is_through(stage)))
        };
        self.settling.iter().filter(over).copied().collect()
    }

    /// One publication of everything whose time has come. Nothing is written down before it is published, so that a
    /// key manager that ends in between finds what workers see.
    fn turn_over(&mut self, progress: &Progress, due: bool, now: Time) -> Option<Changed> {
        let mut turns: Turns = progress.drained.iter().map(|id| (*id, None, None)).collect();
        turns.extend(self.starts(&progress.settled));
        let staged = self.staged.as_ref().filter(|_| due);
        let policy = staged.and_then(|staged| staged.policy.clone());
        if let Some(staged) = staged {
            turns.extend(self.changes(staged, now));
        }
        let mut sad = self.current.sad.clone();
        for (id, usage, _) in &turns {
            self.pairs.get(id).into_iter().for_each(|pair| pair.turn(&mut sad, *usage));
        }
        let revisions = staged.map(|staged| staged.revise.clone()).unwrap_or_default();
        revisions.iter().for_each(|revision| self.revise(revision, &mut sad));
        let spd = policy.as_ref().map_or_else(|| self.current.spd.clone(), Policy::spd);
        if spd != self.current.spd {
            self.join(&mut sad, &spd, now);
        }
        if !turns.is_empty() || !revisions.is_empty() || spd != self.current.spd {
            self.publish(sad, spd);
        }
        policy.into_iter().for_each(|policy| self.policy = policy);
        revisions.iter().for_each(|revision| self.note_revised(revision));
        let begun: Vec<_> = turns
            .iter()
            .filter(|(id, usage, _)| usage.is_some() && self.begins(*id))
            .map(|turn| turn.0)
            .collect();
        for (id, usage, drained_at) in turns {
            self.note_usage(id, usage, drained_at, now);
        }
        self.settling.retain(|id| !progress.settled.contains(id));
        self.tell_begun(&begun);
        due.then(|| self.finish()).flatten()
    }

    /// How pairs begin.
    fn starts(&self, ids: &[PairId]) -> Turns {
        let start = |id: &PairId| self.pairs.get(id).map(|pair| (*id, Some(pair.start.into()), None));
        ids.iter().filter_map(start).collect()
    }

    /// What a change does to pairs. Those that are gone meanwhile are passed over.
    fn changes(&self, staged: &Staged, now: Time) -> Turns {
        let mut turns = self.starts(&staged.added);
        turns.extend(staged.activate.iter().map(|id| (*id, Some(Usage::Active), None)));
        turns.extend(staged.retire.iter().map(|id| (*id, Some(Usage::Retired), None)));
        turns.extend(staged.cut.iter().map(|id| (*id, None, None)));
        let drained_at = now + self.settings.drain;
        let allowed = |pair: &Pair| still_allows(&self.pad, &pair.terms, pair.entry);
        for id in &staged.remove {
            let drains = |pair: &&Pair| pair.usage != Usage::Pending && allowed(pair);
            turns.push(match self.pairs.get(id).filter(drains) {
                Some(_) => (*id, Some(Usage::Retired), Some(drained_at)),
                None => (*id, None, None),
            });
        }
        // Those on their way out whom the PAD does not allow any more leave at once.
        let unwelcome = |id: &PairId| self.pairs.get(id).is_some_and(|pair| !allowed(pair));
        let unwelcome = self.draining.iter().map(|(_, id)| *id).filter(unwelcome);
        turns.extend(unwelcome.map(|id| (id, None, None)));
        // Setting it again would only make it the newest of its class.
        turns.retain(|(id, usage, _)| {
            self.pairs
                .get(id)
                .is_some_and(|pair| Some(pair.usage) != *usage || *usage == Some(Usage::Retired))
        });
        turns
    }

    fn begins(&self, id: PairId) -> bool {
        self.pairs.get(&id).is_some_and(|pair| pair.usage == Usage::Pending)
    }

    fn tell_begun(&mut self, begun: &[PairId]) {
        for id in begun {
            let Some(pair) = self.pairs.get_mut(id) else { continue };
            pair.settling = None;
            self.begun.push(*id);
            let (peer, class) = (pair.terms.peer.clone(), pair.class);
            self.notices.tell(Notice::PairAdded { pair: *id, peer, class });
        }
    }

    /// What the staged change did, now that it is in force.
    fn finish(&mut self) -> Option<Changed> {
        let Staged { outline, added, .. } = self.staged.take()?;
        self.tell(&outline.activated, &outline.retired, outline.spd);
        if outline.pad.is_some() {
            self.notices.tell(Notice::PadChanged);
            self.part_with_withdrawn();
        }
        let (snapshot, version) = (self.current.id, self.version);
        Some(Changed { snapshot, version, added, outline })
    }
}
