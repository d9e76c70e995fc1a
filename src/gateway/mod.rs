//! One gateway: a worker, a key manager, a control server, and someone who ends connections whose latch broke. It runs
//! from a configuration file ([`daemon`]) or from a description for one run ([`once`]).

mod alerts;
mod app;
mod assemble;
mod audit;
mod bare;
mod bursts;
mod capturing;
mod care;
mod chronicle;
mod clock;
mod configuration;
mod configured;
mod convert;
mod daemon;
mod disposition;
mod error;
mod events;
mod folders;
mod form;
mod guarding;
mod harden;
mod metrics;
mod notify;
mod once;
mod operator;
mod plan;
mod ports;
mod prepared;
mod proven;
mod records;
mod reload;
mod rows;
mod running;
mod selectors;
mod serve;
mod setup;
mod source;
mod state;
mod surroundings;
mod terms;
mod xfrm;

use std::io::{self, Write};

pub use self::bare::{Bare, run as run_bare};
pub use self::daemon::run as run_configured;
pub use self::error::GatewayError;
pub use self::once::run;
pub use self::setup::{clear, setup};

/// Tells whoever started the gateway that it stands.
fn announce() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ready")?;
    out.flush()
}
