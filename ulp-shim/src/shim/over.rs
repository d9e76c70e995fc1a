//! Whether an end of a connection that speaks on it learns that it is over (L-87, L-100, L-103, R-13).
//!
//! The alternative is silence, which a socket takes for loss: that is right while a latch is being established (L-38), and
//! wrong where the connection can never go on.

use latchway_datapath::drop::DropReason;
use latchway_datapath::latching::LatchState;
use latchway_datapath::packet::{Authenticated, IpPacket, Upper};
use latchway_datapath::ulp::Context;

use crate::disposition::comes_back;
use crate::entry::{Entry, Holds, Kind};
use crate::shim::Shim;
use crate::shim::opening::{is_syn, terms_by_policy};

impl Shim {
    pub(super) fn judge_over(
        &self,
        packet: &IpPacket<'_>,
        reason: DropReason,
        context: &Context<'_>,
    ) -> bool {
        match self.database.probe(packet.flow()).map(|known| known.entry) {
            Some(entry) if is_over(&entry) => true,
            // A socket that answers somebody's SYN by speaking on a connection of before (L-40).
            Some(Entry { kind: Kind::Latched(_), .. }) => reason == DropReason::MidStream,
            Some(Entry { kind: Kind::Unlatched, .. }) => false,
            // The latch went with the gateway's last process, or after a long silence (L-40, L-104).
            None => speaks_on(packet) && terms_by_policy(packet.flow(), context).is_some(),
        }
    }

    /// The remote end is told under the connection's own class alone (L-99).
    pub(super) fn judge_over_for(&self, packet: &Authenticated<'_>) -> bool {
        self.database.probe(packet.packet().flow()).is_some_and(|known| {
            let own = known.entry.holds == Holds::Class && known.class == packet.tag().class;
            own && is_over(&known.entry)
        })
    }
}

/// Whether a latch is out of force for good. A broken one may come back, if its terms say so.
fn is_over(entry: &Entry) -> bool {
    match entry.kind {
        Kind::Latched(LatchState::Closed) => true,
        Kind::Latched(LatchState::Broken) => !comes_back(entry.terms, entry.reason),
        Kind::Latched(_) | Kind::Unlatched => false,
    }
}

/// Whether a packet is of a TCP connection that began before: a SYN that is dropped comes again (L-38).
const fn speaks_on(packet: &IpPacket<'_>) -> bool {
    matches!(packet.upper(), Upper::Tcp(segment) if !is_syn(segment))
}
