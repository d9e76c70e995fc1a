//! The calls of latching-04 section 2.1 as data: CREATE_LISTENER_LATCH (L-46) and CREATE_CONNECTION_LATCH (L-54).

use std::time::Duration;

use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{LatchId, LatchState, OnConflict};
use latchway_ulp_shim::Listening;

use crate::latching::Constraints;

/// A latch for connections that others begin (L-46).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerRequest {
    /// Where they are awaited: the 3-tuple (L-47).
    pub listening: Listening,
    /// What is asked of each of them.
    pub constraints: Constraints,
    /// What becomes of them in a conflict, other than the rule says.
    pub on_conflict: Option<OnConflict>,
}

/// A latch for one connection (L-54).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRequest {
    /// The 5-tuple (L-55).
    pub flow: FlowKey,
    /// What is asked of it, with the peer's identity and ours.
    pub constraints: Constraints,
    /// What becomes of it in a conflict, other than the rule says.
    pub on_conflict: Option<OnConflict>,
    /// After how long without an SA that serves it the holder is told so (L-39). Never by default: packets are lost
    /// then, and no more (L-38).
    pub report_after: Option<Duration>,
}

/// A latch that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its handle.
    pub latch: LatchId,
    /// Its state: LISTENER, LARVAL (L-58), or ESTABLISHED at once (L-59).
    pub state: LatchState,
}
