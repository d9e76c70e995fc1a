//! Peers, as a table.

use latchway_control::{PeerRow, ProvenRow};

use crate::cli::table::{Cell, Table, Tone, cell, left, or_dash, right, text, toned};
use crate::cli::units::octets;
use crate::cli::view::milliseconds;

/// One row per entry of the PAD.
pub fn table(peers: &[PeerRow]) -> Table {
    let mut table = Table::new([
        text("IDENTITY"),
        text("METHODS"),
        left("STANDING"),
        text("PROVEN BY"),
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
            cell(peer.methods.join(", ")),
            or_dash(peer.standing.as_deref()),
            proven(peer),
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

/// What the entry's live peers proved themselves with: the beginnings of the hashes, which tell them apart.
fn proven(peer: &PeerRow) -> Cell {
    let told: Vec<_> = peer.identities.iter().filter_map(evidence).take(MOST_TOLD).collect();
    let rest = peer.live.saturating_sub(told.len() as u64);
    match (told.as_slice(), rest) {
        ([], _) => or_dash(None::<&str>),
        (told, 0) => cell(told.join(", ")),
        (told, rest) => cell(format!("{}, {rest} more", told.join(", "))),
    }
}

fn evidence(identity: &ProvenRow) -> Option<String> {
    let short = |hash: &str| hash.chars().take(SHORT_HASH).collect::<String>();
    match (&identity.certificate, &identity.public_key_sha256) {
        (Some(certificate), None) => {
            Some(format!("certificate {} of {}", short(&certificate.sha256), certificate.subject))
        }
        (_, Some(key)) => Some(format!("key {}", short(key))),
        (None, None) => None,
    }
}

/// In one row.
const MOST_TOLD: usize = 3;
/// Digits of a hash that tell peers apart on a screen.
const SHORT_HASH: usize = 12;

#[cfg(test)]
mod tests {
    use latchway_control::{CertificateView, Traffic};

    use super::*;
    use crate::cli::view::shown;

    #[test]
    fn peers_read_as_a_table() {
        let heard = PeerRow {
            name: "b".into(),
            identity: "b.example".into(),
            methods: vec!["manual".into()],
            standing: Some("manual".into()),
            live: 1,
            identities: vec![],
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
IDENTITY   METHODS  STANDING  PROVEN BY  RANGES                  ENDPOINT        PAIRS       IN      OUT  HEARD
b.example  manual   manual    -          10.2.0.0/24, fd02::/64  192.0.2.2:4500  1, 3   1.50 kB  3.00 MB   12 s
c.example  manual   manual    -          10.2.0.0/24, fd02::/64  -               none       0 B      0 B      -
";
        assert_eq!(shown(&table(&[heard, silent]), None), expected);
    }

    /// L-29 to L-31, in short: what several peers of one entry proved themselves with.
    #[test]
    fn l_29_a_row_tells_what_proved_its_peers() {
        let proven = |certificate: Option<&str>, key: Option<&str>| ProvenRow {
            asserted: "x".into(),
            method: "btns".into(),
            certificate: certificate.map(|subject| CertificateView {
                subject: subject.into(),
                issuer: "CN=ca".into(),
                sha256: "ab".repeat(32),
            }),
            trust_anchor: None,
            public_key_sha256: key.map(|digits| digits.repeat(32)),
            authenticated: None,
        };
        let mut row: PeerRow = serde_json::from_value(serde_json::json!({
            "name": "any", "identity": "any", "methods": ["btns"], "standing": null, "ranges": [], "endpoint": null,
            "pairs": [], "inbound": {"packets": 0, "octets": 0}, "outbound": {"packets": 0, "octets": 0},
            "last_heard": null, "live": 5,
        }))
        .unwrap();
        row.identities = vec![proven(Some("CN=a"), None), proven(None, Some("0f")), proven(None, Some("1e"))];
        let told = "certificate abababababab of CN=a, key 0f0f0f0f0f0f, key 1e1e1e1e1e1e, 2 more";
        assert!(shown(&table(&[row]), None).contains(told));
    }
}
