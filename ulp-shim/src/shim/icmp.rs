//! ICMP errors: what one says of a connection counts only under the connection's own latch, either way (T37 f).
//!
//! RFC 4301 section 6.2: an error is judged by the packet that it quotes. One from another peer could abort or slow a
//! latched connection, and one of our own would show another peer what the quoted packet held.

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::LatchState;
use latchway_datapath::packet::IpPacket;
use latchway_datapath::quoted::quoted;
use latchway_datapath::ulp::Context;
use latchway_tagging::{Demand, InboundTag};

use crate::entry::{Holds, Kind};
use crate::shim::Shim;
use crate::shim::opening::terms_by_policy;

/// Whether a packet can be an error: the one question that other packets are asked.
#[inline]
pub(super) const fn is_icmp(packet: &IpPacket<'_>) -> bool {
    matches!(packet.flow().protocol(), protocol::ICMP | protocol::ICMPV6)
}

impl Shim {
    /// Judges an ICMP message from a peer. It breaks no latch: an error is not the connection's packet. Returns whether it is
    /// one about a connection that has a latch.
    pub(super) fn judge_icmp_inbound(
        &self,
        packet: &IpPacket<'_>,
        tag: &InboundTag,
        context: &Context<'_>,
    ) -> Result<bool, DropReason> {
        let Some(about) = quoted(packet, Direction::Inbound)? else { return Ok(false) };
        match self.database.probe(&about.flow).map(|known| (known.entry.kind, known)) {
            Some((Kind::Latched(_), known)) if !known.is_answered() => Err(DropReason::MidStream),
            Some((Kind::Latched(state), known)) => known.latch(state).check(tag).map(|()| true),
            Some((Kind::Unlatched, _)) => Ok(false),
            None if terms_by_policy(&about.flow, context).is_some() => Err(DropReason::MidStream),
            None => Ok(false),
        }
    }

    /// What an ICMP message from the inner host must leave under, if it quotes a packet of a latched flow. From a room, only
    /// what quotes the room's own is about a flow.
    pub(super) fn judge_icmp_outbound(
        &self,
        packet: &IpPacket<'_>,
        context: &Context<'_>,
    ) -> Result<Option<Demand>, DropReason> {
        let Some(about) = quoted(packet, Direction::Outbound)? else { return Ok(None) };
        match self.database.probe(&about.flow).map(|known| (known.entry.kind, known)) {
            Some((Kind::Latched(_), _)) if self.is_of_another_room(packet, &about.flow) => {
                Err(DropReason::RequirementUnmet)
            }
            Some((Kind::Latched(LatchState::Established), known)) => Ok(Some(known.demand())),
            Some((Kind::Latched(_), _)) => Err(DropReason::LatchBroken),
            Some((Kind::Unlatched, _)) => Ok(None),
            None if terms_by_policy(&about.flow, context).is_some() => Err(DropReason::MidStream),
            None => Ok(None),
        }
    }

    /// Whether the sender is a room of which something is required, and has not the local end of this flow.
    fn is_of_another_room(&self, packet: &IpPacket<'_>, about: &FlowKey) -> bool {
        let of_room = self.database.requirements().rooms().has(packet.flow());
        of_room && about.local_number() != packet.flow().local_number()
    }

    /// L-26, for errors: a spoofed one in the clear says nothing of a latched flow.
    pub(super) fn judge_icmp_unprotected(&self, packet: &IpPacket<'_>) -> Result<(), DropReason> {
        let Some(about) = quoted(packet, Direction::Inbound)? else { return Ok(()) };
        match self.database.probe(&about.flow).map(|known| known.entry) {
            Some(entry) if entry.holds == Holds::Bypass => Ok(()),
            Some(entry) if entry.kind != Kind::Unlatched => Err(DropReason::LatchUnprotected),
            _ => Ok(()),
        }
    }
}
