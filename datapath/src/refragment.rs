//! An IPv4 packet cut into fragments that fit their SA, before they are sealed (RFC 4301 section 8.2.1 case 2, RFC 791
//! section 3.2). The sender allowed it by leaving DF clear; what is a fragment already is cut further.

use crate::checksum::Sum;
use crate::segment::header::DONT_FRAGMENT;

/// The fragments of one packet, written one after the other.
pub(crate) struct Fragments<'p> {
    header: [u8; LONGEST_HEADER],
    header_len: usize,
    data: &'p [u8],
    /// Octets of data in each fragment but the last.
    step: usize,
    /// Where the next one's data begin. `None` when all are written.
    next: Option<usize>,
    /// Where the packet's own data begins in the datagram, and its flags.
    place: u16,
}

impl<'p> Fragments<'p> {
    /// Of an IPv4 packet whose bounds are proven. `None` where DF forbids it, it is not IPv4, or `mtu` has no room for
    /// eight octets of data.
    pub(crate) fn of(packet: &'p [u8], mtu: usize) -> Option<Self> {
        let &[version_ihl, _, _, _, _, _, high, low, ..] = packet else { return None };
        let (header_len, place) = (usize::from(version_ihl & 15) * 4, u16::from_be_bytes([high, low]));
        let step = mtu.checked_sub(header_len)? & !7;
        if version_ihl >> 4 != 4 || place & DONT_FRAGMENT != 0 || step == 0 {
            return None;
        }
        let (from, data) = packet.split_at_checked(header_len)?;
        let mut header = [0; LONGEST_HEADER];
        header.get_mut(..header_len)?.copy_from_slice(from);
        Some(Self { header, header_len, data, step, next: Some(0), place })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.data.len().div_ceil(self.step).max(1)
    }

    /// The length of all but the last, and the last one's.
    pub(crate) fn lens(&self) -> (usize, usize) {
        let last = self.data.len() - self.step * (self.count() - 1);
        (self.header_len + self.step, self.header_len + last)
    }

    /// The next one's length. `None` when all are written.
    fn next_len(&self) -> Option<usize> {
        Some(self.header_len + (self.data.len() - self.next?).min(self.step))
    }

    /// Writes the next one to the front of `out` and returns its length.
    pub(crate) fn write_next(&mut self, out: &mut [u8]) -> Option<usize> {
        let (len, start) = (self.next_len()?, self.next?);
        let end = start + len - self.header_len;
        let offset = (self.place & OFFSET) + u16::try_from(start / 8).ok()?;
        let more = if end < self.data.len() { MORE } else { self.place & MORE };
        let (header, body) = out.get_mut(..len)?.split_at_mut_checked(self.header_len)?;
        body.copy_from_slice(self.data.get(start..end)?);
        header.copy_from_slice(self.header.get(..self.header_len)?);
        header.get_mut(2..4)?.copy_from_slice(&u16::try_from(len).ok()?.to_be_bytes());
        header.get_mut(6..8)?.copy_from_slice(&(offset | more).to_be_bytes());
        header.get_mut(10..12)?.fill(0);
        let checksum = Sum::ZERO.bytes(header).checksum();
        header.get_mut(10..12)?.copy_from_slice(&checksum);
        if start == 0 {
            forget_options(self.header.get_mut(20..self.header_len)?);
        }
        self.next = (end < self.data.len()).then_some(end);
        Some(len)
    }
}

/// Options that are not for every fragment give way to ones that say nothing (RFC 791 section 3.1).
fn forget_options(mut options: &mut [u8]) {
    while let Some(&kind) = options.first() {
        let len = match kind {
            END_OF_OPTIONS => return,
            NO_OPERATION => 1,
            // A length that cannot be is the end of what can be read.
            _ => usize::from(options.get(1).copied().unwrap_or(0)).max(2),
        };
        let Some((option, rest)) = options.split_at_mut_checked(len) else { return };
        if kind & COPIED == 0 {
            option.fill(NO_OPERATION);
        }
        options = rest;
    }
}

const LONGEST_HEADER: usize = 60;
const MORE: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const COPIED: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{IpNumber, Ipv4Header, Ipv4HeaderSlice};

    fn packet(data: usize, options: &[u8]) -> Vec<u8> {
        let mut header =
            Ipv4Header::new(u16::try_from(data).unwrap(), 64, IpNumber::UDP, [10, 0, 0, 1], [10, 0, 0, 2])
                .unwrap();
        header.options = options.try_into().unwrap();
        (header.identification, header.dont_fragment) = (4711, false);
        header.header_checksum = header.calc_header_checksum();
        let mut octets = Vec::new();
        header.write(&mut octets).unwrap();
        octets.extend((0..data).map(|n| n as u8));
        octets
    }

    fn all(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
        let mut fragments = Fragments::of(packet, mtu).unwrap();
        let (mut written, count) = (Vec::new(), fragments.count());
        let mut out = vec![0; mtu];
        let (others, last) = fragments.lens();
        for place in 1..=count {
            let expected = if place == count { last } else { others };
            assert_eq!(fragments.write_next(&mut out), Some(expected));
            written.push(out[..expected].to_vec());
        }
        assert_eq!(fragments.write_next(&mut out), None);
        written
    }

    /// Puts together what the fragments carry, as a receiver would, and checks each header on the way.
    fn reassemble(fragments: &[Vec<u8>], mtu: usize) -> (Vec<u8>, usize, bool) {
        let (mut data, mut start, mut more) = (Vec::new(), None, true);
        for fragment in fragments {
            assert!(fragment.len() <= mtu && more);
            let header = Ipv4HeaderSlice::from_slice(fragment).unwrap().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!((usize::from(header.total_len), header.identification), (fragment.len(), 4711));
            let at = usize::from(header.fragment_offset.byte_offset());
            let start = *start.get_or_insert(at);
            assert_eq!(at - start, data.len());
            more = header.more_fragments;
            data.extend_from_slice(&fragment[header.header_len()..]);
        }
        (data, start.unwrap(), more)
    }

    #[test]
    fn rfc_791_3_2_fragments_carry_exactly_the_packet_at_every_size() {
        for data in 0..200 {
            let whole = packet(data, &[]);
            for mtu in 28..120 {
                assert_eq!(
                    reassemble(&all(&whole, mtu), mtu),
                    (whole[20..].to_vec(), 0, false),
                    "{data} {mtu}"
                );
            }
        }
    }

    #[test]
    fn rfc_791_3_2_a_fragment_is_cut_further_and_keeps_its_place() {
        let mut middle = packet(160, &[]);
        middle[6..8].copy_from_slice(&(MORE | 50).to_be_bytes());
        assert_eq!(reassemble(&all(&middle, 100), 100), (middle[20..].to_vec(), 400, true));
        middle[6..8].copy_from_slice(&50u16.to_be_bytes());
        assert_eq!(reassemble(&all(&middle, 100), 100), (middle[20..].to_vec(), 400, false));
    }

    #[test]
    fn rfc_791_3_1_only_copied_options_are_in_later_fragments() {
        // Record route, not copied; then a router alert, copied; then padding.
        let options = [7, 7, 4, 0, 0, 0, 0, 0x94, 4, 0, 0, 0];
        let fragments = all(&packet(100, &options), 80);
        assert_eq!(fragments[0][20..32], options);
        assert_eq!(fragments[1][20..32], [1, 1, 1, 1, 1, 1, 1, 0x94, 4, 0, 0, 0]);
        // Options that cannot be read are left as they are.
        let broken = [7, 200, 4, 0];
        assert_eq!(all(&packet(100, &broken), 80)[1][20..24], broken);
        assert_eq!(all(&packet(100, &[9, 0, 0, 0]), 80)[1][20..24], [1, 1, 0, 0]);
    }

    #[test]
    fn rfc_791_3_2_df_forbids_fragments_and_ipv6_has_none_of_these() {
        let mut octets = packet(100, &[]);
        octets[6] = 0x40;
        assert!(Fragments::of(&octets, 80).is_none());
        octets[6] = 0;
        assert!(Fragments::of(&octets, 27).is_none(), "no room for data");
        octets[0] = 0x65;
        assert!(Fragments::of(&octets, 80).is_none());
        assert!(Fragments::of(&[], 80).is_none());
    }
}
