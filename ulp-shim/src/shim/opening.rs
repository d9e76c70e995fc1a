//! What a packet of an unknown flow may begin.

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::{LatchTerms, Unlatchable};
use latchway_datapath::packet::{IpPacket, SctpPacket, TcpSegment, Upper, chunk, flags};
use latchway_datapath::selector::has_ports;
use latchway_datapath::spd::Action;
use latchway_datapath::traffic::Traffic;
use latchway_datapath::ulp::Context;

use crate::database::{Known, Listener};
use crate::progress::Side;
use crate::requirements::Required;

/// How a flow begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// With a latch on these terms; so far is the side that begins.
    Latched(Side, LatchTerms),
    /// Without: policy wants none, or the protocol has no connections.
    Unlatched,
}

/// Who wants a latch of a flow beside policy.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted<'a> {
    /// The latch of the listener that it comes to.
    pub(super) listener: Option<&'a Listener>,
    /// What is required of its socket.
    pub(super) demand: Option<Required>,
}

/// What policy, a listener or a requirement wants of a flow that has no entry, and whether this packet may begin it. A listener's
/// terms go before the rule's, and a requirement's before both.
///
/// # Errors
/// [`DropReason::RequirementUnmet`]: something is required of a flow that cannot have a latch, or any more.
/// [`DropReason::MidStream`]: a latch is wanted and the beginning was missed. Taking up a connection in the middle
/// would launder a hijack. Inbound, [`DropReason::PolicyDiscard`] or [`DropReason::NoPolicy`]: rules are ordered and an
/// SA's selectors are not, so that they may admit what an earlier rule discards (RFC 4301 4.4.1, 5.2).
pub(super) fn opening(
    packet: &IpPacket<'_>,
    direction: Direction,
    Wanted { listener, demand }: Wanted<'_>,
    context: &Context<'_>,
) -> Result<Opening, DropReason> {
    if direction == Direction::Inbound {
        admits_inbound(packet, context)?;
    }
    let terms = terms_by_policy(packet.flow(), context);
    let terms = listener.map(|listener| listener.terms).or(terms);
    if let Some(demand) = demand {
        let side = initiates(packet).filter(|_| !is_group(packet.flow()));
        let side = side.ok_or(DropReason::RequirementUnmet)?;
        return Ok(Opening::Latched(side, demand.terms(terms)));
    }
    let Some(terms) = terms else { return Ok(Opening::Unlatched) };
    let side = initiates(packet).ok_or(DropReason::MidStream)?;
    Ok(Opening::Latched(side, terms))
}

/// Whether policy lets the packet come in.
///
/// # Errors
/// [`DropReason::PolicyDiscard`] or [`DropReason::NoPolicy`].
pub(super) fn admits_inbound(packet: &IpPacket<'_>, context: &Context<'_>) -> Result<(), DropReason> {
    admits(context.snapshot.spd.action_on(packet, Direction::Inbound))
}

/// The same of a flow of which there is no packet at hand.
///
/// # Errors
/// [`DropReason::PolicyDiscard`] or [`DropReason::NoPolicy`].
pub(super) fn admits_flow_inbound(flow: &FlowKey, context: &Context<'_>) -> Result<(), DropReason> {
    admits(context.snapshot.spd.action(&Traffic::of(flow), Direction::Inbound))
}

const fn admits(policy: Option<Action>) -> Result<(), DropReason> {
    match policy {
        Some(Action::Protect(_) | Action::Bypass) => Ok(()),
        Some(Action::Discard) => Err(DropReason::PolicyDiscard),
        None => Err(DropReason::NoPolicy),
    }
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
    match opening(packet, direction, Wanted::default(), context) {
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
    let Some(Action::Protect(protection)) =
        context.snapshot.spd.action(&Traffic::of(flow), Direction::Outbound)
    else {
        return None;
    };
    protection.latching.terms().filter(|_| has_connections(flow) && !is_group(flow))
}

/// Whether packets of the flow are of a connection: for ICMP, those of one echo identifier are. Other messages have none,
/// and neither has the identifier 0, which cannot be told from that.
const fn has_connections(flow: &FlowKey) -> bool {
    match flow.protocol() {
        protocol::ICMP | protocol::ICMPV6 => flow.local_port() != 0,
        protocol => has_ports(protocol),
    }
}

/// How far the sender is if the packet may be the first of a connection: a TCP SYN (L-4, L-5), an SCTP INIT, an echo
/// request, or any datagram that is whole, or the first piece of one.
pub(super) fn initiates(packet: &IpPacket<'_>) -> Option<Side> {
    match (packet.flow().protocol(), packet.upper()) {
        (protocol::TCP, Upper::Tcp(segment)) if is_syn(segment) => Some(Side::begun(segment)),
        (protocol::SCTP, Upper::Sctp(init)) if is_init(init) => Some(Side::of_tag(init.initiate_tag)),
        (protocol::UDP, Upper::Udp | Upper::FirstFragment(_)) => Some(Side::default()),
        (protocol::ICMP, _) if packet.icmp_kind() == Some(8) => Some(Side::default()),
        (protocol::ICMPV6, _) if packet.icmp_kind() == Some(128) => Some(Side::default()),
        _ => None,
    }
}

/// Whether the packet begins a connection by a handshake, so that it comes again until it is answered.
pub(super) fn shakes_hands(packet: &IpPacket<'_>) -> bool {
    matches!(packet.flow().protocol(), protocol::TCP | protocol::SCTP) && initiates(packet).is_some()
}

/// RFC 9260 section 8.5.1: INIT has the verification tag 0, and nothing else has. A tag of 0 for itself nobody may choose.
const fn is_init(packet: &SctpPacket) -> bool {
    packet.chunk == chunk::INIT && packet.verification_tag == 0 && packet.initiate_tag != 0
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
