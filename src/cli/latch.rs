//! `latchway latch`: latches, asked for, looked at, watched and given up.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use latchway_control::{
    AlertKind, AlertView, ConflictSpec, ConnectSpec, ConstraintsSpec, FindLatch, LatchNamed, LatchState,
    ListenSpec, Method, MethodSpec, ModeSpec, OwnerSpec, ProtectionSpec, WatchLatches,
};
use latchway_esp::Suite;

use crate::cli::ask::{Form, connect};
use crate::cli::change::{protocol, suites, words};
use crate::cli::events::end_on_signals;
use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::view::alert_line;
use crate::client::{CallError, Client};

// As strings, for in a comment the brackets of an address would be links.
const LISTENED: &str = "Our address and port, as 10.1.0.1:143 or [fd00::1]:143; *:143 is the port on any IPv4 address, [::]:143 on \
                        any IPv6 one";
const LOOKED_FOR: &str =
    "Our address and port; *:143 or [::]:143 where a listener's latch for any address is looked for";

/// What `latchway latch listen` is told.
#[derive(Debug, Args)]
pub struct ListenOptions {
    #[arg(value_name = "ADDRESS:PORT", value_parser = listening, help = LISTENED)]
    local: SocketAddr,
    #[command(flatten)]
    demands: Demands,
    #[command(flatten)]
    pub form: Form,
}

/// What `latchway latch connect` is told.
#[derive(Debug, Args)]
pub struct ConnectOptions {
    /// Our address and port.
    #[arg(value_name = "LOCAL")]
    local: SocketAddr,
    /// The peer's address and port.
    #[arg(value_name = "REMOTE")]
    remote: SocketAddr,
    #[command(flatten)]
    demands: Demands,
    /// Alert when no SA serves it for so many seconds.
    #[arg(long, value_name = "SECONDS")]
    report_after: Option<u32>,
    #[command(flatten)]
    pub form: Form,
}

/// What `latchway latch find` is told.
#[derive(Debug, Args)]
pub struct FindOptions {
    #[arg(value_name = "LOCAL", value_parser = listening, help = LOOKED_FOR)]
    local: SocketAddr,
    /// The peer's address and port; a listener's latch is looked for without.
    #[arg(value_name = "REMOTE")]
    remote: Option<SocketAddr>,
    /// The upper-layer protocol by name or number.
    #[arg(long, default_value = "tcp", value_parser = protocol)]
    protocol: u8,
    #[command(flatten)]
    pub form: Form,
}

/// What `latchway latch watch` is told.
#[derive(Debug, Args)]
pub struct WatchOptions {
    /// The handles of the latches to watch; all where none is named.
    #[arg(value_name = "LATCH")]
    latches: Vec<String>,
    #[command(flatten)]
    form: Form,
}

/// What a connection must have, whose its latch is, and who asks.
#[derive(Debug, Args)]
struct Demands {
    /// The upper-layer protocol by name or number.
    #[arg(long, default_value = "tcp", value_parser = protocol)]
    protocol: u8,
    /// The type of protection; what the policy says where it is missing.
    #[arg(long, value_name = "TYPE", value_parser = words(ProtectionSpec::ALL, ProtectionSpec::name))]
    protection: Option<ProtectionSpec>,
    /// Whether the whole packet is protected or its payload.
    #[arg(long, value_parser = words(ModeSpec::ALL, ModeSpec::name))]
    mode: Option<ModeSpec>,
    /// A suite that will do; again for each other one.
    #[arg(long, value_name = "SUITE", value_parser = suites())]
    suite: Vec<Suite>,
    /// The least length of the encryption key.
    #[arg(long, value_name = "BITS")]
    key_bits: Option<u16>,
    /// Replays must be refused.
    #[arg(long)]
    replay_checked: bool,
    /// The identity that the peer must have.
    #[arg(long, value_name = "IDENTITY")]
    peer: Option<String>,
    /// The identity that we must have towards the peer.
    #[arg(long, value_name = "IDENTITY")]
    identity: Option<String>,
    /// The least that must prove who the peer is.
    #[arg(long, value_name = "METHOD", value_parser = words(MethodSpec::ALL, MethodSpec::name))]
    method: Option<MethodSpec>,
    /// SAs for this connection alone.
    #[arg(long)]
    narrow: bool,
    /// What becomes of the connection when someone else's SA comes for it; what the rule says where it is missing.
    #[arg(long, value_name = "WHAT", value_parser = words(ConflictSpec::ALL, ConflictSpec::name))]
    on_conflict: Option<ConflictSpec>,
    /// The process that owns the latch, which is released when it ends; otherwise this verb owns it and stays.
    #[arg(long, value_name = "PID")]
    owner: Option<u32>,
    /// Ask as an application without privilege, to learn what the policy lets it have.
    #[arg(long)]
    unprivileged: bool,
}

/// The latch that a verb made, and what it was told of it until it ended.
struct Held {
    form: Form,
    screen: Screen,
    latch: LatchNamed,
}

/// The exit code of a verb whose latch was closed before the verb was ended.
const CLOSED: u8 = 3;

impl ListenOptions {
    /// Makes a listener's latch, and holds it.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn run(&self, control: Option<&Path>) -> Result<ExitCode, Failure> {
        let call = ListenSpec {
            protocol: self.demands.protocol,
            local: self.local,
            constraints: self.demands.constraints(),
            on_conflict: self.demands.on_conflict,
            owner: self.demands.owner(),
            unprivileged: self.demands.unprivileged,
        };
        hold(control, &call, call.owner, self.form)
    }
}

impl ConnectOptions {
    /// Makes a connection's latch, and holds it.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn run(&self, control: Option<&Path>) -> Result<ExitCode, Failure> {
        let call = ConnectSpec {
            protocol: self.demands.protocol,
            local: self.local,
            remote: self.remote,
            constraints: self.demands.constraints(),
            on_conflict: self.demands.on_conflict,
            report_after: self.report_after.map(|seconds| u64::from(seconds) * 1000),
            owner: self.demands.owner(),
            unprivileged: self.demands.unprivileged,
        };
        hold(control, &call, call.owner, self.form)
    }
}

impl Demands {
    fn constraints(&self) -> ConstraintsSpec {
        ConstraintsSpec {
            protection: self.protection,
            mode: self.mode,
            suites: self.suite.iter().map(|suite| suite.name().into()).collect(),
            key_bits: self.key_bits,
            replay_checked: self.replay_checked,
            peer: self.peer.clone(),
            identity: self.identity.clone(),
            method: self.method,
            narrow: self.narrow,
        }
    }

    fn owner(&self) -> Option<OwnerSpec> {
        self.owner.map(|pid| OwnerSpec { pid })
    }
}

impl FindOptions {
    /// The call.
    pub const fn call(&self) -> FindLatch {
        FindLatch { protocol: self.protocol, local: self.local, remote: self.remote }
    }
}

/// Prints what becomes of latches until the gateway ends or a signal comes.
///
/// # Errors
/// [`Failure`]
pub fn watch(control: Option<&Path>, options: &WatchOptions) -> Result<ExitCode, Failure> {
    let mut client = connect(control)?;
    end_on_signals()?;
    let mut screen = Screen::take();
    let of_these = |alert: &AlertView| {
        options.latches.is_empty()
            || alert.latch.iter().chain(&alert.listener).any(|latch| options.latches.contains(latch))
            || alert.latch.is_none()
    };
    for alert in client.follow(&WatchLatches { all: true })? {
        match alert {
            Ok(alert) if of_these(&alert) => print(&mut screen, &alert, options.form)?,
            Ok(_) => {}
            // The gateway ended, and with it what there was to tell.
            Err(CallError::Closed { .. }) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes a latch. One that a process owns is named and left to it; one of our own is held, and what becomes of it told,
/// until it is closed or a signal comes.
fn hold<M: Method<Reply = LatchNamed>>(
    control: Option<&Path>,
    call: &M,
    owner: Option<OwnerSpec>,
    form: Form,
) -> Result<ExitCode, Failure> {
    let mut client = connect(control)?;
    // Before the latch is made, so that whoever reads of it can end us in order.
    end_on_signals()?;
    let latch = client.call(call)?;
    let mut held = Held { form, screen: Screen::take(), latch };
    held.name()?;
    if owner.is_some() { Ok(ExitCode::SUCCESS) } else { held.follow(&mut client) }
}

impl Held {
    fn name(&mut self) -> io::Result<()> {
        let LatchNamed { latch, flow, state } = &self.latch;
        if self.form.json {
            self.screen.json_line(&self.latch)?;
        } else {
            self.screen.line(&format!("latch {latch} of {flow} is {state}"))?;
        }
        self.screen.flush()
    }

    fn follow(mut self, client: &mut Client) -> Result<ExitCode, Failure> {
        for alert in client.follow(&WatchLatches { all: false })? {
            let alert = match alert {
                Ok(alert) => alert,
                Err(CallError::Closed { .. }) => break,
                Err(error) => return Err(error.into()),
            };
            if alert.alert != AlertKind::Watching {
                print(&mut self.screen, &alert, self.form)?;
            }
            if alert.state == Some(LatchState::Closed) && alert.latch.as_ref() == Some(&self.latch.latch) {
                break;
            }
        }
        Ok(ExitCode::from(CLOSED))
    }
}

/// One line for each alert, there at once for whoever reads it.
fn print(screen: &mut Screen, alert: &AlertView, form: Form) -> io::Result<()> {
    if form.json {
        screen.json_line(alert)?;
    } else {
        screen.line(&alert_line(alert))?;
    }
    screen.flush()
}

/// An address and a port, of which the address may be any.
fn listening(text: &str) -> Result<SocketAddr, String> {
    let any = |port: &str| Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.parse().ok()?)));
    let end = text.strip_prefix("*:").map_or_else(|| text.parse().ok(), any);
    end.ok_or_else(|| "write an address and a port, as 10.1.0.1:143, [fd00::1]:143 or *:143".into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Listening {
        #[command(flatten)]
        options: ListenOptions,
    }

    fn read(text: &str) -> Result<ListenOptions, String> {
        let words = std::iter::once("listen").chain(text.split_whitespace());
        Listening::try_parse_from(words).map(|parsed| parsed.options).map_err(|error| error.to_string())
    }

    #[test]
    fn a_listener_is_an_address_and_a_port_or_a_port_on_any() {
        for (written, local) in [
            ("10.1.0.1:143", "10.1.0.1:143"),
            ("[fd00::1]:143", "[fd00::1]:143"),
            ("*:143", "0.0.0.0:143"),
            ("[::]:143", "[::]:143"),
        ] {
            assert_eq!(read(written).unwrap().local, local.parse().unwrap());
        }
        for written in ["10.1.0.1", "*", "*:", "*:65536", "imap.example:143", "10.1.0.1:143 --suite rot13"] {
            read(written).unwrap_err();
        }
    }

    #[test]
    fn demands_are_said_as_they_were_written() {
        let text = "*:143 --suite aes-256-gcm --suite aes-128-gcm --peer b.example --method certificate --key-bits 128 \
                    --protection confidential --replay-checked --narrow --on-conflict wait --owner 7 --unprivileged";
        let options = read(text).unwrap().demands;
        let asked = options.constraints();
        assert_eq!(asked.suites, ["aes-256-gcm", "aes-128-gcm"]);
        assert_eq!(
            (asked.protection, asked.method),
            (Some(ProtectionSpec::Confidential), Some(MethodSpec::Certificate))
        );
        assert!(asked.replay_checked && asked.narrow && options.unprivileged);
        assert_eq!(
            (options.on_conflict, options.owner()),
            (Some(ConflictSpec::Wait), Some(OwnerSpec { pid: 7 }))
        );
        assert_eq!(read("*:143").unwrap().demands.constraints(), ConstraintsSpec::default());
    }
}
