//! The control protocol: what is said on control.sock, and how it is framed.
//!
//! Messages are those of Varlink: one JSON object, ended by a NUL octet; `{"method", "parameters"}` there,
//! `{"parameters"}` or `{"error", "parameters"}` back. Types only: who listens and who connects is elsewhere.

#![forbid(unsafe_code)]

mod call;
mod frame;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod spec;
mod view;

pub use call::{Call, Commit, Failure, PairAdded, Reply};
pub use frame::{FrameError, MAX_MESSAGE, MAX_REPLY, read_message, read_reply, write_message};
pub use spec::{
    ActionSpec, DirectionSpec, GatewaySpec, HardSpec, InnerRange, PairSpec, PathSpec, PeerSpec, RuleSpec,
    SaSpec, Secret, SelectorSpec, TunBackendSpec, TunSpec, UsageSpec,
};
pub use view::{DropRow, Drops, LatchRow, Latches, SaRow, Sas, StatusView, StreetView, TagView, TunView};
