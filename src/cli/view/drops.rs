//! What was dropped, as a table.

use latchway_control::{DropRow, Severity};

use crate::cli::table::{Table, Tone, cell, left, right, text, toned};
use crate::cli::units::count;
use crate::cli::view::direction;

/// One row per reason and direction.
pub fn table(drops: &[DropRow]) -> Table {
    let mut table = Table::new([
        left("DIR"),
        left("REASON"),
        right("PACKETS"),
        left("SEVERITY"),
        text("SECTION"),
        text("MEANING"),
    ]);
    for drop in drops {
        table.row([
            cell(direction(drop.direction)),
            cell(&drop.reason),
            cell(count(drop.packets)),
            toned(drop.severity, tone(drop.severity)),
            cell(&drop.section),
            cell(&drop.text),
        ]);
    }
    table
}

/// The colour of a severity.
pub const fn tone(severity: Severity) -> Tone {
    match severity {
        Severity::Audit | Severity::Error => Tone::Bad,
        Severity::Warn => Tone::Warn,
        Severity::Info => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use latchway_control::DirectionSpec;

    use super::*;
    use crate::cli::view::shown;

    #[test]
    fn drops_read_as_a_table() {
        let row = |direction, reason: &str, packets, severity, text: &str| DropRow {
            direction,
            reason: reason.into(),
            packets,
            severity,
            section: "RFC 4303 3.4.3".into(),
            linux: "XfrmInStateSeqError".into(),
            text: text.into(),
        };
        let rows = [
            row(DirectionSpec::Inbound, "replayed", 12_345, Severity::Audit, "The number was seen before."),
            row(
                DirectionSpec::Outbound,
                "no_policy",
                1,
                Severity::Info,
                "No rule of the policy matches this packet.",
            ),
        ];
        let expected = "\
DIR  REASON     PACKETS  SEVERITY  SECTION         MEANING
in   replayed    12 345  audit     RFC 4303 3.4.3  The number was seen before.
out  no_policy        1  info      RFC 4303 3.4.3  No rule of the policy
                                                   matches this packet.
";
        assert_eq!(shown(&table(&rows), Some(78)), expected);
    }
}
