//! From the TUN to the wire: which SA the flow's latch demands, and the latch that feedback makes.

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::flow::FlowKey;
use latchway_datapath::packet::{IpPacket, TcpSegment, Upper, flags};
use latchway_datapath::ulp::Context;
use latchway_tagging::{ClassId, Feedback, OutboundTag, SaRef, StateVersion};

use crate::database::{Birth, Known};
use crate::entry::{Entry, Kind};
use crate::latch::{BreakReason, LatchState};
use crate::progress::{Progress, Side};
use crate::shim::Shim;
use crate::shim::icmp::is_icmp;
use crate::shim::opening::{Opening, is_syn, opening};

/// What is to be done with the feedback.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pending {
    /// Make the latch of the flow that this packet begins.
    Latch(Option<TcpSegment>),
    /// Remember the SA of a latched flow.
    Refresh(ClassId),
    /// Remember the SA of an unlatched flow.
    Cache,
}

type Judgement = Result<(OutboundTag, Option<Pending>), DropReason>;

impl Shim {
    #[inline]
    pub(super) fn judge_outbound(&self, packet: &IpPacket<'_>, context: &Context<'_>) -> Judgement {
        if is_icmp(packet)
            && let Some(class) = self.judge_icmp_outbound(packet, context)?
        {
            return Ok((OutboundTag { required: Some(class), ..OutboundTag::default() }, None));
        }
        let Some(known) = self.database.probe(packet.flow()) else {
            return begin(packet, context);
        };
        match known.entry.kind {
            Kind::Latched(LatchState::Established) if known.entry.progress.is_over() => {
                self.outbound_afterwards(packet, &known, context)
            }
            Kind::Latched(LatchState::Established) => self.outbound_latched(packet, &known, context),
            Kind::Latched(LatchState::Larval | LatchState::Listener) => Err(DropReason::LatchLarval),
            Kind::Latched(LatchState::Broken) => {
                self.announce(&known, packet.flow());
                Err(DropReason::LatchBroken)
            }
            Kind::Latched(LatchState::Closed) => self.outbound_afterwards(packet, &known, context),
            Kind::Unlatched => self.outbound_unlatched(packet, &known, context),
        }
    }

    /// Every packet of a latched flow carries its latched class (L-99). Where another snapshot was adopted since, the
    /// SA is chosen anew, among those of the class.
    #[inline]
    fn outbound_latched(&self, packet: &IpPacket<'_>, known: &Known<'_>, context: &Context<'_>) -> Judgement {
        known.admit(packet, Direction::Outbound)?;
        self.track(packet, known, Direction::Outbound, context.now);
        let hint = known.hint(context.snapshot.id);
        let feedback = hint.is_none();
        let pending = feedback.then_some(Pending::Refresh(known.class));
        Ok((OutboundTag { required: Some(known.class), feedback, hint }, pending))
    }

    /// After the end of a connection: a SYN begins the next one (T37 g), what is late still belongs to the last.
    fn outbound_afterwards(
        &self,
        packet: &IpPacket<'_>,
        known: &Known<'_>,
        context: &Context<'_>,
    ) -> Judgement {
        if matches!(packet.upper(), Upper::Tcp(segment) if is_syn(segment)) {
            self.database.remove(known);
            return begin(packet, context);
        }
        match known.entry.kind {
            Kind::Latched(LatchState::Established) => self.outbound_latched(packet, known, context),
            _ => {
                self.outlived(packet, known);
                Err(DropReason::LatchBroken)
            }
        }
    }

    /// A socket that speaks after a reset from the remote side did not take it (RFC 5961 3.2): its 5-tuple is not free
    /// for another peer, though its latch stays CLOSED.
    fn outlived(&self, packet: &IpPacket<'_>, known: &Known<'_>) {
        let speaks = matches!(packet.upper(), Upper::Tcp(segment) if segment.flags & flags::RST == 0);
        if speaks && known.entry.reason == Some(BreakReason::ConnectionEnded) {
            self.database.change(known.found, |entry| Some(Entry { progress: Progress::Both, ..entry }));
        }
    }

    /// What policy said is valid for one snapshot.
    #[inline]
    fn outbound_unlatched(
        &self,
        packet: &IpPacket<'_>,
        known: &Known<'_>,
        context: &Context<'_>,
    ) -> Judgement {
        let snapshot = context.snapshot.id;
        if !known.is_current(snapshot) {
            return match opening(packet, Direction::Outbound, context) {
                Ok(Opening::Unlatched) => Ok(uncached()),
                Ok(Opening::Latched(segment)) => {
                    self.database.remove(known);
                    Ok(latching(segment))
                }
                Err(reason) => Err(reason),
            };
        }
        known.touch(context.now);
        match known.last_hint() {
            Some(hint) => Ok((OutboundTag { hint: Some(hint), ..OutboundTag::default() }, None)),
            None => Ok(uncached()),
        }
    }

    /// Acts on feedback, before the packet leaves.
    pub(super) fn record(
        &self,
        flow: &FlowKey,
        pending: Pending,
        feedback: Feedback,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        match (pending, feedback) {
            (Pending::Latch(segment), Feedback::Protected { class, sa, version }) => {
                self.latch_outbound(flow, segment, &Served { class, sa, version }, context)
            }
            // L-22: a latch is wanted, so nothing leaves without.
            (Pending::Latch(_), Feedback::NotProtected) => Err(DropReason::LatchLarval),
            (Pending::Refresh(latched), Feedback::Protected { class, sa, .. }) if class == latched => {
                self.refresh(flow, latched, sa, context);
                Ok(())
            }
            // L-25: the datapath chose an SA that the tag did not allow.
            (Pending::Refresh(_), _) => Err(DropReason::LatchMismatch),
            (Pending::Cache, Feedback::Protected { sa, .. }) => self.cache(flow, Some(sa), context),
            (Pending::Cache, Feedback::NotProtected) => self.cache(flow, None, context),
        }
    }

    /// Makes the latch of a connection begun by the local side (L-4, L-96). Where another worker was faster, its latch
    /// holds.
    fn latch_outbound(
        &self,
        flow: &FlowKey,
        segment: Option<TcpSegment>,
        served: &Served,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        let birth = Birth {
            entry: Entry::latched(LatchState::Established, Progress::begun(Direction::Outbound)),
            class: Some(served.class),
            changed_at: served.version,
            hint: Some(served.sa),
            snapshot: context.snapshot.id,
            now: context.now,
            sent: segment.map_or_else(Side::default, |segment| Side::begun(&segment)),
            received: Side::default(),
            tag: None,
        };
        if self.database.create(flow, &birth)? {
            return Ok(());
        }
        let established = |known: &Known<'_>| known.entry.kind == Kind::Latched(LatchState::Established);
        match self.database.probe(flow) {
            Some(known) if established(&known) && known.class == served.class => Ok(()),
            _ => Err(DropReason::LatchMismatch),
        }
    }

    fn refresh(&self, flow: &FlowKey, latched: ClassId, sa: SaRef, context: &Context<'_>) {
        if let Some(known) = self.database.probe(flow).filter(|known| known.class == latched) {
            known.remember(Some(sa), context.snapshot.id);
        }
    }

    /// Remembers how an unlatched flow is served, where there is room. If the flow was latched meanwhile, the packet
    /// is not of that latch.
    fn cache(&self, flow: &FlowKey, sa: Option<SaRef>, context: &Context<'_>) -> Result<(), DropReason> {
        if let Some(known) = self.database.probe(flow) {
            return match known.entry.kind {
                Kind::Unlatched => {
                    known.remember(sa, context.snapshot.id);
                    Ok(())
                }
                Kind::Latched(_) => Err(DropReason::LatchMismatch),
            };
        }
        self.remember_unlatched(flow, sa, context);
        Ok(())
    }

    /// An entry for an unlatched flow is only a cache: without room for it the flow passes all the same.
    pub(super) fn remember_unlatched(&self, flow: &FlowKey, sa: Option<SaRef>, context: &Context<'_>) {
        let birth = Birth {
            entry: Entry::UNLATCHED,
            class: None,
            changed_at: StateVersion::default(),
            hint: sa,
            snapshot: context.snapshot.id,
            now: context.now,
            sent: Side::default(),
            received: Side::default(),
            tag: None,
        };
        let cached = self.database.create(flow, &birth);
        debug_assert!(matches!(cached, Ok(_) | Err(DropReason::FlowTableFull)));
    }
}

/// The SA that a connection's first packet leaves under.
struct Served {
    class: ClassId,
    sa: SaRef,
    version: StateVersion,
}

fn begin(packet: &IpPacket<'_>, context: &Context<'_>) -> Judgement {
    match opening(packet, Direction::Outbound, context)? {
        Opening::Latched(segment) => Ok(latching(segment)),
        Opening::Unlatched => Ok(uncached()),
    }
}

/// L-95: feedback is asked for on the initiating packet.
fn latching(segment: Option<TcpSegment>) -> (OutboundTag, Option<Pending>) {
    (OutboundTag { feedback: true, ..OutboundTag::default() }, Some(Pending::Latch(segment)))
}

fn uncached() -> (OutboundTag, Option<Pending>) {
    (OutboundTag { feedback: true, ..OutboundTag::default() }, Some(Pending::Cache))
}
