//! Who sent a datagram, and what protected it (Q-49, N-6, N-17): certain, or not known.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use latchway_control::app::{Datagram, DatagramView};
use rustix::net::sockopt::socket_cookie;

use crate::answer::Answer;
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::protection::Protection;

/// What is known of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatagramTag {
    /// It came from this peer, under this protection.
    Certain(Protection),
    /// It may have come from anybody.
    Unknown(Unknown),
}

/// Why nothing is certain of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Its flow had no latch.
    Unlatched,
    /// It came before its flow had the latch that it has, or too close to that moment to tell.
    Earlier,
    /// The system did not say when it came, or where to: so it is for a while after stamps were asked for.
    Unstamped,
    /// The gateway could not be asked.
    Unasked(Error),
}

/// What is known of the datagrams of flows. An answer is kept until datagrams are later than it: a burst costs one question.
#[derive(Clone, Debug)]
pub struct DatagramTags {
    gateway: Gateway,
    known: Arc<Mutex<HashMap<Flow, Known>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flow {
    cookie: u64,
    remote: SocketAddr,
    local: SocketAddr,
}

/// What protected a flow, and when, both in nanoseconds since 1970-01-01T00:00Z.
#[derive(Clone, Debug)]
struct Known {
    protection: Option<Protection>,
    since: u64,
    as_of: u64,
}

impl DatagramTags {
    /// Nothing known yet, of these gateways.
    #[must_use]
    pub fn new(gateway: Gateway) -> Self {
        Self { gateway, known: Arc::default() }
    }

    /// The same, asked for within another time ([`Gateway::with_timeout`]).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.gateway = self.gateway.with_timeout(timeout);
        self
    }

    /// What is known of a datagram that this socket received, which the system stamped at `stamp` nanoseconds since
    /// 1970-01-01T00:00Z. A stamp that is not earlier than the receiving call is the system's word for that call, and not for
    /// the datagram's arrival: it must not be given here.
    pub fn of(&self, socket: impl AsFd, remote: SocketAddr, local: SocketAddr, stamp: u64) -> DatagramTag {
        match self.known_of(socket, remote, local, stamp) {
            Ok(known) => known.judge(stamp),
            Err(error) => DatagramTag::Unknown(Unknown::Unasked(error)),
        }
    }

    fn known_of(
        &self,
        socket: impl AsFd,
        remote: SocketAddr,
        local: SocketAddr,
        stamp: u64,
    ) -> Result<Known> {
        let cookie =
            socket_cookie(&socket).map_err(|errno| Error::system("asking who the socket is", errno))?;
        let flow = Flow { cookie, remote, local };
        if let Some(known) = self.known().get(&flow).filter(|known| stamp <= known.as_of) {
            return Ok(known.clone());
        }
        let view = self.gateway.call(&Datagram { remote, local }, &[socket.as_fd()])?;
        let known = Known::read(&view)?;
        let mut all = self.known();
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(flow, known.clone());
        Ok(known)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Flow, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn read(view: &DatagramView) -> Result<Self> {
        let protection = match Answer::read(&view.view)? {
            Answer::Latched(protection) => Some(protection),
            Answer::Unlatched(_) | Answer::NoGateway(_) => None,
        };
        Ok(Self { protection, since: view.since, as_of: view.as_of })
    }

    /// A datagram is certain only where its stamp lies within the time of one latch, and not close to its beginning.
    fn judge(self, stamp: u64) -> DatagramTag {
        let margin = u64::try_from(MARGIN.as_nanos()).unwrap_or(u64::MAX);
        let within = self.since.saturating_add(margin) < stamp && stamp <= self.as_of;
        match self.protection {
            Some(protection) if within => DatagramTag::Certain(protection),
            Some(_) => DatagramTag::Unknown(Unknown::Earlier),
            None => DatagramTag::Unknown(Unknown::Unlatched),
        }
    }
}

/// By which a stamp must be later than the latch: the system's clock and the gateway's readings of it are that far apart at
/// most.
const MARGIN: Duration = Duration::from_millis(1);
/// Of flows that are remembered; they are asked for again behind it.
const MOST: usize = 4096;
