//! Where the protection header stands in an IP packet: where transport mode puts it (RFC 4303 section 3.1.1, RFC 4302
//! section 3.1.1), and where a received packet has it.

use latchway_esp::Protocol;

use crate::checksum::Sum;
use crate::drop::DropReason;
use crate::flow::protocol;

/// A place between two headers of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// How many octets are in front of it.
    pub(crate) at: usize,
    /// Which of them says what follows.
    pub(crate) next_header_at: usize,
    /// What follows.
    pub(crate) next_header: u8,
}

/// The protection header of a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) protocol: Protocol,
    pub(crate) place: Place,
    /// The length of the whole packet, as its header says.
    pub(crate) len: usize,
}

impl Place {
    /// Where transport mode protects an outbound packet whose bounds are proven: behind the IPv4 header with its options,
    /// or behind those IPv6 extension headers that routers look at. Destination options stand in front only where a routing
    /// header makes them every stop's; as the last stop's they are protected.
    ///
    /// # Errors
    /// [`DropReason::TransportFragment`]: transport mode is for whole packets (RFC 4303 section 3.3.4).
    pub(crate) fn for_protection(packet: &[u8]) -> Result<Self, DropReason> {
        let mut walk = Walk::new(packet, DropReason::TransportFragment)?;
        let mut settled = walk.place;
        while let Some(header) = walk.next()? {
            if header != DESTINATION_OPTIONS {
                settled = walk.place;
            }
        }
        Ok(settled)
    }
}

impl Found {
    /// Finds the protection header of a received IP packet. It is behind all that a router or the receiver reads first.
    ///
    /// # Errors
    /// [`DropReason::Fragment`], [`DropReason::Runt`] or [`DropReason::BadIpHeader`].
    pub(crate) fn in_packet(packet: &[u8]) -> Result<Self, DropReason> {
        let len = length(packet)?;
        let packet = packet.get(..len).ok_or(DropReason::Runt)?;
        let mut walk = Walk::new(packet, DropReason::Fragment)?;
        while walk.next()?.is_some() {}
        let protocol = Protocol::from_number(walk.place.next_header).ok_or(DropReason::BadIpHeader)?;
        Ok(Self { protocol, place: walk.place, len })
    }
}

/// Makes the checksum of a TCP segment, UDP datagram or ICMPv6 message anew for other `addresses` than those that its sender
/// summed: it came through a NAT (RFC 3948 section 3.1.2). `payload` is what the IP header carries, which was authenticated.
/// A UDP checksum that is left out stays so, and whatever cannot be made right is left alone.
pub(crate) fn recompute_checksum(addresses: Sum, is_v6: bool, next_header: u8, payload: &mut [u8]) {
    let upper = if is_v6 { upper_of_v6(next_header, payload) } else { Some((next_header, 0)) };
    let Some((upper, at)) = upper else { return };
    let Some(rest) = payload.get_mut(at..) else { return };
    let (field_at, len) = match upper {
        protocol::TCP if rest.len() >= TCP_LEN => (16, rest.len()),
        // What follows the datagram is padding (RFC 4303 section 2.7).
        protocol::UDP => (
            6,
            rest.get(4..6).map_or(0, |len| len.iter().fold(0, |len, &octet| len << 8 | usize::from(octet))),
        ),
        // Its checksum is over the addresses, too (RFC 4443 section 2.3), which that of ICMP is not.
        protocol::ICMPV6 if is_v6 => (2, rest.len()),
        _ => return,
    };
    let Some((covered, len)) = rest.get_mut(..len).zip(u16::try_from(len).ok()) else { return };
    let Some(field) = covered.get_mut(field_at..field_at + 2) else { return };
    if upper == protocol::UDP && *field == [0, 0] {
        return;
    }
    field.fill(0);
    let sum = addresses.u16(upper.into()).u16(len).bytes(covered);
    let checksum = if upper == protocol::UDP { sum.udp_checksum() } else { sum.checksum() };
    if let Some(field) = covered.get_mut(field_at..field_at + 2) {
        field.copy_from_slice(&checksum);
    }
}

/// The upper layer of what an IPv6 header carries, and where it begins. `None` of a part of a datagram, and where its checksum
/// is over another destination than the header's (RFC 8200 section 8.1).
fn upper_of_v6(mut next: u8, payload: &[u8]) -> Option<(u8, usize)> {
    let mut at = 0;
    for _ in 0..=MAX_EXTENSIONS {
        let len = match (next, payload.get(at..)?) {
            (ROUTING, [_, _, _, segments_left, ..]) if *segments_left > 0 => return None,
            (FRAGMENT, [_, _, high, low, ..]) => {
                let is_whole = u16::from_be_bytes([*high, *low]) & NOT_ATOMIC == 0;
                is_whole.then_some(8)?
            }
            (HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS, [_, units, ..]) => (usize::from(*units) + 1) * 8,
            (HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | FRAGMENT, _) => return None,
            _ => return Some((next, at)),
        };
        (next, at) = (*payload.get(at)?, at + len);
    }
    None
}

/// The length of a packet, as its header says.
pub(crate) fn length(packet: &[u8]) -> Result<usize, DropReason> {
    match *packet {
        [first, _, high, low, ..] if first >> 4 == 4 => Ok(usize::from(u16::from_be_bytes([high, low]))),
        [first, _, _, _, high, low, ..] if first >> 4 == 6 => {
            Ok(IPV6_LEN + usize::from(u16::from_be_bytes([high, low])))
        }
        [first, ..] if matches!(first >> 4, 4 | 6) => Err(DropReason::Runt),
        [] => Err(DropReason::Runt),
        _ => Err(DropReason::BadIpHeader),
    }
}

/// A walk over the headers in front of the upper layer.
struct Walk<'p> {
    packet: &'p [u8],
    place: Place,
    left: usize,
    fragment: DropReason,
}

impl<'p> Walk<'p> {
    /// Begins behind the IP header itself. A fragment is dropped for `fragment`.
    fn new(packet: &'p [u8], fragment: DropReason) -> Result<Self, DropReason> {
        match packet.first().ok_or(DropReason::Runt)? >> 4 {
            4 => {
                let header = packet.first_chunk::<20>().ok_or(DropReason::Runt)?;
                let at = usize::from(header[0] & 15) * 4;
                if at < header.len() {
                    return Err(DropReason::BadIpHeader);
                }
                if at > packet.len() {
                    return Err(DropReason::Runt);
                }
                if u16::from_be_bytes([header[6], header[7]]) & MORE_OR_OFFSET != 0 {
                    return Err(fragment);
                }
                // All of its options belong to the header, so there is nothing to walk over.
                let place = Place { at, next_header_at: 9, next_header: header[9] };
                Ok(Self { packet, place, left: 0, fragment })
            }
            6 => {
                let header = packet.first_chunk::<IPV6_LEN>().ok_or(DropReason::Runt)?;
                let place = Place { at: IPV6_LEN, next_header_at: 6, next_header: header[6] };
                Ok(Self { packet, place, left: MAX_EXTENSIONS, fragment })
            }
            _ => Err(DropReason::BadIpHeader),
        }
    }

    /// Goes over the next extension header, and tells which it was (T21: a bounded number of them).
    fn next(&mut self) -> Result<Option<u8>, DropReason> {
        let header = self.place.next_header;
        if !matches!(header, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) || self.is_v4() {
            return Ok(None);
        }
        self.left = self.left.checked_sub(1).ok_or(DropReason::BadIpHeader)?;
        let rest = self.packet.get(self.place.at..).ok_or(DropReason::Runt)?;
        let &[next_header, units, high, low, ..] = rest else { return Err(DropReason::Runt) };
        let len = match header {
            // One that is whole all the same stays (RFC 6946).
            FRAGMENT if u16::from_be_bytes([high, low]) & NOT_ATOMIC != 0 => return Err(self.fragment),
            FRAGMENT => 8,
            _ => (usize::from(units) + 1) * 8,
        };
        if len > rest.len() {
            return Err(DropReason::Runt);
        }
        self.place = Place { at: self.place.at + len, next_header_at: self.place.at, next_header };
        Ok(Some(header))
    }

    fn is_v4(&self) -> bool {
        self.packet.first().is_some_and(|first| first >> 4 == 4)
    }
}

const IPV6_LEN: usize = 40;
const TCP_LEN: usize = 20;
const MAX_EXTENSIONS: usize = 8;

const MORE_OR_OFFSET: u16 = 0x3fff;
const NOT_ATOMIC: u16 = 0xfff9;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv6 packet of extension headers of 8 octets each, then the upper layer.
    fn chain(headers: &[u8], upper: u8) -> Vec<u8> {
        let mut octets = vec![0; IPV6_LEN];
        octets[0] = 0x60;
        let mut order = headers.iter().copied().chain([upper]);
        octets[6] = order.next().unwrap();
        for next in order {
            octets.extend_from_slice(&[next, 0, 0, 0, 0, 0, 0, 0]);
        }
        octets.extend_from_slice(&[7; 16]);
        let len = u16::try_from(octets.len() - IPV6_LEN).unwrap();
        octets[4..6].copy_from_slice(&len.to_be_bytes());
        octets
    }

    fn v4(options: usize, protocol: u8) -> Vec<u8> {
        let mut octets = vec![0; 20 + options + 16];
        octets[0] = 0x45 + u8::try_from(options / 4).unwrap();
        let len = u16::try_from(octets.len()).unwrap();
        octets[2..4].copy_from_slice(&len.to_be_bytes());
        octets[9] = protocol;
        octets
    }

    /// RFC 4303 section 3.1.1 and RFC 4302 section 3.1.1, the order in the figures for IPv6.
    #[test]
    fn t21_rfc_4303_3_1_1_protection_stands_behind_what_is_read_on_the_way() {
        for (headers, behind) in [
            (&[][..], 0),
            (&[HOP_BY_HOP], 1),
            (&[HOP_BY_HOP, ROUTING, FRAGMENT], 3),
            (&[DESTINATION_OPTIONS], 0),
            (&[HOP_BY_HOP, DESTINATION_OPTIONS, ROUTING], 3),
            (&[HOP_BY_HOP, DESTINATION_OPTIONS, ROUTING, FRAGMENT, DESTINATION_OPTIONS], 4),
        ] {
            let place = Place::for_protection(&chain(headers, 6)).unwrap();
            assert_eq!(place.at, IPV6_LEN + 8 * behind, "{headers:?}");
            assert_eq!(place.next_header, headers.get(behind).copied().unwrap_or(6), "{headers:?}");
            let says = if behind == 0 { 6 } else { IPV6_LEN + 8 * (behind - 1) };
            assert_eq!(place.next_header_at, says, "{headers:?}");
        }
        for options in [0, 4, 40] {
            let place = Place::for_protection(&v4(options, 17)).unwrap();
            assert_eq!(place, Place { at: 20 + options, next_header_at: 9, next_header: 17 });
        }
    }

    /// A payload under these addresses with a checksum of 1, which nothing has, at `at`.
    fn unsummed(upper: u8, at: usize, len: usize) -> Vec<u8> {
        let mut octets: Vec<u8> = (0..len).map(|n| n as u8).collect();
        octets[at..at + 2].copy_from_slice(&[0, 1]);
        if upper == protocol::UDP {
            octets[4..6].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        }
        octets
    }

    fn options(next: u8, units: u8) -> Vec<u8> {
        let mut octets = vec![1; 8 + 8 * usize::from(units)];
        octets[..4].copy_from_slice(&[next, units, 0, 0]);
        octets
    }

    fn addresses(is_v6: bool) -> Sum {
        if is_v6 {
            Sum::pseudo_v6([1; 16].into(), [2; 16].into(), 0)
        } else {
            Sum::pseudo_v4([1; 4].into(), [2; 4].into(), 0)
        }
    }

    /// RFC 3948 section 3.1.2, RFC 4443 section 2.3: of every upper layer whose checksum is over the addresses, behind whatever
    /// stands before it.
    #[test]
    fn rfc_3948_3_1_2_checksums_are_made_right_wherever_the_upper_layer_is() {
        let fronts = [
            vec![],
            vec![(DESTINATION_OPTIONS, 0)],
            vec![(DESTINATION_OPTIONS, 3)],
            vec![(HOP_BY_HOP, 1), (ROUTING, 0), (FRAGMENT, 0), (DESTINATION_OPTIONS, 0)],
        ];
        for (upper, at) in [(protocol::TCP, 16), (protocol::UDP, 6), (protocol::ICMPV6, 2)] {
            for is_v6 in [false, true] {
                for front in fronts.iter().filter(|front| is_v6 || front.is_empty()) {
                    for len in [20, 21, 64, 1001] {
                        let whole = unsummed(upper, at, len);
                        let nexts = front.iter().map(|(kind, _)| *kind).chain([upper]).collect::<Vec<_>>();
                        let mut payload: Vec<u8> = front
                            .iter()
                            .zip(&nexts[1..])
                            .flat_map(|((_, units), next)| options(*next, *units))
                            .collect();
                        let front_len = payload.len();
                        payload.extend(&whole);
                        let before = payload.clone();
                        recompute_checksum(addresses(is_v6), is_v6, nexts[0], &mut payload);
                        if upper == protocol::ICMPV6 && !is_v6 {
                            assert_eq!(payload, before);
                            continue;
                        }
                        assert_eq!(payload[..front_len], before[..front_len]);
                        let sum =
                            addresses(is_v6).u16(upper.into()).u16(len as u16).bytes(&payload[front_len..]);
                        assert!(sum.is_intact(), "{upper} {is_v6} {front:?} {len}");
                    }
                }
            }
        }
    }

    /// RFC 4303 section 2.7: a datagram is as long as it says, whatever padding follows it.
    #[test]
    fn rfc_4303_2_7_padding_is_no_part_of_a_datagram() {
        for is_v6 in [false, true] {
            for padding in [1, 2, 700] {
                let mut payload = unsummed(protocol::UDP, 6, 101);
                payload.resize(101 + padding, 0xee);
                recompute_checksum(addresses(is_v6), is_v6, protocol::UDP, &mut payload);
                let sum = addresses(is_v6).u16(protocol::UDP.into()).u16(101).bytes(&payload[..101]);
                assert!(sum.is_intact(), "{padding}");
                assert!(payload[101..].iter().all(|octet| *octet == 0xee));
            }
        }
    }

    /// RFC 3948 section 3.1.2: what was left out, what cannot be told and what is no checksum over addresses stays as it was.
    #[test]
    fn t02_rfc_3948_3_1_2_what_cannot_be_made_right_is_left_alone() {
        let udp = unsummed(protocol::UDP, 6, 30);
        let says = |len: u16| {
            let mut octets = udp.clone();
            octets[4..6].copy_from_slice(&len.to_be_bytes());
            octets
        };
        let mut without = udp.clone();
        without[6..8].fill(0);
        let behind = |mut front: Vec<u8>, at: usize, value: u8| {
            front[at] = value;
            [front, udp.clone()].concat()
        };
        let left_alone = [
            (protocol::UDP, without),
            (protocol::UDP, says(31)),
            (protocol::UDP, says(7)),
            (protocol::UDP, says(0)),
            (protocol::UDP, udp[..7].to_vec()),
            (protocol::TCP, vec![1; 19]),
            (protocol::ICMPV6, vec![1; 3]),
            (132, vec![1; 64]),
            // Its last stop is not where it is now.
            (ROUTING, behind(options(protocol::UDP, 2), 3, 1)),
            // A part of a datagram.
            (FRAGMENT, behind(options(protocol::UDP, 0), 3, 1)),
            (DESTINATION_OPTIONS, behind(options(protocol::UDP, 0), 1, 200)),
            (DESTINATION_OPTIONS, vec![protocol::UDP]),
            (DESTINATION_OPTIONS, options(DESTINATION_OPTIONS, 0).repeat(20)),
        ];
        for (next, payload) in left_alone {
            let mut after = payload.clone();
            recompute_checksum(addresses(true), true, next, &mut after);
            assert_eq!(after, payload, "{next}");
        }
        let options = [options(protocol::UDP, 0), udp].concat();
        let mut after = options.clone();
        recompute_checksum(addresses(false), false, DESTINATION_OPTIONS, &mut after);
        assert_eq!(after, options, "in IPv4 it is a protocol like others");
    }

    /// T21: the header is found behind any of them, and no chain is walked for ever.
    #[test]
    fn t21_a_received_header_is_found_behind_any_extension() {
        for (number, protocol) in [(50, Protocol::Esp), (51, Protocol::Ah)] {
            for headers in [
                &[][..],
                &[HOP_BY_HOP, DESTINATION_OPTIONS, ROUTING, FRAGMENT, DESTINATION_OPTIONS],
                &[DESTINATION_OPTIONS; MAX_EXTENSIONS],
            ] {
                let mut octets = chain(headers, number);
                let found = Found::in_packet(&octets).unwrap();
                assert_eq!((found.protocol, found.place.at), (protocol, IPV6_LEN + 8 * headers.len()));
                octets.extend_from_slice(&[0; 9]);
                assert_eq!(Found::in_packet(&octets).unwrap(), found, "what follows is no part of it");
                for len in 0..octets.len() - 9 {
                    assert!(Found::in_packet(&octets[..len]).is_err(), "cut to {len}");
                }
            }
            assert_eq!(Found::in_packet(&v4(8, number)).unwrap().place.at, 28);
        }
        let long = chain(&[DESTINATION_OPTIONS; MAX_EXTENSIONS + 1], 50);
        assert_eq!(Found::in_packet(&long), Err(DropReason::BadIpHeader));
        assert_eq!(Found::in_packet(&v4(0, 17)), Err(DropReason::BadIpHeader));
        // The numbers of IPv6 extension headers are protocols like others in IPv4.
        assert_eq!(Found::in_packet(&v4(0, 60)), Err(DropReason::BadIpHeader));
    }

    #[test]
    fn t20_rfc_4303_3_3_4_fragments_are_told_by_name() {
        for flags in [0x2000u16, 0x0001, 0x3fff] {
            let mut octets = v4(0, 50);
            octets[6..8].copy_from_slice(&flags.to_be_bytes());
            assert_eq!(Found::in_packet(&octets), Err(DropReason::Fragment));
            assert_eq!(Place::for_protection(&octets), Err(DropReason::TransportFragment));
        }
        for flags in [0x0001u16, 0x0008, 0xfff8] {
            let mut octets = chain(&[FRAGMENT], 50);
            octets[42..44].copy_from_slice(&flags.to_be_bytes());
            assert_eq!(Found::in_packet(&octets), Err(DropReason::Fragment));
            assert_eq!(Place::for_protection(&octets), Err(DropReason::TransportFragment));
        }
    }

    #[test]
    fn t02_header_lengths_that_contradict_the_octets_are_refused() {
        for (first, expected) in
            [(0x40, DropReason::BadIpHeader), (0x44, DropReason::BadIpHeader), (0x4f, DropReason::Runt)]
        {
            let mut octets = v4(0, 50);
            octets[0] = first;
            assert_eq!(Found::in_packet(&octets), Err(expected), "{first:#x}");
        }
        for total in [0u16, 19] {
            let mut octets = v4(0, 50);
            octets[2..4].copy_from_slice(&total.to_be_bytes());
            assert_eq!(Found::in_packet(&octets), Err(DropReason::Runt), "{total}");
        }
        assert_eq!(Found::in_packet(&[0x50; 60]), Err(DropReason::BadIpHeader));
    }
}
