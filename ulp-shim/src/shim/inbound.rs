//! From the wire to the TUN: a packet passes only under the class its flow is latched to.

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::packet::{IpPacket, TcpSegment, Upper};
use latchway_datapath::ulp::Context;
use latchway_tagging::InboundTag;

use crate::database::{Birth, Known};
use crate::entry::{Entry, Kind};
use crate::latch::LatchState;
use crate::progress::{Progress, Side};
use crate::shim::Shim;
use crate::shim::icmp::is_icmp;
use crate::shim::opening::{Opening, is_syn, opening};
use crate::sync::Ordering;

impl Shim {
    /// Judges a packet that came under the SA of `tag`. Apart from [`Ulp`](latchway_datapath::ulp::Ulp), whose
    /// argument proves that it did.
    #[inline]
    pub(super) fn judge_inbound(
        &self,
        packet: &IpPacket<'_>,
        tag: &InboundTag,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        if is_icmp(packet) {
            self.judge_icmp_inbound(packet, tag, context)?;
        }
        let Some(known) = self.database.probe(packet.flow()) else {
            return self.begin_inbound(packet, tag, Side::default(), context);
        };
        match known.entry.kind {
            Kind::Latched(state) => self.inbound_latched(state, packet, tag, (&known, context)),
            Kind::Unlatched if known.is_current(context.snapshot.id) => {
                known.touch(context.now);
                Ok(())
            }
            Kind::Unlatched => self.inbound_reconsidered(packet, tag, &known, context),
        }
    }

    /// L-26: nothing unprotected reaches a latched flow, whatever policy says of it, and the latch is none the worse
    /// for it (C-19). For other flows, policy decides.
    pub(super) fn judge_unprotected(&self, packet: &IpPacket<'_>) -> Result<(), DropReason> {
        if is_icmp(packet) {
            self.judge_icmp_unprotected(packet)?;
        }
        match self.database.probe(packet.flow()).map(|known| known.entry.kind) {
            None | Some(Kind::Unlatched) => Ok(()),
            Some(Kind::Latched(_)) => Err(DropReason::LatchUnprotected),
        }
    }

    #[inline]
    fn inbound_latched(
        &self,
        state: LatchState,
        packet: &IpPacket<'_>,
        tag: &InboundTag,
        (known, context): (&Known<'_>, &Context<'_>),
    ) -> Result<(), DropReason> {
        if known.entry.progress.is_over() && self.may_begin_again(packet, tag, known) {
            let sent = known.sent_to(tag);
            self.database.remove(known);
            return self.begin_inbound(packet, tag, sent, context);
        }
        let latch = known.latch(state);
        let verdict = latch.check(tag);
        match verdict {
            Ok(()) => {
                known.admit(packet, Direction::Inbound)?;
                self.track(packet, known, Direction::Inbound, context.now);
                known.note(tag);
            }
            Err(DropReason::LatchMismatch) if tag.version >= latch.changed_at => {
                self.offend(packet, tag, known, context);
            }
            Err(DropReason::LatchBroken) => self.announce(known, packet.flow()),
            Err(_) => {}
        }
        verdict
    }

    /// C-19, L-100, L-109: the packet is dropped whatever it is. If it is another peer's, the peer that the latch
    /// holds to is taken to be gone, and the connection must end. One that is over already has nothing left to end.
    fn offend(&self, packet: &IpPacket<'_>, tag: &InboundTag, known: &Known<'_>, context: &Context<'_>) {
        if known.entry.progress.is_over() || self.database.peers().same_peer(known.class, tag.class) {
            return;
        }
        self.database.break_for(known, tag, context.now);
        self.announce(known, packet.flow());
    }

    /// T37 g: whether a SYN may begin another connection on the 5-tuple of one that is over. For the same class any
    /// may; for another the old sockets must be known to be gone, and the number beyond theirs (RFC 9293 3.6.1).
    fn may_begin_again(&self, packet: &IpPacket<'_>, tag: &InboundTag, known: &Known<'_>) -> bool {
        let Upper::Tcp(segment) = packet.upper() else { return false };
        let received = Side::unpack(known.found.slot.received.load(Ordering::Relaxed));
        let beyond = segment.seq.wrapping_sub(received.edge) < 1 << 31;
        let gone = known.entry.progress == Progress::Ended || beyond;
        is_syn(segment) && (tag.class == known.class || gone)
    }

    /// An unlatched flow under another snapshot: policy may want a latch by now.
    fn inbound_reconsidered(
        &self,
        packet: &IpPacket<'_>,
        tag: &InboundTag,
        known: &Known<'_>,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        match opening(packet, Direction::Inbound, context)? {
            Opening::Unlatched => {
                known.remember(None, context.snapshot.id);
                known.touch(context.now);
                Ok(())
            }
            Opening::Latched(segment) => {
                self.database.remove(known);
                self.latch_inbound(packet, (segment, Side::default()), tag, context)
            }
        }
    }

    /// Begins a flow, of which the local side was as far as `sent` with the same peer.
    fn begin_inbound(
        &self,
        packet: &IpPacket<'_>,
        tag: &InboundTag,
        sent: Side,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        match opening(packet, Direction::Inbound, context)? {
            Opening::Latched(segment) => self.latch_inbound(packet, (segment, sent), tag, context),
            Opening::Unlatched => {
                self.remember_unlatched(packet.flow(), None, context);
                Ok(())
            }
        }
    }

    /// Makes the latch from the initiating packet's own tag (L-5, L-97): the SAD is not asked again. Where another
    /// worker was faster, the packet is judged by that latch.
    fn latch_inbound(
        &self,
        packet: &IpPacket<'_>,
        (segment, sent): (Option<TcpSegment>, Side),
        tag: &InboundTag,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        let birth = Birth {
            entry: Entry::latched(LatchState::Established, Progress::begun(Direction::Inbound)),
            class: Some(tag.class),
            changed_at: tag.version,
            hint: None,
            snapshot: context.snapshot.id,
            now: context.now,
            sent,
            received: segment.map_or_else(Side::default, |segment| Side::begun(&segment)),
            tag: Some(*tag),
        };
        if self.database.create(packet.flow(), &birth)? {
            return Ok(());
        }
        match self.database.probe(packet.flow()).map(|known| (known.entry.kind, known)) {
            Some((Kind::Latched(state), known)) => known.latch(state).check(tag),
            _ => Err(DropReason::MidStream),
        }
    }
}
