//! The header of a received IPv6 packet, put together again: a raw socket hands over what is behind it, and header and
//! extension headers apart (RFC 3542 section 6).

use std::net::Ipv6Addr;

use super::control::messages;

/// What the header of a received packet said.
pub(super) struct Header {
    /// How many octets were written, up to the end of `front`.
    pub(super) len: usize,
    pub(super) traffic_class: u8,
}

/// Writes the header of a packet from `from` whose payload, of `protocol`, has `payload_len` octets, to the end of `front`.
/// `None` where the kernel did not tell enough, or `front` has no room.
#[inline]
pub(super) fn write(
    front: &mut [u8],
    from: Ipv6Addr,
    (protocol, payload_len): (u8, usize),
    control: &[u8],
) -> Option<Header> {
    let mut fields = Fields::default();
    let mut first = None;
    let mut extensions_len = 0;
    for message in messages(control).filter(|message| message.level == libc::IPPROTO_IPV6) {
        if let Some(kind) = extension(message.kind) {
            first.get_or_insert(kind);
            extensions_len += message.data.len();
        } else {
            fields.note(message.kind, message.data);
        }
    }
    let len = HEADER_LEN + extensions_len;
    let start = front.len().checked_sub(len)?;
    let (header, mut extensions) = front.get_mut(start..)?.split_at_mut_checked(HEADER_LEN)?;
    for message in messages(control).filter(|message| message.level == libc::IPPROTO_IPV6) {
        if extension(message.kind).is_some() {
            let (here, rest) = extensions.split_at_mut_checked(message.data.len())?;
            here.copy_from_slice(message.data);
            extensions = rest;
        }
    }
    let traffic_class = fields.traffic_class;
    let word = 6 << 28 | u32::from(traffic_class) << 20 | fields.flow_label;
    let payload_len = u16::try_from(extensions_len + payload_len).ok()?;
    let [high, low] = payload_len.to_be_bytes();
    let parts = [
        &word.to_be_bytes()[..],
        &[high, low, first.unwrap_or(protocol), fields.hop_limit],
        &from.octets(),
        &fields.to?,
    ];
    for (to, octet) in header.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *octet;
    }
    Some(Header { len, traffic_class })
}

/// The fields that are told apart.
#[derive(Default)]
struct Fields {
    traffic_class: u8,
    flow_label: u32,
    hop_limit: u8,
    to: Option<[u8; 16]>,
}

impl Fields {
    #[inline]
    fn note(&mut self, kind: i32, data: &[u8]) {
        let octets = data.first_chunk::<4>().copied().unwrap_or_default();
        match kind {
            libc::IPV6_TCLASS => self.traffic_class = i32::from_ne_bytes(octets) as u8,
            libc::IPV6_HOPLIMIT => self.hop_limit = i32::from_ne_bytes(octets) as u8,
            libc::IPV6_FLOWINFO => self.flow_label = u32::from_be_bytes(octets) & 0x000f_ffff,
            libc::IPV6_PKTINFO => self.to = data.first_chunk().copied(),
            _ => {}
        }
    }
}

/// The number, in a next header field, of an extension header that is told. They are told in the order in which they were.
#[inline]
const fn extension(kind: i32) -> Option<u8> {
    match kind {
        libc::IPV6_HOPOPTS => Some(0),
        libc::IPV6_RTHDR => Some(43),
        libc::IPV6_DSTOPTS => Some(60),
        _ => None,
    }
}

const HEADER_LEN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::low::wire::control::{Control, Message, put};

    fn control(messages: &[(i32, &[u8])]) -> (Control, usize) {
        let mut control = Control::EMPTY;
        let used = messages.iter().fold(0, |used, (kind, data)| {
            put(&mut control.space, used, Message { level: libc::IPPROTO_IPV6, kind: *kind, data })
        });
        (control, used)
    }

    /// RFC 3542 section 6: what is told apart is the packet that was sent.
    #[test]
    fn the_header_is_as_it_was() {
        let to = [&[0xfd; 16][..], &[0; 4]].concat();
        let (class, hops) = (0xb9i32.to_ne_bytes(), 61i32.to_ne_bytes());
        let told: [(i32, &[u8]); 6] = [
            (libc::IPV6_PKTINFO, &to),
            (libc::IPV6_HOPLIMIT, &hops),
            (libc::IPV6_TCLASS, &class),
            (libc::IPV6_FLOWINFO, &[0x0b, 0x91, 2, 3]),
            (libc::IPV6_HOPOPTS, &[60, 0, 1, 4, 0, 0, 0, 0]),
            (libc::IPV6_DSTOPTS, &[50, 0, 1, 4, 0, 0, 0, 0]),
        ];
        let (control, used) = control(&told);
        let mut front = [0xee; 100];
        let from = Ipv6Addr::from([1; 16]);
        let header = write(&mut front, from, (50, 9), &control.space[..used]).unwrap();
        assert_eq!((header.len, header.traffic_class), (56, 0xb9));
        assert!(front[..44].iter().all(|octet| *octet == 0xee));
        let expected = [
            &[0x6b, 0x91, 2, 3, 0, 25, 0, 61][..],
            &[1; 16],
            &[0xfd; 16],
            &[60, 0, 1, 4, 0, 0, 0, 0],
            &[50, 0, 1, 4, 0, 0, 0, 0],
        ];
        assert_eq!(front[44..], expected.concat());
        let (bare, used) = self::control(&told[..1]);
        let header = write(&mut front, from, (50, 9), &bare.space[..used]).unwrap();
        assert_eq!((header.len, front[66]), (40, 50));
    }

    /// T03: too little room, no destination, more than a packet: no header.
    #[test]
    fn what_cannot_be_is_no_header() {
        let to = [0xfd; 20];
        let (told, used) = control(&[(libc::IPV6_PKTINFO, &to)]);
        let mut front = [0; 64];
        let from = Ipv6Addr::LOCALHOST;
        assert!(write(&mut front[..39], from, (50, 9), &told.space[..used]).is_none());
        assert!(write(&mut front, from, (50, 9), &[]).is_none());
        assert!(write(&mut front, from, (50, 65_536), &told.space[..used]).is_none());
        assert!(write(&mut front, from, (50, 65_535), &told.space[..used]).is_some());
    }
}
