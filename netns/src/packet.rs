//! Packets to inject: IP packets with a given 5-tuple and content, correct in every length and checksum, and frames.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpHeaders, IpNumber, Ipv4Header,
    Ipv6FlowLabel, Ipv6Header, PacketBuilder, TcpHeader,
};

use crate::{Error, Result};

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

/// The fields of a TCP segment that its 5-tuple does not give (RFC 9293 §3.1). The default is a bare segment: no flag.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment<'a> {
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number; with one, ACK is set.
    pub acknowledgement: Option<u32>,
    /// SYN.
    pub syn: bool,
    /// FIN.
    pub fin: bool,
    /// RST.
    pub rst: bool,
    /// PSH.
    pub psh: bool,
    /// Receive window.
    pub window: u16,
    /// Payload.
    pub payload: &'a [u8],
}

/// An IP packet with a UDP datagram.
pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Result<Vec<u8>> {
    let builder =
        PacketBuilder::ip(ip(source.ip(), destination.ip())?).udp(source.port(), destination.port());
    let mut packet = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut packet, payload).map_err(malformed)?;
    Ok(packet)
}

/// An IP packet with a TCP segment.
pub fn tcp(source: SocketAddr, destination: SocketAddr, segment: &Segment<'_>) -> Result<Vec<u8>> {
    let mut header = TcpHeader::new(source.port(), destination.port(), segment.sequence, segment.window);
    header.syn = segment.syn;
    header.fin = segment.fin;
    header.rst = segment.rst;
    header.psh = segment.psh;
    header.ack = segment.acknowledgement.is_some();
    header.acknowledgment_number = segment.acknowledgement.unwrap_or_default();
    let builder = PacketBuilder::ip(ip(source.ip(), destination.ip())?).tcp_header(header);
    let mut packet = Vec::with_capacity(builder.size(segment.payload.len()));
    builder.write(&mut packet, segment.payload).map_err(malformed)?;
    Ok(packet)
}

/// An IP packet with an echo request (RFC 792, RFC 4443 §4.1).
pub fn echo_request(
    source: IpAddr,
    destination: IpAddr,
    identifier: u16,
    sequence: u16,
    payload: &[u8],
) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ip(ip(source, destination)?);
    let mut packet = Vec::new();
    if source.is_ipv4() {
        builder.icmpv4_echo_request(identifier, sequence).write(&mut packet, payload).map_err(malformed)?;
    } else {
        builder.icmpv6_echo_request(identifier, sequence).write(&mut packet, payload).map_err(malformed)?;
    }
    Ok(packet)
}

/// An echo request without IP header, as a raw ICMP socket takes it: with its checksum in IPv4; in IPv6, the kernel adds it.
pub(crate) fn echo_message(destination: IpAddr, identifier: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let echo = IcmpEchoHeader { id: identifier, seq: sequence };
    let mut message = match destination {
        IpAddr::V4(_) => {
            Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), payload).to_bytes().to_vec()
        }
        IpAddr::V6(_) => Icmpv6Header::new(Icmpv6Type::EchoRequest(echo)).to_bytes().to_vec(),
    };
    message.extend_from_slice(payload);
    message
}

/// An IP packet of any protocol, such as ESP (50) or AH (51), with a payload given byte for byte.
pub fn raw(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Result<Vec<u8>> {
    let mut headers = ip(source, destination)?;
    headers.set_payload_len(payload.len()).map_err(malformed)?;
    match &mut headers {
        IpHeaders::Ipv4(header, _) => {
            header.protocol = IpNumber(protocol);
            header.header_checksum = header.calc_header_checksum();
        }
        IpHeaders::Ipv6(header, _) => header.next_header = IpNumber(protocol),
    }
    let mut packet = Vec::new();
    match &headers {
        IpHeaders::Ipv4(header, _) => header.write(&mut packet).map_err(malformed)?,
        IpHeaders::Ipv6(header, _) => header.write(&mut packet).map_err(malformed)?,
    }
    packet.extend_from_slice(payload);
    Ok(packet)
}

/// An Ethernet frame around an IP packet; the type follows the packet's version.
pub fn ethernet(source: Mac, destination: Mac, packet: &[u8]) -> Result<Vec<u8>> {
    let ether_type: [u8; 2] = match packet.first().map(|byte| byte >> 4) {
        Some(4) => [0x08, 0x00],
        Some(6) => [0x86, 0xdd],
        _ => return Err(Error::Malformed("neither an IPv4 nor an IPv6 packet to frame".to_owned())),
    };
    Ok([&destination.0[..], &source.0[..], &ether_type[..], packet].concat())
}

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl TryFrom<&[u8]> for Mac {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> std::result::Result<Self, Self::Error> {
        bytes.try_into().map(Self)
    }
}

fn ip(source: IpAddr, destination: IpAddr) -> Result<IpHeaders> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = Ipv4Header::new(0, HOPS, IpNumber::UDP, source.octets(), destination.octets());
            Ok(IpHeaders::Ipv4(header.map_err(malformed)?, Default::default()))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: 0,
                next_header: IpNumber::UDP,
                hop_limit: HOPS,
                source: source.octets(),
                destination: destination.octets(),
            };
            Ok(IpHeaders::Ipv6(header, Default::default()))
        }
        _ => Err(Error::Malformed(format!("{source} and {destination} are of different families"))),
    }
}

fn malformed(error: impl fmt::Display) -> Error {
    Error::Malformed(format!("building a packet: {error}"))
}

const HOPS: u8 = 64;

#[cfg(test)]
mod tests {
    use etherparse::{SlicedPacket, TransportSlice};

    use super::*;

    #[test]
    fn segments_carry_their_fields_in_both_families() -> Result<()> {
        for (source, destination) in [("10.0.0.1:7", "10.0.0.2:9"), ("[2001:db8::1]:7", "[2001:db8::2]:9")] {
            let (source, destination): (SocketAddr, SocketAddr) = (address(source), address(destination));
            let segment = Segment { sequence: 5, acknowledgement: Some(6), rst: true, ..Segment::default() };
            let packet = tcp(source, destination, &segment)?;
            let parsed = SlicedPacket::from_ip(&packet).map_err(malformed)?;
            let Some(TransportSlice::Tcp(found)) = parsed.transport else {
                return Err(Error::Malformed("no TCP segment".to_owned()));
            };
            assert_eq!((found.source_port(), found.destination_port()), (7, 9));
            assert_eq!((found.sequence_number(), found.acknowledgment_number()), (5, 6));
            assert!(found.rst() && found.ack() && !found.syn() && !found.fin());
        }
        Ok(())
    }

    #[test]
    fn raw_packets_have_a_valid_header() -> Result<()> {
        let packet = raw(address("10.0.0.1:0").ip(), address("10.0.0.2:0").ip(), 50, &[1, 2, 3, 4])?;
        let (header, rest) = Ipv4Header::from_slice(&packet).map_err(malformed)?;
        assert_eq!((header.protocol, header.total_len), (IpNumber(50), 24));
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!(rest, [1, 2, 3, 4]);
        Ok(())
    }

    #[test]
    fn families_do_not_mix() {
        assert!(udp(address("10.0.0.1:7"), address("[::1]:7"), b"").is_err());
        assert!(ethernet(Mac([0; 6]), Mac([1; 6]), b"").is_err());
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap_or_else(|error| std::unreachable!("{text}: {error}"))
    }
}
