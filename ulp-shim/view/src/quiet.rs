//! Doing more than a system call where C expects one: undisturbed, and without a panic getting out.

#![expect(unsafe_code, reason = "pthread_setcancelstate is a function of C")]

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::failure::{Failure, tell};

/// Does something; `None` where it failed, which errno then tells. The thread is not cancelled meanwhile: there is much to
/// put in order behind it. It takes no longer than a gateway may.
pub fn quietly<T>(what: impl FnOnce() -> Result<T, Failure>) -> Option<T> {
    let before = cancelling(DISABLE);
    let done = catch_unwind(AssertUnwindSafe(what)).unwrap_or(Err(BROKEN));
    cancelling(before);
    done.map_err(tell).ok()
}

/// Says whether the thread may be cancelled, and returns what was so before.
fn cancelling(state: c_int) -> c_int {
    let mut before = 0;
    // SAFETY: there is a number at the pointer, and any state is taken or refused.
    unsafe { pthread_setcancelstate(state, &raw mut before) };
    before
}

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

/// PTHREAD_CANCEL_DISABLE.
const DISABLE: c_int = 1;

const BROKEN: Failure = Failure::new(libc::EIO, "the library of PF_SHIM sockets is broken; please report it");
