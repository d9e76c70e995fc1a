//! What a descriptor is that an application passed: read off it, whatever it claims to be.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use latchway_control::Failure;
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::low::socket_facts::{self, bound_device, netns_cookie};
use latchway_ulp_shim::Cookie;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{
    socket_acceptconn, socket_cookie, socket_domain, socket_protocol, socket_reuseaddr, socket_reuseport,
    socket_type,
};
use rustix::net::{AddressFamily, SocketAddrAny, SocketType, getpeername, getsockname};

use crate::gateway::operator::Answer;

/// A socket of an application: the ends of its flow, and which socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Which socket it is, whatever becomes of its ends.
    pub cookie: Cookie,
    /// The number of its upper-layer protocol.
    pub protocol: u8,
    /// Its own end; IPv4 where it is that, in whatever form.
    pub local: SocketAddr,
    /// The other end, where it has one.
    pub remote: Option<SocketAddr>,
    /// How far it is.
    pub stage: Stage,
    /// Whether it may share its port with other sockets (SO_REUSEADDR of UDP, SO_REUSEPORT).
    pub shares: bool,
    /// The device that it is bound to, where its packets go around the gateway by that.
    pub astray: Option<u32>,
}

/// How far a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has no other end, and awaits none.
    Fresh,
    /// It has sent its SYN, and was not answered yet.
    Opening,
    /// It has another end.
    Connected,
    /// It awaits connections.
    Listening,
}

impl Facts {
    /// Reads them off a descriptor. Only TCP and UDP sockets in one of the spaces have any.
    ///
    /// # Errors
    /// A [`Failure`] that says what it is instead.
    pub fn read(descriptor: BorrowedFd<'_>, inner: u64) -> Answer<Self> {
        // Not by fstat: of a file, its file system would be asked, which answers if it likes.
        let domain = socket_domain(descriptor).map_err(|error| match error {
            Errno::NOTSOCK | Errno::BADF => {
                Failure::not_a_socket("the descriptor is not a socket", "pass a TCP or UDP socket")
            }
            error => unreadable(error),
        })?;
        if ![AddressFamily::INET, AddressFamily::INET6].contains(&domain) {
            return Err(wrong("is not of IPv4 or IPv6"));
        }
        let number = socket_protocol(descriptor).map_err(unreadable)?.map(|protocol| protocol.as_raw().get());
        let known = [protocol::TCP, protocol::UDP].into_iter().find(|&known| number == Some(known.into()));
        let protocol = known.ok_or_else(|| wrong("is neither of TCP nor of UDP"))?;
        // A raw socket says to be of the protocol that it makes packets of.
        let usual = if protocol == protocol::TCP { SocketType::STREAM } else { SocketType::DGRAM };
        if socket_type(descriptor).map_err(unreadable)? != usual {
            return Err(wrong("is a raw one"));
        }
        // Before its addresses mean anything: in another namespace they are another's.
        let space = netns_cookie(descriptor).ok().filter(|&cookie| cookie == inner);
        let space = space.ok_or_else(|| {
            let hint = "ask the gateway of the socket's own network namespace";
            Failure::not_here("the socket is in a network namespace that this gateway does not serve", hint)
        })?;
        let cookie = Cookie { space, socket: socket_cookie(descriptor).map_err(unreadable)? };
        let local = name(descriptor)?;
        let remote = match getpeername(descriptor) {
            Ok(remote) => remote.and_then(canonical),
            Err(Errno::NOTCONN) => None,
            Err(error) => return Err(unreadable(error)),
        };
        // Both ends are of one connection only where nobody connected it anew between the looks.
        if name(descriptor)? != local {
            return Err(wrong("is being connected"));
        }
        let astray = bound_device(descriptor).map_err(|_| wrong("does not say where it is bound"))?;
        let (stage, shares) = (stage(descriptor, protocol, remote)?, shares(descriptor, protocol)?);
        Ok(Self { cookie, protocol, local, remote, stage, shares, astray })
    }

    /// Its flow, where it has another end, and the gateway sees its packets.
    pub fn flow(&self) -> Option<FlowKey> {
        self.remote
            .filter(|_| self.astray.is_none())
            .map(|remote| FlowKey::new(self.protocol, self.local, remote))
    }
}

/// Lets a socket that has facts speak by this device alone.
///
/// # Errors
/// It cannot.
pub fn bind_to(descriptor: BorrowedFd<'_>, device: u32) -> Answer<()> {
    socket_facts::bind_device(descriptor, device)
        .map_err(|error| wrong(&format!("cannot be kept from other ways than the gateway's: {error}")))
}

/// Has a socket that has facts say of each datagram whether it came in pieces.
///
/// # Errors
/// It cannot.
pub fn tell_of_pieces(descriptor: BorrowedFd<'_>) -> Answer<()> {
    let is_ipv6 = socket_domain(descriptor).map_err(unreadable)? == AddressFamily::INET6;
    socket_facts::tell_of_pieces(descriptor, is_ipv6)
        .map_err(|error| wrong(&format!("does not say what comes in pieces: {error}")))
}

/// How far a socket is that has this other end, if any. One of TCP that nobody connected hangs up on whoever polls it, and
/// one that waits for an answer to its SYN does not.
fn stage(descriptor: BorrowedFd<'_>, of: u8, remote: Option<SocketAddr>) -> Answer<Stage> {
    if remote.is_some() {
        return Ok(Stage::Connected);
    }
    if of != protocol::TCP {
        return Ok(Stage::Fresh);
    }
    if socket_acceptconn(descriptor).map_err(unreadable)? {
        return Ok(Stage::Listening);
    }
    let mut polled = [PollFd::new(descriptor, PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO)
        .map_err(|error| unreadable(Errno::from_raw_os_error(error as i32)))?;
    let said = polled.iter().filter_map(PollFd::revents).fold(PollFlags::empty(), PollFlags::union);
    let hangs_up = said.contains(PollFlags::POLLHUP);
    Ok(if hangs_up { Stage::Fresh } else { Stage::Opening })
}

fn shares(descriptor: BorrowedFd<'_>, of: u8) -> Answer<bool> {
    let port = socket_reuseport(descriptor).map_err(unreadable)?;
    let address = of == protocol::UDP && socket_reuseaddr(descriptor).map_err(unreadable)?;
    Ok(port || address)
}

fn name(descriptor: BorrowedFd<'_>) -> Answer<SocketAddr> {
    let name = getsockname(descriptor).ok().and_then(canonical);
    name.ok_or_else(|| wrong("has no address"))
}

/// An end as flows have it: IPv4 where it is that.
fn canonical(end: SocketAddrAny) -> Option<SocketAddr> {
    let end = SocketAddr::try_from(end).ok()?;
    Some(SocketAddr::new(end.ip().to_canonical(), end.port()))
}

fn wrong(what: &str) -> Failure {
    Failure::wrong_socket(format!("the socket {what}"), "pass a TCP or UDP socket of IPv4 or IPv6")
}

fn unreadable(error: Errno) -> Failure {
    Failure::wrong_socket(format!("the socket tells nothing of itself: {error}"), "pass one that is open")
}
