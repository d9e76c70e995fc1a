//! `latchway run`: a gateway by its configuration, from start to end.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use crossbeam::channel::{Receiver, Sender, bounded};
use latchway_config::{AppSocket, Config, Loaded, load};
use latchway_control::{EventKind, EventView};
use latchway_guard::{Change, GuardError, Lack, Missing};
use latchway_keying::PadEntryIds;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::gateway::assemble::assemble;
use crate::gateway::configuration::{Configuration, ReloadError};
use crate::gateway::events::EventHub;
use crate::gateway::guarding::Guarding;
use crate::gateway::metrics::Listener;
use crate::gateway::plan::Plan;
use crate::gateway::ports::Ports;
use crate::gateway::prepared::Prepared;
use crate::gateway::records::Records;
use crate::gateway::running::{Asked, Running, Sockets, ask};
use crate::gateway::serve::make_room_for_callers;
use crate::gateway::state::{Measured, State};
use crate::gateway::surroundings::Surroundings;
use crate::gateway::{GatewayError, announce, configured, folders, guarding, harden, notify, reload};

/// Questions that may wait for the one who runs the gateway.
const QUESTIONS: usize = 16;

/// Runs the gateway that the file describes until it is told to end.
///
/// # Errors
/// [`ReloadError`], which says everything that stands against it.
pub fn run(path: &Path) -> Result<(), ReloadError> {
    harden::keep_memory_private().map_err(GatewayError::from)?;
    make_room_for_callers().map_err(GatewayError::from)?;
    let loaded = load(path)?;
    if !loaded.warnings.is_empty() {
        tell(&loaded.warnings.render(&path.display().to_string()));
    }
    let config = &loaded.config;
    let control = configured::control(config);
    let app = configured::app(config);
    let user = config.user.as_deref().map(harden::uid).transpose().map_err(GatewayError::from)?;
    let sockets: Vec<PathBuf> = app.iter().chain([&control]).cloned().collect();
    folders::prepare(&sockets, user)?;
    if let Some(state) = config.state.as_ref().filter(|state| !state.path.is_dir()) {
        return Err(GatewayError::NoState(state.path.clone()).into());
    }

    let surroundings = Surroundings::prepare(config)?;
    let mut prepared = Prepared::open(config, &surroundings.inner)?;
    prepared.check(config)?;
    let mut ids = PadEntryIds::new();
    let plan = Plan::of_configuration(config, &surroundings, &mut ids)?;
    let mut ports = Ports::open(&plan)?;
    let monitor = surroundings.complete(config)?;
    surroundings.let_bypass(config)?;
    end_leftovers(config, &mut ports.sockets);

    let metrics = config.metrics.map(listen).transpose()?;

    // Here there is one thread, and everything that takes privilege is open. Threads that start from here on have less.
    let hardened = harden::apply(&hardening(&loaded, sockets)).map_err(GatewayError::from)?;
    tell(&format!("keeps {hardened}"));
    let (asked, questions) = bounded(QUESTIONS);
    watch_signals(asked.clone())?;
    let assembled = assemble(&plan, ports)?;
    let (state, keying) = (Arc::clone(&assembled.state), assembled.keying.client());
    let heartbeat = assembled.heartbeat.clone();
    let guarding = monitor
        .map(|monitor| Guarding::start(monitor, Arc::new(Log(Arc::clone(state.events())))))
        .transpose();
    let guarding = guarding.map_err(GatewayError::from)?;
    let events = Arc::clone(state.events());
    let told = move |health: Result<(), &str>| told_of_record(health, &events);
    let records = loaded.config.state.as_ref().map(|state| Records::open(&state.path, told));
    let records = records.transpose().map_err(GatewayError::from)?.map(Arc::new);
    if let Some(records) = &records {
        state.xfrm().recorded_in(Arc::clone(records));
    }
    let parts = (guarding, prepared, records.clone());
    let loaded_app = loaded.config.app.clone();
    let configuration = Configuration::new(path, loaded, ids, parts, keying);
    let is_wanted = matches!(loaded_app, AppSocket::At(_));
    let sockets = Sockets { control: &control, app: app.as_deref(), is_app_wanted: is_wanted };
    let running = Running::start(assembled, &sockets, asked)?;
    let mut measured = Measured::new(Arc::clone(&state), heartbeat.clone(), records.clone());
    let metrics = metrics.map(|listener| listener.serve(move || measured.gather())).transpose();
    let metrics = metrics.map_err(GatewayError::from)?;
    let watchdog = notify::watchdog(move || heartbeat.beats()).map_err(GatewayError::from)?;
    let outcome = serve(&state, (configuration, hardened.lines()), &questions);
    drop((watchdog, metrics));
    drop(state);
    running.end().map_err(GatewayError::from)?;
    if let Some(Err(error)) = records.map(|records| records.close()) {
        tell(&error.to_string());
    }
    outcome
}

/// Makes the SAs, and then does what is asked until that is to end.
fn serve(
    state: &State,
    (configuration, hardening): (Configuration, Vec<String>),
    questions: &Receiver<Asked>,
) -> Result<(), ReloadError> {
    configuration.begin()?;
    state.configured_by(configuration, hardening);
    announce().map_err(GatewayError::from)?;
    told_systemd(notify::ready());
    told_systemd(notify::status("moving packets"));
    loop {
        match questions.recv() {
            Ok(Asked::Reload) => match state.reload(false) {
                Ok(reloaded) => tell(&reload::summary(&reloaded)),
                Err(error) => tell(&format!("the reload was refused: {error}")),
            },
            Ok(Asked::Worker(Err(error))) => return Err(GatewayError::Worker(error).into()),
            Ok(Asked::End | Asked::Worker(Ok(()))) | Err(_) => break,
        }
    }
    told_systemd(notify::stopping());
    Ok(())
}

fn listen(address: SocketAddr) -> Result<Listener, GatewayError> {
    Listener::bind(address).map_err(|source| GatewayError::Metrics { address, source })
}

/// What is given up, and what is not.
fn hardening(loaded: &Loaded, sockets: Vec<PathBuf>) -> harden::Plan {
    let config = &loaded.config;
    let keys = config.peers.iter().flat_map(|peer| &peer.sas).flat_map(|sa| [&sa.inbound, &sa.outbound]);
    let folder = |path: PathBuf| path.parent().map(Path::to_path_buf);
    let mut read: Vec<PathBuf> =
        keys.filter_map(|direction| folder(loaded.folder.join(&direction.key_file.path))).collect();
    read.push(loaded.folder.clone());
    read.sort_unstable();
    read.dedup();
    let state = config.state.as_ref().map(|state| state.path.clone());
    let mut write: Vec<PathBuf> =
        state.into_iter().chain(sockets.iter().cloned().filter_map(folder)).collect();
    write.dedup();
    harden::Plan { required: false, user: config.user.clone(), read, write, sockets }
}

/// Says that numbers cannot be reserved, and when they can again.
pub fn told_of_record(health: Result<(), &str>, events: &EventHub) {
    let (kind, text) = match health {
        Ok(()) => (EventKind::ReservationRestored, "sequence numbers are reserved on disk again"),
        Err(error) => (EventKind::ReservationFailed, error),
    };
    tell(text);
    events.publish(EventView::new(kind, text));
}

/// Tells what becomes of the guards: the log, and whoever listens.
struct Log(Arc<EventHub>);

impl guarding::Listener for Log {
    fn changed(&self, change: &Change) {
        let kind = match change {
            Change::Lost(Lack::Inner(Missing::Up | Missing::Tun)) => EventKind::TunDown,
            Change::Back(Lack::Inner(Missing::Up | Missing::Tun)) => EventKind::TunUp,
            Change::Lost(_) => EventKind::GuardLost,
            Change::Back(_) => EventKind::GuardRestored,
        };
        tell(&format!("guards: {change}"));
        self.0.publish(EventView::new(kind, change.to_string()));
    }

    fn failed(&self, error: &GuardError) {
        let text = format!("a guard cannot be put up again: {error}");
        tell(&text);
        self.0.publish(EventView::new(EventKind::GuardLost, text));
    }
}

/// Connections of before have no latch, and none is made up for them: they end, and their owners are told.
fn end_leftovers(config: &Config, sockets: &mut latchway_ulp_shim::SocketDestroyer) {
    let addresses: Vec<_> = config.tun.addresses.iter().map(ipnet::IpNet::addr).collect();
    match sockets.destroy_all(&addresses) {
        Ok(0) => {}
        Ok(ended) => tell(&format!(
            "{ended} connections from before the start were reset, since nothing is known of their peers"
        )),
        // Their packets are dropped all the same, as mid-stream.
        Err(error) => {
            tell(&format!("connections from before the start cannot be reset, and will hang: {error}"))
        }
    }
}

pub fn watch_signals(asked: Sender<Asked>) -> Result<(), GatewayError> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            match signal {
                // One that waits already will read the file as it is then; many must not keep the end from being heard.
                SIGHUP if !asked.is_empty() => {}
                SIGHUP => ask(&asked, Asked::Reload),
                _ => ask(&asked, Asked::End),
            }
        }
    })?;
    Ok(())
}

/// A gateway without systemd's ear goes on.
fn told_systemd(told: io::Result<()>) {
    if let Err(error) = told {
        tell(&format!("systemd cannot be told how the gateway is: {error}"));
    }
}

/// Says something to whoever reads the log.
pub fn tell(text: &str) {
    eprintln!("latchway: {}", text.trim_end());
}
