//! What rustix does not cover: sendmsg with UDP_SEGMENT and the traffic class, sendmmsg, the error queue, and options.

#![expect(unsafe_code, reason = "message headers are foreign structures that point at ours")]

use std::mem::{MaybeUninit, zeroed};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::control::{CONTROL_LEN, Control, Message, put};
use super::last_errno;
use super::name::{NAME_LEN, Name};

/// Datagrams of one size to one peer, with one outer header.
#[derive(Clone, Copy)]
pub(super) struct Outgoing<'a> {
    pub(super) to: SocketAddr,
    pub(super) bytes: &'a [u8],
    /// Of each but the last, which may be shorter.
    pub(super) segment_size: usize,
    pub(super) traffic_class: u8,
}

/// Sends datagrams, which the kernel cuts apart where they are several.
#[inline]
pub(super) fn send(fd: BorrowedFd<'_>, outgoing: &Outgoing<'_>) -> Result<(), Errno> {
    let Outgoing { to, bytes, segment_size, traffic_class } = *outgoing;
    let (mut name, name_len) = Name::from(to);
    let mut control = Room { space: [0; ROOM] };
    let mut used = 0;
    if bytes.len() > segment_size {
        let size = u16::try_from(segment_size).map_err(|_| Errno::MSGSIZE)?.to_ne_bytes();
        let message = Message { level: libc::SOL_UDP, kind: libc::UDP_SEGMENT, data: &size };
        used = put(&mut control.space, used, message);
    }
    if traffic_class != 0 {
        let (level, kind) = if to.is_ipv4() {
            (libc::IPPROTO_IP, libc::IP_TOS)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
        };
        let data = &i32::from(traffic_class).to_ne_bytes();
        used = put(&mut control.space, used, Message { level, kind, data });
    }
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is plain data for which all zeros is a value.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = name_len;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    if used > 0 {
        header.msg_control = control.space.as_mut_ptr().cast();
        header.msg_controllen = used as _;
    }
    // SAFETY: every pointer in `header` is to a local or to `bytes`, all of which outlive the call, with their true
    // lengths; sendmsg does not write through the iovec.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, 0) };
    if sent < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Sends packets, each as it is, in one call. Returns how many the kernel took: at least one, or an error that is of the
/// first. More than [`MAX_AT_ONCE`] are not looked at.
#[inline]
pub(super) fn send_many<'a>(
    fd: BorrowedFd<'_>,
    packets: impl Iterator<Item = (SocketAddr, &'a [u8])>,
) -> Result<usize, Errno> {
    let mut names = [const { MaybeUninit::<Name>::uninit() }; MAX_AT_ONCE];
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; MAX_AT_ONCE];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MAX_AT_ONCE];
    let places = names.iter_mut().zip(&mut vectors).zip(&mut headers);
    let mut ready = 0;
    for (((name, vector), header), (to, bytes)) in places.zip(packets) {
        let (address, name_len) = Name::from(to);
        let iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: mmsghdr is plain data for which all zeros is a value.
        let header = header.write(unsafe { zeroed() });
        header.msg_hdr.msg_name = (&raw mut *name.write(address)).cast();
        header.msg_hdr.msg_namelen = name_len;
        header.msg_hdr.msg_iov = &raw mut *vector.write(iov);
        header.msg_hdr.msg_iovlen = 1;
        ready += 1;
    }
    // SAFETY: the first `ready` headers are initialised, and every pointer in them is to a local or to octets of `packets`,
    // all of which outlive the call, with their true lengths; sendmmsg does not write through an iovec.
    let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr().cast(), ready, 0) };
    usize::try_from(sent).map_err(|_| last_errno())
}

/// What the error queue returned: whose packet it is about, how much of it was quoted, and the control messages.
pub(super) struct Quoted {
    pub(super) len: usize,
    pub(super) control_len: usize,
}

/// Takes one error from a socket's queue (IP_RECVERR): what it quotes goes into `quote`.
#[cold]
pub(super) fn receive_error(
    fd: BorrowedFd<'_>,
    quote: &mut [u8],
    control: &mut Control,
) -> Result<Quoted, Errno> {
    let mut name = Name::none();
    let mut vector = libc::iovec { iov_base: quote.as_mut_ptr().cast(), iov_len: quote.len() };
    // SAFETY: msghdr is plain data for which all zeros is a value.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = NAME_LEN;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.space.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_LEN as _;
    // SAFETY: every pointer in `header` is to a local, to `quote` or to `control`, exclusively borrowed, with their true
    // lengths.
    let received =
        unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
    let len = usize::try_from(received).map_err(|_| last_errno())?;
    Ok(Quoted { len, control_len: header.msg_controllen as _ })
}

/// Sets an option whose value is an int.
pub(super) fn set(fd: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> Result<(), Errno> {
    // SAFETY: the value is an int of the length given, read during the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Packets that one call sends at most.
pub(super) const MAX_AT_ONCE: usize = 64;

/// Room for two control messages of an int, aligned as their headers must be.
#[repr(C, align(8))]
struct Room {
    space: [u8; ROOM],
}

const ROOM: usize = 64;
const _: () = assert!(ROOM >= 2 * (size_of::<libc::cmsghdr>() + 8));
