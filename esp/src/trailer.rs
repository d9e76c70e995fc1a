//! What stands behind the payload and is encrypted with it: padding, pad length, next header (RFC 4303 sections 2.4
//! to 2.6).

use crate::error::BadPadding;
use crate::suite::TRAILER_LEN;

/// What a payload is: an IP protocol number (RFC 4303 section 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHeader(pub u8);

impl NextHeader {
    /// An IPv4 packet, tunnelled.
    pub const IPV4: Self = Self(4);
    /// An IPv6 packet, tunnelled.
    pub const IPV6: Self = Self(41);
    /// Nothing: the packet is there to be counted by an observer, and to be dropped.
    pub const DUMMY: Self = Self(59);
}

/// What padding a receiver takes (RFC 4303 section 2.4).
///
/// It SHOULD look at the padding where the sender must make it 1, 2, 3, ..., as all algorithms here have it; for what is
/// authenticated already, that protects from nobody but the peer. Linux does not look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PaddingContents {
    /// 1, 2, 3, ...
    #[default]
    Counting,
    /// Anything: for peers that pad by random numbers or zeros.
    Any,
}

/// The payload of an opened packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Decapsulated<'p> {
    /// What the payload is.
    pub next_header: NextHeader,
    /// The payload, and behind it whatever traffic flow confidentiality padding the sender added (RFC 4303
    /// section 2.7), which the payload's own length field tells apart.
    pub payload: &'p mut [u8],
    /// Where in the packet the payload begins, counted from the SPI.
    pub offset: usize,
}

impl<'p> Decapsulated<'p> {
    /// Takes the trailer off the decrypted part of a packet.
    // RFC 4303 section 2.4: the receiver SHOULD inspect the padding. Section 2.6: of a dummy packet nothing but the
    // next header need be well-formed.
    #[inline]
    pub(crate) fn read(
        plaintext: &'p mut [u8],
        offset: usize,
        contents: PaddingContents,
    ) -> Result<Self, BadPadding> {
        let available = plaintext.len().saturating_sub(TRAILER_LEN);
        let Some((rest, &mut [pad, next_header])) = plaintext.split_last_chunk_mut::<TRAILER_LEN>() else {
            return Err(BadPadding::Length { pad: 0, available });
        };
        let next_header = NextHeader(next_header);
        if next_header == NextHeader::DUMMY {
            return Ok(Self { next_header, payload: rest, offset });
        }
        let split = available.checked_sub(usize::from(pad)).and_then(|len| rest.split_at_mut_checked(len));
        let Some((payload, padding)) = split else {
            return Err(BadPadding::Length { pad, available });
        };
        if contents == PaddingContents::Counting && !COUNT.starts_with(padding) {
            return Err(BadPadding::Contents);
        }
        Ok(Self { next_header, payload, offset })
    }
}

/// What padding counts (RFC 4303 section 2.4): 1, 2, 3, ...
const COUNT: [u8; 255] = {
    let mut count = [0; 255];
    let (mut rest, mut next): (&mut [u8], u8) = (&mut count, 1);
    while let Some((place, others)) = rest.split_first_mut() {
        *place = next;
        (rest, next) = (others, next.wrapping_add(1));
    }
    count
};

/// Fills `trailer`, which begins right behind the payload, with 1, 2, 3, ..., the pad length and the next header.
// RFC 4303 section 2.4: the padding MUST be 1, 2, 3, ... where the algorithm does not say otherwise.
#[inline]
pub(crate) fn write(trailer: &mut [u8], next_header: NextHeader) {
    if let Some((padding, fields)) = trailer.split_last_chunk_mut::<TRAILER_LEN>() {
        let mut pad = 0;
        for byte in padding {
            pad += 1;
            *byte = pad;
        }
        *fields = [pad, next_header.0];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(plaintext: &[u8]) -> Result<(u8, Vec<u8>), BadPadding> {
        let mut plaintext = plaintext.to_vec();
        let contents = PaddingContents::Counting;
        Decapsulated::read(&mut plaintext, 16, contents)
            .map(|inner| (inner.next_header.0, inner.payload.to_vec()))
    }

    /// T01: the pad length against what precedes it.
    #[test]
    fn a_pad_length_beyond_the_payload_is_refused() {
        assert_eq!(read(&[1, 2, 3, 3, 4]), Ok((4, vec![])), "exactly all of it is padding");
        assert_eq!(read(&[9, 1, 2, 2, 4]), Ok((4, vec![9])), "one less");
        assert_eq!(read(&[1, 2, 3, 4, 4]), Err(BadPadding::Length { pad: 4, available: 3 }));
        assert_eq!(read(&[1, 2, 3, 255, 4]), Err(BadPadding::Length { pad: 255, available: 3 }));
        assert_eq!(read(&[0, 4]), Ok((4, vec![])));
        assert_eq!(read(&[1, 4]), Err(BadPadding::Length { pad: 1, available: 0 }));
        assert!(read(&[4]).is_err() && read(&[]).is_err());
    }

    /// T01: 255 bytes of padding are legal where there is room (RFC 4303 section 2.5).
    #[test]
    fn the_longest_padding_is_read() {
        let mut plaintext = vec![0x45];
        plaintext.extend(1..=255);
        plaintext.extend([255, 4]);
        assert_eq!(read(&plaintext), Ok((4, vec![0x45])));
        plaintext.remove(0);
        assert_eq!(read(&plaintext), Ok((4, vec![])));
        plaintext.remove(0);
        assert_eq!(read(&plaintext), Err(BadPadding::Length { pad: 255, available: 254 }));
    }

    /// RFC 4303 section 2.4.
    #[test]
    fn padding_other_than_1_2_3_is_refused() {
        assert_eq!(read(&[9, 0, 1, 4]), Err(BadPadding::Contents));
        assert_eq!(read(&[9, 2, 1, 2, 4]), Err(BadPadding::Contents));
        assert_eq!(read(&[9, 1, 1, 2, 4]), Err(BadPadding::Contents));
    }

    /// RFC 4303 section 2.4: a peer that pads otherwise is served where that was asked for; its pad length still counts.
    #[test]
    fn padding_of_any_contents_is_taken_where_it_is_asked_for() {
        for (plaintext, len) in
            [([9, 7, 7, 2, 4], Some(1)), ([0, 0, 0, 3, 4], Some(0)), ([0, 0, 0, 4, 4], None)]
        {
            let inner = Decapsulated::read(&mut plaintext.clone(), 16, PaddingContents::Any)
                .map(|inner| inner.payload.len());
            assert_eq!(inner.ok(), len);
        }
    }

    /// RFC 4303 section 2.6.
    #[test]
    fn a_dummy_need_not_be_well_formed() {
        assert_eq!(read(&[7, 7, 255, 59]), Ok((59, vec![7, 7])));
        assert_eq!(read(&[9, 59]), Ok((59, vec![])));
    }

    /// RFC 4303 section 2.4.
    #[test]
    fn what_is_written_is_1_2_3() {
        let mut trailer = [0xee; 5];
        write(&mut trailer, NextHeader::IPV6);
        assert_eq!(trailer, [1, 2, 3, 3, 41]);
        let mut trailer = [0xee; 2];
        write(&mut trailer, NextHeader::IPV4);
        assert_eq!(trailer, [0, 4]);
    }
}
