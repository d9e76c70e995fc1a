//! Messages that C hands in, and the system calls that they are handed on to.

#![expect(unsafe_code, reason = "struct msghdr is made of pointers")]

use std::ffi::c_int;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::address::MORE_ROOM;
use crate::failure::Failure;

/// A message that a caller of recvmsg() describes.
#[derive(Debug)]
pub struct Wrapped<'m> {
    header: libc::msghdr,
    of: PhantomData<&'m [u8]>,
}

/// What came, beside the octets themselves.
#[derive(Debug)]
pub struct Received {
    /// How many octets there were.
    pub octets: libc::ssize_t,
    /// `msg_flags`.
    pub flags: c_int,
    /// Where it came from, as the system says it; empty where it does not.
    pub from: Vec<u8>,
    /// Ancillary data.
    pub control: Vec<u8>,
}

impl<'m> Wrapped<'m> {
    /// A message where C says that one is.
    ///
    /// # Safety
    ///
    /// `message` is NULL, or points to a `struct msghdr` whose pointers are valid for the lengths beside them, as recvmsg()
    /// wants them, for as long as the result is used.
    pub unsafe fn new(message: *const libc::msghdr) -> Result<Self, Failure> {
        if message.is_null() {
            return Err(NO_MESSAGE);
        }
        // SAFETY: it is not NULL, and by the caller's word a message is there.
        let header = unsafe { message.read_unaligned() };
        if header.msg_controllen > LONGEST || (header.msg_control.is_null() && header.msg_controllen > 0) {
            return Err(NO_CONTROL);
        }
        // As the system has it: a length is no negative number.
        if c_int::try_from(header.msg_namelen).is_err() {
            return Err(NO_NAME);
        }
        Ok(Self { header, of: PhantomData })
    }

    /// Its ancillary data.
    pub fn control(&self) -> &'m [u8] {
        if self.header.msg_control.is_null() {
            return &[];
        }
        // SAFETY: there are so many octets by the word of who made this, and nobody writes them meanwhile.
        unsafe {
            std::slice::from_raw_parts(self.header.msg_control.cast::<u8>(), self.header.msg_controllen)
        }
    }

    /// How much room there is for ancillary data.
    pub const fn room(&self) -> usize {
        self.header.msg_controllen
    }

    /// Receives into it, but where from and the ancillary data into places of our own, with more room than the caller has.
    pub fn receive(&self, socket: BorrowedFd<'_>, flags: c_int) -> Result<Received, Failure> {
        let mut from = vec![0; size_of::<libc::sockaddr_storage>()];
        let mut control = vec![0; self.header.msg_controllen.saturating_add(MORE_ROOM)];
        let mut header = self.header;
        header.msg_name = from.as_mut_ptr().cast();
        header.msg_namelen = libc::socklen_t::try_from(from.len()).unwrap_or_default();
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = control.len();
        // SAFETY: the header is the caller's, valid for recvmsg() by their word, but for the name and the control, which are
        // as long as it says and outlive the call.
        let octets = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
        if octets < 0 {
            return Err(failed("receiving"));
        }
        from.truncate(usize::try_from(header.msg_namelen).unwrap_or_default());
        control.truncate(header.msg_controllen);
        Ok(Received { octets, flags: header.msg_flags, from, control })
    }
}

/// Tells a caller of recvmsg() what came beside the octets, as recvmsg() does.
///
/// # Safety
///
/// As for [`Wrapped::new`]; `message` is not NULL and may be written to, and `received` came by the same one.
pub unsafe fn tell(message: *mut libc::msghdr, received: &Received) {
    // SAFETY: by the caller's word a message is there.
    let mut header = unsafe { message.read_unaligned() };
    if !header.msg_name.is_null() {
        let room = usize::try_from(header.msg_namelen).unwrap_or_default().min(received.from.len());
        // SAFETY: there is so much room by the caller's word, and so many octets in ours, which does not overlap theirs.
        unsafe { header.msg_name.cast::<u8>().copy_from_nonoverlapping(received.from.as_ptr(), room) };
        header.msg_namelen = libc::socklen_t::try_from(received.from.len()).unwrap_or_default();
    }
    let length = received.control.len().min(header.msg_controllen);
    if !header.msg_control.is_null() {
        let to = header.msg_control.cast::<u8>();
        // SAFETY: there is so much room by the caller's word, and so many octets in ours, which does not overlap theirs.
        unsafe { to.copy_from_nonoverlapping(received.control.as_ptr(), length) };
    }
    header.msg_controllen = length;
    header.msg_flags = received.flags;
    // SAFETY: by the caller's word the message can be written to.
    unsafe { message.write_unaligned(header) };
}

/// recvmsg() itself.
///
/// # Safety
///
/// As recvmsg() wants its message.
pub unsafe fn receive_plain(
    socket: c_int,
    message: *mut libc::msghdr,
    flags: c_int,
) -> Result<libc::ssize_t, Failure> {
    // SAFETY: by the caller's word.
    let octets = unsafe { libc::recvmsg(socket, message, flags) };
    if octets < 0 { Err(failed("receiving")) } else { Ok(octets) }
}

fn failed(doing: &str) -> Failure {
    let error = io::Error::last_os_error();
    Failure::saying(error.raw_os_error().unwrap_or(libc::EIO), format!("{doing}: {error}"))
}

/// The longest ancillary data that is looked at.
const LONGEST: usize = 1 << 20;

const NO_MESSAGE: Failure = Failure::new(libc::EINVAL, "there is no message; msg is NULL");
const NO_NAME: Failure =
    Failure::new(libc::EINVAL, "msg_namelen is no length; it is that of the room at msg_name");
const NO_CONTROL: Failure = Failure::new(
    libc::EINVAL,
    "msg_control is NULL with a length, or longer than 1 MiB; msg_controllen is its length in octets",
);
