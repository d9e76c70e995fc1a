//! app.sock: what applications ask of sockets that they have, each passed as a descriptor (Q-46, P-67).
//!
//! Whoever has a socket may ask about it, and about no other: a call names nothing. What a descriptor is, is read off it,
//! and it is closed before anybody else is asked.

mod conversation;
mod descriptor;
mod hub;
mod places;
mod protection;
mod spaces;
#[cfg(test)]
mod tests;
mod watching;

pub use self::hub::Hub;
pub use self::spaces::Spaces;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use latchway_control::app::GatewayView;
use latchway_control::{Failure, FrameError};
use nix::sys::socket::{getsockopt, sockopt};

use crate::gateway::app::conversation::converse;
use crate::gateway::app::places::{Place, Places};
use crate::gateway::operator::Answer;
use crate::gateway::serve::Door;
use crate::gateway::serve::callers::{Caller, Limits};
use crate::gateway::state::State;

/// What app.sock serves.
pub struct Applications {
    state: Arc<State>,
    /// Whose sockets the gateway speaks of.
    spaces: Spaces,
    /// The number of this start.
    boot: u64,
    places: Arc<Places>,
}

impl Applications {
    /// The applications of a gateway, with sockets in these spaces.
    ///
    /// # Errors
    /// The system gives no random number.
    pub fn new(state: Arc<State>, spaces: Spaces) -> io::Result<Self> {
        let boot = getrandom::u64().map_err(io::Error::other)? & MOST_BOOT;
        Ok(Self { state, spaces, boot, places: Arc::default() })
    }

    fn gateway(&self) -> GatewayView {
        let version = env!("CARGO_PKG_VERSION").into();
        GatewayView { name: self.state.name.clone(), version, boot: self.boot }
    }
}

impl Door for Applications {
    const LIMITS: Limits =
        Limits { connections: MAX_CONNECTIONS, listeners: MAX_CONNECTIONS / 2, holders: 0 };
    const NAME: &'static str = "app";
    type Place = Option<Place>;

    /// Everybody may speak, each user over so many connections at a time; root and the gateway's own over any number, so that
    /// nobody keeps them out.
    fn admit(&self, stream: &UnixStream) -> Option<Answer<Self::Place>> {
        let user = getsockopt(stream, sockopt::PeerCredentials).ok()?.uid();
        if user == 0 || user == nix::unistd::geteuid().as_raw() {
            return Some(Ok(None));
        }
        let full = || {
            Failure::busy("the user has as many connections as one may have", "close one of them").of_app()
        };
        Some(Places::take(&self.places, user).map(Some).ok_or_else(full))
    }

    fn converse(&self, stream: &UnixStream, caller: &Caller, _: &Self::Place) -> Result<(), FrameError> {
        converse(stream, caller, self)
    }

    fn end(&self) {
        self.state.watched().end();
    }
}

/// Applications served at a time.
const MAX_CONNECTIONS: usize = 1024;

/// Numbers up to here are the same to whoever reads JSON.
const MOST_BOOT: u64 = (1 << 53) - 1;
