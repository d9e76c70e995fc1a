//! Who is on the other end, as names and values.

use std::io;
use std::time::Duration;

use latchway_control::{Bond, WhoisAnswer, WhoisRow};

use crate::cli::screen::Screen;
use crate::cli::table::{Cell, Table, Tone, cell, toned};
use crate::cli::units::span;
use crate::cli::view::inquiry::{held_rows, tunnel};
use crate::cli::view::{latch_state, sa_named};

/// One table for each connection, with a line between.
///
/// # Errors
/// Those of standard output.
pub fn read_out(answer: &WhoisAnswer, screen: &mut Screen) -> io::Result<()> {
    for (at, connection) in answer.connections.iter().enumerate() {
        if at > 0 {
            screen.line("")?;
        }
        screen.table(&table(connection))?;
    }
    if answer.truncated {
        screen.line("and more: name both ends to see the one that is meant")?;
    }
    if answer.connections.is_empty() {
        screen.line("unknown: the gateway tracks no such connection")?;
    }
    answer.otherwise.iter().try_for_each(|otherwise| screen.line(&crate::cli::table::printable(otherwise)))
}

fn table(row: &WhoisRow) -> Table {
    let mut table = Table::pairs();
    table.row([cell("flow"), cell(&row.flow)]);
    table.row([cell("bond"), bond(row)]);
    if let (Some(latch), Some(state)) = (&row.latch, row.state) {
        table.row([cell("latch"), cell(latch)]);
        table.row([cell("state"), latch_state(state)]);
    }
    if let Some(reason) = &row.reason {
        table.row([cell("reason"), toned(reason, Tone::Bad)]);
    }
    if let Some(held) = &row.held {
        held_rows(&mut table, held);
    }
    if let Some(sa) = &row.sa {
        table.row([cell("sa"), cell(sa_named(sa))]);
    }
    if let Some(path) = &row.tunnel {
        table.row([cell("tunnel"), cell(tunnel(path))]);
    }
    let ago = |time: u64| cell(format!("{} ago", span(Duration::from_millis(time))));
    if let Some(age) = row.age {
        table.row([cell("since"), ago(age)]);
    }
    table.row([cell("last used"), ago(row.idle)]);
    table
}

fn bond(row: &WhoisRow) -> Cell {
    let tone = match row.bond {
        Bond::Latched => Tone::Good,
        Bond::Protected => Tone::Warn,
        Bond::Suspended | Bond::Bypassed | Bond::Dropped => Tone::Bad,
    };
    toned(format!("{}: {}", row.bond, row.text), tone)
}

#[cfg(test)]
mod tests {
    use latchway_control::{LatchState, SaUsed};

    use super::*;
    use crate::cli::view::inquiry::tests::held;
    use crate::cli::view::shown;

    #[test]
    fn a_connection_and_its_other_end_read_as_names_and_values() {
        let row = WhoisRow {
            flow: "tcp 10.1.0.1:40000 10.2.0.1:80".into(),
            protocol: 6,
            local: "10.1.0.1:40000".parse().unwrap(),
            remote: "10.2.0.1:80".parse().unwrap(),
            bond: Bond::Latched,
            text: "b.example and nobody else, for as long as the connection lives".into(),
            latch: Some("7.1".into()),
            state: Some(LatchState::Established),
            held: Some(held()),
            sa: Some(SaUsed {
                pair: Some(1),
                spi: 0x1002,
                suite: "aes-128-gcm".into(),
                peer: "b.example".into(),
                class: Some(3),
            }),
            tunnel: None,
            reason: None,
            age: Some(3_600_000),
            idle: 20,
        };
        let expected = "\
flow            tcp 10.1.0.1:40000 10.2.0.1:80
bond            latched: b.example and nobody else, for as long as the connection lives
latch           7.1
state           established
protection      esp tunnel aes-128-gcm
peer            b.example (fqdn), proven by certificate at 2001-09-09T01:46:40.123Z, as entry branch
  trust anchor  CN=Example Root (key's SHA-256 00ff)
sa              pair 1, SPI 0x00001002, aes-128-gcm
since           1 h ago
last used       20 ms ago
";
        assert_eq!(shown(&table(&row), None), expected);
    }
}
