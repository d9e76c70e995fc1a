//! What policy says of latches, and what is told of them: draft-ietf-btns-connection-latching-04, RFC 5660.
//!
//! The datapath keeps no latches. It carries a rule's [`LatchTerms`] to the upper layer, and the upper layer's events to
//! the key manager, both in these words.

mod state;
mod terms;

pub use self::state::{BreakReason, LatchId, LatchState, Offender};
pub use self::terms::{LatchTerms, Model, OnConflict, OnPolicyChange, Unlatchable};
