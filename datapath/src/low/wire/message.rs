//! sendmsg with UDP_SEGMENT and recvmsg with UDP_GRO: the two control messages rustix does not know.

#![expect(unsafe_code, reason = "control messages are built and read in foreign structures")]

use std::mem::{MaybeUninit, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// What recvmsg returned.
pub(super) struct Message {
    pub(super) len: usize,
    /// As the kernel says it; None where it joined nothing.
    pub(super) segment_size: Option<usize>,
    /// None where the sender's address is of no family we speak.
    pub(super) from: Option<SocketAddr>,
    pub(super) truncated: bool,
}

/// Sends `bytes` as datagrams of `segment_size`, the last perhaps shorter.
#[inline]
pub(super) fn send(
    fd: BorrowedFd<'_>,
    to: SocketAddr,
    bytes: &[u8],
    segment_size: usize,
) -> Result<(), Errno> {
    let (mut name, name_len) = Name::from(to);
    let mut control = Control { space: [0; CONTROL_LEN] };
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is plain data for which all zeros is a value.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = name_len;
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    if bytes.len() > segment_size {
        let size = u16::try_from(segment_size).map_err(|_| Errno::MSGSIZE)?;
        header.msg_control = (&raw mut control).cast();
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute. CONTROL_LEN holds the space of a u16 (checked below), and `Control`
        // is aligned for a cmsghdr, so CMSG_FIRSTHDR points into `control` with room for header and data.
        unsafe {
            header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as _;
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_UDP;
            (*first).cmsg_type = libc::UDP_SEGMENT;
            (*first).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
            libc::CMSG_DATA(first).cast::<u16>().write_unaligned(size);
        }
    }
    // SAFETY: every pointer in `header` is to a local or to `bytes`, all of which outlive the call, with their true
    // lengths; sendmsg does not write through the iovec.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, 0) };
    if sent < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Receives into `buf`.
#[inline]
pub(super) fn receive(fd: BorrowedFd<'_>, buf: &mut [u8]) -> Result<Message, Errno> {
    // SAFETY: the name is a union of plain address structures, for which all zeros is a value.
    let mut name: Name = unsafe { zeroed() };
    let mut control = Control { space: [0; CONTROL_LEN] };
    let mut iov = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: as in `send`.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = size_of::<Name>() as libc::socklen_t;
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = CONTROL_LEN as _;
    // SAFETY: every pointer in `header` is to a local or to `buf`, exclusively borrowed, with their true lengths.
    let received = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, 0) };
    let len = usize::try_from(received).map_err(|_| last_errno())?;
    // SAFETY: the kernel filled `control` up to msg_controllen, which is what CMSG_FIRSTHDR checks against, and the data
    // of a UDP_GRO message is an int (checked by its length).
    let segment_size = unsafe {
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        let is_gro = !first.is_null()
            && (*first).cmsg_level == libc::SOL_UDP
            && (*first).cmsg_type == libc::UDP_GRO
            && (*first).cmsg_len as usize >= libc::CMSG_LEN(size_of::<libc::c_int>() as u32) as usize;
        is_gro.then(|| libc::CMSG_DATA(first).cast::<libc::c_int>().read_unaligned())
    };
    Ok(Message {
        len,
        segment_size: segment_size.and_then(|size| usize::try_from(size).ok()),
        from: name.address(),
        truncated: header.msg_flags & libc::MSG_TRUNC != 0,
    })
}

/// Asks the kernel to join datagrams on arrival (UDP_GRO).
pub(super) fn set_gro(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    // SAFETY: the value is an int of the length given, read during the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_GRO,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Room for one control message of an int, aligned as its header must be.
#[repr(C, align(8))]
struct Control {
    space: [u8; CONTROL_LEN],
}

const CONTROL_LEN: usize = 64;
const _: () = assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());
const _: () = assert!(CONTROL_LEN >= size_of::<libc::cmsghdr>() + 16);

/// An address as the kernel has it.
#[repr(C)]
#[derive(Clone, Copy)]
union Name {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    #[inline]
    fn from(address: SocketAddr) -> (Name, libc::socklen_t) {
        // SAFETY: a union of plain address structures, for which all zeros is a value.
        let mut name: Name = unsafe { MaybeUninit::zeroed().assume_init() };
        match address {
            SocketAddr::V4(address) => {
                name.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                };
                (name, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(address) => {
                name.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                };
                (name, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }

    #[inline]
    fn address(&self) -> Option<SocketAddr> {
        // SAFETY: the union began as zeros, so every byte of every variant is initialised, and every variant is plain
        // data that is valid whatever the bytes are; all begin with the family.
        unsafe {
            match libc::c_int::from(self.family) {
                libc::AF_INET => {
                    let ip = Ipv4Addr::from(self.v4.sin_addr.s_addr.to_ne_bytes());
                    Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(self.v4.sin_port))))
                }
                libc::AF_INET6 => {
                    let ip = Ipv6Addr::from(self.v6.sin6_addr.s6_addr);
                    let port = u16::from_be(self.v6.sin6_port);
                    // The flow label is the packet's, not the peer's: left out, so that addresses compare equal.
                    Some(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, self.v6.sin6_scope_id)))
                }
                _ => None,
            }
        }
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
