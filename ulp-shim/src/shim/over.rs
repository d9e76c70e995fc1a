//! Whether an inner sender learns that its connection is over (L-87, L-100, L-103, R-13).
//!
//! The alternative is silence, which a socket takes for loss: that is right while a latch is being established (L-38), and
//! wrong where the connection can never go on.

use latchway_datapath::drop::DropReason;
use latchway_datapath::latching::{LatchState, OnConflict};
use latchway_datapath::packet::{IpPacket, Upper};
use latchway_datapath::ulp::Context;

use crate::entry::Kind;
use crate::shim::Shim;
use crate::shim::opening::{is_syn, terms_by_policy};

impl Shim {
    pub(super) fn judge_over(
        &self,
        packet: &IpPacket<'_>,
        reason: DropReason,
        context: &Context<'_>,
    ) -> bool {
        let entry = self.database.probe(packet.flow()).map(|known| known.entry);
        match entry.map(|entry| (entry.kind, entry.terms.on_conflict)) {
            // It may come back.
            Some((Kind::Latched(LatchState::Broken), OnConflict::Wait)) => false,
            Some((Kind::Latched(LatchState::Broken | LatchState::Closed), _)) => true,
            // A socket that answers somebody's SYN by speaking on a connection of before (L-40).
            Some((Kind::Latched(_), _)) => reason == DropReason::MidStream,
            Some((Kind::Unlatched, _)) => false,
            // The latch went with the gateway's last process, or after a long silence (L-40, L-104).
            None => speaks_on(packet) && terms_by_policy(packet.flow(), context).is_some(),
        }
    }
}

/// Whether a packet is of a TCP connection that began before: a SYN that is dropped comes again (L-38).
const fn speaks_on(packet: &IpPacket<'_>) -> bool {
    matches!(packet.upper(), Upper::Tcp(segment) if !is_syn(segment))
}
