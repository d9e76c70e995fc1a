//! Flows, as a table.

use latchway_control::FlowRow;

use crate::cli::table::{Table, cell, left, or_dash, right, text};
use crate::cli::view::{latch_state, milliseconds, sa_used};

/// One row per flow.
pub fn table(flows: &[FlowRow]) -> Table {
    let mut table = Table::new([
        text("FLOW"),
        left("PROGRESS"),
        left("LATCH"),
        text("PEER"),
        text("PAIR (SPI)"),
        right("IDLE"),
    ]);
    for flow in flows {
        table.row([
            cell(&flow.flow),
            cell(&flow.progress),
            flow.latch.map_or_else(|| or_dash(None::<&str>), latch_state),
            or_dash(flow.peer.as_deref()),
            or_dash(flow.sa.as_ref().map(sa_used)),
            milliseconds(Some(flow.idle)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use latchway_control::{LatchState, SaUsed};

    use super::*;
    use crate::cli::view::shown;

    #[test]
    fn flows_read_as_a_table() {
        let latched = FlowRow {
            flow: "tcp 10.1.0.1:40000 10.2.0.1:80".into(),
            protocol: 6,
            local: "10.1.0.1:40000".parse().unwrap(),
            remote: "10.2.0.1:80".parse().unwrap(),
            progress: "both".into(),
            latch: Some(LatchState::Established),
            peer: Some("b.example".into()),
            sa: Some(SaUsed {
                pair: Some(1),
                spi: 0x1002,
                suite: "aes-128-cbc-hmac-sha-256".into(),
                peer: "b.example".into(),
                class: Some(1),
            }),
            idle: 1500,
        };
        let unlatched =
            FlowRow { progress: "untracked".into(), latch: None, peer: None, sa: None, ..latched.clone() };
        let expected = "\
FLOW                            PROGRESS   LATCH        PEER       PAIR (SPI)      IDLE
tcp 10.1.0.1:40000 10.2.0.1:80  both       established  b.example  1 (0x00001002)   1 s
tcp 10.1.0.1:40000 10.2.0.1:80  untracked  -            -          -                1 s
";
        assert_eq!(shown(&table(&[latched, unlatched]), None), expected);
    }
}
