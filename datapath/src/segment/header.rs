//! The headers of a packet that can be cut into segments or merged from them: IPv4 or IPv6, then TCP or UDP.
//!
//! [`Layout::parse`] proves the bounds once (RFC 791 section 3.1, RFC 8200 section 3, RFC 9293 section 3.1, RFC 768);
//! [`Template`] then writes the header of any segment, with the checksums it needs.

use std::net::{Ipv4Addr, Ipv6Addr};

use zerocopy::{BE, FromBytes, Immutable, IntoBytes, KnownLayout, U16, U32, Unaligned};

use crate::checksum::Sum;
use crate::segment::SuperPacketError;

/// IPv4 without its options (RFC 791 section 3.1).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Ipv4 {
    pub(crate) version_ihl: u8,
    pub(crate) tos: u8,
    pub(crate) total_len: U16<BE>,
    pub(crate) id: U16<BE>,
    pub(crate) fragment: U16<BE>,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) checksum: [u8; 2],
    pub(crate) source: [u8; 4],
    pub(crate) destination: [u8; 4],
}

/// IPv6 without extension headers (RFC 8200 section 3).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Ipv6 {
    pub(crate) version_class_label: U32<BE>,
    pub(crate) payload_len: U16<BE>,
    pub(crate) next_header: u8,
    pub(crate) hop_limit: u8,
    pub(crate) source: [u8; 16],
    pub(crate) destination: [u8; 16],
}

/// TCP without its options (RFC 9293 section 3.1).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Tcp {
    pub(crate) ports: [u8; 4],
    pub(crate) seq: U32<BE>,
    pub(crate) ack: U32<BE>,
    pub(crate) offset_reserved: u8,
    pub(crate) flags: u8,
    pub(crate) window: U16<BE>,
    pub(crate) checksum: [u8; 2],
    pub(crate) urgent: U16<BE>,
}

/// UDP (RFC 768).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Udp {
    pub(crate) ports: [u8; 4],
    pub(crate) len: U16<BE>,
    pub(crate) checksum: [u8; 2],
}

/// The IP version in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V4,
    V6,
}

/// The upper-layer protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upper {
    Tcp,
    Udp,
}

impl Upper {
    /// Its number in the IP header.
    pub(crate) fn protocol(self) -> u8 {
        match self {
            Upper::Tcp => TCP,
            Upper::Udp => UDP,
        }
    }

    /// Where its checksum stands, from its own start.
    pub(crate) fn checksum_offset(self) -> usize {
        match self {
            Upper::Tcp => 16,
            Upper::Udp => 6,
        }
    }
}

/// Where the headers of one whole, unfragmented TCP or UDP packet lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) version: Version,
    pub(crate) upper: Upper,
    /// Where the upper-layer header begins.
    pub(crate) upper_start: usize,
    /// Where the payload begins.
    pub(crate) header_len: usize,
}

impl Layout {
    /// Proves the headers of `packet`, whose length must be the one they claim.
    #[inline]
    pub(crate) fn parse(packet: &[u8]) -> Result<Layout, SuperPacketError> {
        let (version, protocol, upper_start) = match packet.first().map(|first| first >> 4) {
            Some(4) => {
                let (ip, _) = Ipv4::ref_from_prefix(packet).map_err(|_| SuperPacketError::Truncated)?;
                let header_len = usize::from(ip.version_ihl & 15) * 4;
                if header_len < size_of::<Ipv4>() || usize::from(ip.total_len.get()) != packet.len() {
                    return Err(SuperPacketError::BadLength);
                }
                if ip.fragment.get() & !DONT_FRAGMENT != 0 {
                    return Err(SuperPacketError::Fragment);
                }
                (Version::V4, ip.protocol, header_len)
            }
            Some(6) => {
                let (ip, payload) = Ipv6::ref_from_prefix(packet).map_err(|_| SuperPacketError::Truncated)?;
                if usize::from(ip.payload_len.get()) != payload.len() {
                    return Err(SuperPacketError::BadLength);
                }
                (Version::V6, ip.next_header, size_of::<Ipv6>())
            }
            _ => return Err(SuperPacketError::NotIp),
        };
        let upper = packet.get(upper_start..).ok_or(SuperPacketError::Truncated)?;
        let (upper, upper_len) = upper_header(upper, protocol)?;
        Ok(Layout { version, upper, upper_start, header_len: upper_start + upper_len })
    }

    /// The pseudo-header's sum without the length (RFC 9293 section 3.1, RFC 768, RFC 8200 section 8.1).
    #[inline]
    pub(crate) fn pseudo_sum(&self, packet: &[u8]) -> Sum {
        let protocol = self.upper.protocol();
        match self.version {
            Version::V4 => Ipv4::ref_from_prefix(packet).map_or(Sum::ZERO, |(ip, _)| {
                Sum::pseudo_v4(Ipv4Addr::from(ip.source), Ipv4Addr::from(ip.destination), protocol)
            }),
            Version::V6 => Ipv6::ref_from_prefix(packet).map_or(Sum::ZERO, |(ip, _)| {
                Sum::pseudo_v6(Ipv6Addr::from(ip.source), Ipv6Addr::from(ip.destination), protocol)
            }),
        }
    }

    /// Writes the lengths that an upper-layer header plus payload of `upper_len` bytes asks for, and the IPv4 header's
    /// checksum.
    #[inline]
    pub(crate) fn set_lengths(&self, header: &mut [u8], upper_len: u16) -> Option<()> {
        let (ip, upper) = header.split_at_mut_checked(self.upper_start)?;
        match self.version {
            Version::V4 => {
                let sum = {
                    let (fixed, _) = Ipv4::mut_from_prefix(ip).ok()?;
                    fixed.total_len = U16::new(u16::try_from(self.upper_start).ok()?.checked_add(upper_len)?);
                    fixed.checksum = [0; 2];
                    Sum::ZERO.bytes(ip)
                };
                Ipv4::mut_from_prefix(ip).ok()?.0.checksum = sum.checksum();
            }
            Version::V6 => Ipv6::mut_from_prefix(ip).ok()?.0.payload_len = U16::new(upper_len),
        }
        if self.upper == Upper::Udp {
            Udp::mut_from_prefix(upper).ok()?.0.len = U16::new(upper_len);
        }
        Some(())
    }
}

/// Which segment of a super-packet a header is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Its number, from zero.
    pub(crate) index: usize,
    /// Payload bytes before it.
    pub(crate) offset: usize,
    /// Whether none follows.
    pub(crate) last: bool,
}

/// The headers all segments of one super-packet share, with what is constant already summed.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    layout: Layout,
    bytes: [u8; MAX_HEADER_LEN],
    /// How far the IPv4 identification moves per segment: 1, or 0 where it means nothing (RFC 6864 section 4.1).
    id_step: u16,
    id: u16,
    seq: u32,
    flags: u8,
    ip_sum: Sum,
    upper_sum: Sum,
}

impl Template {
    /// Takes the headers from the front of `packet`.
    pub(crate) fn new(packet: &[u8], layout: Layout, id_step: u16) -> Option<Template> {
        let mut bytes = [0; MAX_HEADER_LEN];
        let header = bytes.get_mut(..layout.header_len)?;
        header.copy_from_slice(packet.get(..layout.header_len)?);
        let (ip, upper) = header.split_at_mut_checked(layout.upper_start)?;
        let mut id = 0;
        if layout.version == Version::V4 {
            let (fixed, _) = Ipv4::mut_from_prefix(ip).ok()?;
            id = fixed.id.get();
            (fixed.total_len, fixed.id, fixed.checksum) = (U16::ZERO, U16::ZERO, [0; 2]);
        }
        let (mut seq, mut flags) = (0, 0);
        match layout.upper {
            Upper::Tcp => {
                let (fixed, _) = Tcp::mut_from_prefix(upper).ok()?;
                (seq, flags) = (fixed.seq.get(), fixed.flags);
                (fixed.seq, fixed.flags, fixed.checksum) = (U32::ZERO, 0, [0; 2]);
            }
            Upper::Udp => {
                let (fixed, _) = Udp::mut_from_prefix(upper).ok()?;
                (fixed.len, fixed.checksum) = (U16::ZERO, [0; 2]);
            }
        }
        let ip_sum = Sum::ZERO.bytes(ip);
        let upper_sum = layout.pseudo_sum(packet).bytes(upper);
        Some(Template { layout, bytes, id_step, id, seq, flags, ip_sum, upper_sum })
    }

    /// Bytes of header each segment begins with.
    #[inline]
    pub(crate) fn header_len(&self) -> usize {
        self.layout.header_len
    }

    /// Writes the complete header of the segment at `place` that carries `payload`; `header` is
    /// [`Template::header_len`] long.
    #[inline]
    pub(crate) fn write(&self, header: &mut [u8], payload: &[u8], place: Place) -> Option<()> {
        header.copy_from_slice(self.bytes.get(..self.layout.header_len).filter(|b| b.len() == header.len())?);
        let upper_len = self.layout.header_len - self.layout.upper_start + payload.len();
        let upper_len = u16::try_from(upper_len).ok()?;
        let (ip, upper) = header.split_at_mut_checked(self.layout.upper_start)?;
        match self.layout.version {
            Version::V4 => self.write_v4(ip, upper_len, place)?,
            Version::V6 => Ipv6::mut_from_prefix(ip).ok()?.0.payload_len = U16::new(upper_len),
        }
        let sum = self.upper_sum.u16(upper_len).bytes(payload);
        match self.layout.upper {
            Upper::Tcp => self.write_tcp(upper, sum, place),
            Upper::Udp => {
                let (udp, _) = Udp::mut_from_prefix(upper).ok()?;
                udp.len = U16::new(upper_len);
                udp.checksum = sum.u16(upper_len).udp_checksum();
                Some(())
            }
        }
    }

    /// RFC 791 section 3.1: each segment is a datagram of its own, so each has its own identification.
    #[inline]
    fn write_v4(&self, ip: &mut [u8], upper_len: u16, place: Place) -> Option<()> {
        let (fixed, options) = Ipv4::mut_from_prefix(ip).ok()?;
        let ip_len = u16::try_from(size_of::<Ipv4>() + options.len()).ok()?;
        let total_len = ip_len.checked_add(upper_len)?;
        // The identification is a number modulo 2^16.
        let id = self.id.wrapping_add(self.id_step.wrapping_mul(place.index as u16));
        (fixed.total_len, fixed.id) = (U16::new(total_len), U16::new(id));
        fixed.checksum = self.ip_sum.u16(total_len).u16(id).checksum();
        Some(())
    }

    /// RFC 9293 section 3.10.4: FIN and PSH speak of the end of the data; RFC 3168 section 6.1.2: CWR of its beginning.
    #[inline]
    fn write_tcp(&self, upper: &mut [u8], sum: Sum, place: Place) -> Option<()> {
        let (tcp, _) = Tcp::mut_from_prefix(upper).ok()?;
        let not_yet = if place.last { 0 } else { FIN | PSH };
        let no_more = if place.index == 0 { 0 } else { CWR };
        // Sequence numbers are modulo 2^32 (RFC 9293 section 3.4).
        let seq = self.seq.wrapping_add(place.offset as u32);
        tcp.seq = U32::new(seq);
        tcp.flags = self.flags & !not_yet & !no_more;
        tcp.checksum = sum.u32(seq).u16(u16::from(tcp.flags)).checksum();
        Some(())
    }
}

/// Protocol number of TCP.
pub(crate) const TCP: u8 = 6;
/// Protocol number of UDP.
pub(crate) const UDP: u8 = 17;
/// RFC 9293 section 3.1: no more data from sender.
pub(crate) const FIN: u8 = 0x01;
/// RFC 9293 section 3.1: push.
pub(crate) const PSH: u8 = 0x08;
/// RFC 9293 section 3.1: the acknowledgment field is significant.
pub(crate) const ACK: u8 = 0x10;
/// RFC 3168 section 6.1.2: congestion window reduced.
pub(crate) const CWR: u8 = 0x80;
/// RFC 791 section 3.1: the one bit of the fragment field that does not make a fragment.
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
/// IPv4 and TCP, both with all the options they can hold.
pub(crate) const MAX_HEADER_LEN: usize = 120;

#[inline]
fn upper_header(bytes: &[u8], protocol: u8) -> Result<(Upper, usize), SuperPacketError> {
    match protocol {
        TCP => {
            let (tcp, _) = Tcp::ref_from_prefix(bytes).map_err(|_| SuperPacketError::Truncated)?;
            let len = usize::from(tcp.offset_reserved >> 4) * 4;
            if len < size_of::<Tcp>() || len > bytes.len() {
                return Err(SuperPacketError::Truncated);
            }
            Ok((Upper::Tcp, len))
        }
        UDP => {
            Udp::ref_from_prefix(bytes).map_err(|_| SuperPacketError::Truncated)?;
            Ok((Upper::Udp, size_of::<Udp>()))
        }
        other => Err(SuperPacketError::Protocol(other)),
    }
}
