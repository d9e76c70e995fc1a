//! Why a fact could not be shown.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::patience::SOON;
use crate::client::CallError;

/// What was expected and what was seen, or what the system refused on the way.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The fact is not one.
    #[error("expected {expected}; seen: {seen}")]
    Unmet {
        /// What the fact says.
        expected: String,
        /// What was measured instead.
        seen: String,
    },
    /// Namespaces, links, sniffers or injectors.
    #[error(transparent)]
    Network(#[from] latchway_netns::Error),
    /// A gateway did not do what it was asked.
    #[error("the gateway of {host}: {source}")]
    Call {
        /// Whose gateway.
        host: &'static str,
        /// What it answered.
        source: CallError,
    },
    /// A gateway did not start.
    #[error("the gateway of {host} did not start: {why}")]
    NotStarted {
        /// Whose gateway.
        host: &'static str,
        /// What it said.
        why: String,
    },
    /// The system refused.
    #[error("{attempt}: {source}")]
    Refused {
        /// What was attempted.
        attempt: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing came.
    #[error("{attempt}: nothing within {after:?}")]
    Overdue {
        /// What was attempted.
        attempt: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// A bug of the demo itself.
    #[error("{0}")]
    Own(String),
}

impl Failure {
    /// A fact that is not one.
    pub fn unmet(expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self::Unmet { expected: expected.into(), seen: seen.into() }
    }

    /// What was expected, where it was a fact that failed and not the way to it.
    pub fn expected(&self) -> Option<&str> {
        match self {
            Self::Unmet { expected, .. } => Some(expected),
            _ => None,
        }
    }

    /// What was seen instead.
    pub fn seen(&self) -> String {
        match self {
            Self::Unmet { seen, .. } => seen.clone(),
            other => other.to_string(),
        }
    }
}

/// An error that says what was attempted.
pub fn refused(attempt: &str) -> impl FnOnce(io::Error) -> Failure {
    let attempt = attempt.to_owned();
    move |source| match source.kind() {
        // What a socket says when its timeout passed.
        ErrorKind::WouldBlock => Failure::Overdue { attempt, after: SOON },
        _ => Failure::Refused { attempt, source },
    }
}

/// Fails with what was seen unless the expectation holds.
pub fn expect(holds: bool, expected: &str, seen: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::unmet(expected, seen())) }
}
