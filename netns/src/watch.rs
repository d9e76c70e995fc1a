//! Watches an interface: every frame is counted, summarised and searched, and a loss is never hidden.
//!
//! Most uses prove an absence, such as "no inner byte on the underlay". Such a proof is worth something only if no
//! frame was missed; so every negative answer is an error when the kernel dropped frames ([`Error::Incomplete`]).

mod frame;
mod record;

use std::{
    io::{IoSliceMut, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    getsockopt_impl,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sockopt_impl,
    sys::socket::{
        LinkAddr, MsgFlags, getsockopt, recvmsg, setsockopt,
        sockopt::{RcvBuf, RcvBufForce},
    },
};

use self::{
    frame::Linktype,
    record::{Record, Shared},
};
pub use self::{
    frame::{Direction, Frame},
    record::{Captured, Mark, Options},
};
use crate::{Error, Namespace, Result, packet_socket};

/// A capture in progress, on a thread of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Sniffer {
    shared: Arc<Shared>,
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Sniffer {
    /// Starts to watch an interface, keeping what [`Options::default`] keeps.
    pub fn start(namespace: &Namespace, interface: &str) -> Result<Self> {
        Self::start_with(namespace, interface, Options::default())
    }

    /// Starts to watch an interface. When it returns, every later frame is seen.
    pub fn start_with(namespace: &Namespace, interface: &str, options: Options) -> Result<Self> {
        let (socket, index) = packet_socket::watching(namespace, interface)?;
        let attempt =
            |source| Error::refused(format!("watching {interface} in {}", namespace.label()), source);
        // Beyond the system's limit as root of the machine, up to it otherwise.
        setsockopt(&socket, RcvBufForce, &options.receive_buffer)
            .or_else(|_| setsockopt(&socket, RcvBuf, &options.receive_buffer))
            .map_err(|errno| attempt(errno.into()))?;
        let (wake, woken) = UnixStream::pair().map_err(attempt)?;
        let shared = Arc::new(Shared::new(Record::new(options)));
        let capture = Capture { socket, index, woken, shared: Arc::clone(&shared) };
        let thread = thread::Builder::new()
            .name(format!("watch {interface}"))
            .spawn(move || capture.run())
            .map_err(attempt)?;
        Ok(Self { shared, wake, thread: Some(thread) })
    }

    /// The position after the last frame so far.
    pub fn mark(&self) -> Mark {
        self.shared.lock().mark()
    }

    /// Waits until a frame satisfies a predicate, looking at all that came since a mark and at what comes.
    pub fn wait_for(
        &self,
        since: Mark,
        predicate: impl Fn(&Frame) -> bool,
        within: Duration,
    ) -> Result<Frame> {
        let deadline = Instant::now() + within;
        let mut record = self.shared.lock();
        let mut position = since;
        loop {
            record.failure()?;
            let kept = record.since(position)?;
            if let Some(found) = kept.into_iter().find(|frame| predicate(frame)) {
                return Ok(found.clone());
            }
            position = record.mark();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Deadline(format!(
                    "no such frame within {within:?}, {} seen",
                    record.total()
                )));
            }
            record = self.shared.arrived.wait_timeout(record, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The frames since a mark. An error if some were dropped by the kernel or are no longer kept.
    pub fn frames_since(&self, mark: Mark) -> Result<Vec<Frame>> {
        let record = self.shared.lock();
        record.failure()?;
        record.complete()?;
        Ok(record.since(mark)?.cloned().collect())
    }

    /// Whether a pattern occurred within any single frame so far. For a pattern in [`Options::patterns`] all bytes of all
    /// frames have been searched; for another, it takes that all frames are still kept whole. `false` is evidence:
    /// where frames were missed, it is an error.
    pub fn contains(&self, pattern: &[u8]) -> Result<bool> {
        let record = self.shared.lock();
        record.failure()?;
        record.contains(pattern)
    }

    /// Frames that the kernel dropped because the capture fell behind.
    pub fn dropped(&self) -> u64 {
        self.shared.lock().dropped()
    }

    /// Takes in what the kernel still holds, ends the capture, and says what it saw.
    pub fn stop(mut self) -> Result<Captured> {
        self.end()?;
        let record = self.shared.lock();
        record.failure()?;
        Ok(record.captured())
    }

    fn end(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let ended = self.wake.write_all(&[1]);
        let joined = thread.join();
        ended.map_err(|source| Error::refused("ending a capture", source))?;
        joined.map_err(|_| Error::Incomplete("the capture's thread panicked".to_owned()))
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        // Nobody is left to tell; the thread ends at the latest with its wake socket.
        let _ = self.end();
    }
}

/// The capturing thread's own state.
struct Capture {
    socket: OwnedFd,
    index: usize,
    woken: UnixStream,
    shared: Arc<Shared>,
}

impl Capture {
    fn run(mut self) {
        if let Err(error) = self.until_woken() {
            self.shared.lock().fail(format!("reading frames: {error}"));
        }
        self.shared.arrived.notify_all();
    }

    fn until_woken(&mut self) -> nix::Result<()> {
        let mut buffer = vec![0; LARGEST_FRAME];
        loop {
            let mut waiting = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut waiting, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
            let [_, wake] = waiting;
            let ending = wake.any().unwrap_or(true);
            self.drain(&mut buffer)?;
            self.shared.lock().add_dropped(getsockopt(&self.socket, PacketStatistics)?.tp_drops);
            self.shared.arrived.notify_all();
            if ending {
                return Ok(());
            }
        }
    }

    /// Takes in all frames that are there.
    fn drain(&self, buffer: &mut [u8]) -> nix::Result<()> {
        loop {
            let mut parts = [IoSliceMut::new(buffer)];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
            let (length, sender) = match recvmsg::<LinkAddr>(self.socket.as_raw_fd(), &mut parts, None, flags)
            {
                Ok(message) => (message.bytes, message.address),
                Err(Errno::EAGAIN) => return Ok(()),
                // The interface went down or away: it may come up again, and what is queued can still be read.
                Err(Errno::EINTR | Errno::ENETDOWN) => continue,
                Err(errno) => return Err(errno),
            };
            let Some(sender) = sender.filter(|sender| sender.ifindex() == self.index) else {
                continue;
            };
            let whole = buffer.get(..length);
            let bytes = whole.unwrap_or(buffer);
            let linktype = Linktype::of(&sender);
            let frame = Frame::parse(bytes, length, linktype, Direction::of(&sender));
            self.shared.lock().add(frame, bytes, whole.is_none());
            self.shared.arrived.notify_all();
        }
    }
}

sockopt_impl!(
    /// Frames received and dropped since the last call (packet(7)).
    PacketStatistics,
    GetOnly,
    libc::SOL_PACKET,
    libc::PACKET_STATISTICS,
    libc::tpacket_stats
);

/// Above the largest super-packet of the stack with its headers, so that nothing is cut off.
const LARGEST_FRAME: usize = 640 << 10;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::testing::namespaced;

    /// A capture that is held up while more arrives than the kernel may keep for it.
    #[test]
    fn frames_that_the_kernel_dropped_are_counted() {
        namespaced("watch::tests::frames_that_the_kernel_dropped_are_counted", || {
            let space = Namespace::create("flooded").unwrap();
            let options = Options { receive_buffer: 16 << 10, ..Options::searching(&[b"absent"]) };
            let mut sniffer = Sniffer::start_with(&space, "lo", options).unwrap();
            let start = sniffer.mark();
            let held_up = sniffer.shared.lock();
            let sender = space.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap();
            for _ in 0..200 {
                // Nobody listens: a refusal that ICMP brought back for the one before is none for this one.
                let _ = sender.send_to(&[0; 1000], "127.0.0.1:9");
            }
            drop(held_up);
            sniffer.end().unwrap();
            assert!(sniffer.dropped() > 0);
            assert!(matches!(sniffer.contains(b"absent"), Err(Error::Incomplete(_))));
            assert!(matches!(sniffer.frames_since(start), Err(Error::Incomplete(_))));
            let captured = sniffer.stop().unwrap();
            assert!(captured.dropped > 0 && captured.total < 400, "{} seen", captured.total);
        });
    }
}
