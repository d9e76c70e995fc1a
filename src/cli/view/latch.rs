//! Latches, as a table.

use latchway_control::LatchRow;

use crate::cli::table::{Table, cell, left, or_dash, right, text};
use crate::cli::view::{latch_state, milliseconds};

/// One row per latch.
pub fn table(latches: &[LatchRow]) -> Table {
    let mut table = Table::new([
        left("LATCH"),
        text("FLOW"),
        left("STATE"),
        text("PEER"),
        text("PROTECTION"),
        right("IDLE"),
        text("REASON"),
    ]);
    for latch in latches {
        table.row([
            cell(&latch.latch),
            cell(&latch.flow),
            latch_state(latch.state),
            cell(&latch.peer),
            cell(&latch.protection),
            milliseconds(Some(latch.idle)),
            or_dash(latch.reason.as_deref()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use latchway_control::LatchState;

    use super::*;
    use crate::cli::view::shown;

    #[test]
    fn latches_read_as_a_table() {
        let established = LatchRow {
            latch: "7.1".into(),
            flow: "tcp 10.1.0.1:40000 10.2.0.1:80".into(),
            local: "10.1.0.1:40000".parse().unwrap(),
            remote: "10.2.0.1:80".parse().unwrap(),
            state: LatchState::Established,
            peer: "b.example".into(),
            protection: "esp tunnel aes-128-gcm".into(),
            class: 1,
            last_tag: None,
            reason: None,
            age: 3_600_000,
            idle: 20,
        };
        let broken = LatchRow {
            state: LatchState::Broken,
            reason: Some("conflict (c.example, SA 2); the connection was reset".into()),
            ..established.clone()
        };
        let expected = "\
LATCH  FLOW                 STATE        PEER       PROTECTION            IDLE  REASON
7.1    tcp 10.1.0.1:40000   established  b.example  esp tunnel           20 ms  -
       10.2.0.1:80                                  aes-128-gcm
7.1    tcp 10.1.0.1:40000   broken       b.example  esp tunnel           20 ms  conflict
       10.2.0.1:80                                  aes-128-gcm                 (c.example, SA 2);
                                                                                the connection was
                                                                                reset
";
        assert_eq!(shown(&table(&[established, broken]), Some(99)), expected);
    }
}
