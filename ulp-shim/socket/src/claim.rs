//! What a socket sends to one destination, held to what is required (Q-48, C-7).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use latchway_control::app::{Claim, RequirementSpec};
use rustix::net::getpeername;
use rustix::net::sockopt::socket_cookie;

use crate::answer::Answer;
use crate::error::{Error, ErrorKind, Result};
use crate::gateway::Gateway;
use crate::requirement::Requirement;

/// Latches of our own for datagrams, each for one socket, destination and requirement. They live as long as the connection
/// to the gateway that they were claimed on; behind it nothing is sent that was not claimed again.
#[derive(Clone, Debug)]
pub struct Claims {
    gateway: Gateway,
    made: Arc<Mutex<HashMap<Claimed, u64>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Claimed {
    cookie: u64,
    remote: SocketAddr,
    local: SocketAddr,
    requirement: String,
}

impl Claims {
    /// None yet, of these gateways.
    #[must_use]
    pub fn new(gateway: Gateway) -> Self {
        Self { gateway, made: Arc::default() }
    }

    /// The same claims, made within another time ([`Gateway::with_timeout`]).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.gateway = self.gateway.with_timeout(timeout);
        self
    }

    /// Has what this socket sends from one address to another be what is required. The datagram must leave from `local`.
    ///
    /// Of a socket that is connected to there it is required of the socket, each time anew, for anybody who has the socket may
    /// require something else meanwhile. Of others a latch is claimed, unless that was done before.
    ///
    /// # Errors
    /// What is required is not met, or nobody knows: nothing may be sent. [`ErrorKind::Unsupported`] where the gateway gives no
    /// latches for datagrams of sockets that are not connected.
    pub fn claim(
        &self,
        socket: impl AsFd,
        remote: SocketAddr,
        local: SocketAddr,
        requirement: &Requirement,
    ) -> Result<()> {
        let cookie =
            socket_cookie(&socket).map_err(|errno| Error::system("asking who the socket is", errno))?;
        if is_connected(&socket, remote) {
            return self.gateway.require(socket, requirement);
        }
        let claimed = Claimed { cookie, remote, local, requirement: spelled(requirement.spec()) };
        let standing = self.gateway.standing()?;
        if self.made().get(&claimed).is_some_and(|connection| Some(*connection) == standing) {
            return Ok(());
        }
        let wait = self.gateway.timeout() / 2;
        let call = Claim {
            remote,
            local: Some(local),
            requirement: Some(requirement.spec().clone()),
            wait: wait.min(LONGEST_WAIT).as_millis().try_into().unwrap_or_default(),
        };
        let (view, connection) = self.gateway.call_numbered(&call, &[socket.as_fd()])?;
        let Answer::Latched(_) = Answer::read(&view)? else {
            let said = format!("datagrams to {remote} do not have what is required, and none was sent");
            return Err(Error::new(ErrorKind::Forbidden, said));
        };
        let mut made = self.made();
        // Of those whose connection ended, none is of use.
        made.retain(|_, of| *of == connection);
        if made.len() >= MOST {
            made.clear();
        }
        made.insert(claimed, connection);
        Ok(())
    }

    fn made(&self) -> MutexGuard<'_, HashMap<Claimed, u64>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what a socket sends without saying where to goes there.
fn is_connected(socket: impl AsFd, remote: SocketAddr) -> bool {
    let peer = getpeername(socket).ok().flatten().and_then(|peer| SocketAddr::try_from(peer).ok());
    peer.is_some_and(|peer| {
        (peer.ip().to_canonical(), peer.port()) == (remote.ip().to_canonical(), remote.port())
    })
}

/// A requirement as one string, to be compared.
fn spelled(spec: &RequirementSpec) -> String {
    format!("{spec:?}")
}

/// Of claims that are remembered; they are asked for again behind it.
const MOST: usize = 1024;
/// For an SA, as the gateway lets anybody wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
