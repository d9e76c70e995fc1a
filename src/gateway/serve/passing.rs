//! Octets of a connection, and the descriptors that come with them.

use std::io::{self, ErrorKind, IoSliceMut, Read};
use std::mem::{self, MaybeUninit};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use latchway_control::app::MAX_APP_SOCKETS;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

/// A connection that descriptors may come over: with the first octet of a call, and in one message.
#[derive(Debug)]
pub struct Passing<'a> {
    stream: &'a UnixStream,
    passed: Vec<OwnedFd>,
    /// Whether the next octet is the first of a call.
    fresh: bool,
}

impl<'a> Passing<'a> {
    /// Whatever comes over `stream`.
    pub const fn over(stream: &'a UnixStream) -> Self {
        Self { stream, passed: Vec::new(), fresh: true }
    }

    /// The next octet that is read begins a call.
    pub const fn expect_call(&mut self) {
        self.fresh = true;
    }

    /// What came with the call that was read last.
    pub fn take(&mut self) -> Vec<OwnedFd> {
        mem::take(&mut self.passed)
    }
}

impl Read for Passing<'_> {
    /// Descriptors in the middle of a call, or more than there may be, are an error; they are closed with the connection.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_APP_SOCKETS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut octets = [IoSliceMut::new(into)];
        let received = recvmsg(self.stream, &mut octets, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut came = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                came.extend(descriptors);
            }
        }
        // The kernel may have had room for one more than was asked for.
        if received.flags.contains(ReturnFlags::CTRUNC) || came.len() > MAX_APP_SOCKETS {
            return Err(io::Error::new(ErrorKind::InvalidData, "more descriptors than a call may bring"));
        }
        if !came.is_empty() && !self.fresh {
            return Err(io::Error::new(ErrorKind::InvalidData, "descriptors in the middle of a call"));
        }
        self.passed.append(&mut came);
        self.fresh &= received.bytes == 0;
        Ok(received.bytes)
    }
}
