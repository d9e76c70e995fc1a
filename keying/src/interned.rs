//! Interned identities and classes, held by promises and pairs of SAs (RFC 5660 section 2.6, R-2).
//!
//! A class outlives its last SA for a while, and for as long as a latch is said to have it: the SA that replaces an
//! expired one then has the class of the latches that wait for it. Ids are never used again.

use std::collections::HashMap;
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
    /// A class came to be. The observer has room for as many as [`Settings::classes`](crate::Settings::classes) lets
    /// live at a time, since it cannot refuse one.
    fn class_interned(&self, id: ClassId, class: &Class);

    /// Whether a latch has this class, so that it must be kept though no SA has it. Asked when no SA had it for as long
    /// as deleted SAs rest, so that no packet of it is under way and no new latch can get it.
    fn is_latched(&self, id: ClassId) -> bool {
        let _ = id;
        false
    }

    /// A class is forgotten; its id will not be used again.
    fn class_released(&self, id: ClassId) {
        let _ = id;
    }
}

/// Nobody to be told of classes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl ClassObserver for Unobserved {
    fn class_interned(&self, _: ClassId, _: &Class) {}
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
        let peer = self.identities.acquire(&record(&proposal.peer, Some(entry), proposal.method))?;
        let local = match self.identities.acquire(&record(&proposal.local, None, proposal.method)) {
            Ok(local) => local,
            Err(error) => {
                self.identities.release(peer);
                return Err(error.into());
            }
        };
        let class = Class {
            mode: proposal.mode,
            algorithms: proposal.suites.algorithms(),
            replay_checked: proposal.replay_checked,
            peer,
            local,
        };
        let id = match self.classes.acquire(&class) {
            Ok(id) => id,
            Err(error) => {
                self.identities.release(peer);
                self.identities.release(local);
                return Err(error.into());
            }
        };
        self.hold(id, &class);
        Ok(id)
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
        while let Some(id) = self.unheld.pop(now, |_| true) {
            let Some(held) = self.live.get_mut(&id) else { continue };
            held.queued = held.holders == 0
                && (now.since(held.unheld_since) < self.linger || self.observer.is_latched(id));
            if held.queued {
                self.unheld.push(now + self.linger, id);
            }
            if held.queued || held.holders > 0 {
                continue;
            }
            let (peer, local) = (held.peer, held.local);
            self.live.remove(&id);
            self.drop_holds(id, peer, local);
            self.observer.class_released(id);
        }
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

    /// Counts a holder of a class on which the tables just gave one hold each.
    fn hold(&mut self, id: ClassId, class: &Class) {
        if let Some(held) = self.live.get_mut(&id) {
            held.holders += 1;
            self.drop_holds(id, class.peer, class.local);
            return;
        }
        let Class { peer, local, .. } = *class;
        let held = Held { holders: 1, unheld_since: Time::default(), queued: false, peer, local };
        self.live.insert(id, held);
        self.observer.class_interned(id, class);
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

fn record(asserted: &Identity, authorised: Option<PadEntryId>, method: AuthMethod) -> IdentityRecord {
    IdentityRecord { asserted: asserted.clone(), authorised, method }
}
