//! What a gateway says of itself, as tables for people and JSON for programs.

use std::io::{self, Write};
use std::path::Path;

use latchway_control::{Call, Drops, Latches, Sas, StatusView, StreetView};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::{CallError, Client};

/// Why nothing could be shown.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// The gateway did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Standard output is gone.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

/// How the gateway is and what it moved.
///
/// # Errors
/// [`ShowError`]
pub fn status(control: &Path, json: bool) -> Result<(), ShowError> {
    show(control, json, &Call::Status {}, |status: &StatusView| {
        let street = |street: &StreetView| {
            format!("{} packets, {} octets, {} dropped", street.packets, street.octets, street.dropped)
        };
        let listen: Vec<_> = status.listen.iter().map(ToString::to_string).collect();
        vec![
            row([
                "gateway",
                &format!("{} (latchway {}, process {})", status.name, status.version, status.pid),
            ]),
            row(["tun", &format!("{}, {}", status.tun.name, status.tun.backend)]),
            row(["listens", &listen.join(", ")]),
            row(["inbound", &street(&status.inbound)]),
            row(["outbound", &street(&status.outbound)]),
            row(["latches", &status.latches.to_string()]),
            row(["sa pairs", &status.pairs.to_string()]),
        ]
    })
}

/// What was dropped, and why.
///
/// # Errors
/// [`ShowError`]
pub fn drops(control: &Path, json: bool) -> Result<(), ShowError> {
    show(control, json, &Call::Drops {}, |drops: &Drops| {
        let rows = drops.drops.iter().map(|drop| {
            row([
                &drop.direction,
                &drop.reason,
                &drop.packets.to_string(),
                &drop.severity,
                &drop.section,
                &drop.text,
            ])
        });
        headed(["DIRECTION", "REASON", "PACKETS", "SEVERITY", "SECTION", "MEANING"], rows)
    })
}

/// Every latch.
///
/// # Errors
/// [`ShowError`]
pub fn latches(control: &Path, json: bool) -> Result<(), ShowError> {
    show(control, json, &Call::Latches {}, |latches: &Latches| {
        let rows = latches.latches.iter().map(|latch| {
            let reason = latch.reason.as_deref().unwrap_or("-");
            row([&latch.flow, &latch.state, &latch.peer, &latch.protection, reason])
        });
        headed(["FLOW", "STATE", "PEER", "PROTECTION", "REASON"], rows)
    })
}

/// Every SA.
///
/// # Errors
/// [`ShowError`]
pub fn sas(control: &Path, json: bool) -> Result<(), ShowError> {
    show(control, json, &Call::Sas {}, |sas: &Sas| {
        let rows = sas.sas.iter().map(|sa| {
            let usage = if sa.expired { "expired" } else { &sa.usage };
            let spi = format!("0x{:08x}", sa.spi);
            let (pair, packets) = (sa.pair.to_string(), sa.packets.to_string());
            row([&pair, &sa.direction, &spi, &sa.suite, &sa.peer, usage, &packets, &sa.octets.to_string()])
        });
        headed(["PAIR", "DIRECTION", "SPI", "SUITE", "PEER", "USAGE", "PACKETS", "OCTETS"], rows)
    })
}

fn show<T: DeserializeOwned + Serialize>(
    control: &Path,
    json: bool,
    call: &Call,
    rows: impl FnOnce(&T) -> Vec<Vec<String>>,
) -> Result<(), ShowError> {
    let answer: T = Client::connect(control)?.call(call)?;
    let mut out = io::stdout().lock();
    if json {
        let text = serde_json::to_string_pretty(&answer).map_err(io::Error::from)?;
        writeln!(out, "{text}")?;
    } else {
        write!(out, "{}", table(&rows(&answer)))?;
    }
    Ok(())
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

fn headed<const N: usize>(head: [&str; N], rows: impl Iterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    std::iter::once(row(head)).chain(rows).collect()
}

/// Columns as wide as their widest cell, two spaces apart.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.chars().count()).max()
    };
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = headed(["A", "LONG"], [row(["wide cell", "x"])].into_iter());
        assert_eq!(table(&rows), "A          LONG\nwide cell  x\n");
    }
}
