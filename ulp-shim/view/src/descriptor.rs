//! Descriptors that C hands in.

#![expect(unsafe_code, reason = "a number of C's becomes a descriptor")]

use std::ffi::c_int;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::{Errno, fcntl_dupfd_cloexec};

use crate::failure::Failure;

/// Has something looked up of a descriptor; nothing, where the number can be none's.
pub fn borrowed<T>(fd: c_int, look: impl FnOnce(BorrowedFd<'_>) -> Option<T>) -> Option<T> {
    if fd < 0 {
        return None;
    }
    // SAFETY: it is not -1. The kernel says so if it is not open, and it is not kept.
    look(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// A descriptor of our own for the same socket, so that a caller who closes theirs meanwhile cannot have another asked about.
pub fn own(fd: c_int) -> Result<OwnedFd, Failure> {
    borrowed(fd, |fd| Some(fcntl_dupfd_cloexec(fd, 3))).unwrap_or(Err(Errno::BADF)).map_err(Failure::from)
}
