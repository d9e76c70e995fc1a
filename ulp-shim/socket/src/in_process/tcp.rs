//! TCP connections of a gateway in the program.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use latchway_datapath::flow::FlowKey;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{RecvError, State};

use super::demands::Demands;
use super::gateway::Gateway;
use super::stack::{Fate, Stack};
use crate::answer::Answer;
use crate::error::{Error, ErrorKind, Result};
use crate::protection::Protection;
use crate::requirement::Requirement;

/// A TCP connection. Its peer and its protection are the same from its first segment to its last.
#[derive(Debug)]
pub struct TcpStream {
    gateway: Gateway,
    socket: SocketHandle,
    flow: FlowKey,
    /// How long reading and writing may wait.
    timeouts: Mutex<Timeouts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Timeouts {
    read: Option<Duration>,
    write: Option<Duration>,
}

/// Awaits TCP connections whose peers have what is required: the SYN of any other is not answered.
#[derive(Debug)]
pub struct TcpListener {
    gateway: Gateway,
    local: SocketAddr,
}

impl TcpStream {
    /// Connects, within 30 seconds, and tells what protects the connection. Nothing is sent to anybody but who is required.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`]: the peer would not have what is required. [`ErrorKind::TimedOut`]: nobody answers, or no SA
    /// serves the connection.
    pub fn connect(
        gateway: &Gateway,
        remote: SocketAddr,
        requirement: &Requirement,
    ) -> Result<(Self, Protection)> {
        Self::connect_within(gateway, remote, requirement, CONNECT)
    }

    /// The same, within another time.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_within(
        gateway: &Gateway,
        remote: SocketAddr,
        requirement: &Requirement,
        timeout: Duration,
    ) -> Result<(Self, Protection)> {
        let deadline = Instant::now() + timeout;
        let demands = Demands::of(requirement)?;
        let (socket, flow) = gateway.at_once(|stack, _| stack.connect(remote, demands))?;
        // From here on it is closed where something goes wrong.
        let stream = Self::new(gateway, socket, flow);
        let made = gateway.until(Some(deadline), |stack, _| {
            if let Some(fate) = stack.fate(socket) {
                return Err(error_of(fate, &flow));
            }
            Ok(match stack.tcp(socket).state() {
                State::SynSent | State::SynReceived => None,
                State::Closed => Some(Err(refused(remote))),
                _ => Some(Ok(())),
            })
        });
        match made {
            Ok(made) => made?,
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                gateway.at_once(|stack, _| stack.tcp(socket).abort());
                let said = format!(
                    "{remote} did not answer in time: nobody listens there, or there are no SAs with who has the address"
                );
                return Err(Error::new(ErrorKind::TimedOut, said));
            }
            Err(error) => return Err(error),
        }
        match stream.protection()? {
            Answer::Latched(protection) => Ok((stream, protection)),
            other => {
                let said = format!("the connection to {remote} lost its latch at once: {other}");
                Err(Error::new(ErrorKind::Unsatisfied, said))
            }
        }
    }

    fn new(gateway: &Gateway, socket: SocketHandle, flow: FlowKey) -> Self {
        Self { gateway: gateway.clone(), socket, flow, timeouts: Mutex::default() }
    }

    /// What protects the connection now, and who is on its other end.
    ///
    /// # Errors
    /// The gateway has ended.
    pub fn protection(&self) -> Result<Answer> {
        self.gateway.classes().of_flow(&self.flow)
    }

    /// Where it is from.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.flow.local()
    }

    /// Where it leads.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.flow.remote()
    }

    /// How long reading may wait; for ever, where nothing is said.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        self.timeouts.lock().unwrap_or_else(PoisonError::into_inner).read = timeout;
    }

    /// How long writing may wait; for ever, where nothing is said.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        self.timeouts.lock().unwrap_or_else(PoisonError::into_inner).write = timeout;
    }

    /// Says that nothing more will be written. What was written goes on its way.
    pub fn shutdown_write(&self) {
        self.gateway.at_once(|stack, _| stack.tcp(self.socket).close());
    }

    fn read_some(&self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.gateway.until(deadline(self.timeouts().read), |stack, _| {
            match stack.tcp(self.socket).recv_slice(buffer) {
                // A connection that was ended gives nothing more, not even what had come before.
                _ if stack.fate(self.socket).is_some() => Err(self.broken(stack)),
                Ok(0) => Ok(None),
                Ok(len) => Ok(Some(len)),
                Err(RecvError::Finished) => Ok(Some(0)),
                Err(RecvError::InvalidState) => Err(self.broken(stack)),
            }
        })
    }

    fn write_some(&self, octets: &[u8]) -> Result<usize> {
        if octets.is_empty() {
            return Ok(0);
        }
        self.gateway.until(deadline(self.timeouts().write), |stack, _| {
            match stack.tcp(self.socket).send_slice(octets) {
                Ok(0) => Ok(None),
                Ok(len) => Ok(Some(len)),
                Err(_) => Err(self.broken(stack)),
            }
        })
    }

    /// Why nothing more can be read or written.
    fn broken(&self, stack: &Stack) -> Error {
        match stack.fate(self.socket) {
            Some(fate) => error_of(fate, &self.flow),
            None => {
                let said = format!("the connection with {} is over: either side ended it", self.remote());
                Error::new(ErrorKind::NotConnected, said)
            }
        }
    }

    fn timeouts(&self) -> Timeouts {
        *self.timeouts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl io::Read for &TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.read_some(buffer)?)
    }
}

impl io::Write for &TcpStream {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        Ok(self.write_some(octets)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl io::Write for TcpStream {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        (&*self).write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.gateway.at_once(|stack, now| stack.leave(self.socket, &self.flow, now));
    }
}

impl TcpListener {
    /// Listens at a port of one address of the gateway, or of all where it is unspecified; port 0 is one that is free.
    ///
    /// # Errors
    /// The port is taken, or the address is not the gateway's.
    pub fn bind(gateway: &Gateway, address: SocketAddr, requirement: &Requirement) -> Result<Self> {
        let demands = Demands::of(requirement)?;
        let local = gateway.at_once(|stack, _| stack.listen(address, demands))?;
        Ok(Self { gateway: gateway.clone(), local })
    }

    /// The next connection: where it is from, and what protects it. One whose latch broke meanwhile is not latched.
    ///
    /// # Errors
    /// The gateway has ended.
    pub fn accept(&self) -> Result<(TcpStream, SocketAddr, Answer)> {
        self.accept_by(None)
    }

    /// The same, waited for no longer than this.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`], too.
    pub fn accept_within(&self, timeout: Duration) -> Result<(TcpStream, SocketAddr, Answer)> {
        self.accept_by(deadline(Some(timeout)))
    }

    /// Where it listens.
    #[must_use]
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    fn accept_by(&self, deadline: Option<Instant>) -> Result<(TcpStream, SocketAddr, Answer)> {
        let next = |stack: &mut Stack, now| Ok(stack.accept(self.local.port(), now));
        let (socket, flow) = self.gateway.until(deadline, next)?;
        let stream = TcpStream::new(&self.gateway, socket, flow);
        let answer = stream.protection()?;
        Ok((stream, flow.remote(), answer))
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.gateway.at_once(|stack, now| stack.unlisten(self.local.port(), now));
    }
}

fn error_of(fate: Fate, flow: &FlowKey) -> Error {
    let remote = flow.remote();
    match fate {
        Fate::Broken(reason) => {
            let why = reason.name();
            let said = format!(
                "the latch of the connection with {remote} broke ({why}), and the connection was ended"
            );
            Error::new(ErrorKind::Suspended, said)
        }
        Fate::Refused => {
            let said =
                format!("who has the address {remote} does not have what is required, and nothing was sent");
            Error::new(ErrorKind::Forbidden, said)
        }
    }
}

fn refused(remote: SocketAddr) -> Error {
    let errno = rustix::io::Errno::CONNREFUSED;
    Error::system(&format!("connecting to {remote}"), errno)
}

fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.map(|timeout| Instant::now() + timeout)
}

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(30);
