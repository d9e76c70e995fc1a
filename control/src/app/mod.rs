//! org.latchway.App: what applications say on app.sock. They name sockets by passing them, and nothing else: nobody can ask
//! about another's (P-67, Q-54).

mod call;
mod datagram;
mod event;
mod protection;
mod requirement;

#[cfg(test)]
pub(crate) use self::call::described;
pub use self::call::{AppCall, Gateway, GatewayView, Protection};
pub use self::datagram::{Datagram, DatagramView, Doubt, Pieces};
pub use self::event::{AppEvent, AppEventKind, Watch};
pub use self::protection::{AnswerKind, ProtectionView, StrengthView, Unbindable};
pub use self::requirement::{Forget, Require, Required, RequirementSpec};

use crate::interface::{Interface, SERVICE};

/// What app.sock serves.
pub const APP_INTERFACES: [Interface; 2] = [
    SERVICE,
    Interface { name: "org.latchway.App", description: include_str!("../../org.latchway.App.varlink") },
];

/// The largest call of an application, in octets.
pub const MAX_APP_MESSAGE: u64 = 16 << 10;

/// The largest answer to an application, in octets.
pub const MAX_APP_REPLY: u64 = 64 << 10;

/// The most sockets that one call may bring.
pub const MAX_APP_SOCKETS: usize = 64;
