//! From the TUN to the wire: which SA the flow's latch demands, and the latch that feedback makes.

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{BreakReason, LatchState, LatchTerms, Unlatchable};
use latchway_datapath::packet::{IpPacket, Upper, flags};
use latchway_datapath::ulp::Context;
use latchway_tagging::{ClassId, Demand, Feedback, OutboundTag, SaRef, StateVersion};

use crate::database::{Birth, Known};
use crate::entry::{Entry, Kind};
use crate::progress::{Progress, Side};
use crate::requirements::Required;
use crate::shim::Shim;
use crate::shim::barred;
use crate::shim::icmp::is_icmp;
use crate::shim::opening::{Opening, Wanted, admits_flow_inbound, opening, opening_again, shakes_hands};

/// What is to be done with the feedback.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pending {
    /// Make the latch of the flow that this packet begins, if it is what is demanded.
    Latch(Beginning),
    /// Remember the SA of a latched flow.
    Refresh(ClassId),
    /// Remember the SA of an unlatched flow.
    Cache,
}

/// A flow that the local side begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    /// How far the local side is with this packet.
    sent: Side,
    /// The terms of the latch.
    terms: LatchTerms,
    /// What is required of it.
    demand: Option<Required>,
}

type Judgement = Result<(OutboundTag, Option<Pending>), DropReason>;

impl Shim {
    #[inline]
    pub(super) fn judge_outbound(&self, packet: &IpPacket<'_>, context: &Context<'_>) -> Judgement {
        if is_icmp(packet)
            && let Some(demand) = self.judge_icmp_outbound(packet, context)?
        {
            return Ok((OutboundTag { demand, ..OutboundTag::default() }, None));
        }
        let known = self.database.probe(packet.flow());
        let demand = self.demand(packet, Direction::Outbound, known.as_ref(), context)?;
        let Some(known) = known else { return begin(packet, demand, context) };
        match known.entry.kind {
            Kind::Latched(LatchState::Established) if known.entry.progress.is_over() => {
                self.outbound_afterwards(packet, &known, demand, context)
            }
            Kind::Latched(LatchState::Established) => {
                self.holds_to(&known, demand, packet, context.now)?;
                self.outbound_latched(packet, &known, context)
            }
            Kind::Latched(LatchState::Larval) if !known.entry.owned && shakes_hands(packet) => {
                begin(packet, demand, context)
            }
            Kind::Latched(LatchState::Larval | LatchState::Listener) => Err(DropReason::LatchLarval),
            Kind::Latched(LatchState::Broken) => {
                self.announce(&known, packet.flow());
                Err(DropReason::LatchBroken)
            }
            Kind::Latched(LatchState::Closed) => self.outbound_afterwards(packet, &known, demand, context),
            Kind::Unlatched if demand.is_some() => {
                self.database.remove(&known);
                begin(packet, demand, context)
            }
            Kind::Unlatched => self.outbound_unlatched(packet, &known, context),
        }
    }

    /// Every packet of a latched flow carries its latched class (L-99). Where another snapshot was adopted since, the
    /// SA is chosen anew, among those of the class.
    #[inline]
    fn outbound_latched(&self, packet: &IpPacket<'_>, known: &Known<'_>, context: &Context<'_>) -> Judgement {
        known.admit(packet, Direction::Outbound)?;
        self.track(packet, known, Direction::Outbound, context.now);
        let demand = known.demand();
        let Demand::Class(class) = demand else {
            return Ok((OutboundTag { demand, ..OutboundTag::default() }, None));
        };
        let hint = known.hint(context.snapshot.id);
        let feedback = hint.is_none();
        let pending = feedback.then_some(Pending::Refresh(class));
        Ok((OutboundTag { demand, feedback, hint }, pending))
    }

    /// After the end of a connection: a SYN begins the next one (T37 g), what is late still belongs to the last. While
    /// somebody holds the latch, the next connection is held to it too, or does not begin: what was asked for is more than
    /// policy has, which may be nothing (L-21, L-22).
    fn outbound_afterwards(
        &self,
        packet: &IpPacket<'_>,
        known: &Known<'_>,
        demand: Option<Required>,
        context: &Context<'_>,
    ) -> Judgement {
        if shakes_hands(packet) && !known.entry.owned {
            self.database.remove(known);
            return begin(packet, demand, context);
        }
        match known.entry.kind {
            Kind::Latched(LatchState::Established) => {
                self.holds_to(known, demand, packet, context.now)?;
                self.outbound_latched(packet, known, context)
            }
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
            return match opening_again(packet, Direction::Outbound, known, context) {
                Ok(Opening::Unlatched) => Ok(uncached()),
                Ok(Opening::Latched(sent, terms)) => {
                    self.database.remove(known);
                    Ok(latching(Beginning { sent, terms, demand: None }))
                }
                Err(reason) => Err(reason),
            };
        }
        known.touch(context.now);
        // Policy may tell the messages of one ICMP flow apart (RFC 4301 4.4.1.1): each is asked for.
        match known.last_hint().filter(|_| !is_icmp(packet)) {
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
            (Pending::Latch(beginning), Feedback::Protected { class, sa, version }) => {
                let served = Served { class, sa, version };
                match self.latch_outbound(flow, &beginning, &served, context) {
                    Err(DropReason::FlowTableFull | DropReason::LatchBarred)
                        if beginning.terms.unlatchable == Unlatchable::Pass =>
                    {
                        self.pass(flow, context)
                    }
                    verdict => verdict,
                }
            }
            (Pending::Latch(Beginning { demand: Some(_), .. }), Feedback::NotProtected) => {
                Err(DropReason::RequirementUnmet)
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
        &Beginning { sent, terms, demand }: &Beginning,
        served: &Served,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        self.meets(served.class, demand)?;
        barred::check(flow, served.class, terms, context)?;
        let required = demand.is_some();
        let entry = Entry { required, ..Entry::established(Progress::begun(Direction::Outbound), terms) };
        let birth = Birth {
            class: Some(served.class),
            changed_at: served.version,
            hint: Some(served.sa),
            snapshot: context.snapshot.id,
            sent,
            ..Birth::new(entry, context.now)
        };
        if let Some(latch) = self.database.create(flow, &birth)? {
            self.tell(latch, flow, LatchState::Established, None);
            return Ok(());
        }
        let Some(known) = self.database.probe(flow) else { return Err(DropReason::LatchMismatch) };
        match known.entry.kind {
            Kind::Latched(LatchState::Larval) if !known.entry.owned => {
                // By the terms that it keeps, which may be other than the rule has now (L-37).
                barred::check(flow, served.class, known.entry.terms, context)?;
                self.database.promote(known.found, served.class)?;
                self.database.note_required(&known, required);
                known.remember(Some(served.sa), context.snapshot.id);
                known.touch(context.now);
                self.tell(known.found.id, flow, LatchState::Established, None);
                Ok(())
            }
            Kind::Latched(LatchState::Established) if known.class == served.class => {
                self.database.note_required(&known, required);
                Ok(())
            }
            _ => Err(DropReason::LatchMismatch),
        }
    }

    /// No SA serves the packet that begins a connection. Its latch is LARVAL (L-17): nothing passes (L-22, L-23), nobody
    /// is told anything (L-38), and what begins it again, from either side, establishes it.
    #[cold]
    pub(super) fn await_sa(&self, flow: &FlowKey, pending: Pending, context: &Context<'_>) {
        // Without a handshake the next packet is as good as this one.
        let Pending::Latch(Beginning { sent, terms, .. }) = pending else { return };
        if sent == Side::default() {
            return;
        }
        let birth = Birth {
            changed_at: context.version,
            snapshot: context.snapshot.id,
            sent,
            ..Birth::new(Entry::of_state(LatchState::Larval, Progress::LocalOnly, terms), context.now)
        };
        if let Ok(Some(latch)) = self.database.create(flow, &birth) {
            self.tell(latch, flow, LatchState::Larval, None);
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
        // What comes back is judged by what is remembered, so that nothing is where policy discards that.
        let returns = admits_flow_inbound(flow, context).is_ok();
        if let Some(known) = self.database.probe(flow) {
            return match known.entry.kind {
                Kind::Unlatched => {
                    if returns {
                        known.remember(sa, context.snapshot.id);
                    }
                    Ok(())
                }
                Kind::Latched(_) => Err(DropReason::LatchMismatch),
            };
        }
        if !returns {
            return Ok(());
        }
        self.remember_unlatched(flow, sa, false, context);
        Ok(())
    }

    /// A flow that cannot be latched, which its terms let pass (L-81, L-83): remembered as such, since what follows could
    /// not be told from a connection in the middle.
    #[cold]
    pub(super) fn pass(&self, flow: &FlowKey, context: &Context<'_>) -> Result<(), DropReason> {
        if self.remember_unlatched(flow, None, true, context) {
            Ok(())
        } else {
            Err(DropReason::FlowTableFull)
        }
    }

    /// An entry for an unlatched flow is only a cache: without room for it the flow passes all the same, unless it is one
    /// that was to have a latch. Returns whether there was room.
    pub(super) fn remember_unlatched(
        &self,
        flow: &FlowKey,
        sa: Option<SaRef>,
        passed: bool,
        context: &Context<'_>,
    ) -> bool {
        let birth = Birth {
            hint: sa,
            snapshot: context.snapshot.id,
            ..Birth::new(Entry { passed, ..Entry::UNLATCHED }, context.now)
        };
        matches!(self.database.create(flow, &birth), Ok(Some(_)))
    }
}

/// The SA that a connection's first packet leaves under.
struct Served {
    class: ClassId,
    sa: SaRef,
    version: StateVersion,
}

fn begin(packet: &IpPacket<'_>, demand: Option<Required>, context: &Context<'_>) -> Judgement {
    match opening(packet, Direction::Outbound, Wanted { listener: None, demand }, context)? {
        Opening::Latched(sent, terms) => Ok(latching(Beginning { sent, terms, demand })),
        Opening::Unlatched => Ok(uncached()),
    }
}

/// L-95: feedback is asked for on the initiating packet.
fn latching(beginning: Beginning) -> (OutboundTag, Option<Pending>) {
    (OutboundTag { feedback: true, ..OutboundTag::default() }, Some(Pending::Latch(beginning)))
}

fn uncached() -> (OutboundTag, Option<Pending>) {
    (OutboundTag { feedback: true, ..OutboundTag::default() }, Some(Pending::Cache))
}
