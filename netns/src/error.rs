//! What can go wrong: each variant says what was attempted, so that a failed test or start reads without a debugger.

use std::io;

/// A failed attempt to arrange, watch or feed a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a request.
    #[error("{attempt}: {source}")]
    Refused {
        /// What was attempted.
        attempt: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a request, and the operator can do something about it.
    #[error("{attempt}: {source}. {advice}")]
    Advised {
        /// What was attempted.
        attempt: String,
        /// The kernel's answer.
        source: io::Error,
        /// What to do.
        advice: String,
    },
    /// No user namespace could be entered; the text says what an operator can do.
    #[error("cannot enter a user namespace: {source}. {advice}")]
    UserNamespace {
        /// The kernel's answer.
        source: io::Error,
        /// What to change.
        advice: String,
    },
    /// Something awaited did not happen in time.
    #[error("deadline passed: {0}")]
    Deadline(String),
    /// A closure that ran inside a namespace panicked.
    #[error("panicked inside {namespace}: {message}")]
    Panicked {
        /// The namespace's label.
        namespace: String,
        /// What the panic said.
        message: String,
    },
    /// A message or packet could not be built or understood.
    #[error("{0}")]
    Malformed(String),
    /// A capture cannot answer: frames were lost or are no longer kept.
    #[error("the capture is incomplete: {0}")]
    Incomplete(String),
}

impl Error {
    /// The kernel's error number, where the kernel gave one.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. }
            | Self::Advised { source, .. }
            | Self::UserNamespace { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// A refusal.
    pub fn refused(attempt: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Refused { attempt: attempt.into(), source: source.into() }
    }
    /// A refusal, and what to do about it.
    pub fn advised(
        attempt: impl Into<String>,
        source: impl Into<io::Error>,
        advice: impl Into<String>,
    ) -> Self {
        Self::Advised { attempt: attempt.into(), source: source.into(), advice: advice.into() }
    }
}
