//! The upper layer of one worker: follows connections and holds them to their latches.
//!
//! latching-04 section 2.3 (L-102): connections are inferred from packets. One probe of the Latch Database per packet; no
//! allocation, lock, clock or system call. [`outbound`] and [`inbound`] are the two directions.

mod answer;
mod barred;
mod demanding;
mod icmp;
mod inbound;
mod opening;
mod outbound;
mod over;
mod sweep;
mod tracking;

use std::sync::Arc;
use std::time::Duration;

use latchway_datapath::drop::DropReason;
use latchway_datapath::event::{Event, Events};
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{BreakReason, LatchId, LatchState};
use latchway_datapath::packet::{Authenticated, IpPacket, Unprotected};
use latchway_datapath::spd::Action;
use latchway_datapath::time::Time;
use latchway_datapath::ulp::{Context, Ulp};
use latchway_tagging::{Feedback, OutboundTag, WorkerId};

use self::outbound::Pending;
use crate::database::{Known, LatchDatabase};
use crate::entry::{Entry, Kind};
use crate::owners::Owners;

/// What one worker asks about its packets.
#[derive(Debug)]
pub struct Shim {
    database: Arc<LatchDatabase>,
    events: Events,
    /// Who says whose a flow is, where applications may require something.
    owners: Option<Box<dyn Owners>>,
    /// What the feedback asked for last is about.
    pending: Option<Pending>,
    /// The slot that the next sweep begins with.
    cursor: u32,
    /// When the next sweep is due.
    next_sweep: Time,
}

impl Shim {
    /// The upper layer of `worker`. Events of broken latches go to `events`.
    #[must_use]
    pub fn new(database: Arc<LatchDatabase>, worker: WorkerId, events: Events) -> Self {
        let flows = u64::from(database.limits().flows);
        // Workers sweep from places of their own, so that they do not walk in step.
        let cursor = (flows * u64::from(worker.0) / 256) as u32;
        Self { database, events, owners: None, pending: None, cursor, next_sweep: Time::default() }
    }

    /// The same upper layer, which asks whose a flow is that begins, while anything is required of anybody.
    #[must_use]
    pub fn asking(mut self, owners: Box<dyn Owners>) -> Self {
        self.owners = Some(owners);
        self
    }

    /// The Latch Database.
    #[must_use]
    pub const fn database(&self) -> &Arc<LatchDatabase> {
        &self.database
    }

    /// Tells, once, that a latch is broken (L-100, L-109). Where the queue is full, the next packet of the flow, or
    /// the next sweep, tries again.
    fn announce(&self, known: &Known<'_>, flow: &FlowKey) {
        let latch = known.found.id;
        let Some(offender) = self.database.offender(latch) else { return };
        let claimed = |entry: Entry| {
            let broken = entry.kind == Kind::Latched(LatchState::Broken) && !entry.announced;
            broken.then_some(Entry { announced: true, ..entry })
        };
        let Some(broken) = self.database.change(known.found, claimed) else { return };
        let (latched, offender) = (known.demand().class(), Some(offender));
        let reason = broken.reason.unwrap_or(BreakReason::OtherPeer);
        if !self.events.send(Event::LatchBroken { latch, flow: *flow, latched, reason, offender }) {
            let unclaimed = |entry: Entry| Some(Entry { announced: false, ..entry });
            self.database.change(known.found, unclaimed);
        }
    }
}

impl Shim {
    /// Tells whoever watches that a latch is another than it was (L-68). Lost where the queue is full.
    fn tell(&self, latch: LatchId, flow: &FlowKey, state: LatchState, reason: Option<BreakReason>) {
        if self.database.watched() {
            self.events.send(Event::LatchChanged { latch, flow: *flow, state, reason });
        }
    }
}

impl Ulp for Shim {
    #[inline]
    fn outbound(&mut self, packet: &IpPacket<'_>, context: &Context<'_>) -> Result<OutboundTag, DropReason> {
        let (tag, pending) = self.judge_outbound(packet, context)?;
        self.pending = pending;
        Ok(tag)
    }

    fn feedback(
        &mut self,
        flow: &FlowKey,
        feedback: Feedback,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        // Feedback that nothing here asked for is about a packet that nothing here judged.
        let pending = self.pending.take().ok_or(DropReason::LatchLarval)?;
        self.record(flow, pending, feedback, context)
    }

    #[inline]
    fn inbound(&mut self, packet: &Authenticated<'_>, context: &Context<'_>) -> Result<(), DropReason> {
        self.judge_inbound(packet.packet(), &packet.tag(), context)
    }

    fn unserved(&mut self, flow: &FlowKey, context: &Context<'_>) {
        if let Some(pending) = self.pending.take() {
            self.await_sa(flow, pending, context);
        }
    }

    fn unprotected(
        &mut self,
        packet: &Unprotected<'_>,
        policy: Option<Action>,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        self.judge_unprotected(packet.packet(), policy, context)
    }

    fn is_over(&self, packet: &IpPacket<'_>, reason: DropReason, context: &Context<'_>) -> bool {
        self.judge_over(packet, reason, context)
    }

    fn is_over_for(&self, packet: &Authenticated<'_>) -> bool {
        self.judge_over_for(packet.packet().flow(), packet.tag().class)
    }

    #[inline]
    fn sweep(&mut self, now: Time) {
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_INTERVAL;
            Self::sweep(self, now, SWEEP_BUDGET);
        }
    }
}

/// How often a worker looks for entries whose time is over, and how many it looks at: a default table once a minute
/// where nothing moves.
const SWEEP_INTERVAL: Duration = Duration::from_millis(1);
const SWEEP_BUDGET: u32 = 64;

#[cfg(all(test, loom))]
mod breaking;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
