//! What goes with a socket (Q-44, L-37): its requirement, and what its port says of flows. The kernel tells of every socket that
//! is gone, however its process ended, so that nothing is left behind. The clock is looked at here, too, each second.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use latchway_ulp_shim::{Cookie, SocketGone, SocketsGone};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::gateway::app::Spaces;
use crate::gateway::app::requiring::Requiring;
use crate::gateway::app::wall::Wall;

/// A thread that hears of sockets that are gone, until this is dropped.
pub struct Gone {
    ending: Arc<Ending>,
    thread: Option<JoinHandle<()>>,
}

/// Says that it is over.
struct Ending {
    is_over: AtomicBool,
    bell: EventFd,
}

impl Gone {
    /// Begins to listen.
    ///
    /// # Errors
    /// The system gave no descriptor or no thread.
    pub fn start(
        ends: Arc<SocketsGone>,
        spaces: &Spaces,
        requiring: Arc<Requiring>,
        wall: Arc<Wall>,
    ) -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let ending = Arc::new(Ending { is_over: AtomicBool::new(false), bell });
        let (until, space) = (Arc::clone(&ending), spaces.inner());
        let listen = move || {
            while !until.is_over.load(Ordering::Acquire) {
                until.wait_for(&ends);
                requiring.expire();
                wall.look();
                while let Ok(Some(gone)) = ends.next() {
                    match gone {
                        SocketGone::Gone { socket, udp_port } => {
                            requiring.socket_gone(&Cookie { space, socket }, udp_port);
                        }
                        SocketGone::Lost => requiring.lost_count(),
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("sockets".into()).spawn(listen)?;
        Ok(Self { ending, thread: Some(thread) })
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.ending.is_over.store(true, Ordering::Release);
        let _ = self.ending.bell.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Ending {
    /// Waits for something to hear. Where that cannot be waited for, it is looked at now and then.
    fn wait_for(&self, ends: &SocketsGone) {
        let of = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
        let _ = poll(&mut [of(ends.as_fd()), of(self.bell.as_fd())], PollTimeout::from(NOW_AND_THEN));
    }
}

/// Milliseconds.
const NOW_AND_THEN: u16 = 1000;
