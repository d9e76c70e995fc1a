//! The functions that C calls for events. Each looks at its pointers and makes one call into safe code.

#![expect(unsafe_code, reason = "pointers of C callers")]

use std::ffi::c_int;

use crate::failure::{Failure, answer};
use crate::names::ipsec_latchway_event;
use crate::watch;

/// Has the gateway tell what becomes of 1 to 64 sockets. Returns a descriptor, which can be waited for until it can be read
/// from and is closed as any other, or -1 and errno.
///
/// # Safety
///
/// `fds` must be NULL or point to `n` descriptors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipsec_latchway_watch(fds: *const c_int, n: u32) -> c_int {
    let watching = || {
        let count = usize::try_from(n).ok().filter(|count| (1..=MOST_SOCKETS).contains(count));
        let count = count.filter(|_| !fds.is_null()).ok_or(NO_SOCKETS)?;
        // SAFETY: it is not NULL, and by the caller's word there are so many; nobody writes them meanwhile.
        watch::watch(unsafe { std::slice::from_raw_parts(fds, count) })
    };
    match watching() {
        Ok(fd) => fd,
        Err(failure) => answer(Err(failure)),
    }
}

/// Writes the next event, waited for timeout_ms milliseconds, or as long as it takes if that is negative. Returns 1, 0 if none
/// came in that time, or -1 and errno; ENONET when nothing follows any more. Some may have been read from the descriptor
/// already: call this with no time until it returns 0, and wait for the descriptor then.
///
/// # Safety
///
/// `event` must be NULL or point to room for an event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipsec_latchway_next_event(
    watch: c_int,
    event: *mut ipsec_latchway_event,
    timeout_ms: c_int,
) -> c_int {
    let waiting = || {
        if event.is_null() {
            return Err(NO_EVENT);
        }
        let Some(next) = watch::next(watch, timeout_ms)? else { return Ok(0) };
        // SAFETY: it is not NULL, and the caller's word says that an event can be written there.
        unsafe { event.write_unaligned(next) };
        Ok(1)
    };
    match waiting() {
        Ok(came) => came,
        Err(failure) => answer(Err(failure)),
    }
}

/// Of sockets that are watched by one call.
const MOST_SOCKETS: usize = 64;

const NO_SOCKETS: Failure =
    Failure::new(libc::EINVAL, "there are no sockets, or more than 64; fds is NULL, or n is not 1 to 64");
const NO_EVENT: Failure = Failure::new(libc::EINVAL, "there is no place for the event; it is NULL");
