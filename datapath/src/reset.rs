//! TCP resets: RFC 9293 sections 3.5.2 and 3.10.7, RFC 5961 section 3.2.
//!
//! A TCP takes a reset only where the sequence number is exactly the one that it expects next, or, in SYN-SENT, where its
//! SYN is acknowledged. The number that it expects is the one that it acknowledged last: so the answer to whatever a
//! socket just said is a reset that it takes.

use std::net::{IpAddr, SocketAddr};

use zerocopy::IntoBytes;

use crate::checksum::Sum;
use crate::flow::protocol;
use crate::packet::{TcpSegment, flags};
use crate::segment::header::{Ipv4, Ipv6, Tcp};

/// A RST, but for the ends of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The sequence number.
    pub seq: u32,
    /// What it acknowledges; with one, ACK is set.
    pub ack: Option<u32>,
}

/// A RST as an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetPacket {
    octets: [u8; LONGEST],
    len: usize,
}

/// IPv6 and TCP without options.
const LONGEST: usize = 60;

impl Reset {
    /// What the other end of `segment` says if it knows of no such connection (RFC 9293 3.10.7.1). `None` where the
    /// segment is a reset itself.
    #[must_use]
    pub const fn answering(segment: &TcpSegment) -> Option<Self> {
        if segment.flags & flags::RST != 0 {
            return None;
        }
        if segment.flags & flags::ACK != 0 {
            return Some(Self { seq: segment.ack, ack: None });
        }
        let marks = (segment.flags & flags::SYN != 0) as u32 + (segment.flags & flags::FIN != 0) as u32;
        let end = segment.seq.wrapping_add(segment.payload_len).wrapping_add(marks);
        Some(Self { seq: 0, ack: Some(end) })
    }

    /// The packet from one end of the connection to the other; `None` where they are of two families.
    #[must_use]
    pub fn packet(self, source: SocketAddr, destination: SocketAddr) -> Option<ResetPacket> {
        let mut octets = [0; LONGEST];
        let len = self.write(&mut octets, source, destination)?;
        Some(ResetPacket { octets, len })
    }

    /// Writes the packet from one end of the connection to the other. Returns its length.
    pub(crate) fn write(self, out: &mut [u8], source: SocketAddr, destination: SocketAddr) -> Option<usize> {
        let mut tcp = self.header(source.port(), destination.port());
        let len = size_of::<Tcp>() as u16;
        match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let pseudo = Sum::pseudo_v4(source, destination, protocol::TCP).u16(len);
                tcp.checksum = pseudo.bytes(tcp.as_bytes()).checksum();
                let mut ip = Ipv4 {
                    version_ihl: 0x45,
                    tos: 0,
                    total_len: (size_of::<Ipv4>() as u16 + len).into(),
                    id: 0.into(),
                    fragment: DONT_FRAGMENT.into(),
                    ttl: HOPS,
                    protocol: protocol::TCP,
                    checksum: [0; 2],
                    source: source.octets(),
                    destination: destination.octets(),
                };
                ip.checksum = Sum::ZERO.bytes(ip.as_bytes()).checksum();
                put(out, ip.as_bytes(), tcp.as_bytes())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let pseudo = Sum::pseudo_v6(source, destination, protocol::TCP).u16(len);
                tcp.checksum = pseudo.bytes(tcp.as_bytes()).checksum();
                let ip = Ipv6 {
                    version_class_label: (6 << 28).into(),
                    payload_len: len.into(),
                    next_header: protocol::TCP,
                    hop_limit: HOPS,
                    source: source.octets(),
                    destination: destination.octets(),
                };
                put(out, ip.as_bytes(), tcp.as_bytes())
            }
            _ => None,
        }
    }

    fn header(self, source: u16, destination: u16) -> Tcp {
        let ([a, b], [c, d]) = (source.to_be_bytes(), destination.to_be_bytes());
        Tcp {
            ports: [a, b, c, d],
            seq: self.seq.into(),
            ack: self.ack.unwrap_or(0).into(),
            offset_reserved: 5 << 4,
            flags: flags::RST | if self.ack.is_some() { flags::ACK } else { 0 },
            window: 0.into(),
            checksum: [0; 2],
            urgent: 0.into(),
        }
    }
}

impl ResetPacket {
    /// The packet, IP header first.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or_default()
    }
}

fn put(out: &mut [u8], ip: &[u8], tcp: &[u8]) -> Option<usize> {
    let (first, rest) = out.split_at_mut_checked(ip.len())?;
    first.copy_from_slice(ip);
    rest.get_mut(..tcp.len())?.copy_from_slice(tcp);
    Some(ip.len() + tcp.len())
}

const HOPS: u8 = 64;

/// DF: a packet without identification must not be cut (RFC 6864 section 4).
const DONT_FRAGMENT: u16 = 0x4000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drop::Direction;
    use crate::packet::{IpPacket, Upper};
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    const ENDS: [[&str; 2]; 2] =
        [["10.0.2.20:80", "10.0.1.10:40000"], ["[fd00:2::20]:80", "[fd00:1::10]:40000"]];

    fn segment(flags: u8, payload_len: u32) -> TcpSegment {
        TcpSegment { seq: 1000, ack: 2000, flags, payload_len }
    }

    /// RFC 5961 3.2: the number that its sender acknowledged is the one that it expects, whatever else it said.
    #[test]
    fn rfc_5961_3_2_what_acknowledges_is_answered_at_its_acknowledgment() {
        for other in [0, flags::SYN, flags::FIN] {
            for len in [0, 1, 65_000] {
                let answer = Reset::answering(&segment(other | flags::ACK, len));
                assert_eq!(answer, Some(Reset { seq: 2000, ack: None }));
            }
        }
    }

    /// RFC 9293 3.10.7.1: what acknowledges nothing is acknowledged, SYN, FIN and data; so SYN-SENT ends (3.10.7.3).
    #[test]
    fn rfc_9293_3_10_7_1_what_does_not_acknowledge_is_acknowledged() {
        for (flags, len, ack) in
            [(flags::SYN, 0, 1001), (flags::SYN, 100, 1101), (flags::FIN, 0, 1001), (0, 5, 1005)]
        {
            assert_eq!(Reset::answering(&segment(flags, len)), Some(Reset { seq: 0, ack: Some(ack) }));
        }
        let last = TcpSegment { seq: u32::MAX, ..segment(flags::SYN, 0) };
        assert_eq!(Reset::answering(&last), Some(Reset { seq: 0, ack: Some(0) }));
    }

    #[test]
    fn rfc_9293_3_5_2_a_reset_is_never_answered() {
        for other in [0, flags::ACK, flags::SYN] {
            assert_eq!(Reset::answering(&segment(other | flags::RST, 0)), None);
        }
    }

    #[test]
    fn a_stranger_reads_what_was_written_in_both_families() {
        for ends in ENDS {
            let [source, destination] = ends.map(|end| end.parse::<SocketAddr>().unwrap());
            for reset in [Reset { seq: 0xdead_beef, ack: None }, Reset { seq: 0, ack: Some(0xfeed_f00d) }] {
                let packet = reset.packet(source, destination).unwrap();
                let sliced = SlicedPacket::from_ip(packet.octets()).unwrap();
                let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
                assert!(tcp.rst() && !tcp.syn() && !tcp.fin());
                assert_eq!((tcp.sequence_number(), tcp.ack()), (reset.seq, reset.ack.is_some()));
                assert_eq!(tcp.acknowledgment_number(), reset.ack.unwrap_or(0));
                let expected = match sliced.net.unwrap() {
                    NetSlice::Ipv4(ip) => {
                        let header = ip.header().to_header();
                        assert_eq!(header.header_checksum, header.calc_header_checksum());
                        assert_eq!(header.time_to_live, 64);
                        tcp.calc_checksum_ipv4(header.source, header.destination)
                    }
                    NetSlice::Ipv6(ip) => {
                        let header = ip.header().to_header();
                        assert_eq!(header.hop_limit, 64);
                        tcp.calc_checksum_ipv6(header.source, header.destination)
                    }
                    NetSlice::Arp(_) => panic!("no IP"),
                };
                assert_eq!(tcp.checksum(), expected.unwrap());
                let parsed = IpPacket::parse(packet.octets(), Direction::Inbound).unwrap();
                assert_eq!((parsed.flow().remote(), parsed.flow().local()), (source, destination));
                assert!(matches!(parsed.upper(), Upper::Tcp(segment) if segment.payload_len == 0));
            }
        }
    }

    #[test]
    fn families_do_not_mix() {
        let [v4, v6] = ENDS.map(|[end, _]| end.parse().unwrap());
        assert_eq!(Reset { seq: 0, ack: None }.packet(v4, v6), None);
    }
}
