//! Verbs that ask a gateway, and show what it says.

use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory};
use latchway_control::call::Explain;
use latchway_control::{DirectionSpec, Method, Page};

use crate::cli::Cli;
use crate::cli::failure::Failure;
use crate::cli::packet::PacketSpec;
use crate::cli::screen::Screen;
use crate::cli::view::Readable;
use crate::client::{self, Client};

/// How to show an answer.
#[derive(Clone, Copy, Debug, Args)]
pub struct Form {
    /// Print JSON, for programs: the answer as docs/schema describes it.
    #[arg(long)]
    pub json: bool,
}

/// How much of a list to show, and how.
#[derive(Clone, Copy, Debug, Args)]
pub struct ListOptions {
    /// The most rows to ask for.
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub form: Form,
}

/// What `latchway explain` is told.
#[derive(Debug, Args)]
pub struct ExplainOptions {
    /// PROTOCOL SOURCE DESTINATION [size OCTETS], as `tcp 10.1.0.1:40000 10.2.0.1:80`, `icmp fd00::1 fd01::2 size 1400`.
    #[arg(value_name = "PACKET", required = true, num_args = 1..)]
    packet: Vec<String>,
    /// The packet comes from the wire: its source is behind the peer.
    #[arg(long)]
    inbound: bool,
    #[command(flatten)]
    pub form: Form,
}

/// Connects to the gateway of this control socket, or to the only one that runs here.
///
/// # Errors
/// [`Failure`]
pub fn connect(control: Option<&Path>) -> Result<Client, Failure> {
    Ok(Client::connect(&client::find(control)?)?)
}

/// Asks, and shows the answer.
///
/// # Errors
/// [`Failure`]
pub fn show<M: Method>(control: Option<&Path>, call: &M, form: Form) -> Result<ExitCode, Failure>
where
    M::Reply: Readable,
{
    let answer = connect(control)?.call(call)?;
    let mut screen = Screen::take();
    if form.json {
        screen.json(&answer)?
    } else {
        answer.read_out(&mut screen)?
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks for a list, for all of it where nobody said how much, and shows it.
///
/// # Errors
/// [`Failure`]
pub fn list<M: Method>(control: Option<&Path>, call: &M, form: Form) -> Result<ExitCode, Failure>
where
    M::Reply: Readable + Page,
{
    let answer = connect(control)?.list(call)?;
    let mut screen = Screen::take();
    if form.json {
        screen.json(&answer)?
    } else {
        answer.read_out(&mut screen)?
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks for something to be done, and says what was.
///
/// # Errors
/// [`Failure`]
pub fn change<M: Method>(
    control: Option<&Path>,
    call: &M,
    form: Form,
    done: impl FnOnce(&M::Reply) -> String,
) -> Result<ExitCode, Failure> {
    let answer = connect(control)?.call(call)?;
    let mut screen = Screen::take();
    if form.json {
        screen.json(&answer)?
    } else {
        screen.line(&done(&answer))?
    }
    Ok(ExitCode::SUCCESS)
}

impl ExplainOptions {
    /// The call. A packet that is none ends the program as any wrong command line does.
    pub fn call(&self) -> Explain {
        let packet: PacketSpec = self.packet.join(" ").parse().unwrap_or_else(|error| {
            let message = format!("{error}");
            Cli::command().error(ErrorKind::ValueValidation, message).exit()
        });
        explain(&packet, self.inbound)
    }
}

fn explain(packet: &PacketSpec, inbound: bool) -> Explain {
    let (local, remote, direction) = if inbound {
        (packet.destination(), packet.source(), DirectionSpec::Inbound)
    } else {
        (packet.source(), packet.destination(), DirectionSpec::Outbound)
    };
    let port = |port: u16| packet.has_ports().then_some(port);
    Explain {
        direction,
        protocol: packet.protocol(),
        local: local.ip(),
        local_port: port(local.port()),
        remote: remote.ip(),
        remote_port: port(remote.port()),
        octets: packet.size(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_an_inbound_packet_is_behind_the_peer() {
        let packet = "tcp 10.2.0.1:80 10.1.0.1:40000 size 1400".parse().unwrap();
        let call = explain(&packet, true);
        assert_eq!((call.local, call.local_port), ("10.1.0.1".parse().unwrap(), Some(40_000)));
        assert_eq!((call.remote, call.remote_port), ("10.2.0.1".parse().unwrap(), Some(80)));
        assert_eq!((call.direction, call.octets), (DirectionSpec::Inbound, Some(1400)));
        let call = explain(&"icmp 10.1.0.1 10.2.0.1".parse().unwrap(), false);
        assert_eq!((call.local, call.local_port, call.protocol), ("10.1.0.1".parse().unwrap(), None, 1));
        assert_eq!(call.direction, DirectionSpec::Outbound);
    }
}
