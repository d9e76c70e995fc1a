//! Threads with a table of descriptors of their own.
//!
//! Whoever passes a descriptor chooses what closing it does, and may choose that it never ends: closing a file of a FUSE file
//! system waits for its server, and no signal ends that wait. Until then nothing that is in the same table is let go,
//! although the process be killed: devices, sockets, locks. So whoever takes descriptors of strangers has a table in which
//! there is nothing else.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::mpsc::sync_channel;
use std::thread;

/// Runs `work` in a thread whose descriptors are the three standard ones, `kept`, and what it opens or receives (Linux 5.9).
/// No other descriptor may be part of `work`: there it is closed, or another's.
///
/// # Errors
/// The system gives no thread, or no table; nothing is run then.
#[expect(
    unsafe_code,
    reason = "a number that is taken from one table to another is owned twice, once in each"
)]
pub fn spawn_apart(
    thread: thread::Builder,
    kept: OwnedFd,
    work: impl FnOnce(OwnedFd) + Send + 'static,
) -> io::Result<()> {
    let (tell, told) = sync_channel(1);
    let number = kept.as_raw_fd();
    thread.spawn(move || {
        let outcome = keep_only(number);
        let is_apart = outcome.is_ok();
        let _ = tell.send(outcome);
        if is_apart {
            // SAFETY: `number` was open in the table that this thread's is a copy of, since `kept` is dropped only once this
            // thread has told; in this table nothing else owns it.
            work(unsafe { OwnedFd::from_raw_fd(number) });
        }
    })?;
    told.recv().map_err(io::Error::other)?
}

/// Gives the calling thread a table with this descriptor and the standard ones.
fn keep_only(number: RawFd) -> io::Result<()> {
    let number = libc::c_uint::try_from(number).map_err(io::Error::other)?;
    close_range(number.saturating_add(1), libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE)?;
    match number.checked_sub(1) {
        Some(below) if below >= STANDARD => close_range(STANDARD, below, 0),
        _ => Ok(()),
    }
}

#[expect(unsafe_code, reason = "close_range is a foreign function, and no crate has it")]
fn close_range(first: libc::c_uint, last: libc::c_uint, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: only numbers are given. Whose descriptors these are, is the caller's to know: by then the table is the thread's own.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The first number that is no standard descriptor's. Those stay, so that nothing that is received can take their place and be
/// written to.
const STANDARD: libc::c_uint = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// T40: what closes badly is in a table with nothing of the process's.
    #[test]
    fn t40_a_thread_apart_has_one_descriptor_and_leaves_that_of_others_alone() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        let others = file.as_raw_fd();
        let kept = there.as_raw_fd();
        let (tell, told) = sync_channel(1);
        spawn_apart(thread::Builder::new(), there.into(), move |stream| {
            let listed = fs::read_dir("/proc/thread-self/fd").unwrap();
            let numbers = listed.map(|entry| fs::read_link(entry.unwrap().path()).unwrap());
            let own: Vec<_> = numbers.filter(|to| !to.starts_with("/proc")).skip(3).collect();
            tell.send((own, stream.as_raw_fd(), fs::read_link(format!("/proc/thread-self/fd/{others}"))))
                .unwrap();
            UnixStream::from(stream).write_all(b"here").unwrap();
        })
        .unwrap();
        let (own, number, gone) = told.recv().unwrap();
        assert_eq!((own.len(), number), (1, kept), "{own:?}");
        assert!(gone.is_err() || others == number, "{gone:?}");
        assert_eq!(file.metadata().unwrap().len(), 0, "open here still");
        // Closed here, and with the thread: so there is an end.
        let mut said = String::new();
        here.read_to_string(&mut said).unwrap();
        assert_eq!(said, "here");
    }
}
