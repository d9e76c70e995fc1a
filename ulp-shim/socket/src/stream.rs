//! TCP connections that are required to have a peer and a protection from their first SYN on.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{set_socket_reuseaddr, socket_error};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::answer::{Answer, Unlatched};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::gateway::Gateway;
use crate::protection::Protection;
use crate::requirement::Requirement;

/// Listens for TCP connections whose peers must be what is required: the SYN of any other is not answered.
#[derive(Debug)]
pub struct Listener {
    listens: TcpListener,
    gateway: Gateway,
}

impl Listener {
    /// Listens at an address. What is required is required before anybody can connect.
    ///
    /// # Errors
    /// [`Error`]
    pub fn bind(address: SocketAddr, requirement: &Requirement) -> Result<Self> {
        Gateway::of_process().listen(address, requirement)
    }

    /// The next connection: who it is from, and what protects it. That is what the gateway knows of it now; a connection that
    /// ended meanwhile is not latched any more.
    ///
    /// # Errors
    /// [`Error`]. The listener can be used on.
    pub fn accept(&self) -> Result<(TcpStream, SocketAddr, Answer)> {
        let (stream, from) =
            self.listens.accept().map_err(|error| Error::io("accepting a connection", &error))?;
        let answer = self.gateway.protection(&stream)?;
        Ok((stream, from, answer))
    }

    /// The socket itself.
    #[must_use]
    pub const fn socket(&self) -> &TcpListener {
        &self.listens
    }
}

impl Gateway {
    /// Connects to an address, and tells what protects the connection. Nothing is sent to anybody but who is required. The
    /// gateway has its time for each question; how long the other end has to answer, the system says.
    ///
    /// # Errors
    /// [`Error`]: also where the connection is there, and not latched ([`ErrorKind::Unsatisfied`]); it is closed then.
    pub fn connect(&self, address: SocketAddr, requirement: &Requirement) -> Result<(TcpStream, Protection)> {
        let stream = dialling(address)?;
        self.require(&stream, requirement)?;
        loop {
            match rustix::net::connect(&stream, &address) {
                Ok(()) | Err(Errno::ISCONN) => break,
                Err(Errno::INPROGRESS | Errno::ALREADY) => {
                    Deadline::never().wait(stream.as_fd(), PollFlags::OUT)?;
                    finished(&stream, address)?;
                    break;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(refused(address, errno)),
            }
        }
        ioctl_fionbio(&stream, false).map_err(|errno| Error::system("connecting", errno))?;
        let protection = latched(self.protection(&stream)?, requirement)?;
        Ok((stream.into(), protection))
    }

    /// Listens at an address for who is required.
    ///
    /// # Errors
    /// [`Error`]
    pub fn listen(&self, address: SocketAddr, requirement: &Requirement) -> Result<Listener> {
        let socket = bound(address, SocketFlags::empty())?;
        self.require(&socket, requirement)?;
        listening(&socket, address)?;
        Ok(Listener { listens: socket.into(), gateway: self.clone() })
    }
}

/// Connects to an address, and tells what protects the connection: [`Gateway::connect`] of the gateways of this host.
///
/// # Errors
/// As there.
pub fn connect(address: SocketAddr, requirement: &Requirement) -> Result<(TcpStream, Protection)> {
    Gateway::of_process().connect(address, requirement)
}

/// A socket that is about to connect, and does not wait.
pub(crate) fn dialling(address: SocketAddr) -> Result<OwnedFd> {
    stream_socket(address, SocketFlags::NONBLOCK)
}

/// A socket at an address, which does not listen yet.
pub(crate) fn bound(address: SocketAddr, flags: SocketFlags) -> Result<OwnedFd> {
    let failed = |errno| Error::system(&format!("binding {address}"), errno);
    let socket = stream_socket(address, flags)?;
    set_socket_reuseaddr(&socket, true).map_err(failed)?;
    rustix::net::bind(&socket, &address).map_err(failed)?;
    Ok(socket)
}

/// Lets a socket listen.
pub(crate) fn listening(socket: &OwnedFd, address: SocketAddr) -> Result<()> {
    rustix::net::listen(socket, BACKLOG)
        .map_err(|errno| Error::system(&format!("listening at {address}"), errno))
}

/// Whether a connection came to stand.
pub(crate) fn finished(stream: impl AsFd, address: SocketAddr) -> Result<()> {
    match socket_error(stream) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(errno)) | Err(errno) => Err(refused(address, errno)),
    }
}

/// The protection, of a connection that is latched to who is required.
pub(crate) fn latched(answer: Answer, requirement: &Requirement) -> Result<Protection> {
    match answer {
        Answer::Latched(protection) if requirement.is_met_by(&protection) => Ok(protection),
        Answer::Latched(protection) => {
            let said = format!("the connection is with {}, and was closed", protection.audit());
            Err(Error::new(ErrorKind::Unsatisfied, said))
        }
        Answer::NoGateway(which) => Err(Error::absent(which)),
        Answer::Unlatched(Unlatched::Suspended { reason }) => {
            let reason = reason.unwrap_or_else(|| "its latch is not in force".into());
            Err(Error::new(
                ErrorKind::Suspended,
                format!("nothing passes on the connection: {reason}; connect again"),
            ))
        }
        Answer::Unlatched(unlatched) => {
            let said = format!(
                "the connection has no latch ({unlatched}), and was closed; see what the policy says"
            );
            Err(Error::new(ErrorKind::Unsatisfied, said))
        }
    }
}

fn refused(address: SocketAddr, errno: Errno) -> Error {
    let doing = match errno {
        Errno::CONNREFUSED => format!("connecting to {address}, by it or as what is required is not met"),
        _ => format!("connecting to {address}"),
    };
    Error::system(&doing, errno)
}

fn stream_socket(address: SocketAddr, flags: SocketFlags) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | flags, None)
        .map_err(|errno| Error::system("making a socket", errno))
}

/// Of connections that nobody accepted yet; the system lowers it to its own limit.
const BACKLOG: i32 = 4096;
