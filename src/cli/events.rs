//! `latchway events`: what happens in a gateway, as it happens.

use std::io::{self, Write};
use std::path::Path;
use std::process::{self, ExitCode};
use std::thread;

use latchway_control::EventView;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::ask::{Form, connect};
use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::view::event_line;
use crate::client::CallError;

/// What `latchway events` is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Go on until the gateway ends or a signal comes; this is so without it, too, unless --count says less.
    #[arg(long, conflicts_with = "count")]
    follow: bool,
    /// End after so many events, the first of which says that the subscription stands.
    #[arg(long, value_name = "EVENTS")]
    count: Option<usize>,
    #[command(flatten)]
    form: Form,
}

/// Prints events until the gateway ends, a signal comes, or there were enough.
///
/// # Errors
/// [`Failure`]
pub fn run(control: Option<&Path>, options: &Options) -> Result<ExitCode, Failure> {
    let mut client = connect(control)?;
    end_on_signals()?;
    let mut screen = Screen::take();
    for event in client.events()?.take(options.count.unwrap_or(usize::MAX)) {
        match event {
            Ok(event) => print(&mut screen, &event, options.form)?,
            // The gateway ended, and with it what there was to tell.
            Err(CallError::Closed { .. }) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One line for each event, there at once for whoever reads it.
fn print(screen: &mut Screen, event: &EventView, form: Form) -> io::Result<()> {
    if form.json {
        screen.json_line(event)?;
    } else {
        screen.line(&event_line(event))?;
    }
    screen.flush()
}

/// A signal is how this verb ends, and no failure. Every line that was begun has been written.
pub fn end_on_signals() -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::new(format!("cannot wait for signals: {error}"), "try again"))?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            process::exit(0);
        }
    });
    Ok(())
}
