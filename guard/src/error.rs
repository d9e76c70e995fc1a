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
    /// The kernel has no nf_tables, or not all of it that host mode needs.
    #[error(
        "{attempt}: {source}. This kernel lacks nf_tables for inet and arp, or its module is not loaded: \
         modprobe nf_tables; or use split mode, which does without it"
    )]
    NoNfTables {
        /// What was attempted.
        attempt: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The packet filters may not be changed or seen.
    #[error(
        "{attempt}: {source}. It takes CAP_NET_ADMIN over the namespace: run as root, or have somebody put the filters \
         up beforehand (guard = \"preset\")"
    )]
    NotPermitted {
        /// What was attempted.
        attempt: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A name or setting cannot be used.
    #[error("{0}")]
    Invalid(String),
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
