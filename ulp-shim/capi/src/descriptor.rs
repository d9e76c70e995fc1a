//! Descriptors that C hands in.

#![expect(unsafe_code, reason = "a number of C's becomes a descriptor")]

use std::ffi::c_int;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::failure::Failure;

/// A descriptor of our own for the same socket, so that a caller who closes theirs meanwhile cannot have another asked about.
pub fn socket(fd: c_int) -> Result<OwnedFd, Failure> {
    // SAFETY: fcntl takes any number; F_DUPFD_CLOEXEC touches no memory.
    let own = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if own < 0 {
        return Err(match errno::errno().0 {
            libc::EMFILE => Failure::new(libc::EMFILE, "the process has no descriptor left; close some"),
            _ => Failure::new(libc::EBADF, "the descriptor is not open"),
        });
    }
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(own) })
}
