//! Latches of listeners: entries of the same table under a key that no packet has (L-16, L-46 to L-50).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{LatchId, LatchState, LatchTerms};
use latchway_tagging::ClassId;

use crate::constraint::ConstraintId;
use crate::database::LatchDatabase;
use crate::entry::Kind;
use crate::sync::Ordering;
use crate::table::Key;

/// The 3-tuple of a listener (L-47). The unspecified address is every local address of its family that has no listener of
/// its own: the specific one is preferred, as with sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listening {
    /// The local address.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: u8,
    /// The local port.
    pub port: u16,
}

/// A listener's latch, as a new connection meets it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener {
    pub(crate) id: LatchId,
    pub(crate) terms: LatchTerms,
    constraint: Option<ConstraintId>,
}

impl LatchDatabase {
    /// The latch that listens for a flow: that of its address, else that of all addresses. Looked for only where there are
    /// listeners, when a flow begins.
    pub(crate) fn listener(&self, flow: &FlowKey) -> Option<Listener> {
        if !self.has_listeners() {
            return None;
        }
        let exact = Listening::of(flow);
        self.listener_at(&exact).or_else(|| self.listener_at(&exact.anywhere()))
    }

    /// Whether anybody listens.
    #[inline]
    pub(crate) fn has_listeners(&self) -> bool {
        self.listeners.load(Ordering::Relaxed) != 0
    }

    /// The latch that listens at exactly this 3-tuple (FIND_LATCH, R-11).
    #[must_use]
    pub fn find_listener(&self, listening: &Listening) -> Option<LatchId> {
        self.listener_at(listening).map(|listener| listener.id)
    }

    /// Whether the class is what the listener demands.
    pub(crate) fn is_welcome(&self, class: ClassId, listener: &Listener) -> bool {
        listener.constraint.is_none_or(|constraint| self.peers.accepts(class, constraint))
    }

    fn listener_at(&self, listening: &Listening) -> Option<Listener> {
        let known = self.probe(&FlowKey::from_words(listening.key()))?;
        let listens = known.entry.kind == Kind::Latched(LatchState::Listener);
        // The class of a listener is the number of what it demands.
        let constraint = u8::try_from(known.class.raw()).ok().and_then(ConstraintId::new);
        listens.then_some(Listener { id: known.found.id, terms: known.entry.terms, constraint })
    }
}

impl Listener {
    /// Whether it would have a connection that nothing protects.
    pub(crate) fn takes_unprotected(&self) -> bool {
        self.constraint.is_none() && self.terms.unlatchable == latchway_datapath::latching::Unlatchable::Pass
    }
}

impl Listening {
    /// The 3-tuple that a flow comes to.
    #[must_use]
    pub fn of(flow: &FlowKey) -> Self {
        Self { address: flow.local().ip(), protocol: flow.protocol(), port: flow.local_port() }
    }

    /// The same port of every address.
    fn anywhere(self) -> Self {
        Self { address: unspecified(self.address), ..self }
    }

    /// The 3-tuple as the flow of a latch, whose remote side is unspecified.
    #[must_use]
    pub fn flow(&self) -> FlowKey {
        let remote = SocketAddr::new(unspecified(self.address), 0);
        FlowKey::new(self.protocol, SocketAddr::new(self.address, self.port), remote)
    }

    pub(super) fn key(&self) -> Key {
        let [a, b, c, d, last] = self.flow().words();
        [a, b, c, d, last | LISTENS]
    }
}

/// The flow of a key, be it a listener's.
pub(crate) const fn flow_of(key: Key) -> FlowKey {
    let [a, b, c, d, last] = key;
    FlowKey::from_words([a, b, c, d, last & !LISTENS])
}

const fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// A bit of the last word beyond protocol and ports.
const LISTENS: u64 = 1 << 63;
