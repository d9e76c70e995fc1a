//! Watches an interface: every frame is counted, summarised and searched, and a loss is never hidden.
//!
//! Most uses prove an absence, such as "no inner byte on the underlay". Such a proof is worth something only if no
//! frame was missed; so every negative answer is an error when the kernel dropped frames ([`Error::Incomplete`]).

mod capture;
mod frame;
mod record;

use std::{
    io::Write,
    os::unix::net::UnixStream,
    sync::{Arc, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::socket::{
    setsockopt,
    sockopt::{RcvBuf, RcvBufForce},
};

use self::{capture::Capture, record::Record};
pub use self::{
    frame::{Direction, Frame},
    record::{Captured, Mark, Options},
};
use crate::{Error, Namespace, Result, packet_socket};

/// A capture in progress, on a thread of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Sniffer {
    capture: Arc<Capture>,
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
        let capture = Arc::new(Capture::new(socket, index, Record::new(options)));
        let capturing = Arc::clone(&capture);
        let thread = thread::Builder::new()
            .name(format!("watch {interface}"))
            .spawn(move || capturing.run(&woken))
            .map_err(attempt)?;
        Ok(Self { capture, wake, thread: Some(thread) })
    }

    /// The position after the last frame so far: whatever the interface handles from here on comes after it.
    pub fn mark(&self) -> Mark {
        self.caught_up().mark()
    }

    /// Waits until a frame satisfies a predicate, looking at all that came since a mark and at what comes.
    pub fn wait_for(
        &self,
        since: Mark,
        predicate: impl Fn(&Frame) -> bool,
        within: Duration,
    ) -> Result<Frame> {
        let deadline = Instant::now() + within;
        let mut position = since;
        loop {
            let record = self.caught_up();
            record.failure()?;
            let kept = record.since(position)?;
            if let Some(found) = kept.into_iter().find(|frame| predicate(frame)) {
                return Ok(found.clone());
            }
            position = record.mark();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let (total, dropped) = (record.total(), record.dropped());
                let seen = format!("no such frame within {within:?}, {total} seen, {dropped} dropped");
                return Err(Error::Deadline(seen));
            }
            drop(self.capture.arrived.wait_timeout(record, left).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// The frames since a mark. An error if some were dropped by the kernel or are no longer kept.
    pub fn frames_since(&self, mark: Mark) -> Result<Vec<Frame>> {
        let record = self.caught_up();
        record.failure()?;
        record.complete()?;
        Ok(record.since(mark)?.cloned().collect())
    }

    /// Whether a pattern occurred within any single frame so far. For a pattern in [`Options::patterns`] all bytes of all
    /// frames have been searched; for another, it takes that all frames are still kept whole. `false` is evidence:
    /// where frames were missed, it is an error.
    pub fn contains(&self, pattern: &[u8]) -> Result<bool> {
        let record = self.caught_up();
        record.failure()?;
        record.contains(pattern)
    }

    /// Frames that the kernel dropped because the capture fell behind.
    pub fn dropped(&self) -> u64 {
        self.caught_up().dropped()
    }

    /// Takes in what the kernel still holds, ends the capture, and says what it saw.
    pub fn stop(mut self) -> Result<Captured> {
        self.end()?;
        let record = self.capture.lock();
        record.failure()?;
        Ok(record.captured())
    }

    /// The record, with all that the interface has handled so far.
    fn caught_up(&self) -> MutexGuard<'_, Record> {
        self.capture.catch_up();
        self.capture.lock()
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
            let held_up = sniffer.capture.lock();
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
