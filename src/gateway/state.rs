//! What control.sock shows of a gateway, and what it changes.

mod answers;
mod devices;
mod explain;
mod measured;
mod named;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

pub use self::devices::DevicesView;
pub use self::measured::Measured;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use latchway_control::{Mode, ReloadHistory};
use latchway_datapath::drop::Counters;
use latchway_datapath::event::Event;
use latchway_datapath::flow::FlowKey;
use latchway_keying::KeyManagerClient;
use latchway_netns::Namespace;
use latchway_tagging::Identity;
use latchway_ulp_shim::{Disposed, LatchDatabase, LatchId, SocketDestroyer, terminate};

use crate::gateway::chronicle;
use crate::gateway::clock::since;
use crate::gateway::configuration::Configuration;
use crate::gateway::events::EventHub;
use crate::gateway::plan::Plan;

/// One gateway, as its operator sees it.
pub struct State {
    name: String,
    identity: Identity,
    mode: Mode,
    exec: Vec<IpNet>,
    inner: Option<String>,
    outer: Option<String>,
    bypass: Option<String>,
    devices: DevicesView,
    started: Instant,
    started_at: SystemTime,
    keying: KeyManagerClient,
    database: Arc<LatchDatabase>,
    counters: Arc<Counters>,
    dispositions: Mutex<Vec<(LatchId, String)>>,
    /// There where the gateway has a configuration file.
    pub(super) configuration: OnceLock<Configuration>,
    /// What the process gave up.
    pub(super) hardening: OnceLock<Vec<String>>,
    reloads: Mutex<ReloadHistory>,
    pub(super) refused_reloads: AtomicU64,
    events: Arc<EventHub>,
}

/// How often it is tried to end a connection whose latch broke, and the pause between: the kernel may be short of
/// memory for a moment.
const ATTEMPTS: usize = 3;
const PAUSE: Duration = Duration::from_millis(20);

/// Dispositions remembered, to show what became of a broken connection.
const REMEMBERED: usize = 1024;

impl State {
    /// The state of a gateway whose parts these are.
    pub fn new(
        plan: &Plan,
        devices: DevicesView,
        started: Instant,
        keying: KeyManagerClient,
        database: Arc<LatchDatabase>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            name: plan.name.clone(),
            identity: plan.identity.clone(),
            mode: plan.mode,
            exec: plan.exec.clone(),
            inner: Some(path_of(&plan.inner)),
            outer: Some(path_of(&plan.outer)),
            bypass: plan.bypass.clone(),
            devices,
            started,
            started_at: SystemTime::now(),
            keying,
            database,
            counters,
            dispositions: Mutex::default(),
            configuration: OnceLock::new(),
            hardening: OnceLock::new(),
            reloads: Mutex::default(),
            refused_reloads: AtomicU64::new(0),
            events: Arc::default(),
        }
    }

    /// What became of reloads.
    pub(super) fn reloads(&self) -> MutexGuard<'_, ReloadHistory> {
        self.reloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens, for whoever listens.
    pub const fn events(&self) -> &Arc<EventHub> {
        &self.events
    }

    /// What the worker counts.
    pub const fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Tells whoever listens what the datapath found.
    pub fn tell(&self, event: &Event) {
        if let Some(told) = chronicle::of_datapath(event, &self.keying) {
            self.events.publish(told);
        }
    }

    /// What became of the connection of a broken latch.
    fn disposition(&self, latch: LatchId) -> Option<String> {
        let noted = self.dispositions.lock().unwrap_or_else(PoisonError::into_inner);
        noted.iter().rev().find(|(id, _)| *id == latch).map(|(_, disposition)| disposition.clone())
    }

    /// Ends a connection whose latch broke, and remembers what became of it.
    pub fn terminate(&self, flow: &FlowKey, sockets: &mut SocketDestroyer) {
        let Some(latch) = self.database.find(flow) else { return };
        let mut outcome = terminate(&self.database, sockets, flow, since(self.started));
        for _ in 1..ATTEMPTS {
            if outcome.is_ok() {
                break;
            }
            thread::sleep(PAUSE);
            outcome = terminate(&self.database, sockets, flow, since(self.started));
        }
        let disposition = match outcome {
            Ok(Disposed::Destroyed) => "the connection was reset".into(),
            Ok(Disposed::NoSuchSocket) => "no socket was connected any more".into(),
            Ok(Disposed::NotBroken) => return,
            Err(error) => format!("the connection could not be reset: {error}"),
        };
        let mut noted = self.dispositions.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() >= REMEMBERED {
            noted.remove(0);
        }
        noted.push((latch, disposition));
    }
}

/// Where others find a namespace.
fn path_of(namespace: &Namespace) -> String {
    let named = Some(namespace.label()).filter(|label| label.starts_with('/'));
    named.map_or_else(|| namespace.proc_path().display().to_string(), str::to_owned)
}
