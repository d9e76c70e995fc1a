//! Reloads, as whoever asks for them sees them.

use std::sync::atomic::Ordering;

use latchway_control::{EventKind, EventView, ReloadOutcome, Reloaded, StateHealth};

use crate::gateway::configuration::{Configuration, ReloadError};
use crate::gateway::notify;
use crate::gateway::rows::unix_milliseconds;
use crate::gateway::state::State;

impl State {
    /// From here on there is a configuration that can be read again.
    pub fn configured_by(&self, configuration: Configuration, hardening: Vec<String>) {
        // Set once, by the one who started the gateway.
        let _ = self.configuration.set(configuration);
        let _ = self.hardening.set(hardening);
    }

    /// How it is about the record of sequence numbers, where there is one.
    pub(super) fn state_health(&self) -> Option<StateHealth> {
        let (folder, message) = self.configuration.get()?.record()?;
        Some(StateHealth { path: folder.display().to_string(), healthy: message.is_none(), message })
    }

    /// Reads the configuration again and applies what differs, all of it or nothing; or only says what would differ.
    ///
    /// # Errors
    /// [`ReloadError`]
    pub fn reload(&self, dry_run: bool) -> Result<Reloaded, ReloadError> {
        let configuration = self.configuration.get().ok_or(ReloadError::NoFile)?;
        if dry_run {
            return configuration.reload(true);
        }
        // Whether systemd listens does not decide whether a reload is done.
        let _ = notify::reloading();
        let outcome = configuration.reload(false);
        let _ = notify::ready();
        let text = match &outcome {
            Ok(reloaded) => summary(reloaded),
            Err(error) => error.to_string(),
        };
        let kind = if outcome.is_ok() { EventKind::Reloaded } else { EventKind::ReloadRefused };
        self.events().publish(EventView::new(kind, text.clone()));
        let time = unix_milliseconds(std::time::SystemTime::now());
        let mut history = self.reloads();
        history.count += 1;
        self.refused_reloads.fetch_add(u64::from(outcome.is_err()), Ordering::Relaxed);
        history.last = Some(ReloadOutcome { time, applied: outcome.is_ok(), text });
        outcome
    }
}

/// What a reload changed, in lines.
pub fn summary(reloaded: &Reloaded) -> String {
    if reloaded.changes.is_empty() {
        return "reloaded; nothing differs".into();
    }
    let rows = reloaded.changes.iter().map(|row| format!("{} {}", row.kind.name(), row.text));
    format!("reloaded: {}", rows.collect::<Vec<_>>().join("; "))
}
