//! Puts a gateway together: Latch Database, key manager, worker.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel::{Receiver, bounded};
use latchway_config::Listen;
use latchway_datapath::audit::{Auditor, Record};
use latchway_datapath::drop::Counters;
use latchway_datapath::event::{EVENT_QUEUE, Event, event_queue};
use latchway_datapath::gateway::{Datapath, Shared};
use latchway_datapath::injection::injection_queue;
use latchway_datapath::oversize::Oversize;
use latchway_datapath::worker::{Heartbeat, Stop, Worker};
use latchway_keying::{Change, ClassObserver, ClassRefused, Inputs, KeyManager, Keying, Notice, Settings};
use latchway_tagging::{AuthMethod, Class, ClassId, StateClock, WorkerId};
use latchway_ulp_shim::{LatchDatabase, Seed, Shim};

use crate::gateway::GatewayError;
use crate::gateway::app::Inner;
use crate::gateway::clock::since;
use crate::gateway::disposition::Disposer;
use crate::gateway::plan::Plan;
use crate::gateway::ports::Ports;
use crate::gateway::state::{DevicesView, State};

/// A gateway whose parts stand and do not run yet.
pub struct Assembled {
    /// Moves packets.
    pub worker: Worker<Shim>,
    /// Shows that the worker lives.
    pub heartbeat: Heartbeat,
    /// Ends the worker.
    pub stop: Stop,
    /// What control.sock shows and changes.
    pub state: Arc<State>,
    /// The key manager's thread; it ends when this is dropped.
    pub keying: KeyManager,
    /// What someone must act on.
    pub events: Receiver<Event>,
    /// What became of pairs and policy.
    pub notices: Receiver<Notice>,
    /// Ends connections.
    pub disposer: Disposer,
    /// Auditable drops, where they are to be logged, and the addresses that wires have.
    pub audit: Option<(Receiver<Record>, Vec<SocketAddr>)>,
    /// The sockets that applications may ask about, or why that cannot be known.
    pub applications: Result<Inner, GatewayError>,
}

/// Makes of open ports the gateway that the plan names. Threads start here: privileges are given up before.
pub fn assemble(plan: &Plan, ports: Ports) -> Result<Assembled, GatewayError> {
    let (started, clock) = (Instant::now(), Arc::new(StateClock::new()));
    let Ports { devices, sockets, applications } = ports;
    let (applications, owners) = match applications {
        Ok((inner, owners)) => (Ok(inner), Some(owners)),
        Err(error) => (Err(error), None),
    };

    let database = LatchDatabase::new(plan.limits, Arc::clone(&clock), Seed::Random)?;
    let database = Arc::new(database);
    let observer = Arc::new(Peers(Arc::clone(&database)));
    let keying = Keying::new(
        plan.pad.clone(),
        Settings::default(),
        Arc::clone(&clock),
        Arc::clone(&database),
        observer,
    );
    let snapshots = keying.publisher().reader();
    let (events, from_datapath) = event_queue();
    let (forward, forwarded) = bounded(EVENT_QUEUE);
    let (notices, told) = bounded(EVENT_QUEUE);
    let clock_of_workers = Box::new(move || since(started));
    let inputs = Inputs { events: from_datapath, forward, notices, clock: clock_of_workers };
    let keying = KeyManager::spawn(keying, inputs)?;
    let change = Change { rules: Some(plan.rules.clone()), ..Change::default() };
    keying.client().change(change)?.map_err(io::Error::other)?;

    let counters = Arc::new(Counters::new());
    let shim = Shim::new(Arc::clone(&database), WorkerId(0), events.clone());
    let shim = owners.into_iter().fold(shim, |shim, owners| shim.asking(Box::new(owners)));
    let shared =
        Shared { snapshots, clock, counters: Arc::clone(&counters), events, oversize: Oversize::default() };
    let view = DevicesView::of(&plan.inner, &devices.tun, &devices.wires);
    let (injector, injections) = injection_queue()?;
    let disposer = Disposer::new(Arc::clone(&database), sockets, injector, started);
    let state = State::new(plan, view, started, keying.client(), database, counters);
    let stop = Stop::new()?;
    let datapath = Datapath::new(WorkerId(0), shim, shared);
    let (auditor, records) = plan.audit.then(Auditor::open).unzip();
    let datapath = datapath.audited(auditor.unwrap_or_default()).answering(plan.answers);
    let worker =
        Worker::new(datapath, devices, started, stop.clone()).injecting(injections).tapped(state.taps());
    let worker = worker.recorded(state.turns().clone());
    let heartbeat = worker.heartbeat().clone();
    Ok(Assembled {
        worker,
        heartbeat,
        stop,
        state: Arc::new(state),
        keying,
        events: forwarded,
        notices: told,
        disposer,
        audit: records.map(|records| (records, plan.listen.iter().map(Listen::socket_address).collect())),
        applications,
    })
}

/// Tells the workers which class belongs to which peer, before there is an SA of it (C-19).
pub struct Peers(pub Arc<LatchDatabase>);

impl ClassObserver for Peers {
    fn class_interned(&self, id: ClassId, class: &Class, standing: AuthMethod) -> Result<(), ClassRefused> {
        self.0.peers().publish(id, class.peer, standing, 0).map_err(|_| ClassRefused)
    }

    fn latched(&self, classes: &HashSet<ClassId>) -> HashSet<ClassId> {
        classes.iter().copied().filter(|&class| self.0.is_latched(class)).collect()
    }

    fn class_released(&self, id: ClassId) {
        self.0.peers().retire(id);
    }
}
