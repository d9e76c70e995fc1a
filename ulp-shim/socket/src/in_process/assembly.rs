//! Puts a gateway together: Latch Database, key manager, datapath. Nothing is opened here and no clock is read.

use std::collections::HashSet;
use std::sync::Arc;

use crossbeam::channel::{Receiver, bounded};
use latchway_datapath::drop::Counters;
use latchway_datapath::event::{EVENT_QUEUE, Event, event_queue};
use latchway_datapath::gateway::{Datapath, Shared};
use latchway_datapath::oversize::Oversize;
use latchway_datapath::spd::Rule;
use latchway_datapath::time::Time;
use latchway_keying::{
    Change, ClassObserver, ClassRefused, Inputs, KeyManager, Keying, NewPair, Pad, Settings,
};
use latchway_tagging::{AuthMethod, Class, ClassId, StateClock, WorkerId};
use latchway_ulp_shim::{LatchDatabase, Limits, Seed, Shim};

use super::classes::{Classes, stopped};
use super::tagging::Tagging;
use crate::error::{Error, ErrorKind, Result};

/// What a gateway is to be.
pub(super) struct Plan {
    pub(super) pad: Pad,
    pub(super) rules: Vec<Rule>,
    pub(super) pairs: Vec<NewPair>,
    pub(super) limits: Limits,
}

/// A gateway whose parts stand and do not run yet.
pub(super) struct Assembled {
    pub(super) datapath: Datapath<Tagging>,
    pub(super) database: Arc<LatchDatabase>,
    pub(super) classes: Classes,
    /// What someone must act on.
    pub(super) events: Receiver<Event>,
    /// The key manager's thread; it ends when this is dropped.
    pub(super) keying: KeyManager,
    pub(super) counters: Arc<Counters>,
}

/// Makes the gateway that the plan names, whose time is told by `clock`.
///
/// # Errors
/// What is wrong with the plan.
pub(super) fn assemble(plan: Plan, clock: Box<dyn Fn() -> Time + Send>) -> Result<Assembled> {
    let failed = |said: String| Error::new(ErrorKind::Failed, said);
    let invalid = |said: String| Error::new(ErrorKind::Invalid, said);
    let versions = Arc::new(StateClock::new());
    let database = LatchDatabase::new(plan.limits, Arc::clone(&versions), Seed::Random)
        .map_err(|error| invalid(error.to_string()))?;
    let database = Arc::new(database);
    let observer = Arc::new(Peers(Arc::clone(&database)));
    let keying =
        Keying::new(plan.pad, Settings::default(), Arc::clone(&versions), Arc::clone(&database), observer);
    let snapshots = keying.publisher().reader();
    let (events, from_datapath) = event_queue();
    let (forward, forwarded) = bounded(EVENT_QUEUE);
    // Nobody reads what became of pairs: what is lost there is not missed.
    let (notices, _) = bounded(1);
    let keying = KeyManager::spawn(keying, Inputs { events: from_datapath, forward, notices, clock })
        .map_err(|error| Error::io("starting the key manager", &error))?;
    let change = Change { rules: Some(plan.rules), add: plan.pairs, ..Change::default() };
    let changed = keying.client().change(change).map_err(stopped)?;
    changed.map_err(|error| invalid(error.to_string()))?;

    let counters = Arc::new(Counters::new());
    let shim = Shim::new(Arc::clone(&database), WorkerId(0), events.clone());
    let boot = getrandom::u64().map_err(|error| failed(format!("there are no random numbers: {error}")))?;
    let classes = Classes::new(keying.client(), boot);
    let shared = Shared {
        snapshots,
        clock: versions,
        counters: Arc::clone(&counters),
        events,
        oversize: Oversize::default(),
    };
    let datapath = Datapath::new(WorkerId(0), Tagging::new(shim, classes.clone()), shared);
    Ok(Assembled { datapath, database, classes, events: forwarded, keying, counters })
}

/// Tells the Latch Database which class belongs to which peer, before there is an SA of it (C-19).
struct Peers(Arc<LatchDatabase>);

impl ClassObserver for Peers {
    fn class_interned(
        &self,
        id: ClassId,
        class: &Class,
        standing: AuthMethod,
    ) -> std::result::Result<(), ClassRefused> {
        self.0.peers().publish(id, class.peer, standing, 0).map_err(|_| ClassRefused)
    }

    fn latched(&self, classes: &HashSet<ClassId>) -> HashSet<ClassId> {
        classes.iter().copied().filter(|&class| self.0.is_latched(class)).collect()
    }

    fn class_released(&self, id: ClassId) {
        self.0.peers().retire(id);
    }
}
