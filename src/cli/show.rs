//! What a gateway says of itself, as tables for people and JSON for programs.

use std::path::Path;
use std::process::ExitCode;

use latchway_control::{Drops, LatchState, Latches, Method, Sas, Severity, StatusView, StreetView, call};

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::table::{Cell, Table, Tone, cell, left, or_dash, right, text, toned};
use crate::cli::units::{count, octets};
use crate::client::Client;

/// How the gateway is and what it moved.
///
/// # Errors
/// [`Failure`]
pub fn status(control: &Path, json: bool) -> Result<ExitCode, Failure> {
    show(control, json, &call::Status {}, status_table)
}

/// What was dropped, and why.
///
/// # Errors
/// [`Failure`]
pub fn drops(control: &Path, json: bool) -> Result<ExitCode, Failure> {
    show(control, json, &call::Drops {}, drops_table)
}

/// Every latch.
///
/// # Errors
/// [`Failure`]
pub fn latches(control: &Path, json: bool) -> Result<ExitCode, Failure> {
    show(control, json, &call::Latches::default(), latches_table)
}

/// Every SA.
///
/// # Errors
/// [`Failure`]
pub fn sas(control: &Path, json: bool) -> Result<ExitCode, Failure> {
    show(control, json, &call::Sas::default(), sas_table)
}

fn show<M: Method>(
    control: &Path,
    json: bool,
    call: &M,
    table: impl FnOnce(&M::Reply) -> Table,
) -> Result<ExitCode, Failure> {
    let answer = Client::connect(control)?.call(call)?;
    let mut screen = Screen::take();
    if json {
        screen.json(&answer)?;
    } else {
        screen.table(&table(&answer))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn status_table(status: &StatusView) -> Table {
    let street = |street: &StreetView| {
        let (packets, dropped) = (count(street.packets), count(street.dropped));
        cell(format!("{packets} packets, {}, {dropped} dropped", octets(street.octets)))
    };
    let listen: Vec<_> = status.listen.iter().map(ToString::to_string).collect();
    let mut table = Table::pairs();
    let gateway = format!("{} (latchway {}, process {})", status.name, status.version, status.pid);
    table.row([cell("gateway"), cell(gateway)]);
    table.row([cell("tun"), cell(format!("{}, {}", status.tun.name, status.tun.backend))]);
    table.row([cell("listens"), cell(listen.join(", "))]);
    table.row([cell("inbound"), street(&status.inbound)]);
    table.row([cell("outbound"), street(&status.outbound)]);
    table.row([cell("latches"), cell(count(status.latches.total()))]);
    table.row([cell("sa pairs"), cell(count(status.pairs))]);
    table
}

fn drops_table(drops: &Drops) -> Table {
    let mut table = Table::new([
        left("DIRECTION"),
        left("REASON"),
        right("PACKETS"),
        left("SEVERITY"),
        left("SECTION"),
        text("MEANING"),
    ]);
    for drop in &drops.drops {
        let severity = match drop.severity {
            Severity::Audit | Severity::Error => Tone::Bad,
            Severity::Warn => Tone::Warn,
            Severity::Info => Tone::Plain,
        };
        table.row([
            cell(drop.direction),
            cell(&drop.reason),
            cell(count(drop.packets)),
            toned(drop.severity.name(), severity),
            cell(&drop.section),
            cell(&drop.text),
        ]);
    }
    table
}

fn latches_table(latches: &Latches) -> Table {
    let mut table =
        Table::new([left("FLOW"), left("STATE"), text("PEER"), text("PROTECTION"), text("REASON")]);
    for latch in &latches.latches {
        table.row([
            cell(&latch.flow),
            latch_state(latch.state),
            cell(&latch.peer),
            cell(&latch.protection),
            or_dash(latch.reason.as_deref()),
        ]);
    }
    table
}

fn latch_state(state: LatchState) -> Cell {
    let tone = match state {
        LatchState::Established => Tone::Good,
        LatchState::Broken => Tone::Bad,
        LatchState::Listener | LatchState::Larval | LatchState::Closed => Tone::Plain,
    };
    toned(state.name(), tone)
}

fn sas_table(sas: &Sas) -> Table {
    let mut table = Table::new([
        right("PAIR"),
        left("DIRECTION"),
        left("SPI"),
        left("SUITE"),
        text("PEER"),
        left("USAGE"),
        right("PACKETS"),
        right("OCTETS"),
    ]);
    for sa in &sas.sas {
        let usage = if sa.expired { toned("expired", Tone::Bad) } else { cell(sa.usage) };
        table.row([
            cell(sa.pair),
            cell(sa.direction),
            cell(format!("0x{:08x}", sa.spi)),
            cell(&sa.suite),
            cell(&sa.peer),
            usage,
            cell(count(sa.packets)),
            cell(octets(sa.octets)),
        ]);
    }
    table
}
