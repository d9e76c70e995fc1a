//! What the datapath tells the key manager, of SAs and of latches (L-42). Queued, bounded, and never waited for.

use std::net::SocketAddr;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use latchway_tagging::{ClassId, SaRef};

use crate::drop::Direction;
use crate::flow::FlowKey;
use crate::latching::{BreakReason, LatchId, LatchState, Offender};

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
    /// What an outbound SA's path takes was found to be another than it was, or came in doubt (RFC 4301 8.2). Lost where
    /// the queue is full: the SA's [`SaUse`](crate::sad::SaUse) says it, too.
    PathMtu {
        /// The SA.
        sa: SaRef,
        /// The largest outer IP packet that it sends now.
        mtu: u16,
        /// Whether that is said to be too much, and could be neither proven nor disproven yet.
        suspected: bool,
    },
    /// The peer of an outbound SA is elsewhere, as an authenticated packet of the other direction says, and what is sent goes
    /// there already (T34, RFC 7296 2.23). What is said of the pair is to be revised.
    PeerMoved {
        /// The SA.
        sa: SaRef,
        /// Where it sent before.
        from: SocketAddr,
        /// Where it sends now.
        to: SocketAddr,
    },
    /// A latch broke: whoever holds it is told, and by its terms its connection must end (L-109, R-11).
    LatchBroken {
        /// The latch.
        latch: LatchId,
        /// The connection.
        flow: FlowKey,
        /// The class it was latched to; `None` for a latch that grants bypass.
        latched: Option<ClassId>,
        /// Why.
        reason: BreakReason,
        /// Whom it met.
        offender: Option<Offender>,
    },
    /// A connection to a listener was latched, of which the listener's holder must know (L-53).
    LatchSpawned {
        /// The listener's latch.
        listener: LatchId,
        /// The connection's latch.
        latch: LatchId,
        /// The connection.
        flow: FlowKey,
        /// The class it is latched to.
        class: ClassId,
    },
    /// A latch is about to be forgotten because its connection is idle: is there a socket yet (L-104)?
    LatchIdle {
        /// The latch.
        latch: LatchId,
        /// The connection.
        flow: FlowKey,
    },
    /// A latch came to be, changed its state or is gone (L-68). Told while somebody watches, and lost where the queue is
    /// full.
    LatchChanged {
        /// The latch.
        latch: LatchId,
        /// Its connection.
        flow: FlowKey,
        /// Its state now.
        state: LatchState,
        /// Why, where it is not in force.
        reason: Option<BreakReason>,
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
