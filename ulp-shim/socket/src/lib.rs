//! Sockets that know who is on the other end, and what protects the way there.
//!
//! The sockets are ordinary ones of the kernel. [`protection`] asks the gateway that carries a socket's traffic what protects
//! it; [`require`] has the gateway hold every packet of the socket, from its next one on, to what is required. Both pass the
//! socket itself to the gateway, by which it is known: nobody can ask about another's, and nothing has to be said about
//! addresses. [`connect`] and [`Listener`] are made with a requirement, [`UdpSocket`] tells of each datagram who sent it, and [`watch`] tells what becomes of
//! sockets.
//!
//! Every question to a gateway ends within its time, whatever the gateway does, and what cannot be known for certain is an error or a lesser
//! answer. Covers draft-ietf-btns-c-api-04 as Rust has it.

#![forbid(unsafe_code)]

mod answer;
mod clocks;
mod datagram;
mod deadline;
mod error;
mod event;
mod exchange;
mod external;
mod forked;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod gateway;
mod identity;
#[cfg(feature = "in-process")]
pub mod in_process;
mod kept;
mod known;
mod line;
mod protection;
mod receiving;
mod requirement;
mod stamp;
mod stream;
mod strength;
mod tag;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use latchway_control::app::Unbindable;
pub use latchway_control::{ConflictSpec as OnConflict, MethodSpec as Method, ModeSpec as Mode};
pub use latchway_tagging::Identity;

pub use crate::answer::{Answer, NoGateway, Unlatched};
pub use crate::datagram::UdpSocket;
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::event::{Event, EventKind, Events, Reason, watch};
pub use crate::external::{ImportError, LONGEST_TEXT};
pub use crate::gateway::{Gateway, forget, is_required, protection, require};
pub use crate::identity::PeerIdentity;
pub use crate::known::{Arrived, DatagramTags};
pub use crate::protection::{ChannelBinding, Protection};
pub use crate::receiving::Called;
pub use crate::requirement::{Protected, Requirement};
pub use crate::stream::{Listener, connect};
pub use crate::strength::Strength;
pub use crate::tag::{DatagramTag, Unknown};
