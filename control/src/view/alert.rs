//! What happens to latches, told to who holds them (ALERT, R-11).

use serde::{Deserialize, Serialize};

use crate::view::LatchState;
use crate::words::words;

/// Something that happened to a latch. Fields that say nothing about it are null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AlertView {
    /// What happened.
    pub alert: AlertKind,
    /// When.
    pub time: u64,
    /// One sentence for people.
    pub text: String,
    /// The latch's handle.
    pub latch: Option<String>,
    /// Its flow: protocol, local, remote.
    pub flow: Option<String>,
    /// The state it is in now.
    pub state: Option<LatchState>,
    /// Why.
    pub reason: Option<String>,
    /// The handle of the listener's latch that it was made by.
    pub listener: Option<String>,
    /// How many alerts were lost.
    pub count: Option<u64>,
}

words! {
    /// What an alert says.
    AlertKind {
        /// It is watched from here on: everything that follows is told.
        Watching = "watching",
        /// The watcher was too slow, and did not hear of `count` alerts. The last state of each latch is told all the same.
        Lost = "lost",
        /// A latch was made.
        Made = "made",
        /// A latch is in another state.
        Changed = "changed",
        /// No SA serves a latch, for as long as its owner wanted to wait (L-39).
        Unserved = "unserved",
        /// The gateway ends; nothing follows.
        Ending = "ending",
    }
}

impl AlertView {
    /// An alert of this kind, all else unsaid.
    #[must_use]
    pub fn new(alert: AlertKind, time: u64, text: impl Into<String>) -> Self {
        Self {
            alert,
            time,
            text: text.into(),
            latch: None,
            flow: None,
            state: None,
            reason: None,
            listener: None,
            count: None,
        }
    }
}
