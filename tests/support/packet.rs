//! The packets of inner hosts.

use std::net::SocketAddr;

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep};
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::virtio::{GSO_TCPV4, NEEDS_CSUM, VNET_HDR_LEN, VirtioNetHdr};
use zerocopy::IntoBytes;

/// One end of a flow, as the host that sends from it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Its protocol.
    pub protocol: u8,
    /// Whose packets these are.
    pub local: SocketAddr,
    /// Who gets them.
    pub remote: SocketAddr,
}

impl Flow {
    /// A TCP connection.
    pub fn tcp(local: &str, remote: &str) -> Self {
        Self { protocol: protocol::TCP, local: local.parse().unwrap(), remote: remote.parse().unwrap() }
    }

    /// A UDP flow.
    pub fn udp(local: &str, remote: &str) -> Self {
        Self { protocol: protocol::UDP, ..Self::tcp(local, remote) }
    }

    /// The same flow from its other end.
    pub const fn reversed(self) -> Self {
        Self { local: self.remote, remote: self.local, ..self }
    }

    /// What the gateway of its local end calls it.
    pub fn key(self) -> FlowKey {
        FlowKey::new(self.protocol, self.local, self.remote)
    }

    /// The segment that begins a connection.
    pub fn syn(self) -> Vec<u8> {
        self.segment(Segment { syn: true, ..Segment::default() })
    }

    /// The answer to [`syn`](Self::syn) of the other end.
    pub fn syn_ack(self) -> Vec<u8> {
        self.segment(Segment { syn: true, ack: Some(1), ..Segment::default() })
    }

    /// Data after the handshake, the first octet being number `seq`.
    pub fn data(self, seq: u32, payload: &[u8]) -> Vec<u8> {
        self.segment(Segment { seq, ack: Some(1), payload, ..Segment::default() })
    }

    /// One TCP segment.
    pub fn segment(self, segment: Segment<'_>) -> Vec<u8> {
        let Segment { seq, ack, syn, fin, rst, payload } = segment;
        let mut tcp = self.ip().tcp(self.local.port(), self.remote.port(), seq, 512);
        tcp = if syn { tcp.syn() } else { tcp };
        tcp = if fin { tcp.fin() } else { tcp };
        tcp = if rst { tcp.rst() } else { tcp };
        tcp = if let Some(number) = ack { tcp.ack(number) } else { tcp };
        let mut octets = Vec::new();
        tcp.write(&mut octets, payload).unwrap();
        octets
    }

    /// One UDP datagram.
    pub fn datagram(self, payload: &[u8]) -> Vec<u8> {
        let mut octets = Vec::new();
        self.ip().udp(self.local.port(), self.remote.port()).write(&mut octets, payload).unwrap();
        octets
    }

    /// A TSO super-packet over IPv4, virtio header first: `segments` of `segment_len` octets, IP header included.
    pub fn super_packet(self, seq: u32, segments: usize, segment_len: usize) -> Vec<u8> {
        const HEADERS: usize = 20 + 20;
        let mss = segment_len - HEADERS;
        let payload: Vec<u8> = (0..segments * mss).map(|n| (n * 7 + n / 251) as u8).collect();
        let virtio = VirtioNetHdr {
            flags: NEEDS_CSUM,
            gso_type: GSO_TCPV4,
            hdr_len: (HEADERS as u16).into(),
            gso_size: (mss as u16).into(),
            csum_start: 20.into(),
            csum_offset: 16.into(),
        };
        [virtio.as_bytes(), &self.data(seq, &payload)].concat()
    }

    fn ip(self) -> PacketBuilderStep<IpHeaders> {
        match (self.local, self.remote) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), 64)
            }
            (SocketAddr::V6(from), SocketAddr::V6(to)) => {
                PacketBuilder::ipv6(from.ip().octets(), to.ip().octets(), 64)
            }
            _ => panic!("a flow has one address family"),
        }
    }
}

/// What differs between segments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment<'a> {
    /// The number of the first octet.
    pub seq: u32,
    /// What is acknowledged.
    pub ack: Option<u32>,
    /// Begins.
    pub syn: bool,
    /// Ends.
    pub fin: bool,
    /// Ends at once.
    pub rst: bool,
    /// The data.
    pub payload: &'a [u8],
}

/// The packet as the TUN hands it out: a virtio header that says nothing, then the packet.
pub fn with_header(packet: &[u8]) -> Vec<u8> {
    [&[0; VNET_HDR_LEN], packet].concat()
}
