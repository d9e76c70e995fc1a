//! Latches that somebody asked for (draft-ietf-btns-connection-latching-04 section 2.1): who holds them, what was asked
//! with them, and what their holders are told.
//!
//! The latches themselves are in the Latch Database; this is the part of the key manager that makes them for others,
//! waits for the SAs that they want, and takes them back when their holder goes (L-21). [`Keying`](crate::Keying) has the
//! calls.

mod alert;
mod aside;
mod constraints;
mod error;
mod holder;
mod inquiry;
mod listeners;
mod permission;
mod register;
mod request;

pub use self::alert::{AlertKind, Alerts, Delivery, LatchAlert};
pub(crate) use self::aside::aside;
pub use self::constraints::{Asked, Constraints};
pub use self::error::{BadTuple, LatchError};
pub use self::holder::{Holder, Privilege};
pub use self::inquiry::{FlowInquiry, Inquiry, Parameters, Party};
pub(crate) use self::listeners::Asking;
pub(crate) use self::permission::{Permit, Plea};
pub(crate) use self::register::{Held, Register, Sight, Waiting};
pub use self::request::{ConnectionRequest, Created, ListenerRequest};
