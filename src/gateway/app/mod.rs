//! app.sock: what applications ask of sockets that they have, each passed as a descriptor (Q-46, P-67).
//!
//! Whoever has a socket may ask about it, and about no other: a call names nothing. What a descriptor is, is read off it,
//! and it is closed before anybody else is asked.

mod conversation;
mod descriptor;
mod hands;
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
use crate::gateway::app::places::{MAX_PER_USER, Place, Places};
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
    const LIMITS: Limits = Limits {
        connections: MAX_CONNECTIONS,
        kept: MAX_CONNECTIONS / 64,
        per_user: MAX_PER_USER,
        listeners: MAX_CONNECTIONS / 2,
        holders: 0,
    };
    const NAME: &'static str = "app";
    const SHARE: u64 = 2;
    type Place = Place;

    /// Everybody may speak, each user over so many connections at a time; root and the gateway's own over any number.
    fn admit(&self, stream: &UnixStream) -> Option<Answer<Self::Place>> {
        let user = getsockopt(stream, sockopt::PeerCredentials).ok()?.uid();
        let full = || Failure::busy("the user has as many connections as one may have", "close one of them");
        Some(Places::take(&self.places, user).ok_or_else(full))
    }

    fn user(place: &Self::Place) -> Option<u32> {
        (!place.is_privileged()).then(|| place.user())
    }

    fn in_its_words(failure: Failure) -> Failure {
        failure.of_app()
    }

    fn converse(&self, stream: &UnixStream, caller: &Caller, place: &Self::Place) -> Result<(), FrameError> {
        converse(stream, caller, place, self)
    }

    fn end(&self) {
        self.state.watched().end();
    }
}

/// Applications served at a time.
const MAX_CONNECTIONS: usize = 1024;

/// Numbers up to here are the same to whoever reads JSON.
const MOST_BOOT: u64 = (1 << 53) - 1;
