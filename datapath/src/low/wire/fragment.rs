//! A whole packet that may be cut, cut to what its link takes: the kernel does not do that for who writes headers itself.
//! IPv4 by RFC 791 section 3.2, IPv6 by RFC 8200 section 4.5.

use crate::refragment;

/// The fragments of one packet, written one after the other.
pub(super) enum Fragments<'p> {
    V4(refragment::Fragments<'p>),
    V6(Ipv6Fragments<'p>),
}

/// The fragments of an IPv6 packet.
pub(super) struct Ipv6Fragments<'p> {
    /// Headers that each fragment has (RFC 8200 section 4.5).
    front: &'p [u8],
    /// Where in `front` the number of what comes next stands, and what it was.
    next_at: usize,
    next: u8,
    rest: &'p [u8],
    offset: usize,
    step: usize,
    identification: u32,
    done: bool,
}

impl<'p> Fragments<'p> {
    /// Of a packet, for a link of `mtu`. `None` where its sender forbids it, it is a fragment of IPv6 already, or there is no room.
    pub(super) fn of(packet: &'p [u8], mtu: usize, identification: u32) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => refragment::Fragments::of(packet, mtu).map(Self::V4),
            6 => Ipv6Fragments::of(packet, mtu, identification).map(Self::V6),
            _ => None,
        }
    }

    /// Writes the next one to the front of `out` and returns its length. `None` when all are written.
    pub(super) fn write_next(&mut self, out: &mut [u8]) -> Option<usize> {
        match self {
            Self::V4(fragments) => fragments.write_next(out),
            Self::V6(fragments) => fragments.write_next(out),
        }
    }
}

impl<'p> Ipv6Fragments<'p> {
    fn of(packet: &'p [u8], mtu: usize, identification: u32) -> Option<Self> {
        let (front_len, next_at) = unfragmentable(packet)?;
        let (front, mut rest) = packet.split_at_checked(front_len)?;
        let (mut next, mut identification) = (*front.get(next_at)?, identification);
        if next == FRAGMENT {
            // A packet that is whole all the same (RFC 6946): each fragment has that header in its place.
            let (&[behind, _, high, low, a, b, c, d], data) = rest.split_first_chunk()?;
            if u16::from_be_bytes([high, low]) & NOT_ATOMIC != 0 || behind == FRAGMENT {
                return None;
            }
            (next, rest, identification) = (behind, data, u32::from_be_bytes([a, b, c, d]));
        }
        let step = mtu.checked_sub(front_len + FRAGMENT_HEADER_LEN)? & !7;
        if step == 0 {
            return None;
        }
        Some(Self { front, next_at, next, rest, offset: 0, step, identification, done: false })
    }

    fn write_next(&mut self, out: &mut [u8]) -> Option<usize> {
        if self.done {
            return None;
        }
        let end = self.rest.len().min(self.offset + self.step);
        let data = self.rest.get(self.offset..end)?;
        let front_len = self.front.len();
        let len = front_len + FRAGMENT_HEADER_LEN + data.len();
        let (front, behind) = out.get_mut(..len)?.split_at_mut_checked(front_len)?;
        let (fragment, body) = behind.split_at_mut_checked(FRAGMENT_HEADER_LEN)?;
        front.copy_from_slice(self.front);
        *front.get_mut(self.next_at)? = FRAGMENT;
        front.get_mut(4..6)?.copy_from_slice(&u16::try_from(len - 40).ok()?.to_be_bytes());
        let more = u16::from(end < self.rest.len());
        let [high, low] = (u16::try_from(self.offset).ok()? | more).to_be_bytes();
        let [a, b, c, d] = self.identification.to_be_bytes();
        fragment.copy_from_slice(&[self.next, 0, high, low, a, b, c, d]);
        body.copy_from_slice(data);
        (self.offset, self.done) = (end, more == 0);
        Some(len)
    }
}

/// How long the headers are that every fragment has, and where the last of them says what comes next: the IPv6 header,
/// hop-by-hop options, and destination options and a routing header where there is a routing header.
fn unfragmentable(packet: &[u8]) -> Option<(usize, usize)> {
    let (mut len, mut next_at) = (40, 6);
    let (mut at, mut says) = (len, next_at);
    for _ in 0..MAX_EXTENSIONS {
        let kind = *packet.get(says)?;
        if !matches!(kind, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
            break;
        }
        says = at;
        at += (usize::from(*packet.get(at + 1)?) + 1) * 8;
        if kind != DESTINATION_OPTIONS {
            (len, next_at) = (at, says);
        }
    }
    Some((len, next_at))
}

const FRAGMENT_HEADER_LEN: usize = 8;
const NOT_ATOMIC: u16 = 0xfff9;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
const MAX_EXTENSIONS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{IpNumber, Ipv6FragmentHeader, Ipv6Header};

    fn packet(next: u8, extensions: &[u8], data: usize) -> Vec<u8> {
        let header = Ipv6Header {
            payload_length: u16::try_from(extensions.len() + data).unwrap(),
            next_header: IpNumber(next),
            hop_limit: 64,
            ..Ipv6Header::default()
        };
        let mut octets = Vec::new();
        header.write(&mut octets).unwrap();
        octets.extend_from_slice(extensions);
        octets.extend((0..data).map(|n| n as u8));
        octets
    }

    /// Cuts, checks every fragment, and puts together what they carry.
    fn cut(packet: &[u8], front: usize, mtu: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut fragments = Fragments::of(packet, mtu, 4711).unwrap();
        let (mut all, mut data) = (Vec::new(), Vec::new());
        let mut out = vec![0; mtu];
        while let Some(len) = fragments.write_next(&mut out) {
            let one = &out[..len];
            let (header, _) = Ipv6Header::from_slice(one).unwrap();
            assert_eq!(usize::from(header.payload_length), len - 40);
            let (fragment, body) = Ipv6FragmentHeader::from_slice(&one[front..]).unwrap();
            assert_eq!(usize::from(fragment.fragment_offset.byte_offset()), data.len());
            assert_eq!((fragment.identification, fragment.next_header), (4711, IpNumber(50)));
            data.extend_from_slice(body);
            assert_eq!(fragment.more_fragments, front + data.len() < packet.len());
            all.push(one.to_vec());
        }
        (all, data)
    }

    /// RFC 8200 section 4.5: each fragment fits, and together they are the packet.
    #[test]
    fn fragments_fit_and_are_the_packet() {
        for data in [1, 1231, 1232, 1233, 3000, 65_000] {
            let whole = packet(50, &[], data);
            let (all, together) = cut(&whole, 40, 1280);
            assert_eq!(together, whole[40..], "{data}");
            assert_eq!(all.len(), data.div_ceil(1232));
        }
    }

    /// RFC 8200 section 4.5: hop-by-hop options and what belongs to a routing header are in every fragment; destination options
    /// for the end are not.
    #[test]
    fn headers_for_the_way_are_in_every_fragment() {
        let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
        let way = [options(DESTINATION_OPTIONS), options(ROUTING), options(50)].concat();
        let whole = packet(HOP_BY_HOP, &way, 2000);
        let (all, together) = cut(&whole, 64, 1280);
        assert_eq!(together, whole[64..]);
        assert!(
            all.iter()
                .all(|one| one[..4] == whole[..4] && one[56] == FRAGMENT && one[40] == DESTINATION_OPTIONS)
        );

        let end = packet(DESTINATION_OPTIONS, &options(50), 2000);
        let mut fragments = Fragments::of(&end, 1280, 1).unwrap();
        let mut out = [0; 1280];
        fragments.write_next(&mut out).unwrap();
        assert_eq!((out[6], out[40]), (FRAGMENT, DESTINATION_OPTIONS));
    }

    /// RFC 6946: a packet that is whole in spite of its fragment header is cut with that header's identification, and comes out
    /// as it would have without one.
    #[test]
    fn t20_rfc_6946_an_atomic_fragment_is_cut() {
        let atomic = [50, 0, 0, 0, 0, 0, 0x12, 0x67];
        for data in [1231, 1232, 1233, 3000] {
            let whole = packet(FRAGMENT, &atomic, data);
            let mut fragments = Fragments::of(&whole, 1280, 1).unwrap();
            let (mut out, mut together) = (vec![0; 1280], Vec::new());
            while let Some(len) = fragments.write_next(&mut out) {
                let (header, _) = Ipv6Header::from_slice(&out[..len]).unwrap();
                assert_eq!(
                    (header.next_header, usize::from(header.payload_length)),
                    (IpNumber(FRAGMENT), len - 40)
                );
                let (fragment, body) = Ipv6FragmentHeader::from_slice(&out[40..len]).unwrap();
                assert_eq!(usize::from(fragment.fragment_offset.byte_offset()), together.len());
                assert_eq!((fragment.identification, fragment.next_header), (0x1267, IpNumber(50)));
                together.extend_from_slice(body);
                assert_eq!(fragment.more_fragments, together.len() < data);
            }
            assert_eq!(together, whole[48..], "{data}");
        }
    }

    /// T20: no room, a fragment already, headers that lie.
    #[test]
    fn t20_what_cannot_be_cut_is_not() {
        let whole = packet(50, &[], 2000);
        assert!(Fragments::of(&whole, 55, 1).is_none());
        assert!(Fragments::of(&whole, 56, 1).is_some());
        for fragment in
            [[50, 0, 0, 1, 0, 0, 0, 1], [50, 0, 0, 8, 0, 0, 0, 1], [FRAGMENT, 0, 0, 0, 0, 0, 0, 1]]
        {
            assert!(Fragments::of(&packet(FRAGMENT, &fragment, 2000), 1280, 1).is_none());
        }
        assert!(Fragments::of(&packet(FRAGMENT, &[50; 7], 0), 1280, 1).is_none());
        assert!(Fragments::of(&packet(HOP_BY_HOP, &[50, 255], 0), 1280, 1).is_none());
        for len in 0..44 {
            assert!(
                Fragments::of(&packet(HOP_BY_HOP, &[0; 8], 0)[..len.min(41)], 1280, 1).is_none(),
                "{len}"
            );
        }
        assert!(Fragments::of(&[0x50; 60], 1280, 1).is_none());
    }
}
