//! The outer side of a captured packet: headers that the system wrote or took off, and where in a packet its protection is.

use std::net::SocketAddr;

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, UdpHeader};
use latchway_esp::Protocol;

use crate::packet::carried;

/// A datagram with the IP and UDP headers that it has on the wire; what does not show at a socket (identification, TTL,
/// flow label) is not shown either.
pub fn udp((from, to): (SocketAddr, SocketAddr), traffic_class: u8, datagram: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(48 + datagram.len());
    let written = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            u16::try_from(8 + datagram.len()).ok().and_then(|len| {
                let mut ip =
                    Ipv4Header::new(len, TTL, IpNumber::UDP, from.ip().octets(), to.ip().octets()).ok()?;
                (ip.dscp, ip.ecn) = (
                    (traffic_class >> 2).try_into().unwrap_or_default(),
                    (traffic_class & 3).try_into().unwrap_or_default(),
                );
                ip.header_checksum = ip.calc_header_checksum();
                let udp = UdpHeader::with_ipv4_checksum(from.port(), to.port(), &ip, datagram).ok()?;
                ip.write(&mut packet).ok()?;
                udp.write(&mut packet).ok()
            })
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            u16::try_from(8 + datagram.len()).ok().and_then(|len| {
                let ip = Ipv6Header {
                    traffic_class,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: len,
                    next_header: IpNumber::UDP,
                    hop_limit: TTL,
                    source: from.ip().octets(),
                    destination: to.ip().octets(),
                };
                let udp = UdpHeader::with_ipv6_checksum(from.port(), to.port(), &ip, datagram).ok()?;
                ip.write(&mut packet).ok()?;
                udp.write(&mut packet).ok()
            })
        }
        _ => None,
    };
    if written.is_none() {
        // No such packet was sent: what the socket has is shown as it is.
        packet.clear();
    }
    packet.extend_from_slice(datagram);
    packet
}

/// Which protection a whole IP packet has, and its octets from the SPI on.
pub fn protected(packet: &[u8]) -> Option<(Protocol, &[u8])> {
    let (next, payload) = carried(packet)?;
    match next {
        ESP => Some((Protocol::Esp, payload)),
        // RFC 4302 section 2: next header, length and two reserved octets come before the SPI.
        AH => Some((Protocol::Ah, payload.get(4..)?)),
        _ => None,
    }
}

const ESP: u8 = 50;
const AH: u8 = 51;
const TTL: u8 = 64;
