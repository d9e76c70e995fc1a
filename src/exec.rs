//! `latchway exec`: a program in a namespace of its own, whose only way out is a gateway.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use ipnet::IpNet;
use latchway_control::{Mode, call};
use latchway_guard::{GuardError, Room};
use latchway_netns::Namespace;

use crate::client::{CallError, Client, NoPlace, find};

/// What to run, and where.
#[derive(Debug, Args)]
pub struct Options {
    /// The prefix that the program gets its address from; once for each IP version. Part of the gateway's own inner networks;
    /// its configuration names one as `exec`.
    #[arg(long, value_name = "PREFIX")]
    address: Vec<IpNet>,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Why the program was not started.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// No gateway to be behind.
    #[error(transparent)]
    Place(#[from] NoPlace),
    /// The gateway does not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Only split mode has nothing but the TUN to leave by.
    #[error(
        "the gateway is not in split mode, so that a program behind it would have other ways out; give it an `inner` namespace"
    )]
    NotSplit,
    /// Nothing to give the program an address from.
    #[error(
        "the configuration of the gateway names no `exec` prefix; name one there, or give one by --address"
    )]
    NoPrefix,
    /// The gateway's inner namespace cannot be entered.
    #[error("{0}; making a namespace behind the gateway takes root")]
    Network(#[from] latchway_netns::Error),
    /// No namespace could be made behind the gateway.
    #[error(transparent)]
    Room(#[from] GuardError),
    /// The program is not there, or is none.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Becomes the program, in a namespace behind the gateway. Returns only where that fails.
///
/// # Errors
/// [`ExecError`]
pub fn run(control: Option<&Path>, options: &Options) -> Result<(), ExecError> {
    let status = Client::connect(&find(control)?)?.call(&call::Status {})?;
    if status.mode != Mode::Split {
        return Err(ExecError::NotSplit);
    }
    let prefixes = if options.address.is_empty() { &status.exec } else { &options.address };
    if prefixes.is_empty() {
        return Err(ExecError::NoPrefix);
    }
    let inner =
        status.inner.map_or_else(|| PathBuf::from(format!("/proc/{}/ns/net", status.pid)), PathBuf::from);
    let room = Room::make(&Namespace::from_path(inner)?, &status.tun.name, prefixes)?;
    room.enter()?;
    let Some((program, arguments)) = options.command.split_first() else { return Ok(()) };
    // The room lasts until the program, and all that it started, has ended.
    let source = Command::new(program).args(arguments).exec();
    Err(ExecError::Start { program: program.to_string_lossy().into_owned(), source })
}
