//! Whether the local side takes part in the connection that an inbound SYN is to begin.
//!
//! The 5-tuple may belong to a socket that the gateway does not know: the gateway was started anew (L-40), the socket
//! slept for longer than an idle latch is kept (L-104), or a reset never reached it. Such a socket answers the SYN with
//! a challenge ACK (RFC 5961 section 4.2), or goes on retransmitting, and either would hand its connection to whoever
//! sent the SYN. So until the local side has answered, only an answer passes outward, and only SYNs pass inward.

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::flow::protocol;
use latchway_datapath::packet::{IpPacket, SctpPacket, TcpSegment, Upper, chunk, flags};
use latchway_tagging::InboundTag;

use crate::database::Known;
use crate::progress::{Progress, Side};
use crate::shim::opening::shakes_hands;
use crate::sync::Ordering;

impl Known<'_> {
    /// Whether a packet that the latch admits may pass already.
    ///
    /// # Errors
    /// [`DropReason::MidStream`]: it is of a connection whose beginning was missed.
    #[inline]
    pub(super) fn admit(&self, packet: &IpPacket<'_>, direction: Direction) -> Result<(), DropReason> {
        if self.is_answered() || !matches!(packet.flow().protocol(), protocol::TCP | protocol::SCTP) {
            return Ok(());
        }
        let is_begun = self.entry.progress == Progress::RemoteOnly;
        let begins = match (packet.upper(), direction) {
            _ if shakes_hands(packet) => true,
            (Upper::Tcp(segment), Direction::Outbound) => is_begun && self.answers(segment),
            (Upper::Sctp(packet), Direction::Outbound) => is_begun && self.accepts(packet),
            _ => false,
        };
        if begins { Ok(()) } else { Err(DropReason::MidStream) }
    }

    /// How far the local side was, if the last connection on the 5-tuple was under the class of `tag`: what a socket of
    /// that one still says is for the same peer.
    pub(super) fn sent_to(&self, tag: &InboundTag) -> Side {
        let same = tag.class == self.class;
        if same { Side::unpack(self.found.slot.sent.load(Ordering::Relaxed)) } else { Side::default() }
    }

    /// Whether the local side sent anything. Where there is no handshake, its own packets need not wait for that. On a
    /// latch that was asked for nobody has said anything yet.
    #[inline]
    pub(super) fn is_answered(&self) -> bool {
        match self.entry.progress {
            Progress::RemoteOnly => self.found.slot.sent.load(Ordering::Relaxed) != Side::default().pack(),
            Progress::Untracked => false,
            _ => true,
        }
    }

    /// SYN-ACK, or the RST of a host that has no such socket. Either acknowledges the SYN, with or without its data.
    fn answers(&self, segment: &TcpSegment) -> bool {
        let received = Side::unpack(self.found.slot.received.load(Ordering::Relaxed));
        let is_answer = segment.flags & flags::ACK != 0 && segment.flags & (flags::SYN | flags::RST) != 0;
        is_answer && received.edge.wrapping_sub(segment.ack) <= MAX_SYN_DATA
    }

    /// INIT ACK, or the ABORT of a host that takes no such association.
    fn accepts(&self, packet: &SctpPacket) -> bool {
        let received = Side::unpack(self.found.slot.received.load(Ordering::Relaxed));
        matches!(packet.chunk, chunk::INIT_ACK | chunk::ABORT) && packet.verification_tag == received.edge
    }
}

/// No more fits an IP packet.
const MAX_SYN_DATA: u32 = u16::MAX as u32;
