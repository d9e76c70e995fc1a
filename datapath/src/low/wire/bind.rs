//! Binding the sockets of the wires and setting what they need.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use latchway_esp::Protocol;
use rustix::io::Errno;
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind as bind_socket, getsockname, socket_with};

use super::{WireError, message, taken};

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
    set_may_fragment(fd, local, false).map_err(failed("take over path MTU discovery"))?;
    tell_more(fd, local).map_err(failed("ask for traffic classes and errors"))?;
    // Without SO_REUSEPORT: a second daemon must be refused, not given half the packets.
    bind_socket(&socket, &local).map_err(failed("bind"))?;
    enlarge_buffers(fd);
    let gro = message::set(fd, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
    let bound = getsockname(&socket).map_err(failed("read back the address"))?;
    let local = SocketAddr::try_from(bound).map_err(failed("read back the address"))?;
    Ok(Bound { socket, local, gro })
}

/// A raw socket for one protocol of one address, which takes and gives whole packets.
pub(super) fn bind_raw(address: IpAddr, protocol: Protocol) -> Result<OwnedFd, WireError> {
    let local = SocketAddr::new(address, 0);
    let failed = |what| move |errno| WireError::raw(local, what, errno);
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let number = NonZeroU32::new(protocol.number().into()).map(rustix::net::Protocol::from_raw);
    let socket = socket_with(family, SocketType::RAW, flags, number).map_err(failed("make a raw socket"))?;
    let fd = socket.as_fd();
    bind_socket(&socket, &local).map_err(failed("bind"))?;
    set_may_fragment(fd, local, false).map_err(failed("take over path MTU discovery"))?;
    let (level, options) = match address {
        IpAddr::V4(_) => (libc::IPPROTO_IP, &RAW_V4[..]),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, &RAW_V6[..]),
    };
    for &option in options {
        message::set(fd, level, option, 1).map_err(failed("ask for whole packets"))?;
    }
    enlarge_buffers(fd);
    let unknown = |source| WireError::System { local, what: "see who else has the protocol", source };
    if taken::is_taken(&socket, address, protocol).map_err(unknown)? {
        return Err(WireError::Taken { address, protocol });
    }
    Ok(socket)
}

/// Headers are ours to write, and ICMP errors are told.
const RAW_V4: [i32; 2] = [libc::IP_HDRINCL, libc::IP_RECVERR];

/// The same, and everything of an IPv6 header that is not handed over with the packet.
const RAW_V6: [i32; 9] = [
    libc::IPV6_HDRINCL,
    libc::IPV6_RECVERR,
    libc::IPV6_RECVPKTINFO,
    libc::IPV6_RECVHOPLIMIT,
    libc::IPV6_RECVTCLASS,
    libc::IPV6_FLOWINFO,
    libc::IPV6_RECVHOPOPTS,
    libc::IPV6_RECVRTHDR,
    libc::IPV6_RECVDSTOPTS,
];

/// Sends with DF set, or so that packets may be cut, by the kernel too where the link is too short. Either way no ICMP is
/// believed: otherwise one forged message stops the wire (RFC 4301 section 8.2.1). Only what may be cut and has an IPv6 header
/// is cut to what the kernel heard that the path takes, since nobody cuts it later; never shorter than every link takes.
pub(super) fn set_may_fragment(
    fd: BorrowedFd<'_>,
    local: SocketAddr,
    may_fragment: bool,
) -> Result<(), Errno> {
    match (local.is_ipv4(), may_fragment) {
        (true, false) => sockopt::set_ip_mtu_discover(fd, Ipv4PathMtuDiscovery::PROBE),
        (true, true) => sockopt::set_ip_mtu_discover(fd, Ipv4PathMtuDiscovery::OMIT),
        (false, false) => sockopt::set_ipv6_mtu_discover(fd, Ipv6PathMtuDiscovery::PROBE),
        (false, true) => sockopt::set_ipv6_mtu_discover(fd, Ipv6PathMtuDiscovery::WANT),
    }
}

/// Has the kernel tell the traffic class of what arrives (RFC 6040), and what ICMP says of what was sent.
fn tell_more(fd: BorrowedFd<'_>, local: SocketAddr) -> Result<(), Errno> {
    let (level, class, errors) = if local.is_ipv4() {
        (libc::IPPROTO_IP, libc::IP_RECVTOS, libc::IP_RECVERR)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, libc::IPV6_RECVERR)
    };
    message::set(fd, level, class, 1)?;
    message::set(fd, level, errors, 1)
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
