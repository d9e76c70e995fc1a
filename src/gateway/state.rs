//! What control.sock shows of a gateway, and what it changes.

pub mod answers;
mod devices;
mod dispositions;
mod explain;
pub mod held;
pub mod keys;
pub mod latching;
mod measured;
mod mtu;
mod named;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod whois;

pub use self::devices::DevicesView;
pub use self::dispositions::Disposition;
use self::dispositions::Dispositions;
pub use self::measured::Measured;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use crossbeam::channel::Sender;
use ipnet::IpNet;
use latchway_control::{Mode, ReloadHistory};
use latchway_datapath::capture::Taps;
use latchway_datapath::drop::Counters;
use latchway_datapath::event::Event;
use latchway_datapath::worker::Turns;
use latchway_keying::KeyManagerClient;
use latchway_netns::Namespace;
use latchway_tagging::Identity;
use latchway_ulp_shim::{LatchDatabase, LatchId};

use crate::gateway::app::Hub;
use crate::gateway::chronicle;
use crate::gateway::configuration::Configuration;
use crate::gateway::disposition::Ask;
use crate::gateway::events::EventHub;
use crate::gateway::plan::Plan;
use crate::gateway::xfrm::Xfrm;

/// One gateway, as its operator sees it.
pub struct State {
    pub(super) name: String,
    identity: Identity,
    mode: Mode,
    exec: Vec<IpNet>,
    inner: Option<String>,
    outer: Option<String>,
    pub(super) bypass: Option<String>,
    devices: DevicesView,
    pub(super) started: Instant,
    started_at: SystemTime,
    pub(super) keying: KeyManagerClient,
    pub(super) database: Arc<LatchDatabase>,
    counters: Arc<Counters>,
    /// Where packets can be looked at.
    taps: Taps,
    /// When the worker began its turns.
    turns: Turns,
    dispositions: Mutex<Dispositions>,
    /// There where the gateway has a configuration file.
    pub(super) configuration: OnceLock<Configuration>,
    /// What the process gave up.
    pub(super) hardening: OnceLock<Vec<String>>,
    /// Who ends connections, once somebody does.
    ends: OnceLock<Sender<Ask>>,
    reloads: Mutex<ReloadHistory>,
    pub(super) refused_reloads: AtomicU64,
    events: Arc<EventHub>,
    /// What applications watch.
    watched: Arc<Hub>,
    /// States and policies in the terms of ip-xfrm(8).
    xfrm: Arc<Xfrm>,
}

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
        let (listen, tun) = (plan.listen.clone(), plan.tun.name.clone());
        let xfrm = Xfrm::new(keying.clone(), plan.identity.clone(), listen, tun, started);
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
            taps: Taps::default(),
            turns: Turns::default(),
            dispositions: Mutex::default(),
            configuration: OnceLock::new(),
            hardening: OnceLock::new(),
            ends: OnceLock::new(),
            reloads: Mutex::default(),
            refused_reloads: AtomicU64::new(0),
            events: Arc::default(),
            watched: Arc::default(),
            xfrm: Arc::new(xfrm),
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

    /// What applications watch.
    pub const fn watched(&self) -> &Arc<Hub> {
        &self.watched
    }

    /// States and policies in the terms of ip-xfrm(8).
    pub const fn xfrm(&self) -> &Arc<Xfrm> {
        &self.xfrm
    }

    /// When the worker began its turns.
    pub const fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Where packets can be looked at.
    pub fn taps(&self) -> Taps {
        self.taps.clone()
    }

    /// What the worker counts.
    pub const fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Tells whoever listens what the datapath found.
    pub fn tell(&self, event: &Event) {
        self.watched.note(event);
        if let Some(told) = chronicle::of_datapath(event, &self.keying) {
            self.events.publish(told);
        }
    }

    /// What became of the connection of a broken latch.
    fn disposition(&self, latch: LatchId) -> Option<String> {
        self.dispositions().of(latch).map(ToString::to_string)
    }

    /// Whoever ends connections takes what is asked of it here.
    pub fn ended_by(&self, ends: Sender<Ask>) {
        // There is one, for as long as the gateway runs.
        let _ = self.ends.set(ends);
    }

    /// Has the connection of a latch that was closed end, at both its ends.
    pub(super) fn end_connection(&self, latch: LatchId) {
        // Where nobody ends connections any more, the gateway ends, and all of them with it.
        let _ = self.ends.get().map(|ends| ends.send(Ask::One(latch)));
    }

    /// Remembers what became of the connection of a latch.
    pub fn disposed(&self, latch: LatchId, disposition: Disposition) {
        self.dispositions().note(latch, disposition);
    }

    fn dispositions(&self) -> MutexGuard<'_, Dispositions> {
        self.dispositions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where others find a namespace.
fn path_of(namespace: &Namespace) -> String {
    let named = Some(namespace.label()).filter(|label| label.starts_with('/'));
    named.map_or_else(|| namespace.proc_path().display().to_string(), str::to_owned)
}
