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
    IdentityTable, PadEntryId,
};

use crate::proposal::{Proposal, Refusal};
use crate::resting::Resting;

/// Whoever must know of classes: told of one before any SA of it is published. Called by the key manager's thread, and
/// must not wait for it.
pub trait ClassObserver: Send + Sync {
    /// A class came to be.
    ///
    /// # Errors
    /// [`ClassRefused`] where there is no room to remember it: the proposal that would need it is refused then, and the
    /// class is released without having been in use.
    fn class_interned(&self, id: ClassId, class: &Class) -> Result<(), ClassRefused>;

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
    fn class_interned(&self, _: ClassId, _: &Class) -> Result<(), ClassRefused> {
        Ok(())
    }
}

/// The tables, and who holds what.
pub(crate) struct Interned {
    identities: IdentityTable,
    classes: ClassTable,
    live: HashMap<ClassId, Held>,
    unheld: Resting<ClassId>,
    linger: Duration,
    observer: Arc<dyn ClassObserver>,
}

/// The tables in a state that nobody else sees.
pub(crate) struct Rehearsal {
    identities: IdentityTable,
    classes: ClassTable,
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
}

impl Interned {
    /// Nothing interned. `linger` is how long a class outlives its last holder at least.
    pub(crate) fn new(
        identities: IdentityLimit,
        classes: ClassLimit,
        linger: Duration,
        observer: Arc<dyn ClassObserver>,
    ) -> Self {
        Self {
            identities: IdentityTable::new(identities),
            classes: ClassTable::new(classes),
            live: HashMap::new(),
            unheld: Resting::new(),
            linger,
            observer,
        }
    }

    /// The class that a proposal, authorised by `entry`, leads to, with one more holder.
    ///
    /// # Errors
    /// [`Refusal`] where a cap is reached; nothing changes then.
    pub(crate) fn acquire(&mut self, proposal: &Proposal, entry: PadEntryId) -> Result<ClassId, Refusal> {
        let (id, class) = intern(&mut self.identities, &mut self.classes, proposal, entry)?;
        self.hold(id, &class)?;
        Ok(id)
    }

    /// The tables as they are, to try proposals on.
    pub(crate) fn rehearsal(&self) -> Rehearsal {
        Rehearsal { identities: self.identities.clone(), classes: self.classes.clone() }
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
        &self.identities
    }

    /// The table of classes, to be read.
    pub(crate) const fn classes(&self) -> &ClassTable {
        &self.classes
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
    fn hold(&mut self, id: ClassId, class: &Class) -> Result<(), ClassRefused> {
        if let Some(held) = self.live.get_mut(&id) {
            held.holders += 1;
            self.drop_holds(id, class.peer, class.local);
            return Ok(());
        }
        let Class { peer, local, .. } = *class;
        if let Err(refused) = self.observer.class_interned(id, class) {
            self.drop_holds(id, peer, local);
            return Err(refused);
        }
        let held = Held { holders: 1, unheld_since: Time::default(), queued: false, peer, local };
        self.live.insert(id, held);
        Ok(())
    }

    fn drop_holds(&mut self, id: ClassId, peer: IdentityId, local: IdentityId) {
        self.classes.release(id);
        self.identities.release(peer);
        self.identities.release(local);
    }
}

impl std::fmt::Debug for Interned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interned").field("classes", &self.live.len()).finish_non_exhaustive()
    }
}

impl Rehearsal {
    /// Interns what a proposal needs, as the real tables would.
    ///
    /// # Errors
    /// [`Refusal`] where a cap is reached.
    pub(crate) fn acquire(&mut self, proposal: &Proposal, entry: PadEntryId) -> Result<(), Refusal> {
        intern(&mut self.identities, &mut self.classes, proposal, entry).map(|_| ())
    }
}

/// The class that a proposal leads to, with one more hold on it and on either identity.
fn intern(
    identities: &mut IdentityTable,
    classes: &mut ClassTable,
    proposal: &Proposal,
    entry: PadEntryId,
) -> Result<(ClassId, Class), Refusal> {
    let peer = identities.acquire(&record(&proposal.peer, Some(entry), proposal.method))?;
    let local = match identities.acquire(&record(&proposal.local, None, proposal.method)) {
        Ok(local) => local,
        Err(error) => {
            identities.release(peer);
            return Err(error.into());
        }
    };
    let (mode, algorithms) = (proposal.mode, proposal.suites.algorithms());
    let class = Class { mode, algorithms, replay_checked: proposal.replay_checked, peer, local };
    match classes.acquire(&class) {
        Ok(id) => Ok((id, class)),
        Err(error) => {
            identities.release(peer);
            identities.release(local);
            Err(error.into())
        }
    }
}

fn record(asserted: &Identity, authorised: Option<PadEntryId>, method: AuthMethod) -> IdentityRecord {
    IdentityRecord { asserted: asserted.clone(), authorised, method }
}
