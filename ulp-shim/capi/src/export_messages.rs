//! The functions that C calls for messages and for events. Each looks at its pointers and makes one call into safe code.

#![expect(unsafe_code, reason = "pointers of C callers")]
#![expect(non_snake_case, reason = "names of C, as the draft has them")]

use std::ffi::c_int;

use libc::{msghdr, ssize_t};

use crate::failure::{Failure, answer, tell};
use crate::names::{ipsec_latchway_event, ipsec_pToken_t};
use crate::token::Handle;
use crate::wrapped::{self, Wrapped};
use crate::{datagram, watch};

/// Puts a token into the ancillary data of a message that ipsec_latchway_sendmsg() is to send: only to who is demanded, only
/// protected as is demanded. msg_control needs IPSEC_LATCHWAY_PTOKEN_SPACE octets, all zero, behind what is in it (ENOBUFS);
/// msg_controllen becomes the length that is in use. Returns 0, or -1 and errno.
///
/// # Safety
///
/// `msg` must be NULL or point to a message whose ancillary data can be read and written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipsec_set_msg_pToken(msg: *mut msghdr, pToken: ipsec_pToken_t) -> c_int {
    let putting = || {
        // SAFETY: the same is asked of our caller.
        let mut message = unsafe { Wrapped::new(msg) }?;
        let used = datagram::attach(message.control_mut(), Handle::given(pToken))?;
        // SAFETY: it is not NULL, or there would be no message.
        unsafe { wrapped::set_used(msg, used) };
        Ok(())
    };
    answer(putting())
}

/// Fills a token, which the caller has made, with what is known of a message: one that ipsec_latchway_recvmsg() received, or
/// that a token was put into. Returns 0, or -1 and errno: ENOMSG if nothing is certain of it. The token is then as it was.
///
/// # Safety
///
/// `msg` must be NULL or point to a message whose ancillary data can be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipsec_get_msg_pToken(msg: *const msghdr, pToken: ipsec_pToken_t) -> c_int {
    let getting = || {
        // SAFETY: the same is asked of our caller.
        let message = unsafe { Wrapped::new(msg) }?;
        datagram::fill(message.control(), Handle::given(pToken))
    };
    answer(getting())
}

/// sendmsg(), which takes tokens: where one is in the ancillary data, the message goes as the token demands, or it is not sent
/// (EACCES). Other messages and sockets are handed on as they are.
///
/// # Safety
///
/// `msg` must be NULL or point to a message as sendmsg() takes it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipsec_latchway_sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the same is asked of our caller.
    let sent = unsafe { Wrapped::new(msg) }.and_then(|message| datagram::send(fd, &message, flags));
    octets(sent)
}

/// recvmsg(), which gives tokens: where it is certain who sent a datagram of UDP, and what protected it, and there is room for
/// IPSEC_LATCHWAY_PTOKEN_SPACE octets behind other ancillary data, ipsec_get_msg_pToken() finds it there.
///
/// # Safety
///
/// `msg` must be NULL or point to a message as recvmsg() takes it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipsec_latchway_recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t {
    let receiving = || {
        // SAFETY: the same is asked of our caller.
        let message = unsafe { Wrapped::new(msg) }?;
        match datagram::receive(fd, &message, flags)? {
            Some(received) => {
                // SAFETY: it is not NULL, or there would be no message, and is as our caller promised.
                unsafe { wrapped::tell(msg, &received) };
                Ok(received.octets)
            }
            // SAFETY: the same is asked of our caller.
            None => unsafe { wrapped::receive_plain(fd, msg, flags) },
        }
    };
    octets(receiving())
}

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

fn octets(result: Result<ssize_t, Failure>) -> ssize_t {
    match result {
        Ok(octets) => octets,
        Err(failure) => {
            tell(failure);
            -1
        }
    }
}

/// Of sockets that are watched by one call.
const MOST_SOCKETS: usize = 64;

const NO_SOCKETS: Failure =
    Failure::new(libc::EINVAL, "there are no sockets, or more than 64; fds is NULL, or n is not 1 to 64");
const NO_EVENT: Failure = Failure::new(libc::EINVAL, "there is no place for the event; it is NULL");
