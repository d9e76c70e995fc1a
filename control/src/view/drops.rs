//! What was dropped and why.

use serde::{Deserialize, Serialize};

use crate::spec::DirectionSpec;
use crate::words::words;

/// What was dropped and why: one row per reason and direction that ever occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Drops {
    /// The rows, inbound first.
    pub drops: Vec<DropRow>,
}

/// One reason in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DropRow {
    /// Whether the packets came from the wire or were to go there.
    pub direction: DirectionSpec,
    /// The reason's stable name.
    pub reason: String,
    /// How many packets.
    pub packets: u64,
    /// How grave it is.
    pub severity: Severity,
    /// The section that calls for the drop.
    pub section: String,
    /// The nearest counter of Linux, or a dash.
    pub linux: String,
    /// One sentence for people.
    pub text: String,
}

words! {
    /// How grave a drop is.
    Severity {
        /// It happens, and nobody needs to look.
        Info = "info",
        /// Something is not as it should be.
        Warn = "warn",
        /// A packet or a setting is wrong.
        Error = "error",
        /// An event that RFC 4301 calls auditable.
        Audit = "audit",
    }
}
