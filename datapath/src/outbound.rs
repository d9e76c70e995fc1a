//! Outbound, from the TUN to the wire: RFC 4301 section 5.1, RFC 4303 section 3.3.
//!
//! The street reads as the list in the design: parse, ask the upper layer, choose the SA, fit, answer, take
//! numbers and charge, seal. Reading the TUN comes before it, and one send for the whole batch after it.

use latchway_esp::TakeError;
use latchway_tagging::{ClassId, Demand, Feedback, OutboundTag, SaRef};

use crate::drop::{Direction, DropReason};
use crate::flow::FlowKey;
use crate::gateway::{Datapath, context};
use crate::owned::OwnedOutbound;
use crate::packet::IpPacket;
use crate::refusal::may_be_over;
use crate::segment::SuperPacket;
use crate::send_batch::SendBatch;
use crate::spd::Action;
use crate::spending::{Numbers, Packets, Spent};
use crate::traffic::Traffic;
use crate::ulp::Ulp;
use crate::wrapping::Wrapping;

/// What became of a super-packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outbound {
    /// Sealed into the batch.
    Sealed,
    /// To be written, as it is, to the bypass port.
    Bypass,
    /// Dropped and counted.
    Dropped,
    /// Kept until the first fragment of its datagram comes: [`Datapath::release_outbound`] gives it back.
    Kept,
    /// Dropped and counted, and the sender is to be told: [`Datapath::answer`] is to be written to the TUN.
    Answered,
}

/// Whether a super-packet fits its path after encapsulation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Whole,
    InFragments,
    /// Not with more than so many octets in each packet.
    Not {
        most: usize,
    },
}

/// Why packets of a super-packet are dropped, and how many others of it have been sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) reason: DropReason,
    pub(crate) sealed: u64,
}

impl From<DropReason> for Lost {
    fn from(reason: DropReason) -> Self {
        Self { reason, sealed: 0 }
    }
}

/// The SA for a packet, or the way around IPsec.
enum Route {
    Protect(SaRef),
    Bypass,
}

impl<U: Ulp> Datapath<U> {
    /// Takes one super-packet, virtio header first, and seals its segments into `batch`, which has room for them.
    #[inline]
    pub fn outbound(&mut self, octets: &mut [u8], batch: &mut SendBatch) -> Outbound {
        let super_packet = match SuperPacket::parse(octets) {
            Ok(super_packet) => super_packet,
            Err(_) => return self.drop_outbound(DropReason::BadOffload, 1),
        };
        let segments = super_packet.segment_count() as u64;
        match self.protect(super_packet, batch) {
            Ok(outcome) => outcome,
            Err(Lost { reason, sealed }) => {
                let dropped = self.drop_outbound(reason, segments - sealed);
                self.audit_inner(Direction::Outbound, reason, octets);
                match reason {
                    _ if sealed > 0 => Outbound::Sealed,
                    reason if may_be_over(reason) => self.refuse_over(octets, reason),
                    reason if self.prohibition.concerns(reason) => self.prohibit(octets),
                    _ => dropped,
                }
            }
        }
    }

    /// The street: one call per step.
    fn protect(&mut self, super_packet: SuperPacket<'_>, batch: &mut SendBatch) -> Result<Outbound, Lost> {
        // Read where it was written: it is large.
        let mut parsed = IpPacket::parse(super_packet.packet(), Direction::Outbound);
        let packet = parsed.as_mut().map_err(|reason| *reason)?;
        if !self.resolve_outbound(packet)? {
            return Ok(Outbound::Kept);
        }
        let flow = *packet.flow();
        let tag = self.ulp.outbound(packet, &context(&self.snapshot, self.version, self.now))?;
        let route = self.choose(&self.carried_as(packet, tag), tag)?;
        let Route::Protect(sa) = route else {
            self.feed_back(&flow, tag, &route)?;
            return Ok(Outbound::Bypass);
        };
        self.show_leaving(packet, sa);
        let mut wrapping = self.wrap(sa, (packet, super_packet.max_segment_len()), tag)?;
        let fit = self.fit(&mut wrapping, &super_packet, batch)?;
        if let Fit::Not { most } = fit {
            return Ok(self.refuse(&super_packet, most));
        }
        self.feed_back(&flow, tag, &route)?;
        if fit == Fit::InFragments {
            return self.seal_in_fragments(&wrapping, (&flow, tag), &super_packet, batch);
        }
        let numbers = self.spend(&wrapping, Packets::of(&super_packet), (&flow, tag))?;
        self.seal(&wrapping, numbers, &super_packet, batch)
    }

    /// What goes around the packet. An SA of which something is gone, such as half of a bundle, serves nobody.
    fn wrap(
        &mut self,
        sa: SaRef,
        (packet, longest): (&IpPacket<'_>, usize),
        tag: OutboundTag,
    ) -> Result<Wrapping, DropReason> {
        match self.sas.sealing(sa, &mut self.headers) {
            Ok(sealing) => sealing.wrap(packet, longest),
            Err(reason) => self.unserved(packet.flow(), tag.demand.class(), reason).and(Err(reason)),
        }
    }

    /// Makes the flow known, if it is not that of a fragment that waits; link-local traffic goes no further (RFC 4291 2.5.6,
    /// 2.7).
    fn resolve_outbound(&mut self, packet: &mut IpPacket<'_>) -> Result<bool, DropReason> {
        if packet.flow().is_link_local() {
            return Err(DropReason::LinkLocal);
        }
        self.outbound_fragments.resolve(packet, None, self.now, |_| Ok(()))
    }

    /// An ICMP error may go by the SA of what it quotes (RFC 4301 6.2).
    #[inline]
    fn carried_as(&self, packet: &IpPacket<'_>, tag: OutboundTag) -> Traffic {
        if packet.traffic().icmp.is_none() || tag.demand == Demand::Bypass {
            return *packet.traffic();
        }
        self.snapshot.carries_as(packet, tag.demand.class())
    }

    /// SA by tag: the hint if it is still current; else the SAD by class; else, unlatched, what the SPD says. A
    /// latched flow never falls through to BYPASS (L-24, L-25), unless bypass is what it was granted (L-112). A latch demands
    /// no less than the SPD did when it was made, and is broken before the SPD wants more (L-113).
    fn choose(&mut self, traffic: &Traffic, tag: OutboundTag) -> Result<Route, DropReason> {
        if let Some(hint) = tag.hint
            && let Some(owned) = self.sas.outbound(hint)
            && tag.demand.class().is_none_or(|class| class == owned.entry.class)
            // One flow of ICMP is of many types.
            && (traffic.icmp.is_none() || owned.entry.admits(traffic))
        {
            return Ok(Route::Protect(hint));
        }
        let (sad, required) = (&self.snapshot.sad, tag.demand.class());
        let selected = match tag.demand {
            Demand::Class(_) => sad.select(traffic, required, None),
            Demand::Bypass => return Ok(Route::Bypass),
            Demand::Policy => match self.snapshot.spd.action(traffic, Direction::Outbound) {
                Some(Action::Protect(protection)) => sad.select_serving(traffic, &protection),
                Some(Action::Bypass) => return Ok(Route::Bypass),
                Some(Action::Discard) => return Err(DropReason::PolicyDiscard),
                None => return Err(DropReason::NoPolicy),
            },
        };
        match selected {
            Some(slot) if slot.entry.use_.is_expired() => {
                self.unserved(&traffic.flow, required, DropReason::HardExpired)
            }
            Some(slot) => Ok(Route::Protect(slot.entry.sa)),
            None => self.unserved(&traffic.flow, required, DropReason::NoOutboundSa),
        }
    }

    /// No SA serves the flow: one ACQUIRE, and the packet is dropped (RFC 4301 5.1, L-60).
    fn unserved(
        &mut self,
        flow: &FlowKey,
        required: Option<ClassId>,
        reason: DropReason,
    ) -> Result<Route, DropReason> {
        self.ulp.unserved(flow, &context(&self.snapshot, self.version, self.now));
        self.acquire(flow, required);
        Err(reason)
    }

    /// Every segment must fit the path after encapsulation (RFC 4301 8.2), and all of them the batch. Room for fragments
    /// is sought for each packet by itself.
    fn fit(
        &mut self,
        wrapping: &mut Wrapping,
        super_packet: &SuperPacket<'_>,
        batch: &SendBatch,
    ) -> Result<Fit, DropReason> {
        if super_packet.max_segment_len() > wrapping.most && !self.is_cut_after(wrapping, super_packet)? {
            let most = wrapping.most;
            let fragments = !wrapping.is_transport() && self.may_fragment(super_packet, most);
            return Ok(if fragments { Fit::InFragments } else { Fit::Not { most } });
        }
        if !batch.has_room_for(super_packet.segment_count(), wrapping.room) {
            return Err(DropReason::NoBuffer);
        }
        Ok(Fit::Whole)
    }

    /// Feedback, if the tag asked for it (L-94). It comes before anything leaves: a flow that cannot record the SA it
    /// is to be latched to must not begin (L-22).
    fn feed_back(&mut self, flow: &FlowKey, tag: OutboundTag, route: &Route) -> Result<(), DropReason> {
        if !tag.feedback {
            return Ok(());
        }
        let feedback = match *route {
            Route::Bypass => Feedback::NotProtected,
            Route::Protect(sa) => {
                Feedback::Protected { class: self.owned(sa)?.entry.class, sa, version: self.version }
            }
        };
        self.ulp.feedback(flow, feedback, &context(&self.snapshot, self.version, self.now))
    }

    /// Spends the lifetime of the SA, and of the one around it, and a number of each for each packet: for all packets or for
    /// none (RFC 4301 4.4.2.1).
    #[inline]
    pub(crate) fn spend(
        &mut self,
        wrapping: &Wrapping,
        packets: Packets,
        asked_by: (&FlowKey, OutboundTag),
    ) -> Result<Numbers, DropReason> {
        let mut sealing = self.sas.sealing(wrapping.sa, &mut self.headers)?;
        let spent = sealing.spend(wrapping, packets, self.now, &mut self.soft_reached);
        spent.map_err(|spent| self.spent(spent, asked_by))
    }

    /// Where a lifetime is over, keys go. Where numbers are spent, another SA is asked for (RFC 4303 3.3.3); where they are
    /// not reserved yet, the SA goes on as soon as they are.
    #[cold]
    fn spent(&mut self, spent: Spent, (flow, tag): (&FlowKey, OutboundTag)) -> DropReason {
        match spent {
            Spent::Lifetime(sa) => self.sas.end(sa),
            Spent::Numbers(TakeError::Exhausted { .. }) => {
                self.acquire(flow, tag.demand.class());
                DropReason::SeqExhausted
            }
            Spent::Numbers(TakeError::Unreserved { .. }) => DropReason::NumbersUnreserved,
        }
    }

    /// Writes each segment straight into the send buffer and seals it there, each under a number of its own.
    #[inline]
    fn seal(
        &mut self,
        wrapping: &Wrapping,
        mut numbers: Numbers,
        super_packet: &SuperPacket<'_>,
        batch: &mut SendBatch,
    ) -> Result<Outbound, Lost> {
        let mut sealing = self.sas.sealing(wrapping.sa, &mut self.headers)?;
        let street = self.counters.street(Direction::Outbound);
        let (mut segments, mut sealed) = (super_packet.segments(), 0);
        while let Some(number) = numbers.next_number() {
            let write = |payload: &mut [u8]| segments.write_next(payload);
            let len = sealing.seal_into(batch, number, wrapping, write);
            let len = len.map_err(|reason| Lost { reason, sealed })?;
            sealed += 1;
            street.packets.add(1);
            street.octets.add(len as u64);
        }
        Ok(Outbound::Sealed)
    }

    pub(crate) fn owned(&mut self, sa: SaRef) -> Result<&mut OwnedOutbound, DropReason> {
        self.sas.outbound(sa).ok_or(DropReason::NoOutboundSa)
    }

    fn drop_outbound(&self, reason: DropReason, packets: u64) -> Outbound {
        self.counters.street(Direction::Outbound).drop(reason, packets);
        Outbound::Dropped
    }
}
