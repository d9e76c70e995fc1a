//! `latchway prove`: whether every socket of a process that leaves the host is latched.

mod judge;
mod report;
mod sockets;
mod surroundings;

use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use crate::cli::ask::{Form, connect};
use crate::cli::failure::Failure;
use crate::cli::screen::Screen;

use self::judge::Judge;
use self::report::Proof;
use self::sockets::Process;
use self::surroundings::Surroundings;

/// What `latchway prove` is told.
#[derive(Debug, Args)]
pub struct Options {
    /// The process.
    #[arg(value_name = "PID")]
    pid: u32,
    /// Sockets that pass in the clear by policy, or by right, do not count against it.
    #[arg(long)]
    allow_bypass: bool,
    #[command(flatten)]
    form: Form,
}

/// Looks at every socket of a process, and succeeds if each that leaves the host is latched.
///
/// # Errors
/// [`Failure`]: there is no such process, it cannot be looked at, or no gateway answers.
pub fn run(control: Option<&Path>, options: &Options) -> Result<ExitCode, Failure> {
    let process = Process::of(options.pid)?;
    let mut client = connect(control)?;
    let surroundings = Surroundings::of(&mut client, &process)?;
    let mut judge = Judge::new(&mut client, &surroundings)?;
    let sockets = process.sockets()?;
    let mut found = Vec::new();
    for socket in &sockets {
        found.extend(judge.judge(&process, socket)?);
    }
    let proof = Proof::new(options.pid, found, options.allow_bypass);
    let mut screen = Screen::take();
    if options.form.json {
        screen.json(&proof)?;
    } else {
        proof.read_out(&mut screen)?;
    }
    Ok(if proof.proven { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
