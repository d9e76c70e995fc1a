//! What becomes of sockets, as it happens (K-10, K-12).

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use latchway_control::app::{AppEvent, AppEventKind, Watch};

use crate::answer::{Answer, NoGateway};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::exchange::{Exchange, Trouble};
use crate::gateway::{Gateway, few_enough};
use crate::line::Line;

/// Something that happened to a watched socket, or to the watching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which of the watched sockets, in the order in which they were given; `None` where it is said of none of them.
    pub socket: Option<usize>,
    /// What happened.
    pub kind: EventKind,
    /// What protects the socket from here on, where the gateway says so.
    pub answer: Option<Answer>,
    /// When: milliseconds since 1970-01-01T00:00Z.
    pub time: u64,
    /// One sentence for people.
    pub text: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The socket's latch is in force.
    Established,
    /// Its latch broke: nothing passes.
    Broken(Reason),
    /// Its latch was closed, or it was itself.
    Closed(Reason),
    /// The SAs that carry it have new keys; nothing else changed.
    Rekeyed,
    /// The peer's outer address is another; nothing else changed (K-9).
    AddressChanged {
        /// Where it was.
        from: SocketAddr,
        /// Where it is.
        to: SocketAddr,
    },
    /// So many events were not told, as this program was too slow; the last state of each socket is told all the same.
    Lost(u64),
    /// The gateway ends; nothing follows.
    GatewayEnding,
}

/// Why, in the gateway's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reason(Option<String>);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("no reason given"))
    }
}

/// What becomes of some sockets, an event after the other. Waits for each; ends behind [`EventKind::GatewayEnding`] and
/// behind an error.
#[derive(Debug)]
pub struct Events {
    line: Line,
    exchange: Exchange<Watch>,
    watched: usize,
    over: bool,
}

impl Events {
    /// The next event, waited for no longer than this; `None` where none came.
    ///
    /// # Errors
    /// [`Error`]; nothing follows.
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<Event>> {
        match self.next_by(Deadline::after(timeout)) {
            Some(Err(error)) if error.kind() == ErrorKind::TimedOut => Ok(None),
            next => next.transpose(),
        }
    }

    /// Whether the connection is still this one's: a program may have closed its descriptor.
    pub fn is_open(&mut self) -> bool {
        self.line.is_open()
    }

    /// Whether no event follows: the gateway ended, or the connection to it failed.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// A descriptor that can be read from when there may be an event. Behind it some may have been read already: ask
    /// [`next_within`](Self::next_within) no time until there is none, and wait for the descriptor then.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        self.line.descriptor().ok_or_else(|| Error::absent(NoGateway::Ending))
    }

    fn next_by(&mut self, deadline: Deadline) -> Option<Result<Event>> {
        if self.over {
            return None;
        }
        let next = match self.line.hear(&mut self.exchange, deadline) {
            Ok(said) => Event::read(said, self.watched),
            // Nothing came in time, and what comes is heard by the next call.
            Err(Trouble::Failed(error)) if error.kind() == ErrorKind::TimedOut => return Some(Err(error)),
            Err(trouble) => Err(trouble.into_error()),
        };
        self.over = next.as_ref().map_or(true, |event| event.kind == EventKind::GatewayEnding);
        Some(next)
    }
}

impl Iterator for Events {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_by(Deadline::never())
    }
}

impl Gateway {
    /// What becomes of these sockets, from now on. They are known by their order here; that one is closed is told, too.
    ///
    /// # Errors
    /// [`Error`]; there must be 1 to 64 sockets, of one gateway.
    pub fn watch<'a>(&self, sockets: impl IntoIterator<Item = BorrowedFd<'a>>) -> Result<Events> {
        let sockets: Vec<_> = sockets.into_iter().collect();
        few_enough(&sockets)?;
        let deadline = Deadline::after(self.timeout());
        let mut none = NoGateway::NoSocket;
        for (path, trust) in self.places() {
            let watching =
                Line::open(&path, trust, deadline).and_then(|line| begin(line, &sockets, deadline));
            match watching {
                Err(error) => none = none.rather(error.no_gateway().ok_or(error)?),
                watching => return watching,
            }
        }
        Err(Error::absent(none))
    }
}

/// What becomes of these sockets, from now on.
///
/// # Errors
/// As [`Gateway::watch`].
pub fn watch<'a>(sockets: impl IntoIterator<Item = BorrowedFd<'a>>) -> Result<Events> {
    Gateway::of_process().watch(sockets)
}

impl Event {
    /// Reads what a gateway says to who watches so many sockets.
    pub(crate) fn read(said: AppEvent, watched: usize) -> Result<Self> {
        let lacking = |what: &str| Error::protocol(format_args!("an event does not say {what}"));
        let reason = Reason(said.reason);
        let kind = match said.event {
            AppEventKind::Watching => return Err(Error::protocol("it says twice that it watches")),
            AppEventKind::Established => EventKind::Established,
            AppEventKind::Broken => EventKind::Broken(reason),
            AppEventKind::Closed => EventKind::Closed(reason),
            AppEventKind::Rekeyed => EventKind::Rekeyed,
            AppEventKind::AddressChanged => {
                let (from, to) = said.from.zip(said.to).ok_or_else(|| lacking("where the peer is"))?;
                EventKind::AddressChanged { from, to }
            }
            AppEventKind::Lost => EventKind::Lost(said.count.unwrap_or_default()),
            AppEventKind::Ending => EventKind::GatewayEnding,
        };
        let socket =
            said.socket.map(|socket| usize::try_from(socket).ok().filter(|socket| *socket < watched));
        let socket = socket.map(|socket| socket.ok_or_else(|| lacking("of which socket"))).transpose()?;
        if socket.is_none() && !matches!(kind, EventKind::Lost(_) | EventKind::GatewayEnding) {
            return Err(lacking("of which socket"));
        }
        let answer = said.view.as_ref().map(Answer::read).transpose()?;
        Ok(Self { socket, kind, answer, time: said.time, text: said.text })
    }
}

/// Has the gateway watch, and waits until it does.
fn begin(mut line: Line, sockets: &[BorrowedFd<'_>], deadline: Deadline) -> Result<Events> {
    let mut exchange = Exchange::more(&Watch {})?;
    let first = line.say(&mut exchange, sockets, deadline).and_then(|()| line.hear(&mut exchange, deadline));
    match first {
        Ok(AppEvent { event: AppEventKind::Watching, .. }) => {
            Ok(Events { line, exchange, watched: sockets.len(), over: false })
        }
        Ok(AppEvent { event, .. }) => Err(Error::protocol(format_args!("it says {event} before it watches"))),
        Err(trouble) => Err(trouble.into_error()),
    }
}
