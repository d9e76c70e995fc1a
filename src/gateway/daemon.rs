//! `latchway run`: a gateway by its configuration, from start to end.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use crossbeam::channel::{Receiver, Sender, bounded};
use latchway_config::{Config, load};
use latchway_keying::PadEntryIds;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::gateway::assemble::assemble;
use crate::gateway::configuration::{Configuration, ReloadError};
use crate::gateway::plan::Plan;
use crate::gateway::running::{Asked, Running, ask};
use crate::gateway::state::State;
use crate::gateway::surroundings::Surroundings;
use crate::gateway::{GatewayError, announce, configured, forbid_core_dumps, notify, reload};

/// Questions that may wait for the one who runs the gateway.
const QUESTIONS: usize = 16;

/// Runs the gateway that the file describes until it is told to end.
///
/// # Errors
/// [`ReloadError`], which says everything that stands against it.
pub fn run(path: &Path) -> Result<(), ReloadError> {
    forbid_core_dumps()?;
    let loaded = load(path)?;
    if !loaded.warnings.is_empty() {
        tell(&loaded.warnings.render(&path.display().to_string()));
    }
    let (asked, questions) = bounded(QUESTIONS);
    watch_signals(asked.clone())?;

    let surroundings = Surroundings::prepare(&loaded.config)?;
    let mut ids = PadEntryIds::new();
    let plan = Plan::of_configuration(&loaded.config, &surroundings, &mut ids)?;
    let mut assembled = assemble(&plan)?;
    surroundings.complete(&loaded.config)?;
    end_leftovers(&loaded.config, &mut assembled.sockets);

    let control = configured::control(&loaded.config);
    let (state, keying) = (Arc::clone(&assembled.state), assembled.keying.client());
    let configuration = Configuration::new(path, loaded, ids, surroundings, keying);
    let running = Running::start(assembled, &control, asked)?;
    let outcome = serve(&state, configuration, &questions);
    drop(state);
    running.end().map_err(GatewayError::from)?;
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
