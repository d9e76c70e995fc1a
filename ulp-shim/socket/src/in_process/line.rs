//! What carries datagrams between gateways: a UDP socket.

use std::io;
use std::net::SocketAddr;

use latchway_datapath::arrival::Arrival;
use latchway_datapath::low::wire::{ReceiveBuffer, WireError, WireSocket};
use latchway_datapath::pmtu::Hint;
use latchway_datapath::send_batch::SendBatch;

/// Carries sealed datagrams. Tests have one of their own.
pub(super) trait Line: Send {
    /// The next datagram that came, to be opened where it lies.
    fn next(&mut self) -> io::Result<Option<(&mut [u8], Arrival)>>;

    /// Sends what was sealed. Returns how many found no room, and how many were refused.
    fn send(&mut self, batch: &SendBatch) -> (u64, u64);

    /// Takes note that errors wait to be read.
    fn note_reports(&mut self) {}

    /// What routers said of the size of packets.
    fn next_hint(&mut self) -> Option<Hint> {
        None
    }

    /// How many datagrams were cut since this was asked last.
    fn take_truncated(&mut self) -> u64 {
        0
    }
}

/// The wire of the daemon, whose trains are taken apart: a packet is to be known by its own tag.
#[derive(Debug)]
pub(super) struct UdpLine {
    socket: WireSocket,
    buffer: ReceiveBuffer,
    train: usize,
    start: usize,
}

impl UdpLine {
    pub(super) fn bind(local: SocketAddr) -> Result<Self, WireError> {
        let buffer = ReceiveBuffer::new();
        Ok(Self { socket: WireSocket::bind(local)?, buffer, train: 0, start: 0 })
    }

    pub(super) const fn socket(&self) -> &WireSocket {
        &self.socket
    }
}

impl Line for UdpLine {
    fn next(&mut self) -> io::Result<Option<(&mut [u8], Arrival)>> {
        if self.train >= self.buffer.trains() {
            (self.train, self.start) = (0, 0);
            if self.socket.receive(&mut self.buffer)? == 0 {
                return Ok(None);
            }
        }
        let Some((train, received)) = self.buffer.train(self.train) else { return Ok(None) };
        let arrival = received.arrival(0);
        let (start, end) = (self.start, train.len().min(self.start + arrival.segment_size.max(1)));
        self.start = end;
        if end == train.len() {
            (self.train, self.start) = (self.train + 1, 0);
        }
        Ok(train.get_mut(start..end).map(|datagram| (datagram, arrival)))
    }

    fn send(&mut self, batch: &SendBatch) -> (u64, u64) {
        let report = self.socket.send(batch, 0);
        (report.dropped_full as u64, report.errors as u64)
    }

    fn note_reports(&mut self) {
        self.socket.note_reports();
    }

    fn next_hint(&mut self) -> Option<Hint> {
        self.socket.next_hint()
    }

    fn take_truncated(&mut self) -> u64 {
        self.socket.take_truncated()
    }
}
