//! What a reload changes.

use serde::{Deserialize, Serialize};

use crate::words::words;

/// What a reload changed, or would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reloaded {
    /// Whether it was applied; false after a dry run.
    pub applied: bool,
    /// The differences; empty where there are none.
    pub changes: Vec<ChangeRow>,
    /// What is not wrong but worth a look, a sentence each.
    pub warnings: Vec<String>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ChangeRow {
    /// What happens to it.
    pub kind: ChangeKind,
    /// What sort of thing it is: "peer", "sa", "policy", or the key of the configuration.
    pub what: String,
    /// Which one.
    pub name: String,
    /// One line for people.
    pub text: String,
}

words! {
    /// What a reload does to something.
    ChangeKind {
        /// It comes.
        Added = "added",
        /// It goes.
        Removed = "removed",
        /// It becomes another.
        Changed = "changed",
        /// It would become another, but only a restart can do that.
        NeedsRestart = "needs_restart",
    }
}
