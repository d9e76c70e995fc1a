//! The same for programs that run on tokio: no call here holds up a thread.
//!
//! Each call is made on a connection of its own, a few at a time, since a connection that was kept would belong to one runtime.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::tokio::io::Interest;
use ::tokio::net::{TcpStream, UnixStream};
use ::tokio::sync::Semaphore;
use ::tokio::time::{sleep, timeout};
use futures_core::Stream;
use latchway_control::app::{self, AppEvent, AppEventKind, Watch};
use latchway_control::call::Method;
use rustix::io::Errno;
use rustix::net::SocketFlags;

use crate::answer::{Answer, NoGateway};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventKind};
use crate::exchange::{Exchange, Trouble};
use crate::gateway::{Gateway, few_enough, internet};
use crate::line::{self, Line, Trust};
use crate::protection::Protection;
use crate::requirement::Requirement;
use crate::stream::{bound, dialling, finished, latched, listening};

/// A gateway that is asked without holding up a thread.
#[derive(Clone, Debug)]
pub struct AsyncGateway(Gateway);

/// Listens for TCP connections whose peers must be what is required.
#[derive(Debug)]
pub struct TcpListener {
    listens: ::tokio::net::TcpListener,
    gateway: AsyncGateway,
}

/// What becomes of some sockets, as a stream.
#[derive(Debug)]
pub struct Events {
    connection: UnixStream,
    exchange: Exchange<Watch>,
    watched: usize,
    over: bool,
}

impl From<Gateway> for AsyncGateway {
    fn from(gateway: Gateway) -> Self {
        Self(gateway)
    }
}

impl AsyncGateway {
    /// As [`Gateway::protection`].
    ///
    /// # Errors
    /// As there.
    pub async fn protection(&self, socket: impl AsFd) -> Result<Answer> {
        match self.call(&app::Protection {}, socket.as_fd()).await {
            Ok(view) => Answer::read(&view),
            Err(error) => error.no_gateway().map(Answer::NoGateway).ok_or(error),
        }
    }

    /// As [`Gateway::require`].
    ///
    /// # Errors
    /// As there.
    pub async fn require(&self, socket: impl AsFd, requirement: &Requirement) -> Result<()> {
        self.call(requirement.call()?, socket.as_fd()).await.map(|_| ())
    }

    /// As [`Gateway::connect`].
    ///
    /// # Errors
    /// As there.
    pub async fn connect(
        &self,
        address: SocketAddr,
        requirement: &Requirement,
    ) -> Result<(TcpStream, Protection)> {
        let failed = |error: io::Error| Error::io(&format!("connecting to {address}"), &error);
        let socket = dialling(address)?;
        self.require(&socket, requirement).await?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        let stream = TcpStream::from_std(socket.into()).map_err(failed)?;
        stream.writable().await.map_err(failed)?;
        finished(&stream, address)?;
        let protection = latched(self.protection(&stream).await?, requirement)?;
        Ok((stream, protection))
    }

    /// As [`Gateway::listen`].
    ///
    /// # Errors
    /// As there.
    pub async fn listen(&self, address: SocketAddr, requirement: &Requirement) -> Result<TcpListener> {
        let socket = bound(address, SocketFlags::NONBLOCK)?;
        self.require(&socket, requirement).await?;
        listening(&socket, address)?;
        let listens = ::tokio::net::TcpListener::from_std(socket.into());
        let listens = listens.map_err(|error| Error::io(&format!("listening at {address}"), &error))?;
        Ok(TcpListener { listens, gateway: self.clone() })
    }

    /// As [`Gateway::watch`], as a stream.
    ///
    /// # Errors
    /// As there.
    pub async fn watch<'a>(&self, sockets: impl IntoIterator<Item = BorrowedFd<'a>>) -> Result<Events> {
        let sockets: Vec<_> = sockets.into_iter().collect();
        few_enough(&sockets)?;
        let begun = async {
            let mut none = NoGateway::NoSocket;
            for (path, trust) in self.0.places() {
                match begin(&path, trust, &sockets).await {
                    Err(error) => none = none.rather(error.no_gateway().ok_or(error)?),
                    begun => return begun,
                }
            }
            Err(Error::absent(none))
        };
        timeout(self.0.timeout(), begun).await.unwrap_or_else(|_| Err(Error::timed_out()))
    }

    async fn call<M: Method>(&self, call: &M, socket: BorrowedFd<'_>) -> Result<M::Reply> {
        internet(socket)?;
        let asked = async {
            let _place = AT_ONCE.acquire().await.map_err(Error::protocol)?;
            let mut none = NoGateway::NoSocket;
            for (path, trust) in self.0.places() {
                match ask(&path, trust, call, socket).await {
                    Err(error) => none = none.rather(error.no_gateway().ok_or(error)?),
                    answered => return answered,
                }
            }
            Err(Error::absent(none))
        };
        timeout(self.0.timeout(), asked).await.unwrap_or_else(|_| Err(Error::timed_out()))
    }
}

/// As [`crate::protection`].
///
/// # Errors
/// As there.
pub async fn protection(socket: impl AsFd) -> Result<Answer> {
    AsyncGateway(Gateway::of_process()).protection(socket).await
}

/// As [`crate::require`].
///
/// # Errors
/// As there.
pub async fn require(socket: impl AsFd, requirement: &Requirement) -> Result<()> {
    AsyncGateway(Gateway::of_process()).require(socket, requirement).await
}

/// As [`crate::connect`].
///
/// # Errors
/// As there.
pub async fn connect(address: SocketAddr, requirement: &Requirement) -> Result<(TcpStream, Protection)> {
    AsyncGateway(Gateway::of_process()).connect(address, requirement).await
}

/// As [`crate::watch`].
///
/// # Errors
/// As there.
pub async fn watch<'a>(sockets: impl IntoIterator<Item = BorrowedFd<'a>>) -> Result<Events> {
    AsyncGateway(Gateway::of_process()).watch(sockets).await
}

impl TcpListener {
    /// As [`crate::Listener::bind`].
    ///
    /// # Errors
    /// As there.
    pub async fn bind(address: SocketAddr, requirement: &Requirement) -> Result<Self> {
        AsyncGateway(Gateway::of_process()).listen(address, requirement).await
    }

    /// As [`crate::Listener::accept`].
    ///
    /// # Errors
    /// As there.
    pub async fn accept(&self) -> Result<(TcpStream, SocketAddr, Answer)> {
        let accepted = self.listens.accept().await;
        let (stream, from) = accepted.map_err(|error| Error::io("accepting a connection", &error))?;
        let answer = self.gateway.protection(&stream).await?;
        Ok((stream, from, answer))
    }

    /// The socket itself.
    #[must_use]
    pub const fn socket(&self) -> &::tokio::net::TcpListener {
        &self.listens
    }
}

impl Stream for Events {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let events = &mut *self;
        if events.over {
            return Poll::Ready(None);
        }
        let said = ready!(events.poll_said(context));
        let next = said.and_then(|said| Event::read(said, events.watched));
        events.over = next.as_ref().map_or(true, |event| event.kind == EventKind::GatewayEnding);
        Poll::Ready(Some(next))
    }
}

impl Events {
    fn poll_said(&mut self, context: &mut Context<'_>) -> Poll<Result<AppEvent>> {
        loop {
            match self.exchange.reply() {
                Ok(Some(said)) => return Poll::Ready(Ok(said)),
                Ok(None) => {}
                Err(trouble) => return Poll::Ready(Err(trouble.into_error())),
            }
            let failed = |error: io::Error| Error::io("hearing the gateway", &error);
            ready!(self.connection.poll_read_ready(context)).map_err(failed)?;
            let (connection, exchange) = (&self.connection, &mut self.exchange);
            let receive = || Ok(line::receive(connection.as_fd(), exchange)?);
            match connection.try_io(Interest::READABLE, receive) {
                Ok(0) => return Poll::Ready(Err(self.exchange.ended().into_error())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(failed(error))),
            }
        }
    }
}

/// Asks one gateway.
async fn ask<M: Method>(
    path: &std::path::Path,
    trust: Trust,
    call: &M,
    socket: BorrowedFd<'_>,
) -> Result<M::Reply> {
    let connection = dial(path, trust).await?;
    let mut exchange = Exchange::one(call)?;
    let reply = converse(&connection, &mut exchange, &[socket]).await.map_err(Trouble::into_error)?;
    if exchange.is_over() { Ok(reply) } else { Err(Error::protocol("it says more than was asked")) }
}

/// Has one gateway watch.
async fn begin(path: &std::path::Path, trust: Trust, sockets: &[BorrowedFd<'_>]) -> Result<Events> {
    let connection = dial(path, trust).await?;
    let mut exchange = Exchange::more(&Watch {})?;
    let first = converse(&connection, &mut exchange, sockets).await.map_err(Trouble::into_error)?;
    if first.event != AppEventKind::Watching {
        return Err(Error::protocol(format_args!("it says {} before it watches", first.event)));
    }
    Ok(Events { connection, exchange, watched: sockets.len(), over: false })
}

/// Connects; a full backlog is tried until whoever waits gives up.
async fn dial(path: &std::path::Path, trust: Trust) -> Result<UnixStream> {
    let line = loop {
        match Line::dial(path, trust) {
            Err(error) if error.kind() == ErrorKind::Busy => sleep(line::RETRY).await,
            dialled => break dialled?,
        }
    };
    let stream = line.into_stream().ok_or_else(|| Error::absent(NoGateway::Ending))?;
    UnixStream::from_std(stream.into()).map_err(|error| Error::io("waiting for the gateway", &error))
}

/// Says a call and hears its first reply.
async fn converse<M: Method>(
    connection: &UnixStream,
    exchange: &mut Exchange<M>,
    sockets: &[BorrowedFd<'_>],
) -> std::result::Result<M::Reply, Trouble> {
    let failed = |error: io::Error| Trouble::Failed(Error::io("asking the gateway", &error));
    while !exchange.to_send().is_empty() {
        let send = || Ok(line::send(connection.as_fd(), exchange, sockets)?);
        match connection.async_io(Interest::WRITABLE, send).await {
            Ok(()) => {}
            // It may have said why before it closed.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) => return Err(failed(error)),
        }
    }
    loop {
        if let Some(reply) = exchange.reply()? {
            return Ok(reply);
        }
        let receive = || Ok(line::receive(connection.as_fd(), exchange)?);
        match connection.async_io(Interest::READABLE, receive).await {
            Ok(0) => return Err(exchange.ended()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(exchange.ended()),
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Connections for calls, of which a gateway gives each user so many.
static AT_ONCE: Semaphore = Semaphore::const_new(16);
