//! app.sock: what applications ask of sockets that they have, each passed as a descriptor (Q-46, P-67).
//!
//! Whoever has a socket may ask about it, and about no other: a call names nothing. What a descriptor is, is read off it,
//! and it is closed before anybody else is asked.

mod conversation;
mod datagrams;
mod descriptor;
mod gone;
mod hands;
mod hub;
mod places;
mod protection;
mod record;
mod requiring;
mod spaces;
#[cfg(test)]
mod tests;
mod wall;
mod watching;

use self::gone::Gone;
pub use self::hub::Hub;
pub use self::record::{Record, run_of_system};
pub use self::spaces::Spaces;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use latchway_control::app::GatewayView;
use latchway_control::{Failure, FrameError};
use latchway_ulp_shim::{SocketOwners, SocketsGone};
use nix::sys::socket::{getsockopt, sockopt};

use crate::gateway::app::conversation::converse;
use crate::gateway::app::datagrams::Datagrams;
use crate::gateway::app::places::{MAX_PER_USER, Place, Places};
use crate::gateway::app::requiring::Requiring;
use crate::gateway::app::wall::Wall;
use crate::gateway::operator::Answer;
use crate::gateway::serve::Door;
use crate::gateway::serve::callers::{Caller, Limits};
use crate::gateway::state::State;

/// The sockets of the inner namespace.
pub struct Inner {
    /// Whose they are.
    pub spaces: Spaces,
    /// Tells of their ends.
    pub ends: SocketsGone,
    /// Says whose flows are.
    pub owners: SocketOwners,
    /// Which run of the system it is.
    pub run: String,
}

/// What app.sock serves.
pub struct Applications {
    state: Arc<State>,
    /// Whose sockets the gateway speaks of.
    spaces: Spaces,
    /// The number of this start.
    boot: u64,
    places: Arc<Places>,
    requiring: Arc<Requiring>,
    datagrams: Datagrams,
    wall: Arc<Wall>,
    _gone: Gone,
}

impl Applications {
    /// The applications of a gateway, with sockets in these spaces, to be served at this path. What is required of them by a
    /// record beside that is in force from here on.
    ///
    /// # Errors
    /// The record cannot be read; the system gives no random number, or no thread.
    pub fn new(state: Arc<State>, sockets: Inner, app: &Path) -> io::Result<Self> {
        let boot = getrandom::u64().map_err(io::Error::other)? & MOST_BOOT;
        let Inner { spaces, ends, owners, run } = sockets;
        let (record, recorded) = Record::open(app, run, |space| spaces.inner() == space)?;
        let ends = Arc::new(ends);
        let requiring = Arc::new(Requiring::new(Arc::clone(&state), Arc::clone(&ends), record));
        requiring.resume(&recorded)?;
        let wall = Arc::new(Wall::new(state.started));
        let gone = Gone::start(ends, &spaces, Arc::clone(&requiring), Arc::clone(&wall))?;
        let (places, datagrams) = (Arc::default(), Datagrams::new(owners));
        Ok(Self { state, spaces, boot, places, requiring, datagrams, wall, _gone: gone })
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
