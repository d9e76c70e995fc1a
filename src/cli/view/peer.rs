//! Peers, as a table.

use latchway_control::PeerRow;

use crate::cli::table::{Table, Tone, cell, left, or_dash, right, text, toned};
use crate::cli::units::octets;
use crate::cli::view::milliseconds;

/// One row per entry of the PAD.
pub fn table(peers: &[PeerRow]) -> Table {
    let mut table = Table::new([
        text("IDENTITY"),
        left("STANDING"),
        text("RANGES"),
        left("ENDPOINT"),
        text("PAIRS"),
        right("IN"),
        right("OUT"),
        right("HEARD"),
    ]);
    for peer in peers {
        let pairs: Vec<_> = peer.pairs.iter().map(ToString::to_string).collect();
        let pairs = if pairs.is_empty() { toned("none", Tone::Warn) } else { cell(pairs.join(", ")) };
        table.row([
            cell(&peer.identity),
            or_dash(peer.standing.as_deref()),
            cell(peer.ranges.join(", ")),
            or_dash(peer.endpoint),
            pairs,
            cell(octets(peer.inbound.octets)),
            cell(octets(peer.outbound.octets)),
            milliseconds(peer.last_heard),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use latchway_control::Traffic;

    use super::*;
    use crate::cli::view::shown;

    #[test]
    fn peers_read_as_a_table() {
        let heard = PeerRow {
            name: "b".into(),
            identity: "b.example".into(),
            methods: vec!["manual".into()],
            standing: Some("manual".into()),
            ranges: vec!["10.2.0.0/24".into(), "fd02::/64".into()],
            endpoint: Some("192.0.2.2:4500".parse().unwrap()),
            pairs: vec![1, 3],
            inbound: Traffic { packets: 10, octets: 1500 },
            outbound: Traffic { packets: 20, octets: 3_000_000 },
            last_heard: Some(12_000),
        };
        let silent = PeerRow {
            identity: "c.example".into(),
            endpoint: None,
            pairs: vec![],
            inbound: Traffic::default(),
            outbound: Traffic::default(),
            last_heard: None,
            ..heard.clone()
        };
        let expected = "\
IDENTITY   STANDING  RANGES                  ENDPOINT        PAIRS       IN      OUT  HEARD
b.example  manual    10.2.0.0/24, fd02::/64  192.0.2.2:4500  1, 3   1.50 kB  3.00 MB   12 s
c.example  manual    10.2.0.0/24, fd02::/64  -               none       0 B      0 B      -
";
        assert_eq!(shown(&table(&[heard, silent]), None), expected);
    }
}
