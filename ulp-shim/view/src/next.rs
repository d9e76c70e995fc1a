//! The functions that are stood in for: those which the program would have without this library.

#![expect(unsafe_code, reason = "functions of C are looked up by their names")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{addrinfo, msghdr, size_t, sockaddr, socklen_t, ssize_t};

/// A function of another library.
struct Next {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Next {
    const fn named(name: &'static CStr) -> Self {
        Self { name, found: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Where it is, or NULL. Looked up when the library is loaded, for a signal handler could not; by whoever comes earlier,
    /// at that time.
    fn address(&self) -> *mut c_void {
        let found = self.found.load(Ordering::Relaxed);
        if found.is_null() { self.look_up() } else { found }
    }

    fn look_up(&self) -> *mut c_void {
        // SAFETY: the name ends, and the call takes any.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// Declares the functions: a cancelled thread leaves through them, so they may unwind.
macro_rules! functions {
    ($($name:ident ($($argument:ty),*) -> $result:ty;)*) => {
        $(
            /// The function of this name.
            pub fn $name() -> Option<unsafe extern "C-unwind" fn($($argument),*) -> $result> {
                static NEXT: Next = const {
                    match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                        Ok(name) => Next::named(name),
                        Err(_) => Next::named(c""),
                    }
                };
                let address = NEXT.address();
                // SAFETY: NULL is `None`, and what the C library has under this name is this function.
                unsafe { std::mem::transmute::<*mut c_void, Option<unsafe extern "C-unwind" fn($($argument),*) -> $result>>(address) }
            }
        )*

        /// Looks all of them up.
        extern "C" fn look_up() {
            $($name();)*
        }
    };
}

functions! {
    socket(c_int, c_int, c_int) -> c_int;
    connect(c_int, *const sockaddr, socklen_t) -> c_int;
    bind(c_int, *const sockaddr, socklen_t) -> c_int;
    accept(c_int, *mut sockaddr, *mut socklen_t) -> c_int;
    accept4(c_int, *mut sockaddr, *mut socklen_t, c_int) -> c_int;
    sendto(c_int, *const c_void, size_t, c_int, *const sockaddr, socklen_t) -> ssize_t;
    sendmsg(c_int, *const msghdr, c_int) -> ssize_t;
    recvmsg(c_int, *mut msghdr, c_int) -> ssize_t;
    getsockopt(c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int;
    setsockopt(c_int, c_int, c_int, *const c_void, socklen_t) -> c_int;
    getaddrinfo(*const c_char, *const c_char, *const addrinfo, *mut *mut addrinfo) -> c_int;
    close(c_int) -> c_int;
}

/// What is returned where there is no such function.
pub fn missing() -> c_int {
    errno::set_errno(errno::Errno(libc::ENOSYS));
    -1
}

/// Called when the library is loaded.
#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".init_array")]
static LOADED: extern "C" fn() = look_up;
#[cfg(test)]
const _: extern "C" fn() = look_up;
