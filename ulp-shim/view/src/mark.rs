//! Which descriptors are of PF_SHIM sockets: read without a lock, and in a signal handler as well.
//!
//! A mark is the socket's cookie, which no other socket ever has. So a number that was closed behind our back, or is another
//! file's by now, is not taken for the socket that it was.

use std::ffi::c_int;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::net::sockopt::socket_cookie;

use crate::descriptor;
use crate::failure::Failure;

/// Whether the descriptor is of a PF_SHIM socket. Leaves errno alone.
pub fn is_shim(fd: c_int) -> bool {
    cookie(fd).is_some()
}

/// The cookie of a PF_SHIM socket, by its descriptor. Leaves errno alone.
pub fn cookie(fd: c_int) -> Option<u64> {
    let marked = place(fd)?.load(Ordering::Acquire);
    (marked != 0 && descriptor::borrowed(fd, |fd| cookie_of(fd)) == Some(marked)).then_some(marked)
}

/// Makes it one. From here on its functions are ours.
pub fn set(fd: c_int) -> Result<(), Failure> {
    this_process();
    let cookie = descriptor::borrowed(fd, |fd| cookie_of(fd)).ok_or(NO_COOKIE)?;
    place(fd).ok_or(TOO_HIGH)?.store(cookie, Ordering::Release);
    Ok(())
}

/// Makes it none, before it is closed. Whether it was one: not if the number is closed in a process that has its parent's
/// memory (vfork(2)), for the parent still has the socket.
pub fn clear(fd: c_int) -> bool {
    let Some(place) = place(fd) else { return false };
    place.load(Ordering::Acquire) != 0
        && PROCESS.load(Ordering::Acquire) == std::process::id()
        && place.swap(0, Ordering::AcqRel) != 0
}

/// The marks are of this process.
pub fn this_process() {
    PROCESS.store(std::process::id(), Ordering::Release);
}

fn place(fd: c_int) -> Option<&'static AtomicU64> {
    usize::try_from(fd).ok().and_then(|number| MARKS.get(number))
}

fn cookie_of(socket: impl AsFd) -> Option<u64> {
    // Of what is no socket there is none.
    socket_cookie(socket).ok()
}

/// Of numbers that descriptors can have: what the kernel allows at most, unless it was told otherwise (`fs.nr_open`).
const MOST: usize = 1 << 20;

/// Pages of it that nobody writes to take no memory.
static MARKS: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];
static PROCESS: AtomicU32 = AtomicU32::new(0);

const NO_COOKIE: Failure =
    Failure::new(libc::EAFNOSUPPORT, "the kernel does not tell sockets apart (SO_COOKIE)");
const TOO_HIGH: Failure =
    Failure::new(libc::EMFILE, "the descriptor's number is too high for a PF_SHIM socket; close others");

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    /// K-1: only what was opened as one is one; its number, once it is another file's, is not.
    #[test]
    fn k_1_a_number_is_a_pf_shim_sockets_only_while_it_is_that_sockets() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let fd = socket.as_raw_fd();
        assert!(!is_shim(fd) && !clear(fd));
        set(fd).unwrap();
        assert!(is_shim(fd) && !is_shim(other.as_raw_fd()));
        rustix_dup(&other, fd);
        assert!(!is_shim(fd), "it is the other socket by now");
        assert!(clear(fd) && !clear(fd));
        for none in [-1, c_int::MIN, c_int::MAX, 1 << 20] {
            assert!(!is_shim(none) && !clear(none));
            assert!(set(none).is_err());
        }
        drop((socket, other));
    }

    #[expect(unsafe_code, reason = "a number is taken for another file's, which is what is tried here")]
    fn rustix_dup(from: &UdpSocket, to: c_int) {
        // SAFETY: the number is the socket's, and is its owner's again when this returns.
        let mut to = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(to) });
        rustix::io::dup2(from, &mut to).unwrap();
    }
}
