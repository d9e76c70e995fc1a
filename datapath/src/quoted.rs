//! What an ICMP error is about: the packet that it quotes (RFC 4301 section 6.2, RFC 792, RFC 4443 section 2.4).
//!
//! An error comes from wherever a packet met its end, a router of which no selector speaks as well as the host itself. So
//! where policy and SAs do not speak of the error by its own addresses, it belongs to the return traffic of what it quotes,
//! and goes by the SA of that or not at all. Without that check whoever has any SA could end anybody's connections.

use latchway_tagging::ClassId;

use crate::drop::{Direction, DropReason};
use crate::flow::{FlowKey, mapped, protocol};
use crate::packet::{IpPacket, Upper, message};
use crate::sad::SadEntry;
use crate::selector::has_ports;
use crate::snapshot::Snapshot;
use crate::spd::{Action, Spd};
use crate::traffic::Traffic;

impl Spd {
    /// What policy wants of a packet; `None` is discard. Of an ICMP error about what is to be protected it wants no less,
    /// even where a rule lets it bypass: the error shows what it quotes. Where no rule speaks of the error, or one that
    /// discards protocols that it does not name, it goes as the return traffic of what it quotes, if that is protected.
    // RFC 4301 section 6.2: explicit rules first, then the payload.
    #[must_use]
    pub fn action_on(&self, packet: &IpPacket<'_>, direction: Direction) -> Option<Action> {
        let own = self.action(packet.traffic(), direction);
        let Some(about) = returning(packet, direction) else { return own };
        if self.goes_as_quoted(packet, direction) {
            let quoted = self.action(&about, direction);
            return quoted.filter(|action| matches!(action, Action::Protect(_))).or(own);
        }
        own
    }

    /// Whether no rule says of an error itself that it be protected or discarded.
    fn goes_as_quoted(&self, packet: &IpPacket<'_>, direction: Direction) -> bool {
        match self.find(packet.traffic(), direction) {
            None => true,
            Some((_, rule)) => match rule.action {
                Action::Protect(_) => false,
                Action::Bypass => true,
                Action::Discard => rule.selector.protocol.is_none(),
            },
        }
    }
}

impl SadEntry {
    /// Whether the SA may carry a packet that it brought (RFC 4301 5.2): by what it is or, an ICMP error, by what it quotes,
    /// to the very host that sent that (RFC 4301 6.2). A later fragment may also come by an SA for such (RFC 4301 7.2).
    #[inline]
    #[must_use]
    pub fn admits_packet(&self, packet: &IpPacket<'_>) -> bool {
        self.admits(packet.traffic())
            || (packet.traffic().icmp.is_some() && self.admits_error(packet))
            || (packet.is_later_fragment() && self.admits_later_fragments(packet.flow()))
    }

    #[cold]
    fn admits_later_fragments(&self, flow: &FlowKey) -> bool {
        self.selectors.iter().any(|selector| selector.admits_later_fragments(flow))
    }

    #[cold]
    fn admits_error(&self, packet: &IpPacket<'_>) -> bool {
        returning(packet, Direction::Inbound).is_some_and(|about| self.admits(&about))
    }
}

impl Snapshot {
    /// As what an outbound packet is to be given an SA, of a class if one is required: as itself or, an ICMP error that has
    /// none, as the return traffic of what it quotes (RFC 4301 6.2).
    #[cold]
    pub(crate) fn carries_as(&self, packet: &IpPacket<'_>, class: Option<ClassId>) -> Traffic {
        let own = *packet.traffic();
        let Some(about) = returning(packet, Direction::Outbound) else { return own };
        let protection = |traffic: &Traffic| match self.spd.action(traffic, Direction::Outbound) {
            Some(Action::Protect(protection)) => Some(protection),
            _ => None,
        };
        let served = |traffic: &Traffic| match class {
            Some(_) => self.sad.select(traffic, class, None).is_some(),
            None => protection(traffic).is_some_and(|by| self.sad.select_serving(traffic, &by).is_some()),
        };
        let by_quote = match protection(&own) {
            // What is to be protected does not leave in the clear, be there an SA or not.
            None if class.is_none() => {
                self.spd.goes_as_quoted(packet, Direction::Outbound) && protection(&about).is_some()
            }
            _ => !served(&own) && served(&about),
        };
        if by_quote { about } else { own }
    }
}

/// The return traffic of what an ICMP error quotes, if the error goes to who sent that.
fn returning(packet: &IpPacket<'_>, direction: Direction) -> Option<Traffic> {
    let about = quoted(packet, direction).ok()??;
    let (to, from) = match direction {
        Direction::Inbound => (packet.flow().local_number(), about.flow.local_number()),
        Direction::Outbound => (packet.flow().remote_number(), about.flow.remote_number()),
    };
    (to == from).then_some(about)
}

/// The return traffic of the packet that an ICMP error quotes, as it is named here; `None` for what is no error.
///
/// # Errors
/// The reason to drop an error that hides what it is about: no host sends a fragmented one (RFC 1812 4.3.2.3, RFC 4443
/// 2.4 c), nor needs extension headers to.
pub fn quoted(packet: &IpPacket<'_>, direction: Direction) -> Result<Option<Traffic>, DropReason> {
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
    let flow = match direction {
        Direction::Inbound => FlowKey::from_octets(source, destination, protocol, ports),
        Direction::Outbound => {
            FlowKey::from_octets(destination, source, protocol, (destination_port, source_port))
        }
    };
    Ok(Some(Traffic { flow, icmp: answer_to(protocol, upper) }))
}

/// What answers a quoted message: of a request the reply, of a reply the request; of another message one of its kind.
fn answer_to(protocol: u8, upper: &[u8]) -> Option<(u8, u8)> {
    match (protocol, upper) {
        (protocol::ICMP, &[kind @ (0 | 8), code, ..]) => Some((8 - kind, code)),
        (protocol::ICMPV6, &[kind @ (128 | 129), code, ..]) => Some((kind ^ 1, code)),
        _ => message(protocol, upper),
    }
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
mod tests;
