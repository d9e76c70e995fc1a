//! Keeps an entry's progress and times up with the packets that pass.

use latchway_datapath::drop::Direction;
use latchway_datapath::flow::protocol;
use latchway_datapath::latching::{BreakReason, LatchState};
use latchway_datapath::packet::{IpPacket, SctpPacket, TcpSegment, Upper};
use latchway_datapath::time::Time;

use crate::database::Known;
use crate::entry::{Entry, Kind};
use crate::progress::{Progress, Side, Sides};
use crate::shim::Shim;
use crate::sync::Ordering;

impl Shim {
    /// Takes note of a packet that passed the latch of its flow.
    #[inline]
    pub(super) fn track(&self, packet: &IpPacket<'_>, known: &Known<'_>, direction: Direction, now: Time) {
        known.touch(now);
        let progress = known.entry.progress;
        let after = match packet.upper() {
            Upper::Tcp(segment) => follow(segment, known, direction),
            Upper::Sctp(packet) => follow_association(packet, known, direction),
            _ if matches!(packet.flow().protocol(), protocol::TCP | protocol::SCTP) => progress,
            _ => progress.after_datagram(direction),
        };
        if after != progress {
            self.advance(packet, known, after);
        }
    }

    /// a connection that ends closes its latch.
    fn advance(&self, packet: &IpPacket<'_>, known: &Known<'_>, progress: Progress) {
        let from = known.entry;
        let after = self.database.change(known.found, |entry| {
            // Another worker's packet moved it meanwhile: its view stands, and the next packet of this one counts anew.
            if entry.progress != from.progress || entry.kind != from.kind {
                return None;
            }
            let closed = Kind::Latched(LatchState::Closed);
            let reason = Some(BreakReason::ConnectionEnded);
            Some(match progress {
                Progress::Ended => Entry { kind: closed, progress, reason, ..entry },
                _ => Entry { progress, ..entry },
            })
        });
        if let Some(Entry { kind: Kind::Latched(LatchState::Closed), reason, .. }) = after {
            self.tell(known.found.id, packet.flow(), LatchState::Closed, reason);
        }
    }
}

/// The progress after a segment.
#[inline]
fn follow(segment: &TcpSegment, known: &Known<'_>, direction: Direction) -> Progress {
    let advance = |sides| known.entry.progress.after_segment(direction, segment, sides);
    follow_sides(known, direction, advance)
}

fn follow_association(packet: &SctpPacket, known: &Known<'_>, direction: Direction) -> Progress {
    let advance = |sides| known.entry.progress.after_packet(direction, packet, sides);
    follow_sides(known, direction, advance)
}

/// Each direction writes only its own side.
#[inline]
fn follow_sides(
    known: &Known<'_>,
    direction: Direction,
    advance: impl Fn(Sides) -> (Progress, Side),
) -> Progress {
    let slot = known.found.slot;
    let (mine, theirs) = match direction {
        Direction::Outbound => (&slot.sent, &slot.received),
        Direction::Inbound => (&slot.received, &slot.sent),
    };
    let before = mine.load(Ordering::Relaxed);
    let sides =
        Sides { sender: Side::unpack(before), receiver: Side::unpack(theirs.load(Ordering::Relaxed)) };
    let (progress, sender) = advance(sides);
    if sender.pack() != before {
        mine.store(sender.pack(), Ordering::Relaxed);
    }
    progress
}
