//! The upper layer as the datapath sees it: it is asked before a packet goes on, either way.
//!
//! The datapath knows this trait and no latches (draft-ietf-btns-connection-latching-04 section 2.2).

use latchway_tagging::{Feedback, OutboundTag, StateVersion};

use crate::drop::DropReason;
use crate::flow::FlowKey;
use crate::packet::{Authenticated, IpPacket, Unprotected};
use crate::snapshot::Snapshot;
use crate::spd::Action;
use crate::time::Time;

/// Under which state and when a packet is judged.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The snapshot that the worker adopted for this batch.
    pub snapshot: &'a Snapshot,
    /// The state version, read before anything was looked up for this batch (L-88).
    pub version: StateVersion,
    /// The time of this batch.
    pub now: Time,
}

/// The upper-layer side, one value per worker; what workers share lies behind it.
pub trait Ulp {
    /// What the flow of an outbound packet asks of IPsec (L-93 to L-95, L-99).
    ///
    /// # Errors
    /// The reason to drop the packet (L-22).
    fn outbound(&mut self, packet: &IpPacket<'_>, context: &Context<'_>) -> Result<OutboundTag, DropReason>;

    /// The answer to a tag that asked for feedback, before the packet leaves: a flow that cannot record it stays
    /// unlatched only where policy allows, so the packet may still be refused (L-22, L-96).
    ///
    /// # Errors
    /// The reason to drop the packet.
    fn feedback(
        &mut self,
        flow: &FlowKey,
        feedback: Feedback,
        context: &Context<'_>,
    ) -> Result<(), DropReason>;

    /// Takes note that no SA serves the packet judged last, so that it is dropped: to the flow that is loss (L-38).
    fn unserved(&mut self, flow: &FlowKey, context: &Context<'_>) {
        let _ = (flow, context);
    }

    /// Whether an authenticated packet may reach the inner host (L-23, L-27, L-97, L-98, L-100).
    ///
    /// # Errors
    /// The reason to drop the packet.
    fn inbound(&mut self, packet: &Authenticated<'_>, context: &Context<'_>) -> Result<(), DropReason>;

    /// Whether a packet from the bypass port, of which policy says `policy`, may reach the inner host. Where policy lets it
    /// pass, a latch may not (L-26); where policy does not, a latch that grants bypass may (L-112).
    ///
    /// # Errors
    /// The reason to drop the packet.
    fn unprotected(
        &mut self,
        packet: &Unprotected<'_>,
        policy: Option<Action>,
        context: &Context<'_>,
    ) -> Result<(), DropReason>;

    /// Whether the inner sender of a packet that was dropped for `reason` is to be told that its connection is over (L-87,
    /// L-103). Asked only where the reason is [`DropReason::LatchBroken`], [`DropReason::MidStream`],
    /// [`DropReason::RequirementUnmet`] or [`DropReason::Ending`].
    fn is_over(&self, packet: &IpPacket<'_>, reason: DropReason, context: &Context<'_>) -> bool {
        let _ = (packet, reason, context);
        false
    }

    /// Whether the remote end, whose authenticated packet was dropped for [`DropReason::LatchBroken`], is to be told under the
    /// same class that its connection is over (L-103, R-13): only if that is the connection's own.
    fn is_over_for(&self, packet: &Authenticated<'_>) -> bool {
        let _ = packet;
        false
    }

    /// Called between batches: an upper layer with something to forget forgets a little of it.
    fn sweep(&mut self, now: Time) {
        let _ = now;
    }
}
