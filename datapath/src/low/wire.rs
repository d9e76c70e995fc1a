//! The wire: a UDP socket that sends and receives runs of datagrams (RFC 3948), many per system call.
//!
//! Path MTU is the gateway's own business, so the socket neither fragments nor believes ICMP (IP_PMTUDISC_PROBE); what
//! peers and routers report to it as errors never stops it. Where the kernel or a device cannot segment, the socket falls
//! back to one datagram per call and remembers that.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::arrival::{Arrival, Carrier};
use crate::send_batch::{MAX_RUN_SEGMENTS, Run, SendBatch};

mod bind;
mod counters;
mod error;
mod message;

pub use counters::WireCounters;
pub use error::WireError;

/// One UDP socket, non-blocking.
#[derive(Debug)]
pub struct WireSocket {
    socket: OwnedFd,
    local: SocketAddr,
    gro: bool,
    /// Segments the kernel takes per send: 128, 64 on older kernels, 1 where segmentation does not work.
    max_segments: usize,
    truncated: u64,
    counters: Arc<WireCounters>,
}

impl WireSocket {
    /// Binds to `local`, which nobody else may share.
    pub fn bind(local: SocketAddr) -> Result<WireSocket, WireError> {
        let bound = bind::bind(local)?;
        Ok(WireSocket {
            socket: bound.socket,
            local: bound.local,
            gro: bound.gro,
            max_segments: MAX_RUN_SEGMENTS,
            truncated: 0,
            counters: Arc::default(),
        })
    }

    /// Sends the runs of `batch` that are for this socket, number `wire`. Never waits: what the kernel has no room for
    /// is dropped and counted.
    pub fn send(&mut self, batch: &SendBatch, wire: usize) -> SendReport {
        let mut report = SendReport::default();
        for run in batch.runs().filter(|run| run.from == wire) {
            if report.dropped_full > 0 {
                // The room is the socket's, not the peer's: asking again would cost a call and change nothing.
                report.dropped_full += run.len();
            } else {
                self.send_run(&run, &mut report);
            }
        }
        report
    }

    /// Receives one datagram, or several of one peer that the kernel has joined; None when there is nothing to receive.
    /// `buf` should be [`RECEIVE_BUFFER_LEN`] long: what does not fit is dropped and counted.
    #[inline]
    pub fn recv(&mut self, buf: &mut [u8]) -> io::Result<Option<Received>> {
        for _ in 0..MAX_RETRIES {
            match message::receive(self.socket.as_fd(), buf) {
                Ok(message) if message.truncated => self.truncated += 1,
                Ok(message) => {
                    if let Some(from) = message.from {
                        let received = Received::new(message.len, message.segment_size, from);
                        let datagrams = received.len.div_ceil(received.segment_size);
                        self.counters.received(datagrams.max(1), received.len);
                        return Ok(Some(received));
                    }
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) if is_report(errno) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(None)
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether arriving datagrams are joined (UDP_GRO).
    pub fn joins_received(&self) -> bool {
        self.gro
    }

    /// Datagrams one send may carry at present (UDP_SEGMENT); 1 where segmentation does not work.
    pub fn max_segments(&self) -> usize {
        self.max_segments
    }

    /// Datagrams dropped because the caller's buffer was too short (T04), since this was asked last.
    #[inline]
    pub fn take_truncated(&mut self) -> u64 {
        std::mem::take(&mut self.truncated)
    }

    /// What it moved.
    pub const fn counters(&self) -> &Arc<WireCounters> {
        &self.counters
    }

    fn send_run(&mut self, run: &Run<'_>, report: &mut SendReport) {
        let mut rest = run.bytes;
        while !rest.is_empty() {
            let at_once = rest.len().min(self.max_segments * run.segment_size);
            let Some((now, later)) = rest.split_at_checked(at_once) else { return };
            let run = Run { bytes: now, ..*run };
            match self.send_segments(&run) {
                Ok(()) => {
                    report.sent += run.len();
                    self.counters.sent(run.len(), now.len());
                }
                Err(Errno::AGAIN | Errno::NOBUFS) => report.dropped_full += run.len(),
                Err(Errno::INVAL) if run.len() > OLD_MAX_SEGMENTS => {
                    self.counters.refused_units.add(1);
                    self.max_segments = OLD_MAX_SEGMENTS;
                    continue;
                }
                Err(Errno::IO | Errno::INVAL | Errno::MSGSIZE) if run.len() > 1 => {
                    self.send_singly(&run, report)
                }
                Err(_) => report.errors += run.len(),
            }
            rest = later;
        }
    }

    /// One call for all of a run; tried once more where the first only delivered somebody's ICMP.
    #[inline]
    fn send_segments(&self, run: &Run<'_>) -> Result<(), Errno> {
        let send = || message::send(self.socket.as_fd(), run.to, run.bytes, run.segment_size);
        match send() {
            Err(errno) if is_report(errno) => send(),
            other => other,
        }
    }

    /// What the kernel refuses whole it may take one by one. If it takes all, segmentation is what it could not do.
    #[cold]
    fn send_singly(&mut self, run: &Run<'_>, report: &mut SendReport) {
        self.counters.refused_units.add(1);
        let before = report.sent;
        for datagram in run.datagrams() {
            match rustix::net::sendto(&self.socket, datagram, SendFlags::empty(), &run.to) {
                Ok(_) => {
                    report.sent += 1;
                    self.counters.sent(1, datagram.len());
                }
                Err(Errno::AGAIN | Errno::NOBUFS) => report.dropped_full += 1,
                Err(_) => report.errors += 1,
            }
        }
        if report.sent - before == run.len() {
            self.max_segments = 1;
        }
    }
}

impl AsFd for WireSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What became of a batch, in datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendReport {
    /// Handed to the kernel.
    pub sent: usize,
    /// Dropped because the kernel had no room.
    pub dropped_full: usize,
    /// Refused: unreachable, too long for the link, forbidden.
    pub errors: usize,
}

/// What one receive returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes at the front of the buffer.
    pub len: usize,
    /// Length of each datagram but the last, which may be shorter. Never zero and, unless `len` is, never above it (T04).
    pub segment_size: usize,
    /// Who sent them all.
    pub from: SocketAddr,
}

impl Received {
    #[inline]
    fn new(len: usize, segment_size: Option<usize>, from: SocketAddr) -> Received {
        // T04: whatever the kernel says about the size, a datagram has a byte at least and is within what was received.
        let segment_size = segment_size.unwrap_or(len).min(len).max(1);
        Received { len, segment_size, from }
    }

    /// The same, as the street takes it: received by the wire of that number.
    #[inline]
    pub const fn arrival(&self, wire: usize) -> Arrival {
        let (segment_size, from) = (self.segment_size, self.from);
        Arrival { segment_size, wire, from, traffic_class: 0, carrier: Carrier::Udp }
    }

    /// Where the datagrams lie in the buffer. An empty datagram is none.
    #[inline]
    pub fn datagrams(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (len, size) = (self.len, self.segment_size);
        (0..len).step_by(size).map(move |start| start..len.min(start + size))
    }
}

/// As much as one receive can return.
pub const RECEIVE_BUFFER_LEN: usize = 65_536;

/// UDP_MAX_SEGMENTS before Linux 6.9.
const OLD_MAX_SEGMENTS: usize = 64;
/// Reports and oversized datagrams skipped in one call, so that a flood of them cannot hold a worker.
const MAX_RETRIES: usize = 16;

/// Errors that tell of an earlier packet (ICMP) or of an interruption, not of this call.
#[inline]
fn is_report(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::CONNREFUSED
            | Errno::HOSTUNREACH
            | Errno::HOSTDOWN
            | Errno::NETUNREACH
            | Errno::NETDOWN
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::INTR
    )
}
