//! The functions that C calls for datagrams. Each looks at its pointers and makes one call into safe code.

#![expect(unsafe_code, reason = "pointers of C callers")]
#![expect(non_snake_case, reason = "names of C, as the draft has them")]

use std::ffi::c_int;

use libc::{msghdr, ssize_t};

use crate::datagram;
use crate::failure::{Failure, answer, tell};
use crate::names::ipsec_pToken_t;
use crate::token::Handle;
use crate::wrapped::{self, Wrapped};

/// Has the system say of each datagram of a socket what its token is known by: when it came, where to and by which device, and
/// whether in pieces. The socket is one of UDP and not bound yet (EINVAL). Returns 0, or -1 and errno.
#[unsafe(no_mangle)]
pub extern "C" fn ipsec_latchway_tag_datagrams(fd: c_int) -> c_int {
    answer(datagram::tag(fd))
}

/// Fills a token, which the caller has made, with what is known of a message that ipsec_latchway_recvmsg() received. Returns 0,
/// or -1 and errno: ENOMSG if nothing is certain of it. The token is then as it was.
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

/// recvmsg(), which gives tokens: where it is certain who sent a datagram, and what protected it, and there is room in
/// msg_control, ipsec_get_msg_pToken() finds it there, in front of what the system says. For sockets of
/// ipsec_latchway_tag_datagrams(); others are received from as they are.
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

fn octets(result: Result<ssize_t, Failure>) -> ssize_t {
    match result {
        Ok(octets) => octets,
        Err(failure) => {
            tell(failure);
            -1
        }
    }
}
