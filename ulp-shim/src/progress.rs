//! How far a connection is, as seen from the packets that pass: who has spoken, and who has finished.
//!
//! RFC 9293 section 3.3 and 3.10.7.4, as far as a bystander needs it. Only packets that passed the latch come here. A
//! RST or FIN counts only where its sequence is plausible, for a latch must not be freed while the socket lives.

mod association;

use latchway_datapath::drop::Direction;
use latchway_datapath::packet::{TcpSegment, flags};

/// The progress of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not followed.
    Untracked,
    /// The local side has begun and the remote one has not answered.
    LocalOnly,
    /// The remote side has begun and the local one has not answered, or its answer is not acknowledged.
    RemoteOnly,
    /// Both sides have spoken; a TCP connection is established.
    Both,
    /// The local side has sent its FIN.
    LocalDone,
    /// The remote side has sent its FIN.
    RemoteDone,
    /// Both have sent their FIN, not both acknowledged.
    BothDone,
    /// Both FINs are acknowledged: late segments may come for twice the maximum segment lifetime.
    TimeWait,
    /// Reset, or its socket destroyed.
    Ended,
}

/// One side of a TCP connection: the sequence number after the last octet it sent, and what it acknowledged. Of an SCTP
/// association: the tag that it chose. All zero where it has not spoken, and where the protocol has neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Side {
    pub(crate) edge: u32,
    pub(crate) ack: u32,
}

/// Both sides as the segment at hand sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sides {
    pub(crate) sender: Side,
    pub(crate) receiver: Side,
}

impl Progress {
    pub(crate) const ALL: [Self; 9] = [
        Self::Untracked,
        Self::LocalOnly,
        Self::RemoteOnly,
        Self::Both,
        Self::LocalDone,
        Self::RemoteDone,
        Self::BothDone,
        Self::TimeWait,
        Self::Ended,
    ];

    /// The stable name, as status output shows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untracked => "untracked",
            Self::LocalOnly => "local-only",
            Self::RemoteOnly => "remote-only",
            Self::Both => "both",
            Self::LocalDone => "local-done",
            Self::RemoteDone => "remote-done",
            Self::BothDone => "both-done",
            Self::TimeWait => "time-wait",
            Self::Ended => "ended",
        }
    }

    /// Whether the other side has yet to confirm that there is a connection.
    #[must_use]
    pub const fn is_half_open(self) -> bool {
        matches!(self, Self::LocalOnly | Self::RemoteOnly)
    }

    /// Whether the connection is over, so that its 5-tuple may begin another (T37 g).
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::TimeWait | Self::Ended)
    }

    #[inline]
    pub(crate) fn from_bits(bits: u32) -> Self {
        Self::ALL.get(bits as usize & 15).copied().unwrap_or(Self::Ended)
    }

    /// The progress of a new connection begun from `direction`.
    pub(crate) const fn begun(direction: Direction) -> Self {
        match direction {
            Direction::Outbound => Self::LocalOnly,
            Direction::Inbound => Self::RemoteOnly,
        }
    }

    /// The progress after a datagram without connection.
    #[inline]
    pub(crate) const fn after_datagram(self, direction: Direction) -> Self {
        match (self, direction) {
            (Self::LocalOnly, Direction::Inbound) | (Self::RemoteOnly, Direction::Outbound) => Self::Both,
            (Self::Untracked, direction) => Self::begun(direction),
            _ => self,
        }
    }

    /// The progress after a TCP segment, and how far its sender is then.
    #[inline]
    pub(crate) fn after_segment(
        self,
        direction: Direction,
        segment: &TcpSegment,
        sides: Sides,
    ) -> (Self, Side) {
        let Sides { sender, receiver } = sides;
        if segment.flags & flags::RST != 0 {
            return (self.after_reset(direction, segment, sides), sender);
        }
        if segment.flags & flags::SYN != 0 {
            return self.after_syn(direction, segment, sender);
        }
        if self.is_over() || !is_within_window(segment.seq, receiver.ack) && !self.is_half_open() {
            return (self, sender);
        }
        let sender = sender.advanced(segment);
        (self.confirmed(direction, segment, receiver).finished(direction, segment, sender, receiver), sender)
    }

    /// A SYN or SYN-ACK numbers its sender's octets anew while the connection opens. An outbound one begins another
    /// connection of the same socket pair at any time: the local side knows which of its sockets live.
    fn after_syn(self, direction: Direction, segment: &TcpSegment, sender: Side) -> (Self, Side) {
        let is_first = segment.flags & flags::ACK == 0;
        match (self.is_half_open(), direction) {
            _ if self == Self::Untracked => (Self::begun(direction), Side::begun(segment)),
            (true, _) => (self, Side::begun(segment)),
            (false, Direction::Outbound) if is_first => (Self::LocalOnly, Side::begun(segment)),
            _ => (self, sender),
        }
    }

    /// A RST after the last octet that the remote side sent, not all of which is acknowledged, ends the connection only
    /// if nothing was lost. If something was, the socket answers with a challenge ACK (RFC 5961 3.2), which must pass,
    /// or the application would never hear of the end. So the remote side has finished, whatever the socket thinks.
    fn after_reset(self, direction: Direction, segment: &TcpSegment, sides: Sides) -> Self {
        if self.is_over() {
            return self;
        }
        if self.takes_reset(direction, segment, sides) {
            return Self::Ended;
        }
        let last = direction == Direction::Inbound && segment.seq == sides.sender.edge;
        if last && self == Self::Both { Self::RemoteDone } else { self }
    }

    /// A RST is taken where its receiver expects the next octet (RFC 5961 3.2), as far as its acknowledgments tell; in
    /// answer to a SYN, if it acknowledges that (RFC 9293 3.10.7.3). The local side's own RST may lie anywhere between,
    /// for it says of itself that its socket is gone.
    fn takes_reset(self, direction: Direction, segment: &TcpSegment, sides: Sides) -> bool {
        let Sides { sender, receiver } = sides;
        let answers = segment.flags & flags::ACK != 0 && segment.ack == receiver.edge;
        match (self, direction) {
            (Self::LocalOnly, Direction::Inbound) | (Self::RemoteOnly, Direction::Outbound) => {
                answers || sender != Side::default() && segment.seq == sender.edge
            }
            (Self::LocalOnly, Direction::Outbound) | (Self::RemoteOnly, Direction::Inbound) => {
                segment.seq == sender.edge
            }
            (_, Direction::Inbound) => segment.seq == receiver.ack,
            (_, Direction::Outbound) => {
                segment.seq.wrapping_sub(receiver.ack) <= sender.edge.wrapping_sub(receiver.ack)
            }
        }
    }

    /// Open once either side acknowledges the other's SYN after its own (RFC 9293 figure 5). An inbound segment does,
    /// for the remote side is the one to prove itself.
    fn confirmed(self, direction: Direction, segment: &TcpSegment, receiver: Side) -> Self {
        let acknowledges = segment.flags & flags::ACK != 0 && segment.ack == receiver.edge;
        match (self, direction) {
            (Self::LocalOnly, Direction::Outbound) if acknowledges => Self::Both,
            (Self::LocalOnly | Self::RemoteOnly, Direction::Inbound) if acknowledges => Self::Both,
            _ => self,
        }
    }

    /// A FIN finishes one side; both are over when each has acknowledged all of the other's.
    fn finished(self, direction: Direction, segment: &TcpSegment, sender: Side, receiver: Side) -> Self {
        let fin = segment.flags & flags::FIN != 0;
        let after = match (self, direction) {
            (Self::Both | Self::RemoteOnly, Direction::Outbound) if fin => Self::LocalDone,
            (Self::Both, Direction::Inbound) if fin => Self::RemoteDone,
            (Self::RemoteDone, Direction::Outbound) | (Self::LocalDone, Direction::Inbound) if fin => {
                Self::BothDone
            }
            _ => self,
        };
        let all_acknowledged = sender.ack == receiver.edge && receiver.ack == sender.edge;
        if after == Self::BothDone && all_acknowledged { Self::TimeWait } else { after }
    }
}

impl Side {
    #[inline]
    pub(crate) const fn pack(self) -> u64 {
        ((self.edge as u64) << 32) | self.ack as u64
    }

    #[inline]
    pub(crate) const fn unpack(word: u64) -> Self {
        Self { edge: (word >> 32) as u32, ack: word as u32 }
    }

    /// The side of an SCTP association that chose a tag.
    pub(crate) const fn of_tag(tag: u32) -> Self {
        Self { edge: tag, ack: 0 }
    }

    /// The side that sends a SYN.
    pub(crate) fn begun(segment: &TcpSegment) -> Self {
        let ack = if segment.flags & flags::ACK != 0 { segment.ack } else { 0 };
        Self { edge: end(segment), ack }
    }

    fn advanced(self, segment: &TcpSegment) -> Self {
        let edge = later(self.edge, end(segment));
        let has_ack = segment.flags & flags::ACK != 0;
        let ack = match (has_ack, self.ack) {
            (false, ack) => ack,
            (true, 0) => segment.ack,
            (true, ack) => later(ack, segment.ack),
        };
        Self { edge, ack }
    }
}

/// The sequence number after a segment (SYN and FIN count as an octet each).
fn end(segment: &TcpSegment) -> u32 {
    let marks = u32::from(segment.flags & flags::SYN != 0) + u32::from(segment.flags & flags::FIN != 0);
    segment.seq.wrapping_add(segment.payload_len).wrapping_add(marks)
}

/// The later of two sequence numbers.
const fn later(a: u32, b: u32) -> u32 {
    if b.wrapping_sub(a) < 1 << 31 { b } else { a }
}

/// Whether a segment is near what its receiver expects: not far in the past, nor beyond the largest window that there
/// is (RFC 7323 2.3).
const fn is_within_window(seq: u32, expected: u32) -> bool {
    seq.wrapping_sub(expected).wrapping_add(PAST) < PAST + MAX_WINDOW
}

const PAST: u32 = 1 << 26;
const MAX_WINDOW: u32 = 1 << 30;

#[cfg(test)]
mod tests;
