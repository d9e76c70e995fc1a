//! The upper layer of a gateway in the program: latches, as the daemon has them, and on top of them what sockets require.
//!
//! The class of the packet in hand is kept, so that the stack can tell a datagram's receiver what protected that datagram and no
//! other (latching-04 section 2.2).

use std::collections::HashMap;

use latchway_datapath::drop::DropReason;
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::packet::{Authenticated, IpPacket, Unprotected, Upper, flags};
use latchway_datapath::spd::Action;
use latchway_datapath::ulp::{Context, Ulp};
use latchway_tagging::{ClassId, Demand, Feedback, OutboundTag};
use latchway_ulp_shim::Shim;

use super::classes::Classes;
use super::demands::Demands;

/// Asks the latches first or last, whichever is stricter.
#[derive(Debug)]
pub(super) struct Tagging {
    shim: Shim,
    classes: Classes,
    /// Under which class the packet came that is in hand.
    came_under: Option<ClassId>,
    /// What is required of flows that begin here, until that was judged.
    flows: HashMap<FlowKey, Demands>,
    /// Flows that did not have what is required.
    refused: Vec<FlowKey>,
    listeners: HashMap<u16, Listening>,
}

/// What a listener wants of who comes.
#[derive(Clone, Debug)]
pub(super) struct Listening {
    /// Of each connection.
    pub(super) demands: Demands,
    /// Whether as many wait as may.
    pub(super) full: bool,
    /// Classes that came before, and whether they have it: whoever comes often costs one question.
    known: Vec<(ClassId, bool)>,
}

impl Listening {
    pub(super) const fn new(demands: Demands) -> Self {
        Self { demands, full: false, known: Vec::new() }
    }

    fn welcomes(&mut self, class: ClassId, classes: &Classes) -> bool {
        if let Some((_, meets)) = self.known.iter().find(|(known, _)| *known == class) {
            return *meets;
        }
        let meets = classes.meets(class, &self.demands);
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        // A class that nobody knows now is asked about again.
        if let Some(meets) = meets {
            self.known.push((class, meets));
        }
        meets.unwrap_or_default()
    }
}

impl Tagging {
    pub(super) fn new(shim: Shim, classes: Classes) -> Self {
        let (flows, listeners) = (HashMap::new(), HashMap::new());
        Self { shim, classes, came_under: None, flows, refused: Vec::new(), listeners }
    }

    /// Under which class the packet came that was judged last, once.
    pub(super) const fn take_class(&mut self) -> Option<ClassId> {
        self.came_under.take()
    }

    /// Requires something of a flow that is to begin.
    pub(super) fn require(&mut self, flow: FlowKey, demands: Demands) {
        self.flows.insert(flow, demands);
    }

    /// Requires nothing of a flow any more. Returns whether it was refused.
    pub(super) fn forget(&mut self, flow: &FlowKey) -> bool {
        self.flows.remove(flow);
        let before = self.refused.len();
        self.refused.retain(|refused| refused != flow);
        self.refused.len() < before
    }

    /// Flows of TCP that were refused since this was asked last.
    pub(super) fn take_refused(&mut self) -> impl Iterator<Item = FlowKey> + use<> {
        let (connections, others) =
            self.refused.drain(..).partition(|flow: &FlowKey| flow.protocol() == protocol::TCP);
        self.refused = others;
        Vec::into_iter(connections)
    }

    /// Whether a class has what is required.
    pub(super) fn meets(&self, class: ClassId, demands: &Demands) -> bool {
        self.classes.meets(class, demands).unwrap_or_default()
    }

    /// What is wanted of who comes to these ports.
    pub(super) const fn listeners(&mut self) -> &mut HashMap<u16, Listening> {
        &mut self.listeners
    }

    /// Judges a flow by the class that it has, or will have; `None` is none. It is judged once: its latch holds it to that
    /// class from then on (L-37).
    fn judge(&mut self, flow: &FlowKey, class: Option<ClassId>) -> Result<(), DropReason> {
        let Some(demands) = self.flows.get(flow) else { return Ok(()) };
        if class.is_some_and(|class| self.meets(class, demands)) {
            self.flows.remove(flow);
            return Ok(());
        }
        if !self.refused.contains(flow) {
            self.refused.push(*flow);
        }
        Err(DropReason::LatchBarred)
    }

    /// Judges who comes to a listener, before there is a latch of the connection.
    fn welcome(&mut self, packet: &IpPacket<'_>, class: ClassId) -> Result<(), DropReason> {
        let Upper::Tcp(segment) = packet.upper() else { return Ok(()) };
        if segment.flags & (flags::SYN | flags::ACK) != flags::SYN {
            return Ok(());
        }
        let Some(listening) = self.listeners.get_mut(&packet.flow().local_port()) else { return Ok(()) };
        let welcome = !listening.full && listening.welcomes(class, &self.classes);
        if welcome { Ok(()) } else { Err(DropReason::ListenerRefused) }
    }
}

impl Ulp for Tagging {
    fn outbound(&mut self, packet: &IpPacket<'_>, context: &Context<'_>) -> Result<OutboundTag, DropReason> {
        let tag = self.shim.outbound(packet, context)?;
        match tag.demand {
            // The feedback will say which class it is.
            Demand::Policy if tag.feedback => {}
            demand => self.judge(packet.flow(), demand.class())?,
        }
        Ok(tag)
    }

    fn feedback(
        &mut self,
        flow: &FlowKey,
        feedback: Feedback,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        let class = match feedback {
            Feedback::Protected { class, .. } => Some(class),
            Feedback::NotProtected => None,
        };
        self.judge(flow, class)?;
        self.shim.feedback(flow, feedback, context)
    }

    fn unserved(&mut self, flow: &FlowKey, context: &Context<'_>) {
        self.shim.unserved(flow, context);
    }

    fn inbound(&mut self, packet: &Authenticated<'_>, context: &Context<'_>) -> Result<(), DropReason> {
        self.came_under = None;
        let class = packet.tag().class;
        self.welcome(packet.packet(), class)?;
        self.shim.inbound(packet, context)?;
        self.came_under = Some(class);
        Ok(())
    }

    fn unprotected(
        &mut self,
        packet: &Unprotected<'_>,
        policy: Option<Action>,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        self.shim.unprotected(packet, policy, context)
    }

    fn is_over(&self, packet: &IpPacket<'_>, reason: DropReason, context: &Context<'_>) -> bool {
        self.shim.is_over(packet, reason, context)
    }

    fn is_over_for(&self, packet: &Authenticated<'_>) -> bool {
        self.shim.is_over_for(packet)
    }

    fn sweep(&mut self, now: latchway_datapath::time::Time) {
        Ulp::sweep(&mut self.shim, now);
    }
}

/// Classes that a listener remembers.
const MOST_KNOWN: usize = 256;
