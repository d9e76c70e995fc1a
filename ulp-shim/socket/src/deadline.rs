//! The moment by which a call has its answer or has failed.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// A moment that no call outlasts, whatever the gateway does: it is that of the whole call, so that a gateway which says an
/// octet at a time cannot stretch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// So long from now.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self(Some(Instant::now() + timeout.min(LONGEST)))
    }

    /// None: waits as long as it takes.
    pub(crate) const fn never() -> Self {
        Self(None)
    }

    /// What is left; `None` where there is no end.
    ///
    /// # Errors
    /// It has passed.
    pub(crate) fn left(self) -> Result<Option<Duration>> {
        let Some(end) = self.0 else { return Ok(None) };
        let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        left.map(Some).ok_or_else(Error::timed_out)
    }

    /// Waits until the descriptor can be read from or written to, or has failed.
    ///
    /// # Errors
    /// The moment has passed, or the system cannot wait.
    pub(crate) fn wait(self, fd: BorrowedFd<'_>, wanted: PollFlags) -> Result<()> {
        loop {
            let left = self.left()?.map(|left| Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
            match poll(&mut [PollFd::from_borrowed_fd(fd, wanted)], left.as_ref()) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(Error::system("waiting", errno)),
            }
        }
    }
}

/// Of a timeout; a longer one is as good as none.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
