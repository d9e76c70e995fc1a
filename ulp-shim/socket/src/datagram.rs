//! UDP sockets whose datagrams are tagged, both ways (Q-47 to Q-51, N-15, N-17).

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};
use std::time::SystemTime;

use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, sendmsg,
};
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::claim::Claims;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::gateway::Gateway;
use crate::requirement::Requirement;
use crate::stamp::{source, stamp};
use crate::tag::{DatagramTag, DatagramTags, Unknown};

/// A UDP socket that tells of each datagram who sent it, and sends to who is required.
#[derive(Debug)]
pub struct UdpSocket {
    socket: std::net::UdpSocket,
    local: SocketAddr,
    gateway: Gateway,
    tags: DatagramTags,
    claims: Claims,
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

    /// Sends to and receives from this address alone.
    ///
    /// # Errors
    /// [`Error`]
    pub fn connect(&self, address: SocketAddr) -> Result<()> {
        self.socket.connect(address).map_err(|error| Error::io(&format!("connecting to {address}"), &error))
    }

    /// Sends a datagram; where something is required, to who is required, and otherwise not at all.
    ///
    /// # Errors
    /// [`Error`]; nothing was sent.
    pub fn send_to(&self, octets: &[u8], to: SocketAddr, requirement: Option<&Requirement>) -> Result<usize> {
        let failed = |error| Error::io(&format!("sending to {to}"), &error);
        let Some(requirement) = requirement else { return self.socket.send_to(octets, to).map_err(failed) };
        let local = source(&self.socket, to)?;
        self.claims.claim(&self.socket, to, local, requirement)?;
        self.send_from(octets, local, to)
            .map_err(|errno| Error::system(&format!("sending to {to}"), errno_of(errno)))
    }

    /// The next datagram: who sent it, as its header says, and what is known of that.
    ///
    /// # Errors
    /// [`Error`]. What could not be asked is no error: the tag says so.
    pub fn recv_from(&self, to: &mut [u8]) -> Result<(usize, SocketAddr, DatagramTag)> {
        let failed = |errno| Error::system("receiving a datagram", errno);
        loop {
            match self.receive(to) {
                Ok((octets, from, stamp)) => return Ok((octets, from, self.tag(from, stamp))),
                Err(nix::Error::EAGAIN) => self.wait()?,
                Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(failed(errno_of(errno))),
            }
        }
    }

    /// The socket itself.
    #[must_use]
    pub const fn socket(&self) -> &std::net::UdpSocket {
        &self.socket
    }

    /// What is known of a datagram that came from there; this may ask the gateway.
    fn tag(&self, from: SocketAddr, stamp: Option<Stamp>) -> DatagramTag {
        match stamp {
            Some(Stamp { at, to }) => {
                self.tags.of(&self.socket, from, SocketAddr::new(to, self.local.port()), at)
            }
            None => DatagramTag::Unknown(Unknown::Unstamped),
        }
    }

    /// Waits for a datagram, as the socket is set to wait.
    fn wait(&self) -> Result<()> {
        let failed = |errno| Error::system("receiving a datagram", errno);
        if fcntl_getfl(&self.socket).map_err(failed)?.contains(OFlags::NONBLOCK) {
            return Err(failed(Errno::AGAIN));
        }
        let timeout =
            self.socket.read_timeout().map_err(|error| Error::io("receiving a datagram", &error))?;
        let deadline = timeout.map_or(Deadline::never(), Deadline::after);
        deadline.wait(self.socket.as_fd(), PollFlags::IN).map_err(|error| match error.kind() {
            ErrorKind::TimedOut => failed(Errno::AGAIN),
            _ => error,
        })
    }

    /// A datagram that is there, where it came from, and when and where to.
    ///
    /// The system stamps what it did not stamp on arrival when it is received, which is too late: a stamp counts only where
    /// it is earlier than the call.
    fn receive(&self, to: &mut [u8]) -> nix::Result<(usize, SocketAddr, Option<Stamp>)> {
        let called = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
        let called = called.and_then(|called| u64::try_from(called.as_nanos()).ok()).unwrap_or_default();
        let mut pieces = [IoSliceMut::new(to)];
        let mut control = nix::cmsg_space!(libc::timespec, libc::in6_pktinfo, libc::in_pktinfo);
        let fd = self.socket.as_raw_fd();
        let came = recvmsg::<SockaddrStorage>(fd, &mut pieces, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
        let (mut at, mut address) = (None, None);
        for message in came.cmsgs()? {
            match message {
                ControlMessageOwned::ScmTimestampns(stamp) => {
                    at = nanoseconds(stamp.tv_sec(), stamp.tv_nsec())
                }
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    address = Some(IpAddr::from(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())));
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    address = Some(IpAddr::from(info.ipi6_addr.s6_addr).to_canonical());
                }
                _ => {}
            }
        }
        let from = came.address.as_ref().and_then(unstored).ok_or(nix::Error::EAFNOSUPPORT)?;
        let stamp = at.filter(|at| *at < called).zip(address).map(|(at, to)| Stamp { at, to });
        Ok((came.bytes, from, stamp))
    }

    /// Sends from that address, whatever the routes say meanwhile.
    fn send_from(&self, octets: &[u8], local: SocketAddr, to: SocketAddr) -> nix::Result<usize> {
        let pieces = [IoSlice::new(octets)];
        let fd = self.socket.as_raw_fd();
        match (local.ip(), to) {
            (IpAddr::V4(local), SocketAddr::V4(to)) if self.local.is_ipv4() => {
                let own = libc::in_addr { s_addr: u32::from_ne_bytes(local.octets()) };
                let nobody = libc::in_addr { s_addr: 0 };
                let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: own, ipi_addr: nobody };
                let control = [ControlMessage::Ipv4PacketInfo(&info)];
                sendmsg(fd, &pieces, &control, MsgFlags::empty(), Some(&SockaddrIn::from(to)))
            }
            (local, to) => {
                let mapped = |address: IpAddr| match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped(),
                    IpAddr::V6(address) => address,
                };
                let to = match to {
                    SocketAddr::V6(to) => to,
                    SocketAddr::V4(to) => SocketAddrV6::new(to.ip().to_ipv6_mapped(), to.port(), 0, 0),
                };
                let own = libc::in6_addr { s6_addr: mapped(local).octets() };
                let info = libc::in6_pktinfo { ipi6_addr: own, ipi6_ifindex: to.scope_id() };
                let control = [ControlMessage::Ipv6PacketInfo(&info)];
                sendmsg(fd, &pieces, &control, MsgFlags::empty(), Some(&SockaddrIn6::from(to)))
            }
        }
    }
}

/// When a datagram came, and where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    /// Nanoseconds since 1970-01-01T00:00Z.
    at: u64,
    to: IpAddr,
}

impl Gateway {
    /// A UDP socket at an address, whose datagrams are tagged.
    ///
    /// # Errors
    /// [`Error`]
    pub fn udp(&self, address: SocketAddr) -> Result<UdpSocket> {
        let failed = |errno| Error::system(&format!("binding {address}"), errno);
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None).map_err(failed)?;
        // Before it is bound, so that no datagram is older than its stamp's being asked for.
        stamp(&socket)?;
        rustix::net::bind(&socket, &address).map_err(failed)?;
        let socket = std::net::UdpSocket::from(socket);
        let local = socket.local_addr().map_err(|error| Error::io(&format!("binding {address}"), &error))?;
        let (gateway, tags, claims) =
            (self.clone(), DatagramTags::new(self.clone()), Claims::new(self.clone()));
        Ok(UdpSocket { socket, local, gateway, tags, claims })
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn unstored(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from(SocketAddrV4::from(*v4)));
    let v6 = || address.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6));
    v4.or_else(|| {
        let v6 = v6()?;
        let mapped = v6.ip().to_ipv4_mapped().map(|v4| SocketAddr::from((v4, v6.port())));
        Some(mapped.unwrap_or(SocketAddr::V6(v6)))
    })
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> Option<u64> {
    let seconds = u64::try_from(seconds).ok()?.checked_mul(1_000_000_000)?;
    seconds.checked_add(u64::try_from(nanoseconds).ok()?)
}

fn errno_of(errno: nix::Error) -> Errno {
    Errno::from_raw_os_error(errno as i32)
}
