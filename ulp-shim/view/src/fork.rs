//! Being told of fork().

#![expect(unsafe_code, reason = "pthread_atfork is a function of C")]

/// Has them called before each fork(), and after it in the parent and in the child. Whether that can be had.
pub fn on_fork(before: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) -> bool {
    // SAFETY: the three are functions that stay: the library is linked with `nodelete`. None unwinds: nothing in them
    // panics.
    unsafe { libc::pthread_atfork(Some(before), Some(parent), Some(child)) == 0 }
}
