//! UDP sockets whose datagrams are tagged (Q-49, Q-51, N-15, N-17).

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::socket::MsgFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::known::{Arrived, DatagramTags};
use crate::receiving::receive;
use crate::requirement::Requirement;
use crate::stamp::stamp;
use crate::tag::DatagramTag;

/// A UDP socket that tells of each datagram who sent it.
#[derive(Debug)]
pub struct UdpSocket {
    socket: std::net::UdpSocket,
    gateway: Gateway,
    tags: DatagramTags,
    /// Whether the socket says what came in pieces.
    tells_pieces: AtomicBool,
}

impl UdpSocket {
    /// A socket at an address.
    ///
    /// # Errors
    /// [`Error`]
    pub fn bind(address: SocketAddr) -> Result<Self> {
        Gateway::of_process().udp(address)
    }

    /// Requires something for all that the socket sends and receives, to and from whomever.
    ///
    /// # Errors
    /// [`Error`]
    pub fn require(&self, requirement: &Requirement) -> Result<()> {
        self.gateway.require(&self.socket, requirement)
    }

    /// The next datagram: who sent it, as its header says, and what is known of that. It waits as the socket is set to.
    /// The gateway is asked where it must be, which takes no longer than [`Gateway::with_timeout`] says; of a socket that does
    /// not wait, no longer than 50 milliseconds.
    ///
    /// # Errors
    /// [`Error`]. What could not be asked is no error: the tag says so.
    pub fn recv_from(&self, to: &mut [u8]) -> Result<(usize, SocketAddr, DatagramTag)> {
        let waits = !fcntl_getfl(&self.socket).map_err(failed)?.contains(OFlags::NONBLOCK);
        let (octets, arrived) = if waits { self.wait_for(to)? } else { self.take(to).map_err(failed)? };
        let tags = if waits { self.tags.clone() } else { self.tags.clone().in_haste() };
        if !self.tells_pieces.load(Ordering::Relaxed) && tags.prepare(&self.socket).is_ok() {
            // From the next one on.
            self.tells_pieces.store(true, Ordering::Relaxed);
        }
        Ok((octets, arrived.from, tags.of(&self.socket, &arrived)))
    }

    /// The socket itself, to send by it, and to set how long it waits. A datagram that is peeked at may have its time from that, so
    /// do not.
    #[must_use]
    pub const fn socket(&self) -> &std::net::UdpSocket {
        &self.socket
    }

    /// A datagram that is there.
    fn take(&self, to: &mut [u8]) -> rustix::io::Result<(usize, Arrived)> {
        self.receive(to, MsgFlags::MSG_DONTWAIT)
    }

    /// Waits for a datagram as long as the socket is set to.
    ///
    /// It is waited for before it is received, so that its stamp can be told to be older than the call. Where something else
    /// has come, as the end of the socket or an error to be read, the system is left to wait as it does.
    fn wait_for(&self, to: &mut [u8]) -> Result<(usize, Arrived)> {
        let timeout =
            self.socket.read_timeout().map_err(|error| Error::io("receiving a datagram", &error))?;
        let deadline = timeout.map_or(Deadline::never(), Deadline::after);
        let mut was_said_to_be_there = false;
        loop {
            match self.take(to) {
                Err(Errno::AGAIN) if was_said_to_be_there => return self.take_last(to),
                Err(Errno::AGAIN) => {}
                taken => return taken.map_err(failed),
            }
            let left = deadline.left().map_err(|_| failed(Errno::AGAIN))?.map(|left| Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
            let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
            poll(&mut polled, left.as_ref()).map_err(failed)?;
            let said = polled.iter().map(PollFd::revents).fold(PollFlags::empty(), PollFlags::union);
            if !said.is_empty() && said != PollFlags::IN {
                return self.take_last(to);
            }
            was_said_to_be_there = said == PollFlags::IN;
        }
    }

    /// Leaves it to the system to wait.
    fn take_last(&self, to: &mut [u8]) -> Result<(usize, Arrived)> {
        self.receive(to, MsgFlags::empty()).map_err(failed)
    }

    fn receive(&self, to: &mut [u8], flags: MsgFlags) -> rustix::io::Result<(usize, Arrived)> {
        let tells_pieces = self.tells_pieces.load(Ordering::Relaxed);
        receive(self.socket.as_fd(), to, flags, tells_pieces)
            .map_err(|errno| Errno::from_raw_os_error(errno as i32))
    }
}

impl Gateway {
    /// A UDP socket at an address, whose datagrams are tagged.
    ///
    /// # Errors
    /// [`Error`]; that there is no gateway is none, and the tags say so.
    pub fn udp(&self, address: SocketAddr) -> Result<UdpSocket> {
        let socket = std::net::UdpSocket::from(bound(address)?);
        let (gateway, tags) = (self.clone(), DatagramTags::new(self.clone()));
        let tells_pieces = AtomicBool::new(tags.prepare(&socket).is_ok());
        Ok(UdpSocket { socket, gateway, tags, tells_pieces })
    }
}

/// A socket at an address that says of datagrams when and where they came.
pub(crate) fn bound(address: SocketAddr) -> Result<OwnedFd> {
    let failed = |errno| Error::system(&format!("binding {address}"), errno);
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None).map_err(failed)?;
    // Before it is bound, so that no datagram is older than its stamp's being asked for.
    stamp(&socket)?;
    rustix::net::bind(&socket, &address).map_err(failed)?;
    Ok(socket)
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn failed(errno: Errno) -> Error {
    Error::system("receiving a datagram", errno)
}
