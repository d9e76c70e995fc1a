//! What was found of a process's sockets.

use std::io;
use std::net::SocketAddr;

use serde::Serialize;

use crate::cli::screen::Screen;
use crate::cli::table::{Cell, Table, Tone, cell, or_dash, right, text, toned};

/// The sockets of a process, and whether all that leave the host are latched; as `--json` prints it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Proof {
    /// The process.
    pub pid: u32,
    /// Whether nothing of it leaves the host that is not latched or, if that was said, allowed to pass in the clear.
    pub proven: bool,
    /// Its sockets, by their descriptors.
    pub sockets: Vec<Finding>,
}

/// One socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    /// The descriptor by which the process has it.
    pub descriptor: u32,
    /// What kind of socket it is, as the kernel calls it.
    pub kind: String,
    /// Its own address and port.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub local: Option<SocketAddr>,
    /// The other end, where it is connected.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub remote: Option<SocketAddr>,
    /// What binds it.
    pub standing: Standing,
    /// The peer, where it is latched or protected.
    pub peer: Option<String>,
    /// Why, in a sentence.
    pub why: String,
}

/// What binds a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// A latch in force.
    Latched,
    /// Nothing passed yet; what does will be latched.
    Awaiting,
    /// Nothing of it passes.
    Dropped,
    /// It does not leave the host.
    Local,
    /// It is neither bound nor connected.
    Unused,
    /// It passes in the clear, or may.
    Bypassed,
    /// It is protected, or may be, without a latch.
    Unlatched,
    /// It is not behind this gateway.
    Elsewhere,
    /// What it sends cannot be told.
    Unknown,
}

impl Proof {
    /// The proof that these sockets make.
    pub fn new(pid: u32, sockets: Vec<Finding>, allow_bypass: bool) -> Self {
        let proven = sockets.iter().all(|socket| socket.standing.holds(allow_bypass));
        Self { pid, proven, sockets }
    }

    /// Writes it for people.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn read_out(&self, screen: &mut Screen) -> io::Result<()> {
        if !self.sockets.is_empty() {
            screen.table(&table(&self.sockets))?;
        }
        screen.line(&match (self.sockets.is_empty(), self.proven) {
            (true, _) => format!("process {} has no sockets", self.pid),
            (false, true) => format!("proven: nothing of process {} leaves the host unlatched", self.pid),
            (false, false) => {
                format!("not proven: see which sockets of process {} are not latched", self.pid)
            }
        })
    }
}

impl Standing {
    /// Whether it does not speak against the process.
    const fn holds(self, allow_bypass: bool) -> bool {
        match self {
            Self::Latched | Self::Awaiting | Self::Dropped | Self::Local | Self::Unused => true,
            Self::Bypassed => allow_bypass,
            Self::Unlatched | Self::Elsewhere | Self::Unknown => false,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Latched => "latched",
            Self::Awaiting => "awaiting",
            Self::Dropped => "dropped",
            Self::Local => "local",
            Self::Unused => "unused",
            Self::Bypassed => "bypassed",
            Self::Unlatched => "unlatched",
            Self::Elsewhere => "elsewhere",
            Self::Unknown => "unknown",
        }
    }

    const fn tone(self) -> Tone {
        match self {
            Self::Latched | Self::Awaiting => Tone::Good,
            Self::Dropped => Tone::Warn,
            Self::Local | Self::Unused => Tone::Faint,
            Self::Bypassed | Self::Unlatched | Self::Elsewhere | Self::Unknown => Tone::Bad,
        }
    }
}

fn table(sockets: &[Finding]) -> Table {
    let mut table = Table::new([
        right("FD"),
        text("KIND"),
        text("LOCAL"),
        text("REMOTE"),
        text("STANDING"),
        text("PEER"),
        text("WHY"),
    ]);
    for socket in sockets {
        let standing: Cell = toned(socket.standing.name(), socket.standing.tone());
        table.row([
            cell(socket.descriptor),
            cell(&socket.kind),
            or_dash(socket.local),
            or_dash(socket.remote),
            standing,
            or_dash(socket.peer.as_deref()),
            cell(&socket.why),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn finding(standing: Standing) -> Finding {
        Finding {
            descriptor: 3,
            kind: "TCP".into(),
            local: Some("10.1.0.1:40000".parse().unwrap()),
            remote: None,
            standing,
            peer: None,
            why: "because".into(),
        }
    }

    #[test]
    fn one_socket_that_leaves_unlatched_is_enough_and_bypass_is_allowed_by_order_alone() {
        use Standing::{Awaiting, Bypassed, Dropped, Elsewhere, Latched, Local, Unknown, Unlatched, Unused};
        let proven = |standings: &[Standing], allow| {
            Proof::new(1, standings.iter().copied().map(finding).collect(), allow).proven
        };
        assert!(proven(&[], false));
        let good = [Latched, Awaiting, Dropped, Local, Unused];
        assert!(proven(&good, false));
        for bad in [Unlatched, Elsewhere, Unknown] {
            assert!(!proven(&[Latched, bad], true), "{bad:?}");
        }
        assert!(!proven(&[Latched, Bypassed], false));
        assert!(proven(&[Latched, Bypassed], true));
    }

    /// docs/schema/prove.json is what `--json` prints. To make it again: `REGENERATE=1 cargo test -p latchway schema`.
    #[test]
    fn the_committed_schema_is_that_of_the_type() {
        let schema = schemars::generate::SchemaSettings::draft2020_12().for_serialize().into_generator();
        let text = serde_json::to_string_pretty(&schema.into_root_schema_for::<Proof>()).unwrap() + "\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/prove.json");
        if std::env::var_os("REGENERATE").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(committed, text, "run `REGENERATE=1 cargo test -p latchway schema`");
    }
}
