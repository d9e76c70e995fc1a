//! What a reload tells of itself: a row for each thing that differs, and what would break by it.

use latchway_config::{Changes, RevisedSa};
use latchway_control::{ChangeKind, ChangeRow};
use latchway_keying::Outline;

/// What differs, a row for each.
pub fn rows(changes: &Changes<'_>) -> Vec<ChangeRow> {
    let mut rows = Vec::new();
    rows.extend(changes.restart.iter().map(|key| {
        row(ChangeKind::NeedsRestart, key, (*key).into(), format!("`{key}` changes with a restart only"))
    }));
    let peers = [(ChangeKind::Removed, &changes.peers_removed), (ChangeKind::Added, &changes.peers_added)];
    for (kind, peers) in peers {
        rows.extend(
            peers
                .iter()
                .map(|peer| row(kind, "peer", peer.identity.to_string(), format!("peer {}", peer.identity))),
        );
    }
    rows.extend(changes.peers_changed.iter().map(|(_, peer)| {
        row(
            ChangeKind::Changed,
            "peer",
            peer.identity.to_string(),
            format!("peer {}: endpoint, inner ranges or how it proves itself", peer.identity),
        )
    }));
    rows.extend(sas(changes));
    rows.extend(policies(changes));
    if let Some(latch) = changes.latch {
        let text = format!("policies that do not say it {}", if latch { "latch" } else { "do not latch" });
        rows.push(row(ChangeKind::Changed, "latch", "latch".into(), text));
    }
    if changes.terms {
        let text = "the terms of latches: for new ones; those that are there keep theirs";
        rows.push(row(ChangeKind::Changed, "latch", "terms".into(), text.into()));
    }
    rows
}

fn row(kind: ChangeKind, what: &str, name: String, text: String) -> ChangeRow {
    ChangeRow { kind, what: what.into(), name, text }
}

fn sas(changes: &Changes<'_>) -> Vec<ChangeRow> {
    let mut rows = Vec::new();
    for (kind, sas) in [(ChangeKind::Removed, &changes.sas_removed), (ChangeKind::Added, &changes.sas_added)]
    {
        rows.extend(sas.iter().map(|(peer, sa)| {
            let name = format!("{}/{}", sa.inbound.spi, sa.outbound.spi);
            let text = format!("SA {} in, {} out with {peer}, {}", sa.inbound.spi, sa.outbound.spi, sa.suite);
            row(kind, "sa", name, text)
        }));
    }
    rows.extend(changes.sas_revised.iter().map(|RevisedSa { peer, sa, keys }| {
        let name = format!("{}/{}", sa.inbound.spi, sa.outbound.spi);
        let what = keys.join(", ");
        let text = format!("SA {} in, {} out with {peer} goes on: {what}", sa.inbound.spi, sa.outbound.spi);
        row(ChangeKind::Changed, "sa", name, text)
    }));
    rows
}

fn policies(changes: &Changes<'_>) -> Vec<ChangeRow> {
    let mut rows = Vec::new();
    let policies =
        [(ChangeKind::Removed, &changes.policies_removed), (ChangeKind::Added, &changes.policies_added)];
    for (kind, policies) in policies {
        rows.extend(
            policies
                .iter()
                .map(|policy| row(kind, "policy", policy.to_string(), format!("policy: {policy}"))),
        );
    }
    if changes.policies_reordered {
        rows.push(row(ChangeKind::Changed, "policy", "order".into(), "the order of the policies".into()));
    }
    rows
}

/// Keys of the file, as text names them.
pub fn quoted(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

/// Which latched connections a change would end, for whoever only asks (L-45, L-76).
pub fn breaks(outline: &Outline) -> Option<String> {
    let named: Vec<_> =
        outline.breaking.iter().map(|flow| format!("{} with {}", flow.local(), flow.remote())).collect();
    let more = match outline.breaks.saturating_sub(named.len()) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    (outline.breaks > 0)
        .then(|| format!("latches that would break: {} ({}{more})", outline.breaks, named.join(", ")))
}
