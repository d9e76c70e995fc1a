//! One frame, summarised: who, to whom, and the first bytes of what.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use bytes::Bytes;
use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use nix::sys::socket::LinkAddr;

/// Which way a frame went, as seen by the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It came from the link (from a TUN's reader and writer, for a TUN).
    Inbound,
    /// The namespace sent it.
    Outbound,
}

/// A captured frame's summary and, as far as the capture keeps them, its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When the capture read it.
    pub at: Instant,
    /// Which way it went.
    pub direction: Direction,
    /// Its whole length, with link-layer header.
    pub length: usize,
    /// Outer source address, if it is an IP packet.
    pub source: Option<IpAddr>,
    /// Outer destination address, if it is an IP packet.
    pub destination: Option<IpAddr>,
    /// Outer protocol, after IPv6 extension headers other than AH.
    pub protocol: Option<u8>,
    /// Source and destination port of UDP and TCP.
    pub ports: Option<(u16, u16)>,
    /// The first bytes after the UDP or TCP header, else after the IP header: SPI and sequence number of ESP.
    pub head: Bytes,
    /// Its bytes, up to [`Options::snap`](super::Options::snap), with link-layer header.
    pub bytes: Bytes,
}

/// What a link's frames begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linktype {
    Ethernet,
    Ip,
}

impl Frame {
    pub(super) fn parse(bytes: &[u8], length: usize, linktype: Linktype, direction: Direction) -> Self {
        let mut frame = Self {
            at: Instant::now(),
            direction,
            length,
            source: None,
            destination: None,
            protocol: None,
            ports: None,
            head: Bytes::new(),
            bytes: Bytes::new(),
        };
        let parsed = match linktype {
            Linktype::Ethernet => LaxSlicedPacket::from_ethernet(bytes).ok(),
            Linktype::Ip => LaxSlicedPacket::from_ip(bytes).ok(),
        };
        if let Some(parsed) = parsed {
            frame.summarise(&parsed);
        }
        frame
    }

    /// Source address and port, of UDP and TCP.
    pub fn source_socket(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.source?, self.ports?.0))
    }

    /// Destination address and port, of UDP and TCP.
    pub fn destination_socket(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.destination?, self.ports?.1))
    }

    /// SPI and sequence number, if it is ESP (RFC 4303 §2) or ESP in UDP on port 4500 (RFC 3948 §2.1).
    pub fn esp(&self) -> Option<(u32, u32)> {
        let encapsulated =
            self.protocol == Some(UDP) && self.ports.is_some_and(|(from, to)| from == 4500 || to == 4500);
        let (spi, rest) = self.head.split_first_chunk()?;
        let (spi, sequence) = (u32::from_be_bytes(*spi), u32::from_be_bytes(*rest.first_chunk()?));
        // RFC 3948 §2.2: four zero bytes where the SPI would be mark an IKE message.
        ((self.protocol == Some(ESP) || encapsulated) && spi != 0).then_some((spi, sequence))
    }

    fn summarise(&mut self, parsed: &LaxSlicedPacket<'_>) {
        let payload = match &parsed.net {
            Some(LaxNetSlice::Ipv4(ip)) => {
                self.source = Some(ip.header().source_addr().into());
                self.destination = Some(ip.header().destination_addr().into());
                self.protocol = Some(ip.header().protocol().0);
                ip.extensions().auth.as_ref().map_or(ip.payload().payload, |ah| ah.slice())
            }
            Some(LaxNetSlice::Ipv6(ip)) => {
                self.source = Some(ip.header().source_addr().into());
                self.destination = Some(ip.header().destination_addr().into());
                let ah = ip.header().next_header().0 == AH;
                self.protocol = Some(if ah { AH } else { ip.payload().ip_number.0 });
                if ah { ip.extensions().slice() } else { ip.payload().payload }
            }
            _ => return,
        };
        let content = match &parsed.transport {
            Some(TransportSlice::Udp(udp)) => {
                self.ports = Some((udp.source_port(), udp.destination_port()));
                udp.payload()
            }
            Some(TransportSlice::Tcp(tcp)) => {
                self.ports = Some((tcp.source_port(), tcp.destination_port()));
                tcp.payload()
            }
            _ => payload,
        };
        self.head = Bytes::copy_from_slice(content.get(..HEAD).unwrap_or(content));
    }
}

impl Direction {
    pub(crate) fn of(sender: &LinkAddr) -> Self {
        if sender.pkttype() == PACKET_OUTGOING { Self::Outbound } else { Self::Inbound }
    }
}

impl Linktype {
    pub(super) fn of(link: &LinkAddr) -> Self {
        if link.hatype() == libc::ARPHRD_ETHER || link.hatype() == libc::ARPHRD_LOOPBACK {
            Self::Ethernet
        } else {
            Self::Ip
        }
    }
}

const HEAD: usize = 8;
const UDP: u8 = 17;
const ESP: u8 = 50;
const AH: u8 = 51;

/// packet(7): the frame was sent by this host.
const PACKET_OUTGOING: u8 = 4;
