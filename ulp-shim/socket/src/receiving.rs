//! One datagram, with all that the system says of it.

use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

use crate::clocks::Clocks;
use crate::known::Arrived;

/// When a receiving call was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called(Clocks);

impl Called {
    /// Now, right before it.
    #[must_use]
    pub fn now() -> Self {
        Self(Clocks::look())
    }

    /// The stamp that came with a datagram, in nanoseconds since 1970-01-01T00:00Z, once the call is over: `None` where it may be of
    /// the call, and not of the datagram's arrival. The system stamps what it did not stamp on arrival when it is received, by
    /// whatever clock it has then.
    #[must_use]
    pub fn stamp(&self, at: u64) -> Option<u64> {
        (at < self.0.now && !Clocks::look().was_set_since(&self.0)).then_some(at)
    }
}

/// Receives a datagram that is there, or waits for one as the flags say. Its stamp counts only where it is older than the call.
///
/// `tells_pieces`: whether the socket was asked, before this, to say what came in pieces.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    to: &mut [u8],
    flags: MsgFlags,
    tells_pieces: bool,
) -> nix::Result<(usize, Arrived)> {
    let called = Called::now();
    let mut pieces = [IoSliceMut::new(to)];
    let mut control = [0; CONTROL];
    let came = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut pieces, Some(&mut control), flags)?;
    // Nobody sent what the end of the socket was told by.
    let from = came.address.as_ref().and_then(unstored).ok_or(nix::Error::ESHUTDOWN)?;
    let mut arrived = Arrived { from, at: None, place: None, in_pieces: tells_pieces.then_some(false) };
    if came.flags.contains(MsgFlags::MSG_CTRUNC) {
        // What is missing may be what counts.
        return Ok((came.bytes, Arrived { in_pieces: None, ..arrived }));
    }
    for message in came.cmsgs()? {
        match message {
            ControlMessageOwned::ScmTimestampns(stamp) => {
                arrived.at = nanoseconds(stamp.tv_sec(), stamp.tv_nsec());
            }
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                let to = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes());
                arrived.place = u32::try_from(info.ipi_ifindex).ok().map(|device| (to.into(), device));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let to = IpAddr::from(info.ipi6_addr.s6_addr).to_canonical();
                arrived.place = Some((to, info.ipi6_ifindex));
            }
            // Several datagrams in one have one stamp.
            ControlMessageOwned::UdpGroSegments(_) => arrived.in_pieces = Some(true),
            ControlMessageOwned::Unknown(other) => {
                let (level, kind) = (other.cmsg_header.cmsg_level, other.cmsg_header.cmsg_type);
                if [(libc::IPPROTO_IP, IP_RECVFRAGSIZE), (libc::IPPROTO_IPV6, IPV6_RECVFRAGSIZE)]
                    .contains(&(level, kind))
                {
                    arrived.in_pieces = Some(true);
                }
            }
            _ => {}
        }
    }
    arrived.at = arrived.at.and_then(|at| called.stamp(at));
    Ok((came.bytes, arrived))
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

/// Room for what programs have a socket say besides.
const CONTROL: usize = 1024;

/// From linux/in.h and linux/in6.h.
const IP_RECVFRAGSIZE: i32 = 25;
const IPV6_RECVFRAGSIZE: i32 = 77;
