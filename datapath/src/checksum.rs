//! The Internet checksum (RFC 1071), summed in native byte order.
//!
//! A [`Sum`] is kept unfolded in 64 bits: packets are at most 64 KiB, so it cannot overflow, and the words may be added
//! in any order and any width that is a multiple of 16 bits (RFC 1071 section 2). Everything added begins at an even
//! offset of what is summed.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A running one's complement sum (RFC 1071).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum(u64);

impl Sum {
    /// The empty sum.
    pub(crate) const ZERO: Sum = Sum(0);

    /// The pseudo-header of RFC 9293 section 3.1 and RFC 768, without the length.
    pub(crate) fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> Sum {
        Sum::ZERO.u32(source.to_bits()).u32(destination.to_bits()).u16(u16::from(protocol))
    }

    /// The pseudo-header of RFC 8200 section 8.1, without the length.
    pub(crate) fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8) -> Sum {
        Sum::ZERO.bytes(&source.octets()).bytes(&destination.octets()).u16(u16::from(protocol))
    }

    /// Adds one 16-bit field, given as a value.
    #[inline]
    pub(crate) fn u16(self, value: u16) -> Sum {
        Sum(self.0 + u64::from(value.to_be()))
    }

    /// Adds one 32-bit field, given as a value.
    #[inline]
    pub(crate) fn u32(self, value: u32) -> Sum {
        Sum(self.0 + u64::from(value.to_be()))
    }

    /// Adds bytes; an odd last one counts as padded with zero (RFC 1071 section 4.1).
    #[inline]
    pub(crate) fn bytes(self, bytes: &[u8]) -> Sum {
        // Wide blocks first: independent lanes are what the compiler turns into vector additions.
        let (blocks, rest) = bytes.as_chunks::<64>();
        let mut lanes = [0u64; 16];
        for block in blocks {
            let (words, _) = block.as_chunks::<4>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        let (words, rest) = rest.as_chunks::<4>();
        let mut sum = self.0 + lanes.iter().sum::<u64>();
        for word in words {
            sum += u64::from(u32::from_ne_bytes(*word));
        }
        let mut last = [0u8; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        Sum(sum + u64::from(u32::from_ne_bytes(last)))
    }

    /// The checksum field's two bytes: the complement of the sum.
    #[inline]
    pub(crate) fn checksum(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }

    /// The checksum field of UDP, where an all-zero result is sent as all ones (RFC 768).
    #[inline]
    pub(crate) fn udp_checksum(self) -> [u8; 2] {
        match self.checksum() {
            [0, 0] => [0xff, 0xff],
            checksum => checksum,
        }
    }

    /// What a field marked `NEEDS_CSUM` holds: the sum itself, not complemented.
    #[inline]
    pub(crate) fn partial(self) -> [u8; 2] {
        self.fold().to_ne_bytes()
    }

    /// The checksum field of octets of which a 16-bit word changes (RFC 1624 section 3).
    #[inline]
    pub(crate) fn replaced(checksum: [u8; 2], old: [u8; 2], new: [u8; 2]) -> [u8; 2] {
        let word = u64::from;
        let (checksum, old) = (u16::from_ne_bytes(checksum), u16::from_ne_bytes(old));
        Sum(word(!checksum) + word(!old) + word(u16::from_ne_bytes(new))).checksum()
    }

    /// Whether this sum, taken over a packet with its checksum field in place, says that the packet is intact.
    #[inline]
    pub(crate) fn is_intact(self) -> bool {
        self.fold() == 0xffff
    }

    #[inline]
    fn fold(self) -> u16 {
        let sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        // Three folds bring 33 bits below 2^16, so nothing is cut off here.
        sum as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(bytes: &[u8]) -> [u8; 2] {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }

    /// RFC 1071 section 3 gives this sum.
    #[test]
    fn rfc_1071_section_3_example() {
        let sum = Sum::ZERO.bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.partial(), [0xdd, 0xf2]);
    }

    /// RFC 1071: the wide loop is the definition, at every length and at every alignment.
    #[test]
    fn every_length_and_alignment_agrees_with_the_naive_loop() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let bytes: Vec<u8> = (0..2048)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        for start in 0..17 {
            for len in 0..600 {
                let slice = &bytes[start..start + len];
                assert_eq!(Sum::ZERO.bytes(slice).checksum(), naive(slice), "{start}+{len}");
            }
        }
        let ones = vec![0xff; 65535];
        assert_eq!(Sum::ZERO.bytes(&ones).checksum(), naive(&ones));
        assert_eq!(Sum::ZERO.bytes(&bytes).checksum(), naive(&bytes));
    }

    /// RFC 768: a zero checksum means none, so zero is sent as all ones. TCP keeps its zero.
    #[test]
    fn udp_never_sends_zero() {
        let sum = Sum::ZERO.u16(0xffff);
        assert_eq!(sum.checksum(), [0, 0]);
        assert_eq!(sum.udp_checksum(), [0xff, 0xff]);
    }

    /// RFC 1071: fields given as values count as their bytes on the wire.
    #[test]
    fn fields_count_as_their_wire_bytes() {
        let fields = Sum::ZERO.u32(0x0102_0304).u16(0x0506);
        assert_eq!(fields.checksum(), naive(&[1, 2, 3, 4, 5, 6]));
        let v4 = Sum::pseudo_v4(Ipv4Addr::new(10, 1, 2, 3), Ipv4Addr::new(10, 4, 5, 6), 17).u16(8);
        assert_eq!(v4.checksum(), naive(&[10, 1, 2, 3, 10, 4, 5, 6, 0, 17, 0, 8]));
    }
}
