//! Octets of a connection, and the descriptors that come with them.

use std::io::{self, ErrorKind, IoSliceMut, Read};
use std::mem::{self, MaybeUninit};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use latchway_control::app::MAX_APP_SOCKETS;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

/// A connection that descriptors may come over: with the first octet of a call, and in one message.
#[derive(Debug)]
pub struct Passing<A, H> {
    stream: UnixStream,
    passed: Vec<OwnedFd>,
    /// Says whether there may be so many descriptors more than one, and is asked at each time that there are.
    allowance: A,
    held: Option<H>,
    /// When the first octet of the call came.
    begun: Option<Instant>,
}

/// How long a call may take to come, from its first octet to its last.
pub const WHOLE: Duration = Duration::from_secs(5);

impl<A: FnMut(usize) -> Option<H>, H> Passing<A, H> {
    /// Whatever comes over `stream`. Where there are several descriptors, `allowance` is asked for those beyond the first;
    /// what it gives is dropped with them.
    pub const fn over(stream: UnixStream, allowance: A) -> Self {
        Self { stream, passed: Vec::new(), allowance, held: None, begun: None }
    }

    /// The next octet that is read begins a call, or goes on with one that has begun.
    pub fn expect_call(&mut self, has_begun: bool) {
        self.begun = has_begun.then(Instant::now);
    }

    /// What came with the call that was read last.
    pub fn take(&mut self) -> (Vec<OwnedFd>, Option<H>) {
        (mem::take(&mut self.passed), self.held.take())
    }

    /// Waits for a call as long as it takes, and for the rest of one not much longer.
    fn be_patient(&self) -> io::Result<()> {
        let left = self.begun.map(|begun| WHOLE.saturating_sub(begun.elapsed()));
        if left == Some(Duration::ZERO) {
            return Err(io::Error::new(ErrorKind::TimedOut, "the call was not said to its end"));
        }
        self.stream.set_read_timeout(left)
    }
}

impl<A: FnMut(usize) -> Option<H>, H> Read for Passing<A, H> {
    /// Descriptors in the middle of a call, or more than there may be, are an error; they are closed with the connection.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.be_patient()?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_APP_SOCKETS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut octets = [IoSliceMut::new(into)];
        let received = recvmsg(&self.stream, &mut octets, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut came = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                came.extend(descriptors);
            }
        }
        let refused = |text| Err(io::Error::new(ErrorKind::InvalidData, text));
        // The kernel may have had room for one more than was asked for.
        if received.flags.contains(ReturnFlags::CTRUNC) || came.len() > MAX_APP_SOCKETS {
            return refused("more descriptors than a call may bring");
        }
        if !came.is_empty() && self.begun.is_some() {
            return refused("descriptors in the middle of a call");
        }
        if came.len() > 1 {
            self.held = (self.allowance)(came.len() - 1);
            if self.held.is_none() {
                return refused("more descriptors than there may be at a time");
            }
        }
        self.passed.append(&mut came);
        if received.bytes > 0 {
            self.begun.get_or_insert_with(Instant::now);
        }
        Ok(received.bytes)
    }
}
