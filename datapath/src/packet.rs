//! Inner IP packets: bounds proven, flow known.
//!
//! The one place where an IP header is read on the packet path. Whatever passes is an IP packet whose lengths agree
//! with the octets that are there and whose upper-layer header, where it has ports, is present (T02, T21).

use latchway_tagging::InboundTag;

use crate::drop::{Direction, DropReason};
use crate::flow::{FlowKey, mapped, protocol};
use crate::traffic::Traffic;

/// An IP packet whose bounds are proven and whose flow is known.
#[derive(Clone, Copy, Debug)]
pub struct IpPacket<'p> {
    octets: &'p [u8],
    traffic: Traffic,
    upper: Upper,
}

/// What the gateway needs to know of the upper layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upper {
    /// A TCP segment.
    Tcp(TcpSegment),
    /// A UDP datagram.
    Udp,
    /// An SCTP packet.
    Sctp(SctpPacket),
    /// An ICMP or ICMPv6 message.
    Icmp {
        /// The message's type.
        kind: u8,
        /// The message's code.
        code: u8,
    },
    /// A protocol of which only the number is known.
    Other,
    /// A first fragment: its flow is known, and holds for the later ones.
    FirstFragment(Fragment),
    /// A later fragment, without ports: its flow's ports are 0 until it is resolved.
    LaterFragment(Fragment),
}

/// The members of a TCP header that connection tracking and resets need (RFC 9293 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSegment {
    /// Sequence number of the first octet.
    pub seq: u32,
    /// Acknowledgment number, meaningful with the ACK flag.
    pub ack: u32,
    /// The flags octet.
    pub flags: u8,
    /// Octets of data.
    pub payload_len: u32,
}

/// The members of an SCTP packet that connection tracking needs (RFC 9260 sections 3.1 and 3.2). Chunks that open or end
/// an association come first in their packet, or alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SctpPacket {
    /// The tag by which the receiver knows its association; 0 with INIT.
    pub verification_tag: u32,
    /// The type of the first chunk.
    pub chunk: u8,
    /// The first chunk's flags.
    pub flags: u8,
    /// The tag that the sender of INIT or INIT ACK chose for itself; 0 of other chunks.
    pub initiate_tag: u32,
}

/// SCTP chunk types.
pub mod chunk {
    /// Begins an association.
    pub const INIT: u8 = 1;
    /// Answers INIT.
    pub const INIT_ACK: u8 = 2;
    /// Ends an association at once.
    pub const ABORT: u8 = 6;
    /// Answers INIT ACK, and proves that it was received.
    pub const COOKIE_ECHO: u8 = 10;
    /// Answers COOKIE ECHO.
    pub const COOKIE_ACK: u8 = 11;
    /// Ends an association in order.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// TCP flags.
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgment number is meaningful.
    pub const ACK: u8 = 0x10;
}

/// What the fragments of one datagram share besides their addresses and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentId(pub u32);

/// Which part of its datagram a fragment is (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Which datagram it is of.
    pub id: FragmentId,
    /// Where its octets begin in what was cut.
    pub start: u16,
    /// Where they end.
    pub end: u16,
    /// Whether more come after it.
    pub more: bool,
}

/// A packet that an SA has authenticated, with the tag that says which. Only this crate can make one, so holding one
/// is the proof that it came through ESP.
#[derive(Clone, Copy, Debug)]
pub struct Authenticated<'p> {
    packet: &'p IpPacket<'p>,
    tag: InboundTag,
}

/// A packet that came in the clear, through the bypass port: visibly untagged (L-91).
#[derive(Clone, Copy, Debug)]
pub struct Unprotected<'p> {
    packet: &'p IpPacket<'p>,
}

impl<'p> Authenticated<'p> {
    pub(crate) const fn new(packet: &'p IpPacket<'p>, tag: InboundTag) -> Self {
        Self { packet, tag }
    }

    /// The inner packet.
    #[inline]
    #[must_use]
    pub const fn packet(&self) -> &IpPacket<'p> {
        self.packet
    }

    /// Which SA protected it.
    #[inline]
    #[must_use]
    pub const fn tag(&self) -> InboundTag {
        self.tag
    }
}

impl<'p> Unprotected<'p> {
    pub(crate) const fn new(packet: &'p IpPacket<'p>) -> Self {
        Self { packet }
    }

    /// The packet.
    #[inline]
    #[must_use]
    pub const fn packet(&self) -> &IpPacket<'p> {
        self.packet
    }
}

impl<'p> IpPacket<'p> {
    /// Parses the packet at the start of `octets`. Octets behind the packet's own length are not part of it (they
    /// are TFC padding, RFC 4303 2.7). `direction` says which of source and destination is local.
    ///
    /// # Errors
    /// [`DropReason::Runt`] or [`DropReason::BadIpHeader`]; an IPv4 address in its IPv6 mapped form counts as bad,
    /// since it would pass for the IPv4 address in selectors (T15).
    #[inline]
    pub fn parse(octets: &'p [u8], direction: Direction) -> Result<Self, DropReason> {
        match octets.first().ok_or(DropReason::Runt)? >> 4 {
            4 => parse_v4(octets, direction),
            6 => parse_v6(octets, direction),
            _ => Err(DropReason::BadIpHeader),
        }
    }

    /// The packet, header first, exactly as long as its header says.
    #[inline]
    #[must_use]
    pub const fn octets(&self) -> &'p [u8] {
        self.octets
    }

    /// The packet's flow.
    #[inline]
    #[must_use]
    pub const fn flow(&self) -> &FlowKey {
        &self.traffic.flow
    }

    /// The packet as selectors see it.
    #[inline]
    #[must_use]
    pub const fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The upper layer.
    #[inline]
    #[must_use]
    pub const fn upper(&self) -> &Upper {
        &self.upper
    }

    /// Whether it is a TCP segment that opens a connection, or agrees to (RFC 9293 section 3.5).
    #[inline]
    #[must_use]
    pub const fn opens_connection(&self) -> bool {
        matches!(self.upper, Upper::Tcp(TcpSegment { flags, .. }) if flags & flags::SYN != 0)
    }

    /// Whether it is a fragment other than the first of its datagram.
    #[must_use]
    pub const fn is_later_fragment(&self) -> bool {
        matches!(self.upper, Upper::LaterFragment(_))
    }

    /// The type of the ICMP or ICMPv6 message that it is, or whose first fragment it is.
    #[must_use]
    pub fn icmp_kind(&self) -> Option<u8> {
        let is_icmp = matches!(self.flow().protocol(), protocol::ICMP | protocol::ICMPV6);
        let (kind, _) = self.traffic.icmp.filter(|_| is_icmp && !self.is_later_fragment())?;
        Some(kind)
    }

    /// Lets the packet show what its datagram shows: how a later fragment gets its ports.
    pub const fn resolve_to(&mut self, traffic: Traffic) {
        self.traffic = traffic;
    }
}

/// IPv6 extension headers walked before a packet is refused as hostile (T21).
const MAX_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;

const ECHO_V4: [u8; 2] = [8, 0];
const ECHO_V6: [u8; 2] = [128, 129];

/// What both families' headers say, before the upper layer is looked at.
struct Network<'p> {
    octets: &'p [u8],
    source: [u8; 16],
    destination: [u8; 16],
    protocol: u8,
    payload: &'p [u8],
    fragment: Option<Fragment>,
    direction: Direction,
}

fn parse_v4(octets: &[u8], direction: Direction) -> Result<IpPacket<'_>, DropReason> {
    let header = octets.first_chunk::<20>().ok_or(DropReason::Runt)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header_len < 20 || total_len < header_len {
        return Err(DropReason::BadIpHeader);
    }
    let octets = octets.get(..total_len).ok_or(DropReason::Runt)?;
    let payload = octets.get(header_len..).ok_or(DropReason::Runt)?;
    let offset = u16::from_be_bytes([header[6], header[7]]);
    let fragment = if offset & 0x3fff == 0 {
        None
    } else {
        let id = FragmentId(u32::from(u16::from_be_bytes([header[4], header[5]])));
        let start = u32::from(offset & 0x1fff) * 8;
        if start as usize + total_len > usize::from(u16::MAX) {
            return Err(DropReason::BadIpHeader);
        }
        Some(Fragment::of(id, start, payload.len(), offset & 0x2000 != 0)?)
    };
    let source = mapped([header[12], header[13], header[14], header[15]]);
    let destination = mapped([header[16], header[17], header[18], header[19]]);
    upper(Network { octets, source, destination, protocol: header[9], payload, fragment, direction })
}

fn parse_v6(octets: &[u8], direction: Direction) -> Result<IpPacket<'_>, DropReason> {
    let header = octets.first_chunk::<40>().ok_or(DropReason::Runt)?;
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let octets = octets.get(..40 + payload_len).ok_or(DropReason::Runt)?;
    let (source, destination) = addresses_v6(header)?;
    let (protocol, payload, fragment) = skip_extensions(header[6], octets.get(40..).unwrap_or_default())?;
    upper(Network { octets, source, destination, protocol, payload, fragment, direction })
}

fn addresses_v6(header: &[u8; 40]) -> Result<([u8; 16], [u8; 16]), DropReason> {
    let take = |range| header.get::<std::ops::Range<usize>>(range).and_then(|octets| octets.try_into().ok());
    let source: [u8; 16] = take(8..24).ok_or(DropReason::Runt)?;
    let destination: [u8; 16] = take(24..40).ok_or(DropReason::Runt)?;
    let is_mapped = |address: &[u8; 16]| address.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    if is_mapped(&source) || is_mapped(&destination) {
        return Err(DropReason::BadIpHeader);
    }
    Ok((source, destination))
}

/// What a packet carries behind its own header, and behind IPv6 extension headers: the protocol, and its octets.
pub(crate) fn carried(packet: &[u8]) -> Option<(u8, &[u8])> {
    let first = *packet.first()?;
    if first >> 4 == 4 {
        return Some((*packet.get(9)?, packet.get(usize::from(first & 15) * 4..)?));
    }
    skip_extensions(*packet.get(6)?, packet.get(40..)?).ok().map(|(next, octets, _)| (next, octets))
}

/// The flow label of an IPv6 packet (RFC 8200 section 3).
pub(crate) fn flow_label(packet: &[u8]) -> Option<u32> {
    let word = u32::from_be_bytes(*packet.first_chunk()?);
    (word >> 28 == 6).then_some(word & 0xf_ffff)
}

/// Walks the extension headers to the upper layer (RFC 8200 section 4).
fn skip_extensions(next: u8, rest: &[u8]) -> Result<(u8, &[u8], Option<Fragment>), DropReason> {
    let mut fragment = None;
    walk(next, rest, &mut fragment).map(|(next, rest)| (next, rest, fragment)).map_err(|reason| {
        if reason == DropReason::Runt && fragment.is_some() { DropReason::FragmentTiny } else { reason }
    })
}

fn walk<'p>(
    mut next: u8,
    mut rest: &'p [u8],
    fragment: &mut Option<Fragment>,
) -> Result<(u8, &'p [u8]), DropReason> {
    for _ in 0..MAX_EXTENSIONS {
        let len = match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                8 + 8 * usize::from(*rest.get(1).ok_or(DropReason::Runt)?)
            }
            FRAGMENT => 8,
            _ => return Ok((next, rest)),
        };
        let (extension, after) = rest.split_at_checked(len).ok_or(DropReason::Runt)?;
        if next == FRAGMENT {
            let found = parse_fragment(extension, after.len())?;
            next = *extension.first().ok_or(DropReason::Runt)?;
            // A fragment that is cut again would hide where it belongs.
            if fragment.is_some() && found.is_some() {
                return Err(DropReason::BadIpHeader);
            }
            *fragment = fragment.or(found);
            if found.is_some_and(|fragment| fragment.start > 0) {
                return Ok((next, after));
            }
        } else {
            next = *extension.first().ok_or(DropReason::Runt)?;
        }
        rest = after;
    }
    Err(DropReason::BadIpHeader)
}

/// A fragment header with so many octets after it; `None` for an atomic fragment, which is whole (RFC 8200 4.5, RFC 6946).
fn parse_fragment(extension: &[u8], len: usize) -> Result<Option<Fragment>, DropReason> {
    let &[_, _, high, low, a, b, c, d] = extension else { return Err(DropReason::Runt) };
    let offset = u16::from_be_bytes([high, low]);
    if offset & 0xfff9 == 0 {
        return Ok(None);
    }
    let id = FragmentId(u32::from_be_bytes([a, b, c, d]));
    Fragment::of(id, u32::from(offset & 0xfff8), len, offset & 1 != 0).map(Some)
}

impl Fragment {
    /// Of so many octets. What reaches beyond the longest datagram, is empty, or ends before a place where the next could
    /// begin, no host takes (RFC 791 3.2, RFC 8200 4.5; T20).
    fn of(id: FragmentId, start: u32, len: usize, more: bool) -> Result<Self, DropReason> {
        let end = u32::try_from(len).ok().and_then(|len| u16::try_from(start + len).ok());
        match (u16::try_from(start), end) {
            (Ok(start), Some(end)) if len > 0 && (!more || len.is_multiple_of(8)) => {
                Ok(Self { id, start, end, more })
            }
            _ => Err(DropReason::BadIpHeader),
        }
    }
}

// Once for each family: what it is given stays in registers.
#[inline(always)]
fn upper(network: Network<'_>) -> Result<IpPacket<'_>, DropReason> {
    let Network { octets, source, destination, protocol, payload, fragment, direction } = network;
    let (upper, (source_port, destination_port)) = match fragment {
        Some(fragment) if fragment.start > 0 => (Upper::LaterFragment(fragment), (0, 0)),
        // RFC 1858 section 4, RFC 7112: what policy asks for must be in the first fragment, all of it.
        Some(fragment) => match upper_of(protocol, payload) {
            Ok((_, ports)) => (Upper::FirstFragment(fragment), ports),
            Err(DropReason::Runt) => return Err(DropReason::FragmentTiny),
            Err(reason) => return Err(reason),
        },
        None => upper_of(protocol, payload)?,
    };
    let flow = match direction {
        Direction::Outbound => {
            FlowKey::from_octets(source, destination, protocol, (source_port, destination_port))
        }
        Direction::Inbound => {
            FlowKey::from_octets(destination, source, protocol, (destination_port, source_port))
        }
    };
    let icmp = match upper {
        Upper::Tcp(_) | Upper::Udp | Upper::LaterFragment(_) => None,
        _ => message(protocol, payload),
    };
    Ok(IpPacket { octets, traffic: Traffic { flow, icmp }, upper })
}

/// What ICMP selectors speak of.
pub(crate) fn message(protocol: u8, payload: &[u8]) -> Option<(u8, u8)> {
    match (protocol, payload) {
        (protocol::ICMP | protocol::ICMPV6, &[kind, code, ..]) => Some((kind, code)),
        // RFC 4301 section 4.4.1.1: of a Mobility Header, its type (RFC 6275 section 6.1.1).
        (protocol::MOBILITY, &[_, _, kind, ..]) => Some((kind, 0)),
        _ => None,
    }
}

/// The upper layer of a whole packet or first fragment, and its (source, destination) ports.
#[inline]
fn upper_of(protocol: u8, payload: &[u8]) -> Result<(Upper, (u16, u16)), DropReason> {
    match protocol {
        protocol::TCP => tcp(payload),
        protocol::UDP => {
            let header = payload.first_chunk::<8>().ok_or(DropReason::Runt)?;
            Ok((Upper::Udp, ports(header[0], header[1], header[2], header[3])))
        }
        protocol::ICMP | protocol::ICMPV6 => icmp(protocol, payload),
        protocol::SCTP => sctp(payload),
        NO_NEXT_HEADER => Err(DropReason::BadIpHeader),
        _ => Ok((Upper::Other, (0, 0))),
    }
}

#[inline]
fn tcp(payload: &[u8]) -> Result<(Upper, (u16, u16)), DropReason> {
    let header = payload.first_chunk::<20>().ok_or(DropReason::Runt)?;
    let header_len = usize::from(header[12] >> 4) * 4;
    if header_len < 20 {
        return Err(DropReason::BadIpHeader);
    }
    let payload_len = payload.len().checked_sub(header_len).ok_or(DropReason::Runt)?;
    let segment = TcpSegment {
        seq: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        ack: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
        flags: header[13],
        payload_len: u32::try_from(payload_len).map_err(|_| DropReason::BadIpHeader)?,
    };
    Ok((Upper::Tcp(segment), ports(header[0], header[1], header[2], header[3])))
}

fn sctp(payload: &[u8]) -> Result<(Upper, (u16, u16)), DropReason> {
    let (header, chunks) = payload.split_first_chunk::<12>().ok_or(DropReason::Runt)?;
    let (first, value) = chunks.split_first_chunk::<4>().ok_or(DropReason::Runt)?;
    let initiates = matches!(first[0], chunk::INIT | chunk::INIT_ACK);
    let initiate_tag = match value.first_chunk() {
        Some(&tag) if initiates => u32::from_be_bytes(tag),
        None if initiates => return Err(DropReason::Runt),
        _ => 0,
    };
    let packet = SctpPacket {
        verification_tag: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        chunk: first[0],
        flags: first[1],
        initiate_tag,
    };
    Ok((Upper::Sctp(packet), ports(header[0], header[1], header[2], header[3])))
}

fn icmp(protocol: u8, payload: &[u8]) -> Result<(Upper, (u16, u16)), DropReason> {
    let header = payload.first_chunk::<8>().ok_or(DropReason::Runt)?;
    let (kind, code) = (header[0], header[1]);
    let echo = if protocol == protocol::ICMP { ECHO_V4 } else { ECHO_V6 };
    let identifier = if echo.contains(&kind) { u16::from_be_bytes([header[4], header[5]]) } else { 0 };
    Ok((Upper::Icmp { kind, code }, (identifier, identifier)))
}

#[inline]
const fn ports(a: u8, b: u8, c: u8, d: u8) -> (u16, u16) {
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    fn v4(payload: &[u8]) -> Vec<u8> {
        let mut octets = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(1000, 2000, 7, 512)
            .write(&mut octets, payload)
            .unwrap();
        octets
    }

    fn v6(payload: &[u8]) -> Vec<u8> {
        let mut octets = Vec::new();
        PacketBuilder::ipv6([0xfd; 16], [0xfe; 16], 64).udp(1000, 2000).write(&mut octets, payload).unwrap();
        octets
    }

    /// RFC 4301 4.4.1.1: what selectors of types go by; of a Mobility Header the type is its third octet (RFC 6275 6.1.1).
    #[test]
    fn rfc_4301_4_4_1_1_messages_show_their_type_and_code() {
        for (number, expected) in [
            (protocol::ICMPV6, Some((3, 7))),
            (protocol::MOBILITY, Some((5, 0))),
            (protocol::UDP, None),
            (50, None),
        ] {
            let mut octets = v6(b"");
            octets[6] = number;
            octets[40..48].copy_from_slice(&[3, 7, 5, 0, 0, 8, 0, 0]);
            let packet = IpPacket::parse(&octets, Direction::Outbound).unwrap();
            assert_eq!(packet.traffic().icmp, expected, "{number}");
        }
    }

    #[test]
    fn both_directions_of_a_connection_are_one_flow() {
        let there = v4(b"x");
        let mut back = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64)
            .tcp(2000, 1000, 9, 512)
            .write(&mut back, b"")
            .unwrap();
        let outbound = IpPacket::parse(&there, Direction::Outbound).unwrap();
        let inbound = IpPacket::parse(&back, Direction::Inbound).unwrap();
        assert_eq!(outbound.flow(), inbound.flow());
        assert_eq!(outbound.flow().to_string(), "tcp 10.0.0.1:1000-10.0.0.2:2000");
        assert!(matches!(outbound.upper(), Upper::Tcp(TcpSegment { seq: 7, payload_len: 1, .. })));
    }

    #[test]
    fn t02_lengths_that_contradict_the_octets_are_refused_and_tfc_padding_is_cut() {
        let good = v4(b"data");
        for header_len in 0..16u8 {
            let mut octets = good.clone();
            octets[0] = 0x40 | header_len;
            let result = IpPacket::parse(&octets, Direction::Inbound);
            if header_len < 5 {
                assert_eq!(result.unwrap_err(), DropReason::BadIpHeader);
            }
        }
        let total = u16::try_from(good.len()).unwrap();
        for (claimed, ok) in [(0, false), (19, false), (total, true), (total + 1, false)] {
            let mut octets = good.clone();
            octets[2..4].copy_from_slice(&claimed.to_be_bytes());
            assert_eq!(IpPacket::parse(&octets, Direction::Inbound).is_ok(), ok, "total length {claimed}");
        }
        let mut padded = good.clone();
        padded.extend_from_slice(&[0; 100]);
        assert_eq!(IpPacket::parse(&padded, Direction::Inbound).unwrap().octets(), good);
    }

    #[test]
    fn every_truncation_is_a_runt_and_never_a_panic() {
        for good in [v4(b"payload"), v6(b"payload")] {
            for len in 0..good.len() {
                assert!(IpPacket::parse(&good[..len], Direction::Inbound).is_err(), "length {len}");
            }
        }
    }

    #[test]
    fn t15_mapped_addresses_do_not_pass_for_ipv4_ones() {
        let mut octets = Vec::new();
        let source = mapped([10, 0, 0, 1]);
        PacketBuilder::ipv6(source, [0xfe; 16], 64).udp(1, 2).write(&mut octets, b"x").unwrap();
        assert_eq!(IpPacket::parse(&octets, Direction::Inbound).unwrap_err(), DropReason::BadIpHeader);
    }

    /// A chain of `n` destination options of 8 octets each before UDP.
    fn chained(n: usize) -> Vec<u8> {
        let mut octets = v6(b"");
        let udp = octets.split_off(40);
        octets[6] = if n == 0 { protocol::UDP } else { DESTINATION_OPTIONS };
        for left in (0..n).rev() {
            octets.push(if left == 0 { protocol::UDP } else { DESTINATION_OPTIONS });
            octets.extend_from_slice(&[0, 1, 4, 0, 0, 0, 0]);
        }
        octets.extend_from_slice(&udp);
        let len = u16::try_from(octets.len() - 40).unwrap();
        octets[4..6].copy_from_slice(&len.to_be_bytes());
        octets
    }

    #[test]
    fn t21_extension_headers_are_walked_to_a_bound() {
        for n in 0..MAX_EXTENSIONS {
            let octets = chained(n);
            let packet = IpPacket::parse(&octets, Direction::Outbound).unwrap();
            assert_eq!(
                (packet.flow().local_port(), packet.flow().remote_port()),
                (1000, 2000),
                "{n} headers"
            );
        }
        let octets = chained(MAX_EXTENSIONS + 1);
        assert_eq!(IpPacket::parse(&octets, Direction::Outbound).unwrap_err(), DropReason::BadIpHeader);
    }

    #[test]
    fn a_later_fragment_has_no_ports_and_an_atomic_one_is_whole() {
        let mut octets = v4(b"0123456789abcdefghij");
        octets[6..8].copy_from_slice(&0x2000u16.to_be_bytes());
        let first = IpPacket::parse(&octets, Direction::Outbound).unwrap();
        assert!(matches!(first.upper(), Upper::FirstFragment(_)));
        assert_eq!(first.flow().remote_port(), 2000);
        octets[6..8].copy_from_slice(&0x0001u16.to_be_bytes());
        let later = IpPacket::parse(&octets, Direction::Outbound).unwrap();
        assert!(matches!(later.upper(), Upper::LaterFragment(_)));
        assert_eq!(later.flow().remote_port(), 0);
    }
}
