//! Binding the wire socket and setting what it needs.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind as bind_socket, getsockname, socket_with};

use super::{WireError, message};

/// A socket ready for use.
pub(super) struct Bound {
    pub(super) socket: OwnedFd,
    pub(super) local: SocketAddr,
    pub(super) gro: bool,
}

pub(super) fn bind(local: SocketAddr) -> Result<Bound, WireError> {
    let failed = |what| move |errno| WireError::new(local, what, errno);
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, None).map_err(failed("make a socket"))?;
    let fd = socket.as_fd();
    if local.is_ipv6() {
        sockopt::set_ipv6_v6only(fd, true).map_err(failed("keep IPv4 out"))?;
    }
    probe_path_mtu(fd, local).map_err(failed("take over path MTU discovery"))?;
    // Without SO_REUSEPORT: a second daemon must be refused, not given half the packets.
    bind_socket(&socket, &local).map_err(failed("bind"))?;
    enlarge_buffers(fd);
    let gro = message::set_gro(fd).is_ok();
    let bound = getsockname(&socket).map_err(failed("read back the address"))?;
    let local = SocketAddr::try_from(bound).map_err(failed("read back the address"))?;
    Ok(Bound { socket, local, gro })
}

/// Send with DF set, and believe no ICMP: otherwise one forged message stops the wire (RFC 4301 section 8.2.1).
fn probe_path_mtu(fd: BorrowedFd<'_>, local: SocketAddr) -> Result<(), Errno> {
    if local.is_ipv4() {
        sockopt::set_ip_mtu_discover(fd, Ipv4PathMtuDiscovery::PROBE)
    } else {
        sockopt::set_ipv6_mtu_discover(fd, Ipv6PathMtuDiscovery::PROBE)
    }
}

/// As large as is allowed: beyond the system's limit with CAP_NET_ADMIN, else up to it. Smaller ones work too.
fn enlarge_buffers(fd: BorrowedFd<'_>) {
    let received = sockopt::set_socket_recv_buffer_size_force(fd, SOCKET_BUFFER_LEN)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(fd, SOCKET_BUFFER_LEN));
    let sent = sockopt::set_socket_send_buffer_size_force(fd, SOCKET_BUFFER_LEN)
        .or_else(|_| sockopt::set_socket_send_buffer_size(fd, SOCKET_BUFFER_LEN));
    // The kernel's default remains where neither is allowed, and overload is counted as such.
    let _ = received.and(sent);
}

const SOCKET_BUFFER_LEN: usize = 8 << 20;
