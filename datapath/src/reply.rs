//! What a remote end is told that speaks on a connection which is over here: a reset, under the SA's own class (latching-04
//! section 2.3; L-103, R-13).
//!
//! The reset that the gateway sends when it ends a connection may be lost, or not be exact (RFC 5961 section 3.2). What the
//! remote end says next, under protection, tells the number that it takes.

use latchway_tagging::ClassId;

use crate::gateway::Datapath;
use crate::limit::Limit;
use crate::packet::{Authenticated, Upper, flags};
use crate::reset::{Reset, ResetPacket};
use crate::send_batch::SendBatch;
use crate::time::Time;
use crate::ulp::Ulp;

/// Resets that wait for the batch at hand to end.
pub(crate) struct Replies {
    waiting: Vec<(ResetPacket, ClassId)>,
    limit: Limit,
}

/// Resets for one batch. The peers speak again.
const ROOM: usize = 32;

impl Replies {
    pub(crate) fn new() -> Self {
        Self { waiting: Vec::with_capacity(ROOM), limit: Limit::full() }
    }

    /// Makes the reset that answers a packet, if there is one to be made.
    #[cold]
    pub(crate) fn answer(&mut self, packet: &Authenticated<'_>, now: Time) {
        let flow = packet.packet().flow();
        let Upper::Tcp(segment) = packet.packet().upper() else { return };
        // A SYN begins another connection: it comes again, and may then find its way.
        let Some(reset) = Reset::answering(segment).filter(|_| segment.flags & flags::SYN == 0) else {
            return;
        };
        if self.waiting.len() < ROOM
            && self.limit.allows(now)
            && let Some(reset) = reset.packet(flow.local(), flow.remote())
        {
            self.waiting.push((reset, packet.tag().class));
        }
    }
}

impl<U: Ulp> Datapath<U> {
    /// Seals what is to be said to remote ends on whose connections nothing passes any more. Returns whether there was
    /// anything.
    #[inline]
    pub fn reply(&mut self, batch: &mut SendBatch) -> bool {
        if self.replies.waiting.is_empty() {
            return false;
        }
        self.reply_all(batch);
        true
    }

    #[cold]
    fn reply_all(&mut self, batch: &mut SendBatch) {
        while let Some((reset, class)) = self.replies.waiting.pop() {
            self.send_under(class, reset.octets(), batch);
        }
    }
}
