//! Latchway: an IPsec gateway in userspace. The daemon and its command line.

mod cli;
mod client;
mod demo;
mod describe;
mod exec;
mod gateway;
mod keygen;
mod preload;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
