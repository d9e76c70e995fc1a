//! What the coalescer sees in one packet: whether it could be merged at all, and with which flow.

use zerocopy::FromBytes;

use crate::coalesce::Offloads;
use crate::segment::header::{ACK, Ipv4, Ipv6, Layout, PSH, Tcp, Udp, Upper, Version};

/// One packet that may be merged with its neighbours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) flow: FlowKey,
    pub(super) layout: Layout,
    pub(super) payload_len: usize,
    /// TCP: where its data stands (RFC 9293 section 3.4).
    pub(super) seq: u32,
    /// TCP: pushed data ends its unit.
    pub(super) push: bool,
}

/// The 5-tuple.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FlowKey {
    source: u128,
    destination: u128,
    ports: u32,
    protocol: u8,
    version: u8,
}

/// What a packet is to the coalescer.
#[derive(Debug)]
pub(super) enum Sight {
    /// It may be merged.
    Mergeable(Candidate),
    /// It goes alone, after what its flow has open; None: after everything, as its flow is not known.
    Alone(Option<FlowKey>),
}

impl Candidate {
    /// Only packets whose checksum verifies are merged: merging writes a new checksum over the old one, and a damaged
    /// packet must stay recognisable for the receiver (RFC 9293 section 3.1, RFC 1122 section 4.1.3.4).
    #[inline]
    pub(super) fn look(bytes: &[u8], offloads: Offloads) -> Sight {
        if offloads == Offloads::NONE {
            return Sight::Alone(None);
        }
        let Ok(layout) = Layout::parse(bytes) else { return Sight::Alone(None) };
        let Some(flow) = FlowKey::of(bytes, &layout) else { return Sight::Alone(None) };
        let payload_len = bytes.len() - layout.header_len;
        let upper = bytes.get(layout.upper_start..).unwrap_or_default();
        let seen = match layout.upper {
            Upper::Tcp => offloads.tcp.then(|| tcp_seen(upper)).flatten(),
            Upper::Udp => offloads.udp.then(|| udp_seen(upper)).flatten(),
        };
        match seen {
            Some((seq, push))
                if payload_len > 0 && !has_ip_options(&layout) && is_intact(bytes, upper, &layout) =>
            {
                Sight::Mergeable(Candidate { flow, layout, payload_len, seq, push })
            }
            _ => Sight::Alone(Some(flow)),
        }
    }
}

impl FlowKey {
    #[inline]
    fn of(bytes: &[u8], layout: &Layout) -> Option<FlowKey> {
        let ports = u32::from_ne_bytes(*bytes.get(layout.upper_start..)?.first_chunk()?);
        let protocol = layout.upper.protocol();
        Some(match layout.version {
            Version::V4 => {
                let (ip, _) = Ipv4::ref_from_prefix(bytes).ok()?;
                let source = u128::from(u32::from_ne_bytes(ip.source));
                let destination = u128::from(u32::from_ne_bytes(ip.destination));
                FlowKey { source, destination, ports, protocol, version: 4 }
            }
            Version::V6 => {
                let (ip, _) = Ipv6::ref_from_prefix(bytes).ok()?;
                let source = u128::from_ne_bytes(ip.source);
                let destination = u128::from_ne_bytes(ip.destination);
                FlowKey { source, destination, ports, protocol, version: 6 }
            }
        })
    }
}

/// Plain data: nothing but ACK and PSH set, nothing reserved, nothing urgent.
#[inline]
fn tcp_seen(upper: &[u8]) -> Option<(u32, bool)> {
    let (tcp, _) = Tcp::ref_from_prefix(upper).ok()?;
    let plain = tcp.flags & !PSH == ACK && tcp.offset_reserved & 0x0f == 0 && tcp.urgent.get() == 0;
    plain.then_some((tcp.seq.get(), tcp.flags & PSH != 0))
}

/// A datagram that fills its packet and has a checksum: one without must not gain one (RFC 768).
#[inline]
fn udp_seen(upper: &[u8]) -> Option<(u32, bool)> {
    let (udp, _) = Udp::ref_from_prefix(upper).ok()?;
    (udp.checksum != [0, 0] && usize::from(udp.len.get()) == upper.len()).then_some((0, false))
}

#[inline]
fn has_ip_options(layout: &Layout) -> bool {
    layout.version == Version::V4 && layout.upper_start != size_of::<Ipv4>()
}

#[inline]
fn is_intact(bytes: &[u8], upper: &[u8], layout: &Layout) -> bool {
    // The IPv4 header's own checksum is rewritten too, so it must be right before.
    let ip_intact = layout.version == Version::V6
        || bytes.get(..layout.upper_start).is_some_and(|ip| crate::checksum::Sum::ZERO.bytes(ip).is_intact());
    let upper_len = u16::try_from(upper.len()).unwrap_or(u16::MAX);
    ip_intact && layout.pseudo_sum(bytes).u16(upper_len).bytes(upper).is_intact()
}
