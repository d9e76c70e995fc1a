//! IP headers that the gateway writes itself, where packets travel without UDP (RFC 791, RFC 8200), and the two fields of
//! them that no packet gives: an identification and a flow label.

use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};

use foldhash::fast::RandomState;
use zerocopy::{BE, FromBytes, U16, U32};

use crate::checksum::Sum;
use crate::flow::FlowKey;
use crate::outer::{FlowLabel, has_df};
use crate::segment::header::{Ipv4, Ipv6};

/// The fields of an outer header that are the same for all packets of one super-packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OuterHeader {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) traffic_class: u8,
    pub(crate) may_fragment: bool,
    pub(crate) ttl: u8,
    pub(crate) flow_label: u32,
}

/// Gives out identifications, and labels for flows. One for each worker.
#[derive(Debug)]
pub(crate) struct HeaderSource {
    next_id: u16,
    labels: RandomState,
}

/// Octets of the outer header towards an address.
pub(crate) const fn header_len(to: &SocketAddr) -> usize {
    if to.is_ipv4() { IPV4_LEN } else { IPV6_LEN }
}

impl OuterHeader {
    /// Writes the header in front of what is in `packet` behind it, which is of `protocol`. `None` where both ends are not of
    /// one family, or the packet is longer than its header can say.
    pub(crate) fn write(&self, packet: &mut [u8], protocol: u8, source: &mut HeaderSource) -> Option<()> {
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let header = Ipv4 {
                    version_ihl: 0x45,
                    tos: self.traffic_class,
                    total_len: U16::new(u16::try_from(packet.len()).ok()?),
                    id: U16::new(source.next_id()),
                    fragment: U16::new(if self.may_fragment { 0 } else { DONT_FRAGMENT }),
                    ttl: self.ttl,
                    protocol,
                    checksum: [0; 2],
                    source: from.octets(),
                    destination: to.octets(),
                };
                let (place, _) = Ipv4::mut_from_prefix(packet).ok()?;
                *place = header;
                set_checksum(packet.get_mut(..IPV4_LEN)?)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let label = U32::<BE>::new(
                    6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & FLOW_LABEL,
                );
                let payload_len = packet.len().checked_sub(IPV6_LEN)?;
                let (place, _) = Ipv6::mut_from_prefix(packet).ok()?;
                *place = Ipv6 {
                    version_class_label: label,
                    payload_len: U16::new(u16::try_from(payload_len).ok()?),
                    next_header: protocol,
                    hop_limit: self.ttl,
                    source: from.octets(),
                    destination: to.octets(),
                };
                Some(())
            }
            _ => None,
        }
    }
}

impl HeaderSource {
    pub(crate) fn new() -> Self {
        let labels = RandomState::default();
        Self { next_id: labels.hash_one("identification") as u16, labels }
    }

    /// The identification of the next IPv4 packet: it comes again only after 65,534 others (RFC 6864 section 4.3), and is
    /// never 0, for which some systems put one of their own.
    fn next_id(&mut self) -> u16 {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.next_id
    }

    /// Gives an IPv4 packet that may be cut on its way an identification, if it has none. Else the system would, after AH has
    /// covered the header, and to each fragment another (raw(7)). The checksum is the caller's.
    pub(crate) fn identify(&mut self, packet: &mut [u8]) {
        let is_v4 = packet.first().is_some_and(|first| first >> 4 == 4);
        if is_v4
            && !has_df(packet)
            && let Some(id) = packet.get_mut(4..6)
            && *id == [0, 0]
        {
            id.copy_from_slice(&self.next_id().to_be_bytes());
        }
    }

    /// The flow label of the outer header around a packet (RFC 6437 section 3: nobody outside can guess it).
    pub(crate) fn label(&self, how: FlowLabel, packet: &[u8], flow: &FlowKey) -> u32 {
        match how {
            FlowLabel::Zero => 0,
            FlowLabel::Copy => match *packet {
                [first, second, a, b, ..] if first >> 4 == 6 => {
                    u32::from_be_bytes([0, second, a, b]) & FLOW_LABEL
                }
                _ => 0,
            },
            FlowLabel::Hash => self.labels.hash_one(flow) as u32 & FLOW_LABEL,
        }
    }
}

/// Says in a header that was another packet's what follows it now, and how long the packet is. `None` where it is longer
/// than a header can say, or none.
pub(crate) fn amend(packet: &mut [u8], (next_header_at, next_header): (usize, u8)) -> Option<()> {
    *packet.get_mut(next_header_at)? = next_header;
    let len = packet.len();
    match *packet {
        [first, ..] if first >> 4 == 4 => {
            let total = u16::try_from(len).ok()?.to_be_bytes();
            packet.get_mut(2..4)?.copy_from_slice(&total);
            set_checksum(packet.get_mut(..usize::from(first & 15) * 4)?)
        }
        _ => {
            let payload = u16::try_from(len.checked_sub(IPV6_LEN)?).ok()?.to_be_bytes();
            packet.get_mut(4..6)?.copy_from_slice(&payload);
            Some(())
        }
    }
}

fn set_checksum(header: &mut [u8]) -> Option<()> {
    header.get_mut(10..12)?.fill(0);
    let checksum = Sum::ZERO.bytes(header).checksum();
    header.get_mut(10..12)?.copy_from_slice(&checksum);
    Some(())
}

pub(crate) const IPV4_LEN: usize = size_of::<Ipv4>();
pub(crate) const IPV6_LEN: usize = size_of::<Ipv6>();

const DONT_FRAGMENT: u16 = 0x4000;
const FLOW_LABEL: u32 = 0xf_ffff;

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};

    fn header(v6: bool) -> OuterHeader {
        let [from, to]: [IpAddr; 2] =
            if v6 { ["2001:db8::1", "2001:db8::2"] } else { ["192.0.2.1", "192.0.2.2"] }
                .map(|address| address.parse().unwrap());
        OuterHeader { from, to, traffic_class: 0xb9, may_fragment: false, ttl: 64, flow_label: 0xfed_cba9 }
    }

    #[test]
    fn rfc_791_3_1_the_header_says_what_it_was_told() {
        let (mut packet, mut source) = (vec![0xee; 120], HeaderSource::new());
        header(false).write(&mut packet, 50, &mut source).unwrap();
        let parsed = Ipv4HeaderSlice::from_slice(&packet).unwrap().to_header();
        assert_eq!(parsed.header_checksum, parsed.calc_header_checksum());
        assert_eq!((parsed.total_len, parsed.protocol.0, parsed.time_to_live), (120, 50, 64));
        assert_eq!((packet[1], parsed.dont_fragment, parsed.more_fragments), (0xb9, true, false));
        assert_eq!((parsed.source, parsed.destination), ([192, 0, 2, 1], [192, 0, 2, 2]));
        assert_eq!(packet[20..], [0xee; 100], "what follows is not touched");
        let fragmentable = OuterHeader { may_fragment: true, ..header(false) };
        fragmentable.write(&mut packet, 51, &mut source).unwrap();
        assert_eq!((packet[6], packet[7], packet[9]), (0, 0, 51));
    }

    #[test]
    fn rfc_8200_3_the_header_says_what_it_was_told() {
        let (mut packet, mut source) = (vec![0xee; 120], HeaderSource::new());
        header(true).write(&mut packet, 50, &mut source).unwrap();
        let parsed = Ipv6HeaderSlice::from_slice(&packet).unwrap().to_header();
        assert_eq!((parsed.payload_length, parsed.next_header.0, parsed.hop_limit), (80, 50, 64));
        assert_eq!((parsed.traffic_class, parsed.flow_label.value()), (0xb9, 0xd_cba9));
        assert_eq!(packet[40..], [0xee; 80], "what follows is not touched");
    }

    #[test]
    fn what_no_header_can_say_is_not_written() {
        let mut source = HeaderSource::new();
        assert_eq!(header(false).write(&mut vec![0; 65_536], 50, &mut source), None);
        assert_eq!(header(true).write(&mut vec![0; 65_576], 50, &mut source), None);
        assert_eq!(header(false).write(&mut [0; 19], 50, &mut source), None);
        assert_eq!(header(true).write(&mut [0; 39], 50, &mut source), None);
        let mixed = OuterHeader { to: header(true).to, ..header(false) };
        assert_eq!(mixed.write(&mut [0; 100], 50, &mut source), None);
    }

    /// RFC 6864 section 4.3.
    #[test]
    fn identifications_are_never_zero_and_come_again_as_late_as_they_can() {
        let mut source = HeaderSource::new();
        let mut seen = vec![false; 1 << 16];
        for _ in 0..65_535 {
            let id = source.next_id();
            assert!(id != 0 && !std::mem::replace(&mut seen[usize::from(id)], true));
        }
    }

    /// RFC 6438 section 3.
    #[test]
    fn rfc_6438_labels_are_zero_the_inner_one_or_the_flows() {
        let source = HeaderSource::new();
        let flow = |port| FlowKey::new(17, ([10, 0, 0, 1], port).into(), ([10, 0, 0, 2], 9).into());
        let inner = [0x60, 0x0f, 0xed, 0xcb];
        assert_eq!(source.label(FlowLabel::Zero, &inner, &flow(1)), 0);
        assert_eq!(source.label(FlowLabel::Copy, &inner, &flow(1)), 0xf_edcb);
        assert_eq!(source.label(FlowLabel::Copy, &[0x45, 0, 0, 20], &flow(1)), 0);
        let labels: Vec<u32> =
            (0..64).map(|port| source.label(FlowLabel::Hash, &inner, &flow(port))).collect();
        assert_eq!(labels[7], source.label(FlowLabel::Hash, &[], &flow(7)));
        assert!(labels.iter().collect::<std::collections::HashSet<_>>().len() > 32);
    }
}
