//! ICMP errors about packets of inner hosts: Destination Unreachable and Packet Too Big (RFC 792, RFC 1812 section
//! 4.3.2, RFC 4443 sections 2.4 and 3).
//!
//! The gateway writes them itself, and they go to the inner host alone, so nobody on the wire can cause or forge one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::IntoBytes;

use crate::checksum::Sum;
use crate::flow::protocol;
use crate::packet::IpPacket;
use crate::segment::header::{Ipv4, Ipv6};

/// What an error says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IcmpError {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// The four octets after the checksum.
    pub(crate) rest: [u8; 4],
}

/// A message is no longer than the least MTU of IPv6 (RFC 4443 2.4c), or than every IPv4 host takes (RFC 1812 4.3.2.3).
pub(crate) const LONGEST: usize = 1280;
const LONGEST_V4: usize = 576;

const ICMP_LEN: usize = 8;

impl IcmpError {
    /// Writes the error about the packet `about`, from one address to another of its family. Returns its length.
    pub(crate) fn write(self, out: &mut [u8], between: (IpAddr, IpAddr), about: &[u8]) -> Option<usize> {
        match between {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.write_v4(out, (source, destination), about),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.write_v6(out, (source, destination), about),
            _ => None,
        }
    }

    fn write_v4(
        self,
        out: &mut [u8],
        (source, destination): (Ipv4Addr, Ipv4Addr),
        about: &[u8],
    ) -> Option<usize> {
        let quoted = about.get(..about.len().min(LONGEST_V4 - size_of::<Ipv4>() - ICMP_LEN))?;
        let icmp = self.header(Sum::ZERO, quoted);
        let total_len = u16::try_from(size_of::<Ipv4>() + ICMP_LEN + quoted.len()).ok()?;
        let mut ip = Ipv4 {
            version_ihl: 0x45,
            tos: INTERNETWORK_CONTROL,
            total_len: total_len.into(),
            id: 0.into(),
            fragment: 0.into(),
            ttl: 64,
            protocol: protocol::ICMP,
            checksum: [0; 2],
            source: source.octets(),
            destination: destination.octets(),
        };
        ip.checksum = Sum::ZERO.bytes(ip.as_bytes()).checksum();
        put(out, [ip.as_bytes(), &icmp, quoted])
    }

    fn write_v6(
        self,
        out: &mut [u8],
        (source, destination): (Ipv6Addr, Ipv6Addr),
        about: &[u8],
    ) -> Option<usize> {
        let quoted = about.get(..about.len().min(LONGEST - size_of::<Ipv6>() - ICMP_LEN))?;
        let payload_len = u16::try_from(ICMP_LEN + quoted.len()).ok()?;
        let pseudo = Sum::pseudo_v6(source, destination, protocol::ICMPV6).u16(payload_len);
        let icmp = self.header(pseudo, quoted);
        let ip = Ipv6 {
            version_class_label: (6 << 28 | u32::from(INTERNETWORK_CONTROL) << 20).into(),
            payload_len: payload_len.into(),
            next_header: protocol::ICMPV6,
            hop_limit: 64,
            source: source.octets(),
            destination: destination.octets(),
        };
        put(out, [ip.as_bytes(), &icmp, quoted])
    }

    fn header(self, pseudo: Sum, quoted: &[u8]) -> [u8; ICMP_LEN] {
        let [a, b, c, d] = self.rest;
        let mut icmp = [self.kind, self.code, 0, 0, a, b, c, d];
        let [high, low] = pseudo.bytes(&icmp).bytes(quoted).checksum();
        (icmp[2], icmp[3]) = (high, low);
        icmp
    }
}

/// Whether an error about a packet may be sent at all (RFC 1122 section 3.2.2, RFC 4443 section 2.4e): its source must
/// name one host, and it must be neither an error itself nor a later fragment. Whether its destination is a group is for
/// the caller to ask.
pub(crate) fn may_be_told(packet: &IpPacket<'_>) -> bool {
    let from = packet.flow().local().ip();
    if packet.is_later_fragment() || packet.icmp_kind().is_some_and(|kind| is_error(kind, from)) {
        return false;
    }
    match from {
        IpAddr::V4(from) => {
            let names_no_host = from.is_unspecified()
                || from.is_loopback()
                || from.is_multicast()
                || from.is_broadcast()
                || from.octets().first().is_some_and(|&octet| octet >= 240);
            !names_no_host
        }
        IpAddr::V6(from) => !from.is_unspecified() && !from.is_loopback() && !from.is_multicast(),
    }
}

/// Whether an address stands for many hosts.
pub(crate) const fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// Errors about errors would never end; a redirect counts as one.
const fn is_error(kind: u8, from: IpAddr) -> bool {
    match from {
        IpAddr::V4(_) => matches!(kind, 3 | 4 | 5 | 11 | 12),
        IpAddr::V6(_) => kind < 128 || kind == 137,
    }
}

fn put(mut out: &mut [u8], parts: [&[u8]; 3]) -> Option<usize> {
    let mut len = 0;
    for part in parts {
        let (here, rest) = out.split_at_mut_checked(part.len())?;
        here.copy_from_slice(part);
        (out, len) = (rest, len + part.len());
    }
    Some(len)
}

/// The precedence of ICMP errors (RFC 1812 4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;
