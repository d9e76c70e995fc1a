//! What gateways have said of the flows of datagrams, for as long as it is worth anything (Q-49, N-6, N-17).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use latchway_control::app::{Datagram, DatagramView, Doubt, Pieces};
use rustix::net::getsockname;
use rustix::net::sockopt::socket_cookie;

use crate::answer::Answer;
use crate::clocks::Clocks;
use crate::error::{Error, ErrorKind, Result};
use crate::forked::Forked;
use crate::gateway::Gateway;
use crate::protection::Protection;
use crate::tag::{DatagramTag, Unknown};

/// What is known of the datagrams of flows. An answer serves for the datagrams that came before it, and for a moment: a burst
/// costs one question.
#[derive(Clone, Debug)]
pub struct DatagramTags {
    gateway: Gateway,
    known: Arc<Forked<Flows>>,
}

/// What the system says of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Where it says that it came from.
    pub from: SocketAddr,
    /// When it came, in nanoseconds since 1970-01-01T00:00Z; `None` where that is not known for certain: a stamp that is not
    /// earlier than the receiving call is the system's word for that call, and not for the datagram.
    pub at: Option<u64>,
    /// The address that it came to, and the index of the device that it came by.
    pub place: Option<(IpAddr, u32)>,
    /// Whether it came in pieces; `None` where the system was not asked to say so (`IP_RECVFRAGSIZE`).
    pub in_pieces: Option<bool>,
}

/// A question about a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    flow: Flow,
    at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flow {
    cookie: u64,
    remote: SocketAddr,
    local: SocketAddr,
    interface: u32,
}

#[derive(Debug, Default)]
struct Flows {
    known: HashMap<Flow, Known>,
    /// When a gateway was silent last, and what was said of that.
    silent: Option<(Clocks, Error)>,
}

/// What protected a flow, and when, both in nanoseconds since 1970-01-01T00:00Z.
#[derive(Clone, Debug)]
struct Known {
    protection: std::result::Result<(Protection, u64), Unknown>,
    as_of: u64,
    /// Before it was asked for.
    looked: Clocks,
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

    /// The same for a call that is not to wait.
    #[must_use]
    pub fn in_haste(self) -> Self {
        let timeout = self.gateway.timeout().min(HASTE);
        self.with_timeout(timeout)
    }

    /// Has a socket say of each datagram whether it came in pieces. What it received before, it does not say that of.
    ///
    /// # Errors
    /// [`Error`]
    pub fn prepare(&self, socket: impl AsFd) -> Result<()> {
        self.not_silent()?;
        self.heard(&Clocks::look(), self.gateway.call(&Pieces {}, &[socket.as_fd()])).map(drop)
    }

    /// What is known of a datagram that this socket received. This may ask the gateway.
    pub fn of(&self, socket: impl AsFd, arrived: &Arrived) -> DatagramTag {
        let question = match self.question(socket.as_fd(), arrived) {
            Ok(question) => question,
            Err(tag) => return tag,
        };
        let looked = Clocks::look();
        let asked = self.not_silent().and_then(|()| self.gateway.call(&question.call(), &[socket.as_fd()]));
        self.learn(&question, looked, self.heard(&looked, asked))
    }

    /// What is to be asked about a datagram; or its tag, where nothing is.
    pub(crate) fn question(
        &self,
        socket: BorrowedFd<'_>,
        arrived: &Arrived,
    ) -> std::result::Result<Question, DatagramTag> {
        let unknown = |why| Err(DatagramTag::Unknown(why));
        // Whenever that was.
        if arrived.in_pieces == Some(true) {
            return unknown(Unknown::InPieces);
        }
        let (Some(at), Some((to, interface)), Some(false)) = (arrived.at, arrived.place, arrived.in_pieces)
        else {
            return unknown(Unknown::Unstamped);
        };
        let own = getsockname(socket).and_then(SocketAddr::try_from);
        let (cookie, own) = match (socket_cookie(socket), own) {
            (Ok(cookie), Ok(own)) => (cookie, own),
            (Err(errno), _) | (_, Err(errno)) => {
                return unknown(Unknown::Unasked(Error::system("asking who the socket is", errno)));
            }
        };
        let remote = SocketAddr::new(arrived.from.ip().to_canonical(), arrived.from.port());
        let local = SocketAddr::new(to.to_canonical(), own.port());
        let question = Question { flow: Flow { cookie, remote, local, interface }, at };
        let now = Clocks::look();
        match self.known.of_process().known.get(&question.flow).filter(|known| known.serves(at, &now)) {
            Some(known) => Err(known.judge(at, &now)),
            None => Ok(question),
        }
    }

    /// The tag of a datagram, after this was asked about it.
    pub(crate) fn learn(
        &self,
        question: &Question,
        looked: Clocks,
        answer: Result<DatagramView>,
    ) -> DatagramTag {
        let known = match answer.and_then(|view| Known::read(&view, looked)) {
            Ok(known) => known,
            Err(error) => return DatagramTag::Unknown(Unknown::Unasked(error)),
        };
        let now = Clocks::look();
        let tag = known.judge(question.at, &now);
        self.known.of_process().keep(question.flow, known, &now);
        tag
    }

    /// Does not ask who did not answer a moment ago: nobody who sends datagrams from many ports holds up a server by that.
    pub(crate) fn not_silent(&self) -> Result<()> {
        let now = Clocks::look();
        match &self.known.of_process().silent {
            Some((since, error)) if now.nanoseconds_since(since) < SILENCE => Err(error.clone()),
            _ => Ok(()),
        }
    }

    pub(crate) fn heard<T>(&self, looked: &Clocks, answer: Result<T>) -> Result<T> {
        if let Err(error) = &answer
            && error.kind() == ErrorKind::TimedOut
        {
            self.known.of_process().silent = Some((*looked, error.clone()));
        }
        answer
    }
}

impl Question {
    pub(crate) const fn call(&self) -> Datagram {
        Datagram { remote: self.flow.remote, local: self.flow.local, interface: self.flow.interface }
    }
}

impl Flows {
    fn keep(&mut self, flow: Flow, known: Known, now: &Clocks) {
        if self.known.len() >= MOST {
            self.known.retain(|_, known| known.is_fresh(now));
        }
        if self.known.len() < MOST {
            self.known.insert(flow, known);
        }
    }
}

impl Known {
    fn read(view: &DatagramView, looked: Clocks) -> Result<Self> {
        let protection = match (view.doubt, Answer::read(&view.view)?, view.since) {
            (Some(Doubt::OtherDevice), ..) => Err(Unknown::OtherDevice),
            (Some(Doubt::Forgeable), ..) => Err(Unknown::Forgeable),
            (None, Answer::Latched(protection), Some(since)) => Ok((protection, since)),
            (None, Answer::Latched(_), None) => Err(Unknown::Earlier),
            (None, Answer::Unlatched(_) | Answer::NoGateway(_), _) => Err(Unknown::Unlatched),
        };
        Ok(Self { protection, as_of: view.as_of, looked })
    }

    fn is_fresh(&self, now: &Clocks) -> bool {
        now.nanoseconds_since(&self.looked) < FRESH && !now.was_set_since(&self.looked)
    }

    fn serves(&self, at: u64, now: &Clocks) -> bool {
        at <= self.as_of && self.is_fresh(now)
    }

    /// A datagram is certain only where its stamp lies within the time of one latch, by a clock that nobody set.
    fn judge(&self, at: u64, now: &Clocks) -> DatagramTag {
        let why = match &self.protection {
            Err(why) => why.clone(),
            Ok(_) if at > self.as_of || now.was_set_since(&self.looked) => Unknown::Unstamped,
            Ok((_, since)) if at < *since => Unknown::Earlier,
            Ok((protection, _)) => return DatagramTag::Certain(protection.clone()),
        };
        DatagramTag::Unknown(why)
    }
}

/// Of flows that are remembered; of others each datagram is asked about.
const MOST: usize = 4096;
/// How long an answer serves, and how long nobody is asked who was silent, in nanoseconds.
const FRESH: u64 = 100_000_000;
const SILENCE: u64 = 1_000_000_000;
/// How long a question may take in a call that is not to wait.
const HASTE: Duration = Duration::from_millis(50);
