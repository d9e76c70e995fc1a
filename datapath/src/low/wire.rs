//! The wires: UDP sockets that send and receive runs of datagrams (RFC 3948), many per system call.
//!
//! Path MTU is the gateway's own business, so a wire believes no ICMP (IP_PMTUDISC_PROBE); what peers and routers report to
//! it as errors never stops it, and is handed on as hints at most (T18). Where the kernel or a device cannot segment, the
//! socket falls back to one datagram per call and remembers that.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use crate::arrival::{Arrival, Carrier};
use crate::pmtu::Hint;
use crate::send_batch::{MAX_RUN_SEGMENTS, Run, SendBatch};

mod bind;
mod control;
mod counters;
mod either;
mod error;
mod fragment;
mod header;
mod message;
mod name;
mod native;
mod report;
mod slots;
mod taken;

pub use counters::WireCounters;
pub use either::Wire;
pub use error::WireError;
pub use native::NativeSocket;
pub use slots::ReceiveBuffer;

use control::messages;
use message::Outgoing;
use report::{Quote, Report};
use slots::{Filled, MAX_SLOTS};

/// One UDP socket, non-blocking.
#[derive(Debug)]
pub struct WireSocket {
    socket: OwnedFd,
    local: SocketAddr,
    gro: bool,
    /// Segments the kernel takes per send: 128, 64 on older kernels, 1 where segmentation does not work.
    max_segments: usize,
    /// Whether what is sent now may be cut (DF clear).
    may_fragment: bool,
    /// Slots to fill with the next receive: one while the kernel joins datagrams, more where they come one by one.
    want: usize,
    truncated: u64,
    /// Whether the error queue may hold something.
    reports: bool,
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
            may_fragment: false,
            want: 1,
            truncated: 0,
            reports: false,
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
            } else if run.marks.may_fragment == self.may_fragment || self.switch(run.marks.may_fragment) {
                self.send_run(&run, &mut report);
            } else {
                report.errors += run.len();
            }
        }
        report
    }

    /// Receives what there is, at most a few datagrams or trains of them that the kernel has joined. Returns how many trains
    /// `into` holds; none when there is nothing to receive. What does not fit is dropped and counted.
    #[inline]
    pub fn receive(&mut self, into: &mut ReceiveBuffer) -> io::Result<usize> {
        for _ in 0..MAX_RETRIES {
            match into.fill(self.socket.as_fd(), self.want) {
                Ok(filled) => {
                    let joined = self.take_in(into, filled);
                    self.want = match filled {
                        _ if joined => 1,
                        filled if filled == self.want => (2 * filled).min(MAX_SLOTS),
                        filled => filled.max(1),
                    };
                    if into.trains() > 0 {
                        return Ok(into.trains());
                    }
                }
                Err(Errno::AGAIN) => return Ok(0),
                Err(errno) if is_report(errno) => self.reports = true,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(0)
    }

    /// The next hint from the error queue, if there is one.
    #[inline]
    pub fn next_hint(&mut self) -> Option<Hint> {
        if self.reports { next_hint(self.socket.as_fd(), Quote::Payload, &mut self.reports) } else { None }
    }

    /// Takes note that the error queue holds something.
    pub const fn note_reports(&mut self) {
        self.reports = true;
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

    /// Makes trains of what was received. Returns whether the kernel had joined any.
    #[inline]
    fn take_in(&mut self, into: &mut ReceiveBuffer, filled: usize) -> bool {
        let mut joined = false;
        for slot in 0..filled {
            let Some((one, control)) = into.filled(slot) else { break };
            let Some(received) = Received::of(&one, control) else {
                self.truncated += u64::from(one.truncated);
                continue;
            };
            let datagrams = received.len.div_ceil(received.segment_size).max(1);
            joined |= datagrams > 1;
            self.counters.received(datagrams, received.len);
            into.push(slot, received);
        }
        joined
    }

    /// Lets what is sent from now on be cut on its way, or not. Returns whether the kernel does so.
    #[cold]
    fn switch(&mut self, may_fragment: bool) -> bool {
        let done = bind::set_may_fragment(self.socket.as_fd(), self.local, may_fragment).is_ok();
        if done {
            self.may_fragment = may_fragment;
        }
        done
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
                Err(Errno::INVAL) if run.len() > OLD_MAX_SEGMENTS && !run.marks.may_fragment => {
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

    /// One call for all of a run; tried again where it only delivered somebody's ICMP.
    #[inline]
    fn send_segments(&mut self, run: &Run<'_>) -> Result<(), Errno> {
        let Run { to, segment_size, bytes, marks, .. } = *run;
        let outgoing = Outgoing { to, bytes, segment_size, traffic_class: marks.traffic_class };
        let mut outcome = message::send(self.socket.as_fd(), &outgoing);
        for _ in 0..MAX_SEND_RETRIES {
            match outcome {
                Err(errno) if is_report(errno) => self.reports = true,
                _ => break,
            }
            outcome = message::send(self.socket.as_fd(), &outgoing);
        }
        outcome
    }

    /// What the kernel refuses whole it may take one by one. If it takes all, segmentation is what it could not do, unless
    /// it had to cut them to the link's size.
    #[cold]
    fn send_singly(&mut self, run: &Run<'_>, report: &mut SendReport) {
        self.counters.refused_units.add(1);
        let before = report.sent;
        for datagram in run.datagrams() {
            let one = Run { bytes: datagram, ..*run };
            match self.send_segments(&one) {
                Ok(()) => {
                    report.sent += 1;
                    self.counters.sent(1, datagram.len());
                }
                Err(Errno::AGAIN | Errno::NOBUFS) => report.dropped_full += 1,
                Err(_) => report.errors += 1,
            }
        }
        if report.sent - before == run.len() && !run.marks.may_fragment {
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

/// What is known of a received train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its length.
    pub len: usize,
    /// Length of each datagram but the last, which may be shorter. Never zero and, unless `len` is, never above it (T04).
    pub segment_size: usize,
    /// Who sent them all.
    pub from: SocketAddr,
    /// The outer traffic class of them all.
    pub traffic_class: u8,
    /// How they were carried.
    pub carrier: Carrier,
}

impl Received {
    #[inline]
    fn new(len: usize, segment_size: Option<usize>, from: SocketAddr, traffic_class: u8) -> Received {
        // T04: whatever the kernel says about the size, a datagram has a byte at least and is within what was received.
        let segment_size = segment_size.unwrap_or(len).min(len).max(1);
        Received { len, segment_size, from, traffic_class, carrier: Carrier::Udp }
    }

    /// Of what was received over UDP; `None` where it is not all there, or from nowhere.
    #[inline]
    fn of(filled: &Filled, control: &[u8]) -> Option<Received> {
        let from = filled.from.filter(|_| !filled.truncated)?;
        let (mut segment_size, mut traffic_class) = (None, 0);
        for message in messages(control) {
            match (message.level, message.kind) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    segment_size = message.number().and_then(|size| usize::try_from(size).ok());
                }
                (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    traffic_class = message.number().map_or(0, |class| class as u8);
                }
                _ => {}
            }
        }
        Some(Received::new(filled.len, segment_size, from, traffic_class))
    }

    /// The same, as the street takes it: received by the wire of that number.
    #[inline]
    pub const fn arrival(&self, wire: usize) -> Arrival {
        let Received { segment_size, from, traffic_class, carrier, .. } = *self;
        Arrival { segment_size, wire, from, traffic_class, carrier }
    }

    /// Where the datagrams lie in the train. An empty datagram is none.
    #[inline]
    pub fn datagrams(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (len, size) = (self.len, self.segment_size);
        (0..len).step_by(size).map(move |start| start..len.min(start + size))
    }
}

/// The next hint in a socket's error queue. So many reports are looked at and no more: a flood of them cannot hold a worker.
#[cold]
fn next_hint(fd: BorrowedFd<'_>, quote: Quote, reports: &mut bool) -> Option<Hint> {
    for _ in 0..MAX_REPORTS {
        match report::next(fd, quote) {
            Some(Report::Hint(hint)) => return Some(hint),
            Some(Report::TooLongForLink(_) | Report::Other) => {}
            None => {
                *reports = false;
                return None;
            }
        }
    }
    None
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// UDP_MAX_SEGMENTS before Linux 6.9.
const OLD_MAX_SEGMENTS: usize = 64;
/// Reports and oversized datagrams skipped in one call, so that a flood of them cannot hold a worker.
const MAX_RETRIES: usize = 16;
/// How often a send is tried again that only delivered somebody's ICMP.
const MAX_SEND_RETRIES: usize = 3;
/// Reports taken from an error queue in one go.
const MAX_REPORTS: usize = 32;

/// Errors that may tell of an earlier packet (ICMP) or of an interruption, not of this call. What does is gone when the
/// call is made again.
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
            | Errno::MSGSIZE
            | Errno::OPNOTSUPP
            | Errno::NONET
            | Errno::ACCESS
            | Errno::INTR
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::low::wire::control::{Control, Message, put};

    fn filled(len: usize, truncated: bool) -> Filled {
        Filled { len, from: Some(SocketAddr::from(([192, 0, 2, 1], 4500))), truncated, control_len: 0 }
    }

    /// T04: whatever the kernel says of the size of joined datagrams, each has an octet and lies within what was received.
    #[test]
    fn t04_sizes_that_lie_are_survived() {
        for len in [0, 1, 9, 65_535] {
            for size in [i32::MIN, -1, 0, 1, 7, 65_535, i32::MAX] {
                let mut control = Control::EMPTY;
                let data = &size.to_ne_bytes();
                let message = Message { level: libc::SOL_UDP, kind: libc::UDP_GRO, data };
                let used = put(&mut control.space, 0, message);
                let received = Received::of(&filled(len, false), &control.space[..used]).unwrap();
                assert!((1..=len.max(1)).contains(&received.segment_size), "{len} {size}");
                assert_eq!(received.datagrams().map(|range| range.len()).sum::<usize>(), len);
                assert!(received.datagrams().all(|range| !range.is_empty() && range.end <= len));
            }
        }
    }

    #[test]
    fn what_is_not_all_there_or_from_nowhere_is_nothing() {
        assert_eq!(Received::of(&filled(10, true), &[]), None);
        assert_eq!(Received::of(&Filled { from: None, ..filled(10, false) }, &[]), None);
    }
}
