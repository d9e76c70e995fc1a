//! ICMP errors: what one says of a connection counts only under the connection's own latch, either way (T37 f).
//!
//! RFC 4301 section 6.2: an error is judged by the packet that it quotes. One from another peer could abort or slow a
//! latched connection, and one of our own would show another peer what the quoted packet held.

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::flow::{FlowKey, mapped, protocol};
use latchway_datapath::latching::LatchState;
use latchway_datapath::packet::{IpPacket, Upper};
use latchway_datapath::selector::has_ports;
use latchway_datapath::ulp::Context;
use latchway_tagging::{Demand, InboundTag};

use crate::entry::{Holds, Kind};
use crate::shim::Shim;
use crate::shim::opening::terms_by_policy;

/// Whether a packet can be an error: the one question that other packets are asked.
#[inline]
pub(super) const fn is_icmp(packet: &IpPacket<'_>) -> bool {
    matches!(packet.flow().protocol(), protocol::ICMP | protocol::ICMPV6)
}

impl Shim {
    /// Judges an ICMP message from a peer. It breaks no latch: an error is not the connection's packet.
    pub(super) fn judge_icmp_inbound(
        &self,
        packet: &IpPacket<'_>,
        tag: &InboundTag,
        context: &Context<'_>,
    ) -> Result<(), DropReason> {
        let Some(flow) = quoted(packet, Direction::Inbound)? else { return Ok(()) };
        match self.database.probe(&flow).map(|known| (known.entry.kind, known)) {
            Some((Kind::Latched(_), known)) if !known.is_answered() => Err(DropReason::MidStream),
            Some((Kind::Latched(state), known)) => known.latch(state).check(tag),
            Some((Kind::Unlatched, _)) => Ok(()),
            None if terms_by_policy(&flow, context).is_some() => Err(DropReason::MidStream),
            None => Ok(()),
        }
    }

    /// What an ICMP message from the inner host must leave under, if it quotes a packet of a latched flow.
    pub(super) fn judge_icmp_outbound(
        &self,
        packet: &IpPacket<'_>,
        context: &Context<'_>,
    ) -> Result<Option<Demand>, DropReason> {
        let Some(flow) = quoted(packet, Direction::Outbound)? else { return Ok(None) };
        match self.database.probe(&flow).map(|known| (known.entry.kind, known)) {
            Some((Kind::Latched(LatchState::Established), known)) => Ok(Some(known.demand())),
            Some((Kind::Latched(_), _)) => Err(DropReason::LatchBroken),
            Some((Kind::Unlatched, _)) => Ok(None),
            None if terms_by_policy(&flow, context).is_some() => Err(DropReason::MidStream),
            None => Ok(None),
        }
    }

    /// L-26, for errors: a spoofed one in the clear says nothing of a latched flow.
    pub(super) fn judge_icmp_unprotected(&self, packet: &IpPacket<'_>) -> Result<(), DropReason> {
        let Some(flow) = quoted(packet, Direction::Inbound)? else { return Ok(()) };
        match self.database.probe(&flow).map(|known| known.entry) {
            Some(entry) if entry.holds == Holds::Bypass => Ok(()),
            Some(entry) if entry.kind != Kind::Unlatched => Err(DropReason::LatchUnprotected),
            _ => Ok(()),
        }
    }
}

/// The flow that an ICMP error is about, as it is named here; `None` for what is no error.
///
/// # Errors
/// The reason to drop an error that hides what it is about: no host sends a fragmented one (RFC 1812 4.3.2.3, RFC 4443
/// 2.4 c), nor needs extension headers to.
fn quoted(packet: &IpPacket<'_>, direction: Direction) -> Result<Option<FlowKey>, DropReason> {
    let (is_v4, octets) = (packet.flow().protocol() == protocol::ICMP, packet.octets());
    match *packet.upper() {
        Upper::Icmp { kind, .. } if is_error(is_v4, kind) => {}
        Upper::FirstFragment(_) if packet.flow().local_port() == 0 => return Err(DropReason::BadIpHeader),
        _ => return Ok(None),
    }
    let (_, _, message) = network(octets)?.ok_or(DropReason::BadIpHeader)?;
    let quote = message.get(ICMP_HEADER_LEN..).ok_or(DropReason::Runt)?;
    let (ends, protocol, upper) = network(quote)?.ok_or(DropReason::BadIpHeader)?;
    let ports = match *upper {
        [a, b, c, d, ..] if has_ports(protocol) => (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
        _ if has_ports(protocol) => return Err(DropReason::Runt),
        [kind, _, _, _, a, b, ..] if is_echo(protocol, kind) => {
            let identifier = u16::from_be_bytes([a, b]);
            (identifier, identifier)
        }
        _ => (0, 0),
    };
    let ((source, destination), (source_port, destination_port)) = (ends, ports);
    // What an error quotes went the other way.
    Ok(Some(match direction {
        Direction::Inbound => FlowKey::from_octets(source, destination, protocol, ports),
        Direction::Outbound => {
            FlowKey::from_octets(destination, source, protocol, (destination_port, source_port))
        }
    }))
}

/// RFC 792, RFC 1122 section 3.2.2; RFC 4443 section 2.1.
const fn is_error(is_v4: bool, kind: u8) -> bool {
    if is_v4 { matches!(kind, 3 | 4 | 5 | 11 | 12) } else { kind < 128 }
}

/// RFC 792; RFC 4443 section 4.
const fn is_echo(protocol: u8, kind: u8) -> bool {
    matches!((protocol, kind), (protocol::ICMP, 0 | 8) | (protocol::ICMPV6, 128 | 129))
}

/// Source and destination, protocol and payload.
type Network<'p> = (([u8; 16], [u8; 16]), u8, &'p [u8]);

/// The outside of an IP packet that may be cut short; `None` where its upper layer's first octets are not in it, or
/// hidden.
fn network(octets: &[u8]) -> Result<Option<Network<'_>>, DropReason> {
    match octets.first().map(|octet| octet >> 4) {
        Some(4) => network_v4(octets),
        Some(6) => network_v6(octets),
        _ => Err(DropReason::BadIpHeader),
    }
}

fn network_v4(octets: &[u8]) -> Result<Option<Network<'_>>, DropReason> {
    let header = octets.first_chunk::<20>().ok_or(DropReason::Runt)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let payload = octets.get(header_len..).ok_or(DropReason::Runt)?;
    let [.., a, b, c, d, e, f, g, h] = *header;
    let is_first = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
    let ends = (mapped([a, b, c, d]), mapped([e, f, g, h]));
    Ok((is_first && header_len >= 20).then_some((ends, header[9], payload)))
}

fn network_v6(octets: &[u8]) -> Result<Option<Network<'_>>, DropReason> {
    let (header, payload) = octets.split_first_chunk::<40>().ok_or(DropReason::Runt)?;
    let address = |at: usize| header.get(at..).and_then(|rest| rest.first_chunk::<16>().copied());
    let ends = address(8).zip(address(24)).ok_or(DropReason::Runt)?;
    let (next, payload) = match (header[6], payload.split_first_chunk::<8>()) {
        (FRAGMENT, None) => return Err(DropReason::Runt),
        // The first fragment of a datagram that the inner host cut itself.
        (FRAGMENT, Some((fragment, rest))) if fragment[2] == 0 && fragment[3] & 0xf8 == 0 => {
            (fragment[0], rest)
        }
        (next, _) => (next, payload),
    };
    Ok((!EXTENSIONS.contains(&next)).then_some((ends, next, payload)))
}

const FRAGMENT: u8 = 44;

/// Hop-by-Hop, Routing, Fragment, AH, Destination Options, Mobility, HIP, Shim6 (RFC 7045 section 4).
const EXTENSIONS: [u8; 8] = [0, 43, FRAGMENT, 51, 60, 135, 139, 140];

const ICMP_HEADER_LEN: usize = 8;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    const HERE: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const THERE: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

    /// Packet Too Big about a UDP datagram from here, with `extension` between the headers of what it quotes.
    fn too_big(extension: &[u8]) -> Vec<u8> {
        let mut quote = Vec::new();
        PacketBuilder::ipv6(HERE, THERE, 64).udp(4000, 53).write(&mut quote, b"data").unwrap();
        quote.splice(40..40, extension.iter().copied());
        if !extension.is_empty() {
            quote[6] = FRAGMENT;
        }
        let mut octets = Vec::new();
        PacketBuilder::ipv6(THERE, HERE, 64)
            .icmpv6_raw(2, 0, [0, 0, 5, 0])
            .write(&mut octets, &quote)
            .unwrap();
        octets
    }

    fn found(octets: &[u8]) -> Result<Option<FlowKey>, DropReason> {
        quoted(&IpPacket::parse(octets, Direction::Inbound).unwrap(), Direction::Inbound)
    }

    #[test]
    fn rfc_4443_2_4_the_flow_of_a_quoted_packet_is_found_or_the_error_dropped() {
        let flow = FlowKey::from_octets(HERE, THERE, protocol::UDP, (4000, 53));
        assert_eq!(found(&too_big(&[])), Ok(Some(flow)));
        assert_eq!(found(&too_big(&[17, 0, 0, 1, 0, 0, 0, 7])), Ok(Some(flow)), "a first fragment");
        assert_eq!(found(&too_big(&[17, 0, 0, 9, 0, 0, 0, 7])), Err(DropReason::BadIpHeader), "a later one");
        assert_eq!(found(&too_big(&[60, 0, 0, 1, 0, 0, 0, 7])), Err(DropReason::BadIpHeader), "hidden");
        let echo = {
            let mut octets = Vec::new();
            PacketBuilder::ipv6(THERE, HERE, 64).icmpv6_echo_request(1, 1).write(&mut octets, &[]).unwrap();
            octets
        };
        assert_eq!(found(&echo), Ok(None));
    }

    #[test]
    fn t21_an_error_cut_anywhere_is_dropped_or_about_the_same_flow() {
        let whole = too_big(&[]);
        let flow = found(&whole).unwrap();
        for len in 48..whole.len() {
            let mut cut = whole[..len].to_vec();
            cut[4..6].copy_from_slice(&(len as u16 - 40).to_be_bytes());
            let about = found(&cut);
            match len {
                92.. => assert_eq!(about, Ok(flow)),
                _ => assert!(about.is_err(), "{len}: {about:?}"),
            }
        }
    }
}
