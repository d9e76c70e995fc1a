//! Latchway: an IPsec gateway in userspace. The daemon and its command line.

mod client;
mod demo;
mod describe;
mod gateway;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// An IPsec gateway in userspace whose connections keep the peer and the protection they began with, or break.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make three hosts out of namespaces, join them by ESP, and show what latching does.
    Demo(demo::Options),
    /// Run one gateway from a description with fresh keys, as the demo and the benchmarks do.
    ///
    /// The description is JSON, and it holds keys for one run: a file is deleted as soon as it is read. `-` reads
    /// standard input up to its end or a NUL octet.
    Gateway {
        /// The description.
        spec: PathBuf,
    },
    /// Write the descriptions of two gateways with fresh keys, for one run of a trial or a benchmark.
    Describe(describe::Options),
    /// Show how a gateway is and what it moved.
    Status(Where),
    /// Show what a gateway dropped, and why.
    Drops(Where),
    /// Latches of a gateway.
    #[command(subcommand)]
    Latch(Listing),
    /// Security associations of a gateway.
    #[command(subcommand)]
    Sa(Listing),
}

#[derive(Debug, Subcommand)]
enum Listing {
    /// List them.
    List(Where),
}

/// Which gateway, and how to show it.
#[derive(Debug, Args)]
struct Where {
    /// The control socket of the gateway.
    #[arg(long, value_name = "PATH", env = "LATCHWAY_CONTROL")]
    control: PathBuf,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match Cli::parse().verb {
        Verb::Demo(options) => demo::run(&options),
        Verb::Gateway { spec } => finish(gateway::run(&spec)),
        Verb::Describe(options) => finish(describe::run(&options)),
        Verb::Status(place) => finish(show::status(&place.control, place.json)),
        Verb::Drops(place) => finish(show::drops(&place.control, place.json)),
        Verb::Latch(Listing::List(place)) => finish(show::latches(&place.control, place.json)),
        Verb::Sa(Listing::List(place)) => finish(show::sas(&place.control, place.json)),
    }
}

/// Errors go to standard error, with everything that led to them.
fn finish<E: std::error::Error>(result: Result<(), E>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("latchway: {error}");
    ExitCode::FAILURE
}
