//! `latchway demo`: three hosts made of namespaces, one gateway each, and every promise of the gateway shown on them.
//!
//! Each fact is measured, printed when it is reached, and fails with what was expected and what was seen; the first that
//! fails ends the demo. Nothing outlives the process: namespaces are held by descriptors, gateways end with their
//! standard input, and the folder of the control sockets is removed.

mod cast;
mod connection;
mod counters;
mod facts;
mod failure;
mod gateways;
mod keys;
mod network;
mod patience;
mod preconditions;
mod report;
mod script;
mod shutdown;
mod sizes;
mod text;

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use latchway_esp::Suite;

use self::report::Report;
use self::shutdown::Shutdown;

/// What to show, and how.
#[derive(Debug, Args)]
pub struct Options {
    /// Print one JSON object at the end instead of a table; progress goes to standard error.
    #[arg(long)]
    json: bool,
    /// Move less data: for slow machines and for tests.
    #[arg(long)]
    quick: bool,
    /// Keep everything running after the last fact, until Ctrl-C.
    #[arg(long)]
    hold: bool,
    /// The suites to show, the first of them in every fact.
    #[arg(long = "suite", value_name = "NAME", default_values = ["aes-128-gcm", "chacha20-poly1305"])]
    suites: Vec<Suite>,
}

/// Runs the demo and says by its status whether every fact was shown.
pub fn run(options: &Options) -> ExitCode {
    let began = Instant::now();
    let privilege = match preconditions::check() {
        Ok(privilege) => privilege,
        Err(unmet) => return refuse(&unmet.to_string()),
    };
    let shutdown = match Shutdown::prepare() {
        Ok(shutdown) => shutdown,
        Err(failure) => return refuse(&failure.to_string()),
    };
    let mut report = Report::new(options.json, began, privilege, shutdown.clone());
    let shown = script::play(options, &shutdown, &mut report);
    let succeeded = report.finish();
    if options.hold && succeeded {
        report.say(&format!("control sockets are in {}", shutdown.folder().display()));
        report.say("holding everything as it is until Ctrl-C");
        shutdown.hold();
    }
    drop(shown);
    shutdown.end();
    if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Nothing was shown and nothing failed: the machine lacks something.
fn refuse(why: &str) -> ExitCode {
    eprintln!("latchway demo: {why}");
    ExitCode::from(CANNOT_RUN_HERE)
}

/// The status of a demo that could not begin, as opposed to one whose fact failed.
const CANNOT_RUN_HERE: u8 = 3;
