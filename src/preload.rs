//! `latchway preload`: a program of which every socket has something required of it, without root and without its knowledge.

mod require;
mod shim;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Args;
use latchway_preload::{LaunchError, Requiring, run as launch};
use latchway_socket::{Error, Gateway, Requirement};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// What to run, and what its sockets must have.
#[derive(Debug, Args)]
pub struct Options {
    /// What must protect each connection, as words with commas between them: peer=IDENTITY, identity=IDENTITY,
    /// protection=confidential|authenticated, mode=tunnel|transport, suite=SUITE and method=METHOD (again for each other one
    /// that will do), key-bits=BITS, on-conflict=WHAT, replay-checked, options-protected; they mean what the options of
    /// `latchway latch connect` do.
    #[arg(long, value_name = "WHAT", required = true, value_parser = require::requirement)]
    require: Requirement,
    /// Offer sockets of family PF_SHIM to the program, which has to know of them: latchway_shim(7). LIBRARY is where the library
    /// for that is, if not among those of the system.
    #[arg(
        long,
        value_name = "LIBRARY",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = shim::LIBRARY,
        value_parser = shim::library
    )]
    shim: Option<PathBuf>,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the program, and ends as it does.
pub fn run(options: &Options) -> ExitCode {
    let Some((program, arguments)) = options.command.split_first() else { return ExitCode::SUCCESS };
    let mut held =
        Held { gateway: Gateway::of_process(), requirement: &options.require, said: String::new() };
    // Better now than at the program's first socket, of which it would say what it likes.
    if let Err(error) = held.probe() {
        anstream::eprintln!("latchway: {error}");
        return ExitCode::from(NOT_STARTED);
    }
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(library) = &options.shim {
        command.env(shim::VARIABLE, shim::preloaded(library));
    }
    match launch(&mut command, &mut held) {
        Ok(ended) => ended.follow(),
        Err(error) => {
            anstream::eprintln!("latchway: {error}");
            ExitCode::from(match &error {
                LaunchError::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => NOT_FOUND,
                LaunchError::Start { .. } => NO_PROGRAM,
                _ => NOT_STARTED,
            })
        }
    }
}

/// What is required of each socket, by the gateway that carries its traffic.
struct Held<'a> {
    gateway: Gateway,
    requirement: &'a Requirement,
    /// What was said last of why it cannot be required.
    said: String,
}

impl Held<'_> {
    /// Requires it of a socket that nobody will use.
    fn probe(&self) -> Result<(), Error> {
        let any = |family| socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
        match any(AddressFamily::INET).or_else(|_| any(AddressFamily::INET6)) {
            Ok(socket) => self.gateway.require(&socket, self.requirement),
            // A host without the Internet has no sockets that it could be required of.
            Err(_) => Ok(()),
        }
    }

    /// The program learns a number; the words are for whoever started it.
    fn refused(&mut self, error: &Error) -> i32 {
        let said = error.to_string();
        if said != self.said {
            anstream::eprintln!("latchway: the program is refused a socket: {said}");
            self.said = said;
        }
        error.errno()
    }
}

impl Requiring for Held<'_> {
    fn require(&mut self, socket: BorrowedFd<'_>) -> Result<(), i32> {
        self.gateway.require(socket, self.requirement).map_err(|error| self.refused(&error))
    }

    fn ensure(&mut self, socket: BorrowedFd<'_>) -> Result<(), i32> {
        match self.gateway.is_required(socket.as_fd()) {
            Ok(true) => Ok(()),
            Ok(false) => self.require(socket),
            Err(error) => Err(self.refused(&error)),
        }
    }
}

/// As env(1) and timeout(1) say that they did not start a program, that it is none, and that there is none.
const NOT_STARTED: u8 = 125;
const NO_PROGRAM: u8 = 126;
const NOT_FOUND: u8 = 127;
