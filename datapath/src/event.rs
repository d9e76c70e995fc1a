//! What the datapath tells the key manager. Queued, bounded, and never waited for.

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use latchway_tagging::{ClassId, InboundTag, SaRef};

use crate::drop::Direction;
use crate::flow::FlowKey;

/// Something that someone outside the packet path must act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A flow needs protection and no SA offers it (RFC 4301 5.1); with a class, only SAs of that class will do.
    Acquire {
        /// The flow.
        flow: FlowKey,
        /// The class its latch demands.
        required: Option<ClassId>,
    },
    /// An SA reached its soft limit: it carries on, and a successor is wanted (RFC 4301 4.4.2.1). Sent once per SA, and
    /// not at all where the hard limit came first.
    SoftExpired {
        /// The SA.
        sa: SaRef,
        /// Its direction.
        direction: Direction,
    },
    /// An SA reached its hard limit. Sent once per SA.
    HardExpired {
        /// The SA.
        sa: SaRef,
        /// Its direction.
        direction: Direction,
    },
    /// A latch broke: its connection must end (L-109).
    LatchBroken {
        /// The connection.
        flow: FlowKey,
        /// The class it was latched to.
        latched: ClassId,
        /// The tag of the packet that broke it; `None` where no packet did, but a decision.
        offender: Option<InboundTag>,
    },
}

/// The sending end, one per worker. A full queue loses the event, and the sender is told.
#[derive(Clone, Debug)]
pub struct Events {
    sender: Sender<Event>,
}

/// How many events may wait to be read.
pub const EVENT_QUEUE: usize = 4096;

/// A bounded queue of events.
#[must_use]
pub fn event_queue() -> (Events, Receiver<Event>) {
    let (sender, receiver) = bounded(EVENT_QUEUE);
    (Events { sender }, receiver)
}

impl Events {
    /// Queues an event without waiting. Returns whether there was room.
    pub fn send(&self, event: Event) -> bool {
        match self.sender.try_send(event) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}
