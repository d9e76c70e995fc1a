//! Holds flows to what is required of the sockets that they are of (Q-44, L-33): asked when a flow begins, and of flows that
//! stand only where they may be another socket's by now.
//!
//! The worker asks the kernel itself, at the moment at which a packet is in its hands: a socket that sent a SYN has it until
//! that is answered, so that what is required holds for the first packet. Whatever is not known for certain is dropped.

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::packet::IpPacket;
use latchway_datapath::time::Time;
use latchway_datapath::ulp::Context;
use latchway_tagging::ClassId;

use crate::database::Known;
use crate::entry::{Holds, Kind};
use crate::requirements::{Owner, Required};
use crate::shim::Shim;
use crate::shim::opening::{initiates, shakes_hands};

impl Shim {
    /// What is required of a packet's flow, if this is a packet to ask that of.
    ///
    /// # Errors
    /// [`DropReason::OwnerUnknown`]
    #[inline]
    pub(super) fn demand(
        &self,
        packet: &IpPacket<'_>,
        direction: Direction,
        known: Option<&Known<'_>>,
        context: &Context<'_>,
    ) -> Result<Option<Required>, DropReason> {
        let requirements = self.database.requirements();
        if requirements.rooms().any()
            && self.may_begin_in_a_room(packet, known)
            && let Some(demand) = requirements.rooms().demand(packet.flow())?
        {
            return Ok(Some(demand));
        }
        if !requirements.any() {
            return Ok(None);
        }
        self.ask_owner(packet, direction, known, context.now)
    }

    /// Whether this is a packet to ask of what is required of its room. What a latch holds that was made there was asked about
    /// then; those of before went when the room came.
    fn may_begin_in_a_room(&self, packet: &IpPacket<'_>, known: Option<&Known<'_>>) -> bool {
        let (flow, requirements) = (packet.flow(), self.database.requirements());
        let Some(known) = known else { return true };
        match flow.protocol() {
            protocol::UDP => requirements.may_have_changed(flow, known.opened()),
            protocol::TCP | protocol::SCTP => shakes_hands(packet),
            // What an error in that flow quoted says nothing of other messages.
            _ => known.entry.kind == Kind::Unlatched,
        }
    }

    fn ask_owner(
        &self,
        packet: &IpPacket<'_>,
        direction: Direction,
        known: Option<&Known<'_>>,
        now: Time,
    ) -> Result<Option<Required>, DropReason> {
        let (flow, requirements) = (packet.flow(), self.database.requirements());
        let asks = match (flow.protocol(), known) {
            (protocol::TCP | protocol::UDP, None) => true,
            (protocol::TCP, Some(_)) => shakes_hands(packet),
            (protocol::UDP, Some(known)) => requirements.may_have_changed(flow, known.opened()),
            _ => false,
        };
        if !asks {
            return Ok(None);
        }
        let (owner, demand) = self.owner_and_demand(flow, direction);
        let is_lost = match owner {
            Owner::Unknown => true,
            Owner::Gone => self.may_be_of_a_lost_socket(packet, direction),
            Owner::Socket(_) if demand.is_none() && flow.protocol() == protocol::UDP => {
                requirements.may_be_of_another(flow.local_port(), now)
            }
            Owner::Socket(_) | Owner::Nobody => false,
        };
        if is_lost {
            return Err(DropReason::OwnerUnknown);
        }
        if let (None, Some(known)) = (demand, known) {
            self.database.note_required(known, self.database.listener(flow).is_some());
            if flow.protocol() == protocol::UDP {
                known.renew(now);
            }
        }
        Ok(demand)
    }

    /// Whose a flow is, and what is required of it, both of one moment: a socket that ends after it was found takes what is
    /// required of it along, and what it sent last would be free of it. Whoever ends sockets without pause is not waited for.
    fn owner_and_demand(&self, flow: &FlowKey, direction: Direction) -> (Owner, Option<Required>) {
        // Without anybody to ask there are no sockets here: every packet is another host's.
        let Some(owners) = &self.owners else { return (Owner::Nobody, None) };
        let requirements = self.database.requirements();
        for _ in 0..QUESTIONS {
            let departures = requirements.departures();
            let owner = owners.owner(flow, direction);
            let demand = requirements.demand(owner, flow);
            if !matches!(owner, Owner::Socket(_)) || requirements.departures() == departures {
                return (owner, demand);
            }
        }
        (Owner::Unknown, None)
    }

    /// Whether a packet that no socket has may be of one with a requirement that is gone already, or does not have it yet. What
    /// comes to no TCP socket is answered by a reset, and nothing begins.
    fn may_be_of_a_lost_socket(&self, packet: &IpPacket<'_>, direction: Direction) -> bool {
        let (flow, requirements) = (packet.flow(), self.database.requirements());
        match (flow.protocol(), direction) {
            (protocol::TCP, Direction::Outbound) => initiates(packet).is_some(),
            (protocol::UDP, Direction::Outbound) => requirements.may_be_of(flow.local_port()),
            (protocol::UDP, Direction::Inbound) => requirements.any_of_udp(),
            _ => false,
        }
    }

    /// Whether SAs of a class are what is demanded.
    ///
    /// # Errors
    /// [`DropReason::RequirementUnmet`]
    #[inline]
    pub(super) fn meets(&self, class: ClassId, demand: Option<Required>) -> Result<(), DropReason> {
        match demand {
            Some(demand) if !self.database.peers().accepts_all(class, demand.constraints) => {
                Err(DropReason::RequirementUnmet)
            }
            _ => Ok(()),
        }
    }

    /// Whether a latch that is there holds its flow to what is demanded. One that does not, and that nobody asked for, is not
    /// kept: what it was made for was another socket's, or without demand.
    ///
    /// # Errors
    /// [`DropReason::RequirementUnmet`]
    #[inline]
    pub(super) fn holds_to(
        &self,
        known: &Known<'_>,
        demand: Option<Required>,
        packet: &IpPacket<'_>,
        now: Time,
    ) -> Result<(), DropReason> {
        let Some(demand) = demand else { return Ok(()) };
        let is_met = known.entry.holds == Holds::Class
            && self.database.peers().accepts_all(known.class, demand.constraints);
        let is_udp = packet.flow().protocol() == protocol::UDP;
        if is_met {
            self.database.note_required(known, true);
        }
        match is_met {
            true if is_udp => known.renew(now),
            true => {}
            false => {
                if is_udp && !known.entry.owned && matches!(known.entry.kind, Kind::Latched(_)) {
                    self.database.remove(known);
                }
                return Err(DropReason::RequirementUnmet);
            }
        }
        Ok(())
    }
}

/// How often whose a flow is may be asked for one packet.
const QUESTIONS: u32 = 4;
