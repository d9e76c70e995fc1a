//! A gateway in memory: its key manager's thread and Latch Database, without TUN, wire sockets and worker.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;
use latchway_config::Listen;
use latchway_control::{EventKind, EventView};
use latchway_datapath::drop::Counters;
use latchway_datapath::event::{EVENT_QUEUE, Events, event_queue};
use latchway_datapath::low::publish::Publisher;
use latchway_datapath::snapshot::Snapshot;
use latchway_keying::{Change, ClassObserver, Inputs, KeyManager, Keying, Settings};
use latchway_tagging::{Identity, StateClock};
use latchway_ulp_shim::{LatchDatabase, Limits, Seed};
use serde_json::json;

use crate::gateway::assemble::Peers;
use crate::gateway::bare::anybody;
use crate::gateway::chronicle;
use crate::gateway::clock::since;
use crate::gateway::events::{Heard, Subscription};
use crate::gateway::plan::Plan;
use crate::gateway::state::{DevicesView, State};

/// A gateway of a.example, with the peers b.example (10.2.0.0/24) and c.example (10.3.0.0/24) and one rule for both.
pub struct World {
    pub state: Arc<State>,
    pub manager: KeyManager,
    pub database: Arc<LatchDatabase>,
    pub publisher: Arc<Publisher<Snapshot>>,
    pub clock: Arc<StateClock>,
    pub events: Events,
    /// What happened since the start.
    pub heard: Subscription,
}

impl World {
    pub fn new() -> Self {
        Self::with_flows(64)
    }

    /// A world with room for so many flows.
    pub fn with_flows(flows: u32) -> Self {
        Self::made(plan(), flows, |database| Arc::new(Peers(database)))
    }

    /// A gateway without a file, at 192.0.2.1: ESP and AH themselves, and ESP in UDP. The far end is anybody.
    pub fn bare() -> Self {
        let (address, identity) =
            (Ipv4Addr::new(192, 0, 2, 1).into(), Identity::Address([192, 0, 2, 1].into()));
        let listen = vec![Listen::Native(address), Listen::Udp((address, 4500).into())];
        let pad = anybody(&identity).unwrap();
        let bare = Plan { identity, listen, pad, rules: Vec::new(), ..plan() };
        Self::made(bare, 64, |database| Arc::new(Peers(database)))
    }

    /// A world whose key manager tells another of classes.
    pub fn observed(observer: impl FnOnce(Arc<LatchDatabase>) -> Arc<dyn ClassObserver>) -> Self {
        Self::made(plan(), 64, observer)
    }

    fn made(
        plan: Plan,
        flows: u32,
        observer: impl FnOnce(Arc<LatchDatabase>) -> Arc<dyn ClassObserver>,
    ) -> Self {
        let (started, clock) = (Instant::now(), Arc::new(StateClock::new()));
        let database =
            LatchDatabase::new(Limits::for_flows(flows), Arc::clone(&clock), Seed::Fixed(7)).unwrap();
        let database = Arc::new(database);
        let observer = observer(Arc::clone(&database));
        let keying = Keying::new(
            plan.pad.clone(),
            Settings::default(),
            Arc::clone(&clock),
            Arc::clone(&database),
            observer,
        );
        let publisher = Arc::clone(keying.publisher());
        let (events, from_datapath) = event_queue();
        let ((forward, _), (notices, told)) = (bounded(EVENT_QUEUE), bounded(EVENT_QUEUE));
        let clock_of_workers = Box::new(move || since(started));
        let inputs = Inputs { events: from_datapath, forward, notices, clock: clock_of_workers };
        let manager = KeyManager::spawn(keying, inputs).unwrap();
        let counters = Arc::new(Counters::new());
        let devices = DevicesView::absent(plan.listen.clone());
        let state =
            Arc::new(State::new(&plan, devices, started, manager.client(), Arc::clone(&database), counters));
        let heard = state.events().subscribe();
        chronicle::start(told, &state).unwrap();
        let change = Change { rules: Some(plan.rules), ..Change::default() };
        manager.client().change(change).unwrap().unwrap();
        Self { state, manager, database, publisher, clock, events, heard }
    }

    /// The next event of this kind.
    pub fn hear(&self, kind: EventKind) -> Arc<EventView> {
        loop {
            match self.heard.next(Duration::from_secs(60)) {
                Heard::Event(event) if event.event == kind => return event,
                Heard::Event(_) => {}
                other => panic!("{other:?} while waiting for {kind}"),
            }
        }
    }
}

fn plan() -> Plan {
    let rule = json!({"selector": {"local": "10.1.0.0/24", "remote": "10.2.0.0/15"}, "action": "protect"});
    let description = json!({
        "name": "here", "unguarded": true, "tun": {"name": "lw0"}, "listen": ["192.0.2.1:4500"],
        "identity": "a.example", "policy": [rule], "control": "/nowhere",
        "peers": [
            {"identity": "b.example", "inner": ["10.2.0.0/24"]}, {"identity": "c.example", "inner": ["10.3.0.0/24"]}
        ],
    });
    Plan::of_description(&serde_json::from_value(description).unwrap()).unwrap()
}
