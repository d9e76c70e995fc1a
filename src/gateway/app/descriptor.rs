//! What a descriptor is that an application passed: read off it, whatever it claims to be.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use latchway_control::Failure;
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::low::socket_facts::netns_cookie;
use rustix::io::Errno;
use rustix::net::sockopt::{socket_domain, socket_protocol};
use rustix::net::{AddressFamily, SocketAddrAny, getpeername, getsockname};

use crate::gateway::app::Spaces;
use crate::gateway::operator::Answer;

/// A socket of an application: the ends of its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The number of its upper-layer protocol.
    pub protocol: u8,
    /// Its own end; IPv4 where it is that, in whatever form.
    pub local: SocketAddr,
    /// The other end, where it has one.
    pub remote: Option<SocketAddr>,
}

impl Facts {
    /// Reads them off a descriptor. Only TCP and UDP sockets in one of the spaces have any.
    ///
    /// # Errors
    /// A [`Failure`] that says what it is instead.
    pub fn read(descriptor: BorrowedFd<'_>, spaces: &Spaces) -> Answer<Self> {
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
        // Before its addresses mean anything: in another namespace they are another's.
        if !netns_cookie(descriptor).is_ok_and(|cookie| spaces.hold(cookie)) {
            let hint = "ask the gateway of the socket's own network namespace";
            return Err(Failure::not_here(
                "the socket is in a network namespace that this gateway does not serve",
                hint,
            ));
        }
        let local = getsockname(descriptor).ok().and_then(canonical);
        let local = local.ok_or_else(|| wrong("has no address"))?;
        let remote = match getpeername(descriptor) {
            Ok(remote) => remote.and_then(canonical),
            Err(Errno::NOTCONN) => None,
            Err(error) => return Err(unreadable(error)),
        };
        Ok(Self { protocol, local, remote })
    }

    /// Its flow, where it has another end.
    pub fn flow(&self) -> Option<FlowKey> {
        self.remote.map(|remote| FlowKey::new(self.protocol, self.local, remote))
    }
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
