//! What the system says of datagrams, once it is asked to: when one came, where to, and by which device (N-17).

use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::sockopt::socket_domain;

use crate::error::{Error, Result};

/// Has the system say of each datagram of a socket when it came, where to, and by which device.
pub(crate) fn stamp(socket: impl AsFd) -> Result<()> {
    let failed = |errno: nix::Error| {
        Error::system("asking when datagrams come", Errno::from_raw_os_error(errno as i32))
    };
    let family = socket_domain(&socket).map_err(|errno| Error::system("asking what the socket is", errno))?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).map_err(failed)?;
    if family == AddressFamily::INET {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).map_err(failed)
    } else {
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true).map_err(failed)
    }
}
