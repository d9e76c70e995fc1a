//! From the wire to the TUN: a packet passes only under the class its flow is latched to.

use latchway_datapath::bypass;
use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::event::Event;
use latchway_datapath::latching::{BreakReason, LatchId, LatchState, LatchTerms, OnConflict, Unlatchable};
use latchway_datapath::packet::{IpPacket, TcpSegment, Upper};
use latchway_datapath::spd::Action;
use latchway_datapath::ulp::Context;
use latchway_tagging::InboundTag;

use crate::database::{Birth, Known, Listener};
use crate::entry::{Entry, Holds, Kind};
use crate::progress::{Progress, Side};
use crate::requirements::Required;
use crate::shim::Shim;
use crate::shim::barred;
use crate::shim::icmp::is_icmp;
use crate::shim::opening::{
    Opening, Wanted, admits_inbound, initiates, opening, opening_again, shakes_hands,
};
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
        // What it quotes was held to what is required when it began.
        let is_about = is_icmp(packet) && self.judge_icmp_inbound(packet, tag, context)?;
        let known = self.database.probe(packet.flow());
        let demand = match is_about {
            true => None,
            false => self.demand(packet, Direction::Inbound, known.as_ref(), context)?,
        };
        let arrival = Arrival { tag, demand };
        let Some(known) = known else {
            return self.begin_inbound(packet, &arrival, Side::default(), context);
        };
        match known.entry.kind {
            Kind::Latched(state) => self.inbound_latched(state, packet, &arrival, (&known, context)),
            Kind::Unlatched if demand.is_some() || self.is_awaited(packet, &known) => {
                self.database.remove(&known);
                self.begin_inbound(packet, &arrival, Side::default(), context)
            }
            Kind::Unlatched if known.is_current(context.snapshot.id) => {
                if is_icmp(packet) {
                    admits_inbound(packet, context)?;
                }
                known.touch(context.now);
                Ok(())
            }
            Kind::Unlatched => self.inbound_reconsidered(packet, &arrival, &known, context),
        }
    }

    /// L-26: nothing unprotected reaches a latched flow, whatever policy says of it, and the latch is none the worse
    /// for it (C-19); unless the latch grants just that (L-112). For other flows policy decides, and a listener that
    /// demands protection.
    pub(super) fn judge_unprotected(
        &self,
        packet: &IpPacket<'_>,
        policy: Option<Action>,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        if is_icmp(packet) {
            self.judge_icmp_unprotected(packet)?;
        }
        let known = self.database.probe(packet.flow());
        let Some(known) = known.filter(|known| known.entry.kind != Kind::Unlatched) else {
            bypass::admit(policy)?;
            if self.demand(packet, Direction::Inbound, known.as_ref(), context)?.is_some() {
                return Err(DropReason::RequirementUnmet);
            }
            return self.admit_unlatched(packet);
        };
        match (known.entry.kind, known.entry.holds) {
            (Kind::Latched(LatchState::Established), Holds::Bypass) => {
                if !matches!(policy, Some(Action::Protect(_))) {
                    bypass::admit(policy)?;
                }
                known.admit(packet, Direction::Inbound)?;
                let demand = self.demand(packet, Direction::Inbound, Some(&known), context)?;
                self.holds_to(&known, demand, packet, context.now)?;
                self.track(packet, &known, Direction::Inbound, context.now);
                Ok(())
            }
            (_, Holds::Bypass) => Err(DropReason::LatchBroken),
            _ => Err(DropReason::LatchUnprotected),
        }
    }

    /// Whether a packet of a flow that went on without a latch may begin a connection that a listener awaits by now: the
    /// flow may have been kept by its peer for just that.
    #[inline]
    fn is_awaited(&self, packet: &IpPacket<'_>, known: &Known<'_>) -> bool {
        let passes = known.entry.passed && !shakes_hands(packet);
        !passes && self.database.has_listeners() && self.awaits(packet).is_some()
    }

    /// The listener that a packet may begin a connection to. A handshake that comes in pieces does not show.
    fn awaits(&self, packet: &IpPacket<'_>) -> Option<Listener> {
        let may_begin = initiates(packet).is_some() || matches!(packet.upper(), Upper::FirstFragment(_));
        may_begin.then(|| self.database.listener(packet.flow()))?
    }

    /// A handshake on a connection that has a latch may begin another, of a socket that listens since and demands what the
    /// latch does not hold to (L-46).
    fn admit_by_listener(&self, packet: &IpPacket<'_>, tag: &InboundTag) -> Result<(), DropReason> {
        let listener = shakes_hands(packet).then(|| self.database.listener(packet.flow())).flatten();
        match listener {
            Some(listener) if !self.database.is_welcome(tag.class, &listener) => {
                Err(DropReason::ListenerRefused)
            }
            _ => Ok(()),
        }
    }

    /// A listener that demands protection has no connection without (L-111).
    fn admit_unlatched(&self, packet: &IpPacket<'_>) -> Result<(), DropReason> {
        let listener = self.awaits(packet);
        match listener {
            Some(listener) if !listener.takes_unprotected() => Err(DropReason::LatchUnprotected),
            _ => Ok(()),
        }
    }

    #[inline]
    fn inbound_latched(
        &self,
        state: LatchState,
        packet: &IpPacket<'_>,
        arrival: &Arrival<'_>,
        (known, context): (&Known<'_>, &Context<'_>),
    ) -> Result<(), DropReason> {
        let tag = arrival.tag;
        if known.entry.progress.is_over() && self.may_begin_again(packet, tag, known) {
            return self.begin_again(packet, arrival, known, context);
        }
        let latch = known.latch(state);
        let verdict = latch.check(tag);
        match verdict {
            Ok(()) => {
                known.admit(packet, Direction::Inbound)?;
                self.admit_by_listener(packet, tag)?;
                self.holds_to(known, arrival.demand, packet, context.now)?;
                self.track(packet, known, Direction::Inbound, context.now);
                known.note(tag);
            }
            Err(DropReason::LatchMismatch) if tag.version >= latch.changed_at => {
                self.offend(packet, tag, known, context);
            }
            Err(DropReason::LatchLarval) => return self.join(packet, arrival, known, context),
            Err(DropReason::LatchBroken) if has_reset(known, tag) && shakes_hands(packet) => {
                return self.begin_again(packet, arrival, known, context);
            }
            Err(DropReason::LatchBroken) => self.announce(known, packet.flow()),
            Err(_) => {}
        }
        verdict
    }

    /// A new connection takes the place of one that is over.
    fn begin_again(
        &self,
        packet: &IpPacket<'_>,
        arrival: &Arrival<'_>,
        known: &Known<'_>,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        let sent = known.sent_to(arrival.tag);
        self.database.remove(known);
        self.begin_inbound(packet, arrival, sent, context)
    }

    /// The local side has begun, no SA served it yet, and the remote side begins under one: one latch for both. One
    /// that was asked for, only the key manager establishes.
    fn join(
        &self,
        packet: &IpPacket<'_>,
        &Arrival { tag, demand }: &Arrival<'_>,
        known: &Known<'_>,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        let Some(received) = initiates(packet).filter(|_| !known.entry.owned) else {
            return Err(DropReason::LatchLarval);
        };
        if known.is_newer_than(tag) {
            return Err(DropReason::StaleVersion);
        }
        // Policy may have come to discard it since the local side began (RFC 4301 5.2).
        opening(packet, Direction::Inbound, Wanted { listener: None, demand }, context)?;
        self.meets(tag.class, demand)?;
        barred::check(packet.flow(), tag.class, known.entry.terms, context)?;
        self.database.promote(known.found, tag.class)?;
        self.database.note_required(known, demand.is_some());
        known.found.slot.received.store(received.pack(), Ordering::Relaxed);
        known.touch(context.now);
        known.note(tag);
        self.tell(known.found.id, packet.flow(), LatchState::Established, None);
        Ok(())
    }

    /// C-19, L-100, L-108, L-109: the packet is dropped whatever it is. If it is another peer's, of no lesser standing (L-70), the
    /// peer that the latch holds to is taken to be gone, and the latch's terms say what follows (L-110). A connection that
    /// is over already has nothing left to end.
    fn offend(&self, packet: &IpPacket<'_>, tag: &InboundTag, known: &Known<'_>, context: &Context<'_>) {
        let (entry, peers) = (&known.entry, self.database.peers());
        let ends = matches!(entry.terms.on_conflict, OnConflict::Terminate | OnConflict::Wait);
        if !ends || entry.holds != Holds::Class || entry.progress.is_over() {
            return;
        }
        if peers.same_peer(known.class, tag.class) || peers.standing(tag.class) < peers.standing(known.class)
        {
            return;
        }
        self.database.break_for(known, tag, context.now);
        self.announce(known, packet.flow());
    }

    /// T37 g: whether a SYN may begin another connection on the 5-tuple of one that is over. For the same class any
    /// may; for another the old sockets must be known to be gone, and the number beyond theirs (RFC 9293 3.6.1).
    fn may_begin_again(&self, packet: &IpPacket<'_>, tag: &InboundTag, known: &Known<'_>) -> bool {
        let received = Side::unpack(known.found.slot.received.load(Ordering::Relaxed));
        let is_beyond = |segment: &TcpSegment| segment.seq.wrapping_sub(received.edge) < 1 << 31;
        let beyond = matches!(packet.upper(), Upper::Tcp(segment) if is_beyond(segment));
        let gone = known.entry.progress == Progress::Ended || beyond;
        shakes_hands(packet) && (tag.class == known.class || gone)
    }

    /// An unlatched flow under another snapshot: policy may want a latch by now.
    fn inbound_reconsidered(
        &self,
        packet: &IpPacket<'_>,
        arrival: &Arrival<'_>,
        known: &Known<'_>,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        match opening_again(packet, Direction::Inbound, known, context)? {
            Opening::Unlatched => {
                known.remember(None, context.snapshot.id);
                known.touch(context.now);
                Ok(())
            }
            Opening::Latched(..) => {
                self.database.remove(known);
                self.begin_inbound(packet, arrival, Side::default(), context)
            }
        }
    }

    /// Begins a flow, of which the local side was as far as `sent` with the same peer.
    fn begin_inbound(
        &self,
        packet: &IpPacket<'_>,
        &Arrival { tag, demand }: &Arrival<'_>,
        sent: Side,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        let listener = self.database.listener(packet.flow());
        let wanted = Wanted { listener: listener.as_ref(), demand };
        let (received, terms) = match opening(packet, Direction::Inbound, wanted, context)? {
            Opening::Latched(received, terms) => (received, terms),
            Opening::Unlatched => {
                self.remember_unlatched(packet.flow(), None, false, context);
                return Ok(());
            }
        };
        self.meets(tag.class, demand)?;
        let begun = Begun { received, sent, terms, listener, demanded: demand.is_some() };
        match self.latch_inbound(packet, begun, tag, context) {
            Err(DropReason::FlowTableFull | DropReason::LatchBarred)
                if terms.unlatchable == Unlatchable::Pass =>
            {
                self.pass(packet.flow(), context)
            }
            verdict => verdict,
        }
    }

    /// Makes the latch from the initiating packet's own tag (L-5, L-97, C-22): the SAD is not asked again. Where another
    /// worker was faster, the packet is judged by that latch.
    fn latch_inbound(
        &self,
        packet: &IpPacket<'_>,
        Begun { received, sent, terms, listener, demanded }: Begun,
        tag: &InboundTag,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        if listener.is_some_and(|listener| !self.database.is_welcome(tag.class, &listener)) {
            return Err(DropReason::ListenerRefused);
        }
        barred::check(packet.flow(), tag.class, terms, context)?;
        let required = demanded || listener.is_some();
        let entry = Entry { required, ..Entry::established(Progress::begun(Direction::Inbound), terms) };
        let birth = Birth {
            class: Some(tag.class),
            changed_at: tag.version,
            snapshot: context.snapshot.id,
            sent,
            received,
            tag: Some(*tag),
            ..Birth::new(entry, context.now)
        };
        if let Some(latch) = self.database.create(packet.flow(), &birth)? {
            self.tell(latch, packet.flow(), LatchState::Established, None);
            return listener.map_or(Ok(()), |listener| self.spawned(latch, &listener, packet, tag));
        }
        match self.database.probe(packet.flow()).map(|known| (known.entry.kind, known)) {
            Some((Kind::Latched(state), known)) => known.latch(state).check(tag),
            _ => Err(DropReason::MidStream),
        }
    }

    /// L-53, L-80: the listener's holder is told before the connection goes on, or there is none.
    fn spawned(
        &self,
        latch: LatchId,
        listener: &Listener,
        packet: &IpPacket<'_>,
        tag: &InboundTag,
    ) -> Result<(), DropReason> {
        let (listener, flow) = (listener.id, *packet.flow());
        if self.events.send(Event::LatchSpawned { listener, latch, flow, class: tag.class }) {
            return Ok(());
        }
        if let Some(known) = self.database.known(latch) {
            self.database.remove(&known);
        }
        Err(DropReason::ListenerRefused)
    }
}

/// What a packet came under, and what is required of its flow.
struct Arrival<'a> {
    tag: &'a InboundTag,
    demand: Option<Required>,
}

/// A connection that the remote side begins.
struct Begun {
    /// How far the remote side is.
    received: Side,
    /// How far the local side was with the same peer.
    sent: Side,
    terms: LatchTerms,
    listener: Option<Listener>,
    /// Whether something is required of its socket.
    demanded: bool,
}

/// Whether the packet is of the very peer whose connection ended before: it need not wait for a socket that did not take
/// its reset yet (RFC 5961 3.2), for that is its own.
fn has_reset(known: &Known<'_>, tag: &InboundTag) -> bool {
    let ended = known.entry.reason == Some(BreakReason::ConnectionEnded);
    ended && known.entry.holds == Holds::Class && known.class == tag.class
}
