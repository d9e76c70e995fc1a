//! `latchway run`: a gateway by its configuration, from start to end.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use crossbeam::channel::{Receiver, Sender, bounded};
use latchway_config::{Config, Loaded, load};
use latchway_guard::GuardError;
use latchway_keying::PadEntryIds;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::gateway::assemble::assemble;
use crate::gateway::configuration::{Configuration, ReloadError};
use crate::gateway::guarding::Guarding;
use crate::gateway::plan::Plan;
use crate::gateway::ports::Ports;
use crate::gateway::records::Records;
use crate::gateway::running::{Asked, Running, ask};
use crate::gateway::state::State;
use crate::gateway::surroundings::Surroundings;
use crate::gateway::{GatewayError, announce, configured, guarding, harden, notify, reload};

/// Questions that may wait for the one who runs the gateway.
const QUESTIONS: usize = 16;

/// Runs the gateway that the file describes until it is told to end.
///
/// # Errors
/// [`ReloadError`], which says everything that stands against it.
pub fn run(path: &Path) -> Result<(), ReloadError> {
    harden::keep_memory_private().map_err(GatewayError::from)?;
    let loaded = load(path)?;
    if !loaded.warnings.is_empty() {
        tell(&loaded.warnings.render(&path.display().to_string()));
    }
    let config = &loaded.config;
    let control = configured::control(config);
    make_folder(&control)?;

    let surroundings = Surroundings::prepare(config)?;
    let mut ids = PadEntryIds::new();
    let plan = Plan::of_configuration(config, &surroundings, &mut ids)?;
    let mut ports = Ports::open(&plan)?;
    let monitor = surroundings.complete(config)?;
    surroundings.let_bypass(config)?;
    end_leftovers(config, &mut ports.sockets);

    // Here there is one thread, and everything that takes privilege is open. Threads that start from here on have less.
    let hardened = harden::apply(&hardening(&loaded, &control)).map_err(GatewayError::from)?;
    tell(&format!("keeps {hardened}"));
    let (asked, questions) = bounded(QUESTIONS);
    watch_signals(asked.clone())?;
    let assembled = assemble(&plan, ports)?;
    let (state, keying) = (Arc::clone(&assembled.state), assembled.keying.client());
    let heartbeat = assembled.heartbeat.clone();
    let guarding = monitor.map(|monitor| Guarding::start(monitor, Arc::new(Log))).transpose();
    let guarding = guarding.map_err(GatewayError::from)?;
    let records = loaded.config.state.as_ref().map(|state| Records::open(&state.path, told_of_record));
    let records = records.transpose().map_err(GatewayError::from)?.map(Arc::new);
    let parts = (guarding, records.clone());
    let configuration = Configuration::new(path, loaded, ids, parts, keying);
    let running = Running::start(assembled, &control, asked)?;
    let watchdog = notify::watchdog(move || heartbeat.beats()).map_err(GatewayError::from)?;
    let outcome = serve(&state, configuration, &questions);
    drop(watchdog);
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
    configuration: Configuration,
    questions: &Receiver<Asked>,
) -> Result<(), ReloadError> {
    configuration.begin()?;
    state.configured_by(configuration);
    announce().map_err(GatewayError::from)?;
    told_systemd(notify::ready());
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

/// What is given up, and what is not.
fn hardening(loaded: &Loaded, control: &Path) -> harden::Plan {
    let config = &loaded.config;
    let keys = config.peers.iter().flat_map(|peer| &peer.sas).flat_map(|sa| [&sa.inbound, &sa.outbound]);
    let folder = |path: PathBuf| path.parent().map(Path::to_path_buf);
    let mut read: Vec<PathBuf> =
        keys.filter_map(|direction| folder(loaded.folder.join(&direction.key_file.path))).collect();
    read.push(loaded.folder.clone());
    read.sort_unstable();
    read.dedup();
    let state = config.state.as_ref().map(|state| state.path.clone());
    harden::Plan {
        required: false,
        user: config.user.clone(),
        read,
        write: state.into_iter().chain(folder(control.to_path_buf())).collect(),
    }
}

/// The folder of the control socket, which nobody else may enter.
fn make_folder(control: &Path) -> Result<(), GatewayError> {
    let Some(folder) = control.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| GatewayError::Control { path: control.into(), source })
}

/// Says that numbers cannot be reserved, and when they can again.
fn told_of_record(health: Result<(), &str>) {
    match health {
        Ok(()) => tell("sequence numbers are reserved on disk again"),
        Err(error) => tell(error),
    }
}

/// Writes into the log what becomes of the guards.
struct Log;

impl guarding::Listener for Log {
    fn changed(&self, change: &latchway_guard::Change) {
        tell(&format!("guards: {change}"));
    }

    fn failed(&self, error: &GuardError) {
        tell(&format!("a guard cannot be put up again: {error}"));
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

fn watch_signals(asked: Sender<Asked>) -> Result<(), GatewayError> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            ask(&asked, if signal == SIGHUP { Asked::Reload } else { Asked::End });
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
