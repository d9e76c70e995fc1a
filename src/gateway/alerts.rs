//! What becomes of latches, as control.sock tells it (ALERT, R-11).

use std::time::SystemTime;

use latchway_control::{AlertKind, AlertView};
use latchway_keying::{AlertKind as Kind, LatchAlert};

use crate::gateway::rows::{latch_state, unix_milliseconds};

/// Something that happened to a latch.
pub fn of(alert: &LatchAlert) -> AlertView {
    let (latch, flow, state) = (alert.latch, alert.flow, alert.state.name());
    let by = alert.listener.map(|listener| format!(" by listener {listener}")).unwrap_or_default();
    let why = alert.reason.map(|reason| format!(": {}", reason.name())).unwrap_or_default();
    let (kind, text) = match alert.kind {
        Kind::Spawned => {
            (AlertKind::Made, format!("latch {latch} of {flow} was made{by}, and is {state}{why}"))
        }
        Kind::Changed => (AlertKind::Changed, format!("latch {latch} of {flow} is {state}{why}")),
        Kind::Unserved => {
            (AlertKind::Unserved, format!("no SA serves latch {latch} of {flow}, which is {state}"))
        }
    };
    AlertView {
        latch: Some(latch.to_string()),
        flow: Some(flow.to_string()),
        state: Some(latch_state(alert.state)),
        reason: alert.reason.map(|reason| reason.name().into()),
        listener: alert.listener.map(|listener| listener.to_string()),
        ..now(kind, text)
    }
}

/// It is watched from here on.
pub fn watching() -> AlertView {
    now(AlertKind::Watching, "what becomes of latches is told from here on")
}

/// So many alerts were lost here.
pub fn lost(count: u64) -> AlertView {
    let text = format!("{count} alerts were lost here: they came faster than they were read");
    AlertView { count: Some(count), ..now(AlertKind::Lost, text) }
}

/// The gateway ends.
pub fn ending() -> AlertView {
    now(AlertKind::Ending, "the gateway ends")
}

fn now(kind: AlertKind, text: impl Into<String>) -> AlertView {
    AlertView::new(kind, unix_milliseconds(SystemTime::now()), text)
}
