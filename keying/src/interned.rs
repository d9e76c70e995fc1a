//! Interned identities and classes, held by promises and pairs of SAs (RFC 5660 section 2.6, R-2).
//!
//! A class outlives its last SA for a while, and for as long as a latch is said to have it: the SA that replaces an
//! expired one then has the class of the latches that wait for it. Ids are never used again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use latchway_datapath::time::Time;
use latchway_tagging::{
    AuthMethod, Class, ClassId, ClassLimit, ClassTable, Identity, IdentityId, IdentityLimit, IdentityRecord,
    IdentityTable,
};

use crate::archive::{Archive, EvidenceLimit};
use crate::evidence::Evidence;
use crate::judge::Judged;
use crate::pad::Pad;
use crate::proposal::{Proposal, Refusal};
use crate::resting::Resting;

/// Whoever must know of classes: told of one before any SA of it is published. Called by the key manager's thread, and
/// must not wait for it.
pub trait ClassObserver: Send + Sync {
    /// A class came to be, or the standing of its peer became another by a change of the PAD. A class that is known is
    /// never refused.
    ///
    /// # Errors
    /// [`ClassRefused`] where there is no room to remember it: the proposal that would need it is refused then, and the
    /// class is released without having been in use.
    fn class_interned(&self, id: ClassId, class: &Class, standing: AuthMethod) -> Result<(), ClassRefused>;

    /// Those of these classes that latches have, so that they must be kept though no SA has them. Asked when no SA had
    /// them for as long as deleted SAs rest, so that no packet of them is under way and no new latch can get them. Asked
    /// of many at once, since a look through all latches takes its time.
    fn latched(&self, classes: &HashSet<ClassId>) -> HashSet<ClassId> {
        let _ = classes;
        HashSet::new()
    }

    /// A class is forgotten; its id will not be used again.
    fn class_released(&self, id: ClassId) {
        let _ = id;
    }
}

/// An observer has no room for another class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no room to remember the peer of another class; remove pairs of peers that are no longer needed"
)]
pub struct ClassRefused;

/// Nobody to be told of classes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl ClassObserver for Unobserved {
    fn class_interned(&self, _: ClassId, _: &Class, _: AuthMethod) -> Result<(), ClassRefused> {
        Ok(())
    }
}

/// The tables, and who holds what.
pub(crate) struct Interned {
    tables: Tables,
    live: HashMap<ClassId, Held>,
    unheld: Resting<ClassId>,
    linger: Duration,
    observer: Arc<dyn ClassObserver>,
}

/// The tables; a copy of them is a state that nobody else sees, to try proposals on.
#[derive(Clone)]
pub(crate) struct Tables {
    identities: IdentityTable,
    classes: ClassTable,
    archive: Archive,
}

/// A class that is known, with one hold of the tables on it and on either identity.
struct Held {
    holders: usize,
    /// When the last holder gave it back.
    unheld_since: Time,
    /// Whether it stands in the queue of those that may be forgotten.
    queued: bool,
    peer: IdentityId,
    local: IdentityId,
    /// The peer's.
    standing: AuthMethod,
}

impl Interned {
    /// Nothing interned. `linger` is how long a class outlives its last holder at least.
    pub(crate) fn new(
        identities: IdentityLimit,
        classes: ClassLimit,
        evidence: EvidenceLimit,
        linger: Duration,
        observer: Arc<dyn ClassObserver>,
    ) -> Self {
        let (identities, classes) = (IdentityTable::new(identities), ClassTable::new(classes));
        Self {
            tables: Tables { identities, classes, archive: Archive::new(evidence) },
            live: HashMap::new(),
            unheld: Resting::new(),
            linger,
            observer,
        }
    }

    /// The class that a proposal, judged so, leads to, with one more holder.
    ///
    /// # Errors
    /// [`Refusal`] where a cap is reached; nothing changes then.
    pub(crate) fn acquire(&mut self, proposal: &Proposal, judged: &Judged) -> Result<ClassId, Refusal> {
        let (id, class) = self.tables.intern(proposal, judged)?;
        self.hold(id, &class, judged.standing)?;
        Ok(id)
    }

    /// Keeps what both ends of a class were proven with, a proposal of that class being accepted (L-29 to L-31, C-15).
    pub(crate) fn keep(&mut self, id: ClassId, proposal: &Proposal) {
        self.tables.keep(id, proposal);
    }

    /// Says anew what standing peers have, since the PAD is another.
    pub(crate) fn restand(&mut self, pad: &Pad) {
        let entries: HashMap<_, _> = pad.entries().iter().map(|entry| (entry.id, entry)).collect();
        for (id, held) in &mut self.live {
            let Some(record) = self.tables.identities.record(held.peer) else { continue };
            let Some(entry) = record.authorised.and_then(|entry| entries.get(&entry)) else { continue };
            let standing = entry.standing(record.method);
            if standing == held.standing {
                continue;
            }
            held.standing = standing;
            if let Some(class) = self.tables.classes.class(*id) {
                // A class that is known is never refused.
                let _ = self.observer.class_interned(*id, class, standing);
            }
        }
    }

    /// The tables as they are, to try proposals on.
    pub(crate) fn rehearsal(&self) -> Tables {
        self.tables.clone()
    }

    /// Gives back one hold.
    pub(crate) fn release(&mut self, id: ClassId, now: Time) {
        let Some(held) = self.live.get_mut(&id) else { return };
        held.holders = held.holders.saturating_sub(1);
        held.unheld_since = now;
        if held.holders == 0 && !held.queued {
            held.queued = true;
            self.unheld.push(now + self.linger, id);
        }
    }

    /// Forgets classes that nobody held for long enough and that no latch has.
    pub(crate) fn forget(&mut self, now: Time) {
        let due = self.due(now);
        if due.is_empty() {
            return;
        }
        let latched = self.observer.latched(&due);
        for id in due {
            if latched.contains(&id) {
                self.unheld.push(now + self.linger, id);
            } else if let Some(Held { peer, local, .. }) = self.live.remove(&id) {
                self.drop_holds(id, peer, local);
                self.observer.class_released(id);
            }
        }
    }

    /// The classes that nobody held for long enough. They are in the queue no more.
    fn due(&mut self, now: Time) -> HashSet<ClassId> {
        let mut due = HashSet::new();
        while let Some(id) = self.unheld.pop(now, |_| true) {
            let Some(held) = self.live.get_mut(&id) else { continue };
            held.queued = held.holders == 0;
            if held.queued && now.since(held.unheld_since) < self.linger {
                self.unheld.push(now + self.linger, id);
            } else if held.queued {
                due.insert(id);
            }
        }
        due
    }

    /// The tables of identities, to be read.
    pub(crate) const fn identities(&self) -> &IdentityTable {
        &self.tables.identities
    }

    /// What is kept of what an identity was proven with.
    pub(crate) fn evidence(&self, id: IdentityId) -> Option<&Evidence> {
        self.tables.archive.evidence(id)
    }

    /// The peers of live classes that assert this identity.
    pub(crate) fn peers_named(&self, peer: &Identity) -> HashSet<IdentityId> {
        let named = |id: &IdentityId| {
            self.tables.identities.record(*id).is_some_and(|record| record.asserted == *peer)
        };
        self.live.values().map(|held| held.peer).filter(named).collect()
    }

    /// The standing of the peer of a class.
    pub(crate) fn standing(&self, class: ClassId) -> Option<AuthMethod> {
        self.live.get(&class).map(|held| held.standing)
    }

    /// The table of classes, to be read.
    pub(crate) const fn classes(&self) -> &ClassTable {
        &self.tables.classes
    }

    /// Every class that is known.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ClassId> {
        self.live.keys().copied()
    }

    /// How many classes are known.
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// Counts the holders anew, as `holders` says, after a panic left them uncertain.
    pub(crate) fn recount(&mut self, holders: &HashMap<ClassId, usize>, now: Time) {
        self.unheld = Resting::new();
        for (id, held) in &mut self.live {
            held.holders = holders.get(id).copied().unwrap_or(0);
            held.queued = held.holders == 0;
            if held.queued {
                held.unheld_since = now;
                self.unheld.push(now + self.linger, *id);
            }
        }
    }

    /// Counts a holder of a class on which the tables just gave one hold each.
    fn hold(&mut self, id: ClassId, class: &Class, standing: AuthMethod) -> Result<(), ClassRefused> {
        if let Some(held) = self.live.get_mut(&id) {
            held.holders += 1;
            self.drop_holds(id, class.peer, class.local);
            return Ok(());
        }
        let Class { peer, local, .. } = *class;
        if let Err(refused) = self.observer.class_interned(id, class, standing) {
            self.drop_holds(id, peer, local);
            return Err(refused);
        }
        let held = Held { holders: 1, unheld_since: Time::default(), queued: false, peer, local, standing };
        self.live.insert(id, held);
        Ok(())
    }

    fn drop_holds(&mut self, id: ClassId, peer: IdentityId, local: IdentityId) {
        self.tables.classes.release(id);
        self.tables.release(peer);
        self.tables.release(local);
    }
}

impl std::fmt::Debug for Interned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interned").field("classes", &self.live.len()).finish_non_exhaustive()
    }
}

impl Tables {
    /// The class that a proposal leads to, with one more hold on it and on either identity.
    ///
    /// # Errors
    /// [`Refusal`] where a cap is reached; nothing changes then.
    pub(crate) fn intern(
        &mut self,
        proposal: &Proposal,
        judged: &Judged,
    ) -> Result<(ClassId, Class), Refusal> {
        let method = proposal.method;
        let peer = self.identities.acquire(&IdentityRecord {
            asserted: judged.peer.clone(),
            authorised: Some(judged.entry),
            method,
            credential: judged.credential.clone(),
        })?;
        let own = proposal.local.canonical().unwrap_or_else(|| proposal.local.clone());
        let credential = judged.local.clone();
        let own = IdentityRecord { asserted: own, authorised: None, method, credential };
        let local = self.identities.acquire(&own).inspect_err(|_| self.release(peer))?;
        let (mode, algorithms) = (proposal.mode, proposal.algorithms());
        let class = Class { mode, algorithms, replay_checked: proposal.replay_checked, peer, local };
        let fits = [(peer, &proposal.evidence), (local, &proposal.local_evidence)];
        let fits = self.archive.check(&fits);
        match fits.and_then(|()| Ok(self.classes.acquire(&class)?)) {
            Ok(id) => Ok((id, class)),
            Err(refusal) => {
                self.release(peer);
                self.release(local);
                Err(refusal)
            }
        }
    }

    /// Keeps what both ends of a class were proven with.
    pub(crate) fn keep(&mut self, id: ClassId, proposal: &Proposal) {
        if let Some((peer, local)) = self.classes.class(id).map(|class| (class.peer, class.local)) {
            self.archive.keep(peer, &proposal.evidence);
            if proposal.local_evidence != Evidence::default() {
                self.archive.keep(local, &proposal.local_evidence);
            }
        }
    }

    fn release(&mut self, id: IdentityId) {
        self.identities.release(id);
        if self.identities.record(id).is_none() {
            self.archive.forget(id);
        }
    }
}
