//! What a packet shows to policy (RFC 4301 section 4.4.1.1): its flow, and of an ICMP message what it is.
//!
//! A flow is what a connection is known by, the same both ways; policy tells an echo request from its reply, and an error
//! from either.

use crate::flow::{FlowKey, protocol};

/// A packet as selectors see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Its flow.
    pub flow: FlowKey,
    /// The type and code of an ICMP or ICMPv6 message; of a Mobility Header message its type, and 0. `None` of other
    /// packets, and of fragments whose first was not seen: OPAQUE in the words of RFC 4301.
    pub icmp: Option<(u8, u8)>,
}

impl Traffic {
    /// What stands for a flow where there is no packet at hand: of an ICMP flow an echo request, by which it begins.
    #[must_use]
    pub const fn of(flow: &FlowKey) -> Self {
        let icmp = match flow.protocol() {
            protocol::ICMP => Some((8, 0)),
            protocol::ICMPV6 => Some((128, 0)),
            _ => None,
        };
        Self { flow: *flow, icmp }
    }
}
