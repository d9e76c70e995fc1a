//! What a packet of an unknown flow may begin.

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::{LatchTerms, Unlatchable};
use latchway_datapath::packet::{IpPacket, TcpSegment, Upper, flags};
use latchway_datapath::spd::Action;
use latchway_datapath::ulp::Context;

use crate::database::{Known, Listener};

/// How a flow begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// With a latch on these terms: a TCP SYN (L-4, L-5), or any first datagram.
    Latched(Option<TcpSegment>, LatchTerms),
    /// Without: policy wants none, or the protocol has no connections.
    Unlatched,
}

/// What policy, or a listener, wants of a flow that has no entry, and whether this packet may begin it. A listener's terms
/// go before the rule's.
///
/// # Errors
/// [`DropReason::MidStream`]: a latch is wanted and the beginning was missed. Taking up a connection in the middle
/// would launder a hijack. Inbound, [`DropReason::PolicyDiscard`] or [`DropReason::NoPolicy`]: rules are ordered and an
/// SA's selectors are not, so that they may admit what an earlier rule discards (RFC 4301 4.4.1, 5.2).
pub(super) fn opening(
    packet: &IpPacket<'_>,
    direction: Direction,
    listener: Option<&Listener>,
    context: &Context<'_>,
) -> Result<Opening, DropReason> {
    if direction == Direction::Inbound {
        match context.snapshot.spd.action(packet.flow(), Direction::Inbound) {
            Some(Action::Protect(_) | Action::Bypass) => {}
            Some(Action::Discard) => return Err(DropReason::PolicyDiscard),
            None => return Err(DropReason::NoPolicy),
        }
    }
    let terms = terms_by_policy(packet.flow(), context);
    let Some(terms) = listener.map(|listener| listener.terms).or(terms) else {
        return Ok(Opening::Unlatched);
    };
    let segment = initiates(packet).ok_or(DropReason::MidStream)?;
    Ok(Opening::Latched(segment, terms))
}

/// What policy wants of an unlatched flow that was looked at under another policy. A flow that could not be latched, which
/// its terms let pass, goes on.
///
/// # Errors
/// As for [`opening`].
pub(super) fn opening_again(
    packet: &IpPacket<'_>,
    direction: Direction,
    known: &Known<'_>,
    context: &Context<'_>,
) -> Result<Opening, DropReason> {
    match opening(packet, direction, None, context) {
        Err(DropReason::MidStream) if known.entry.passed => {
            let terms = terms_by_policy(packet.flow(), context);
            let passes = terms.is_some_and(|terms| terms.unlatchable == Unlatchable::Pass);
            if passes { Ok(Opening::Unlatched) } else { Err(DropReason::MidStream) }
        }
        opening => opening,
    }
}

/// The terms of the latch that the flow must not be without: policy wants one, and the flow's protocol has connections.
pub(super) fn terms_by_policy(flow: &FlowKey, context: &Context<'_>) -> Option<LatchTerms> {
    let Some(Action::Protect(protection)) = context.snapshot.spd.action(flow, Direction::Outbound) else {
        return None;
    };
    let has_connections = matches!(flow.protocol(), protocol::TCP | protocol::UDP) && !is_group(flow);
    protection.latching.terms().filter(|_| has_connections)
}

/// Whether the packet may be the first of a connection; with it, the segment that numbers the sender's octets.
pub(super) fn initiates(packet: &IpPacket<'_>) -> Option<Option<TcpSegment>> {
    match (packet.flow().protocol(), *packet.upper()) {
        (protocol::TCP, Upper::Tcp(segment)) if is_syn(&segment) => Some(Some(segment)),
        (protocol::UDP, Upper::Udp | Upper::FirstFragment(_)) => Some(None),
        _ => None,
    }
}

/// The initiating packet of a connection: SYN, and none of ACK, RST and FIN.
pub(super) const fn is_syn(segment: &TcpSegment) -> bool {
    segment.flags & (flags::SYN | flags::ACK | flags::RST | flags::FIN) == flags::SYN
}

/// Multicast and broadcast have no single peer, and are never latched.
const fn is_group(flow: &FlowKey) -> bool {
    is_group_address(flow.local_number()) || is_group_address(flow.remote_number())
}

const fn is_group_address(number: u128) -> bool {
    number >> 28 == 0x000f_fffe || number == 0xffff_ffff_ffff || number >> 120 == 0xff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_told_from_hosts_in_both_families() {
        let is_group =
            |address: &str| is_group_address(latchway_datapath::flow::number(address.parse().unwrap()));
        assert!(
            ["224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1"]
                .iter()
                .all(|group| is_group(group))
        );
        assert!(!["223.255.255.255", "240.0.0.1", "10.0.0.1", "fe80::1"].iter().any(|host| is_group(host)));
    }
}
