//! `latchway gateway`: a gateway by its description, with keys for this one run.

use std::io::{self, Read};
use std::path::Path;
use std::thread;

use crossbeam::channel::{Receiver, Sender, bounded};
use latchway_control::GatewaySpec;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::gateway::operator::Gateway;
use crate::gateway::plan::Plan;
use crate::gateway::ports::Ports;
use crate::gateway::running::{Asked, Running, Sockets, ask};
use crate::gateway::serve::make_room_for_callers;
use crate::gateway::{GatewayError, announce, assemble, harden, source};

/// Runs the gateway that `path` describes until it is told to end.
///
/// # Errors
/// [`GatewayError`]
pub fn run(path: &Path) -> Result<(), GatewayError> {
    harden::forbid_core_dumps()?;
    make_room_for_callers()?;
    let spec = source::read(path)?;
    if spec.end_with_stdin {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(io::Error::from)?;
    }
    let (asked, questions) = bounded(4);
    watch_signals(asked.clone())?;
    if spec.end_with_stdin {
        watch_stdin(asked.clone())?;
    }
    let assembled = {
        let plan = Plan::of_description(&spec)?;
        assemble::assemble(&plan, Ports::open(&plan)?)?
    };
    let running = Running::start(
        assembled,
        &Sockets { control: &spec.control, app: None, is_app_wanted: false },
        asked,
    )?;
    let outcome = serve(&spec, &running, &questions);
    running.end()?;
    outcome
}

/// Makes the SAs, and waits for the end.
fn serve(spec: &GatewaySpec, running: &Running, questions: &Receiver<Asked>) -> Result<(), GatewayError> {
    for pair in &spec.sas {
        running.state.add_pair(pair).map_err(|failure| GatewayError::Refused {
            peer: pair.peer.clone(),
            reason: failure.to_string(),
        })?;
    }
    announce()?;
    match questions.recv() {
        Ok(Asked::Worker(Err(error))) => Err(GatewayError::Worker(error)),
        _ => Ok(()),
    }
}

fn watch_signals(asked: Sender<Asked>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            ask(&asked, Asked::End);
        }
    })?;
    Ok(())
}

/// The gateway goes with whoever holds the other end of its standard input.
fn watch_stdin(asked: Sender<Asked>) -> io::Result<()> {
    thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut octet = [0];
        while io::stdin().lock().read(&mut octet).is_ok_and(|read| read > 0) {}
        ask(&asked, Asked::End);
    })?;
    Ok(())
}
