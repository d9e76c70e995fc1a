//! A wire of either kind, as the worker has it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::{NativeSocket, ReceiveBuffer, SendReport, WireCounters, WireSocket};
use crate::arrival::Carrier;
use crate::pmtu::Hint;
use crate::send_batch::SendBatch;

/// Towards peers, over UDP or as IP protocols of their own.
#[derive(Debug)]
pub enum Wire {
    /// ESP in UDP (RFC 3948).
    Udp(WireSocket),
    /// IP protocols 50 and 51 (RFC 4303, RFC 4302).
    Native(Box<NativeSocket>),
}

impl Wire {
    /// How it carries packets.
    #[must_use]
    pub const fn carrier(&self) -> Carrier {
        match self {
            Self::Udp(_) => Carrier::Udp,
            Self::Native(_) => Carrier::Native,
        }
    }

    /// Our address, and our port where there are ports.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        match self {
            Self::Udp(socket) => socket.local_addr(),
            Self::Native(socket) => socket.local_addr(),
        }
    }

    /// What it moved.
    #[must_use]
    pub const fn counters(&self) -> &Arc<WireCounters> {
        match self {
            Self::Udp(socket) => socket.counters(),
            Self::Native(socket) => socket.counters(),
        }
    }

    /// Receives what there is, at most a few trains or packets. Returns how many `into` holds.
    ///
    /// # Errors
    /// Where a socket is gone for good.
    #[inline]
    pub fn receive(&mut self, into: &mut ReceiveBuffer) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => socket.receive(into),
            Self::Native(socket) => socket.receive(into),
        }
    }

    /// Sends what in `batch` is for this wire, number `wire`.
    #[inline]
    pub fn send(&mut self, batch: &SendBatch, wire: usize) -> SendReport {
        match self {
            Self::Udp(socket) => socket.send(batch, wire),
            Self::Native(socket) => socket.send(batch, wire),
        }
    }

    /// What was dropped because the buffer was too short (T04), since this was asked last.
    #[inline]
    pub fn take_truncated(&mut self) -> u64 {
        match self {
            Self::Udp(socket) => socket.take_truncated(),
            Self::Native(socket) => socket.take_truncated(),
        }
    }

    /// The next hint of the path's size that came by an ICMP error, if there is one (T18).
    #[inline]
    pub fn next_hint(&mut self) -> Option<Hint> {
        match self {
            Self::Udp(socket) => socket.next_hint(),
            Self::Native(socket) => socket.next_hint(),
        }
    }

    /// Takes note that errors wait to be read.
    pub fn note_reports(&mut self) {
        match self {
            Self::Udp(socket) => socket.note_reports(),
            Self::Native(socket) => socket.note_reports(),
        }
    }

    /// What to wait for.
    #[must_use]
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        match self {
            Self::Udp(socket) => [socket.as_fd(); 2],
            Self::Native(socket) => socket.fds(),
        }
    }
}

impl From<WireSocket> for Wire {
    fn from(socket: WireSocket) -> Self {
        Self::Udp(socket)
    }
}

impl From<NativeSocket> for Wire {
    fn from(socket: NativeSocket) -> Self {
        Self::Native(Box::new(socket))
    }
}
