//! What the system is asked of sockets for datagrams, and to say of datagrams.

#![expect(unsafe_code, reason = "options are numbers behind pointers")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::datagram::milliseconds;
use crate::failure::Failure;

/// Whose datagrams a socket of UDP has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    V4,
    /// And of IPv4, unless that was turned off.
    V6,
}

/// What a socket has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    Datagram,
    /// Its end, or an error.
    Other,
    Nothing,
}

/// Which datagrams a socket has, if it is one of UDP.
pub fn domain(socket: BorrowedFd<'_>) -> Result<Option<Domain>, Failure> {
    let ask = |name| read(socket, (libc::SOL_SOCKET, name));
    let domain = match ask(libc::SO_DOMAIN)? {
        libc::AF_INET => Domain::V4,
        libc::AF_INET6 => Domain::V6,
        _ => return Ok(None),
    };
    let is_udp = ask(libc::SO_TYPE)? == libc::SOCK_DGRAM && ask(libc::SO_PROTOCOL)? == libc::IPPROTO_UDP;
    Ok(is_udp.then_some(domain))
}

/// Has a socket say of each datagram when it came, where to, by which device, and whether in pieces.
pub fn tell_all(socket: BorrowedFd<'_>, domain: Domain) -> Result<(), Failure> {
    told_by(domain).iter().try_for_each(|&option| turn_on(socket, option))
}

/// Whether it does.
pub fn tells_all(socket: BorrowedFd<'_>, domain: Domain) -> Result<bool, Failure> {
    told_by(domain).iter().try_fold(true, |all, &option| Ok(all && read(socket, option)? != 0))
}

/// Whether calls on a socket do not wait.
pub fn is_nonblocking(socket: BorrowedFd<'_>) -> Result<bool, Failure> {
    // SAFETY: F_GETFL touches no memory.
    let flags = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 { Err(failed("asking how the socket waits")) } else { Ok(flags & libc::O_NONBLOCK != 0) }
}

/// Waits until a socket has something, or for so long.
pub fn wait(socket: BorrowedFd<'_>, left: Option<Duration>) -> Result<Ready, Failure> {
    let mut polled = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: it is one, ours for the time of the call.
    if unsafe { libc::poll(&raw mut polled, 1, milliseconds(left)) } < 0 {
        return Err(failed("waiting for a datagram"));
    }
    Ok(match polled.revents {
        0 => Ready::Nothing,
        libc::POLLIN => Ready::Datagram,
        _ => Ready::Other,
    })
}

const fn told_by(domain: Domain) -> &'static [(c_int, c_int)] {
    match domain {
        Domain::V4 => &V4,
        Domain::V6 => &V6,
    }
}

fn turn_on(socket: BorrowedFd<'_>, (level, name): (c_int, c_int)) -> Result<(), Failure> {
    let (on, length): (c_int, _) = (1, size_of::<c_int>() as libc::socklen_t);
    // SAFETY: `on` is a number as long as `length` says, and ours for the time of the call, which only reads it.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), length) };
    if result < 0 { Err(failed("asking what datagrams are known by")) } else { Ok(()) }
}

fn read(socket: BorrowedFd<'_>, (level, name): (c_int, c_int)) -> Result<c_int, Failure> {
    let (mut value, mut length): (c_int, _) = (0, size_of::<c_int>() as libc::socklen_t);
    // SAFETY: `value` is a number as long as `length` says, and both are ours for the time of the call.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length)
    };
    if result < 0 { Err(failed("asking what the socket is")) } else { Ok(value) }
}

fn failed(doing: &str) -> Failure {
    let error = io::Error::last_os_error();
    Failure::saying(error.raw_os_error().unwrap_or(libc::EIO), format!("{doing}: {error}"))
}

const V4: [(c_int, c_int); 3] = [
    (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IP, IP_RECVFRAGSIZE),
];
const V6: [(c_int, c_int); 4] = [
    (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    (libc::IPPROTO_IPV6, IPV6_RECVFRAGSIZE),
    (libc::IPPROTO_IP, IP_RECVFRAGSIZE),
];

/// From linux/in.h and linux/in6.h.
pub const IP_RECVFRAGSIZE: c_int = 25;
/// The same of IPv6.
pub const IPV6_RECVFRAGSIZE: c_int = 77;
