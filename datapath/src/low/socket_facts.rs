//! What the kernel says of a socket, whoever made it, and what it says to whoever reads from it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The cookie of the network namespace that a socket belongs to (Linux 5.14): never another's, for as long as the system
/// runs.
///
/// # Errors
/// It is no socket, or the kernel does not say.
pub fn netns_cookie(socket: impl AsFd) -> io::Result<u64> {
    option(socket.as_fd(), SO_NETNS_COOKIE)
}

/// The index of the network device that a socket is bound to (SO_BINDTODEVICE, SO_BINDTOIFINDEX); `None` where it is to none,
/// and routes decide.
///
/// # Errors
/// It is no socket, or the kernel does not say.
pub fn bound_device(socket: impl AsFd) -> io::Result<Option<u32>> {
    let index: u32 = option(socket.as_fd(), SO_BINDTOIFINDEX)?;
    Ok(Some(index).filter(|&index| index != 0))
}

/// Binds a socket to the network device with this index: whatever it sends leaves by that alone, and it receives nothing that
/// came by another. Who has not CAP_NET_RAW cannot undo it.
///
/// # Errors
/// It is no socket, or bound to another device already.
pub fn bind_device(socket: impl AsFd, index: u32) -> io::Result<()> {
    let socket = socket.as_fd();
    if bound_device(socket)? == Some(index) {
        return Ok(());
    }
    let index = libc::c_int::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
    set(socket, (libc::SOL_SOCKET, SO_BINDTOIFINDEX), index)
}

/// Has a socket say of each datagram that it receives whether it came in pieces, and how large those were (RFC 4301 section 7).
///
/// # Errors
/// It is no socket of IPv4 or IPv6, or the kernel does not do that.
pub fn tell_of_pieces(socket: impl AsFd, is_ipv6: bool) -> io::Result<()> {
    if is_ipv6 {
        set(socket.as_fd(), (libc::IPPROTO_IPV6, IPV6_RECVFRAGSIZE), 1)?;
    }
    set(socket.as_fd(), (libc::IPPROTO_IP, IP_RECVFRAGSIZE), 1)
}

/// Gives an option a value.
#[expect(unsafe_code, reason = "setsockopt is a foreign function, and no crate asks these of it")]
fn set(
    socket: BorrowedFd<'_>,
    (level, name): (libc::c_int, libc::c_int),
    value: libc::c_int,
) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is a number as long as `length` says, and ours for the time of the call, which only reads it.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[expect(unsafe_code, reason = "getsockopt is a foreign function, and no crate asks these of it")]
fn option<T: Number>(socket: BorrowedFd<'_>, name: libc::c_int) -> io::Result<T> {
    let (mut value, mut length) = (T::default(), size_of::<T>() as libc::socklen_t);
    // SAFETY: `value` is a number as long as `length` says, and both are ours for the time of the call.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// What options are: any octets are one.
trait Number: Copy + Default {}
impl Number for u32 {}
impl Number for u64 {}

/// From asm-generic/socket.h.
const SO_NETNS_COOKIE: libc::c_int = 71;
const SO_BINDTOIFINDEX: libc::c_int = 62;

/// From linux/in.h and linux/in6.h.
const IP_RECVFRAGSIZE: libc::c_int = 25;
const IPV6_RECVFRAGSIZE: libc::c_int = 77;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::net::UdpSocket;
    use std::os::unix::net::UnixDatagram;

    use latchway_netns::{Namespace, testing};

    #[test]
    fn sockets_of_one_namespace_have_one_cookie_and_those_of_another_another() {
        let name =
            "low::socket_facts::tests::sockets_of_one_namespace_have_one_cookie_and_those_of_another_another";
        testing::namespaced(name, || {
            let cookie = |namespace: &Namespace| {
                namespace.run(|| netns_cookie(UnixDatagram::unbound().unwrap()).unwrap()).unwrap()
            };
            let here = netns_cookie(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
            assert_eq!(cookie(&Namespace::current().unwrap()), here);
            let there = Namespace::create("there").unwrap();
            assert_ne!(cookie(&there), here);
            assert_eq!(cookie(&there), cookie(&there));
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            assert_eq!(bound_device(&socket).unwrap(), None);
            for _ in 0..2 {
                bind_device(&socket, 1).unwrap();
                assert_eq!(bound_device(&socket).unwrap(), Some(1));
            }
            assert!(bind_device(&socket, u32::MAX).is_err());
        });
        assert_eq!(netns_cookie(File::open("/").unwrap()).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
    }
}
