//! What a packet of an unknown flow may begin.

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::packet::{IpPacket, TcpSegment, Upper, flags};
use latchway_datapath::spd::{Action, Latching, Protection};
use latchway_datapath::ulp::Context;

/// How a flow begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// With a latch: a TCP SYN (L-4, L-5), or any first datagram.
    Latched(Option<TcpSegment>),
    /// Without: policy wants none, or the protocol has no connections.
    Unlatched,
}

/// What policy wants of a flow that has no entry, and whether this packet may begin it.
///
/// # Errors
/// [`DropReason::MidStream`]: a latch is wanted and the beginning was missed. Taking up a connection in the middle
/// would launder a hijack. Inbound, [`DropReason::PolicyDiscard`] or [`DropReason::NoPolicy`]: rules are ordered and an
/// SA's selectors are not, so that they may admit what an earlier rule discards (RFC 4301 4.4.1, 5.2).
pub(super) fn opening(
    packet: &IpPacket<'_>,
    direction: Direction,
    context: &Context<'_>,
) -> Result<Opening, DropReason> {
    if direction == Direction::Inbound {
        match context.snapshot.spd.action(packet.flow(), Direction::Inbound) {
            Some(Action::Protect(_) | Action::Bypass) => {}
            Some(Action::Discard) => return Err(DropReason::PolicyDiscard),
            None => return Err(DropReason::NoPolicy),
        }
    }
    if !is_latched_by_policy(packet.flow(), context) {
        return Ok(Opening::Unlatched);
    }
    match (packet.flow().protocol(), *packet.upper()) {
        (protocol::TCP, Upper::Tcp(segment)) if is_syn(&segment) => Ok(Opening::Latched(Some(segment))),
        (protocol::UDP, Upper::Udp | Upper::FirstFragment(_)) => Ok(Opening::Latched(None)),
        _ => Err(DropReason::MidStream),
    }
}

/// Whether the flow must not be without a latch: policy wants one, and its protocol has connections.
pub(super) fn is_latched_by_policy(flow: &FlowKey, context: &Context<'_>) -> bool {
    let action = context.snapshot.spd.action(flow, Direction::Outbound);
    let wanted = matches!(action, Some(Action::Protect(Protection { latching: Latching::On, .. })));
    wanted && matches!(flow.protocol(), protocol::TCP | protocol::UDP) && !is_group(flow)
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
