//! Why a guard could not be put up, and what to do about it.

use std::{io, path::PathBuf};

/// A guard that does not stand.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// The kernel refused a request about namespaces, links, routes or settings.
    #[error(transparent)]
    Network(#[from] latchway_netns::Error),
    /// Another process holds a lock.
    #[error("{what} is in use by {}: {remedy}", holder(*.pid))]
    Held {
        /// What is locked.
        what: String,
        /// Who holds it, where the kernel says so.
        pid: Option<u32>,
        /// What to do.
        remedy: &'static str,
    },
    /// A lock could not be tried.
    #[error("{attempt} {}: {source}. {advice}", path.display())]
    Lock {
        /// What was attempted.
        attempt: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// A name or setting cannot be used.
    #[error("{0}")]
    Invalid(String),
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
