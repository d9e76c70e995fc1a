//! Single packets under single SAs, sealed and opened by ours, with an IP header around them.

use std::net::IpAddr;

use latchway_esp::{
    AntiReplay, EspHeader, InboundConfig, InboundSa, KeyMaterial, NextHeader, OutboundConfig, OutboundSa,
    SeqNum, SequenceKind, Spi, Suite, WindowSize,
};

use crate::case::Family;

/// One packet under one SA.
pub struct Sample {
    pub suite: Suite,
    pub key: Vec<u8>,
    pub seq: u64,
    pub sequence: SequenceKind,
    pub outer: Family,
    pub udp: bool,
    /// The inner packet in tunnel mode, or what transport mode protects of it.
    pub payload: Vec<u8>,
    pub next_header: NextHeader,
}

/// Edges of the numbers, families, carriers, modes and lengths, dealt out so that each suite meets each of them, under one
/// key.
pub fn samples(suite: Suite) -> Vec<Sample> {
    let mut random = fastrand::Rng::with_seed(5);
    let mut key = vec![0; suite.key_len() + suite.salt_len()];
    random.fill(&mut key);
    let mut samples = Vec::new();
    for (seq, sequence) in NUMBERS {
        for outer in Family::BOTH {
            for inner in [Some(Family::V4), Some(Family::V6), None] {
                let udp = samples.len() % 5 < 2;
                let length = [0, 1, 2, 3, 13, 64, 1371][samples.len() % 7];
                let mut payload = vec![0; length];
                random.fill(&mut payload);
                let (payload, next_header) = match inner {
                    Some(Family::V4) => (inner_packet(Family::V4, &payload), NextHeader::IPV4),
                    Some(Family::V6) => (inner_packet(Family::V6, &payload), NextHeader::IPV6),
                    None => (udp_datagram(9, &payload), NextHeader(UDP)),
                };
                let key = key.clone();
                let sample = Sample { suite, key, seq, sequence, outer, udp, payload, next_header };
                samples.push(sample);
            }
        }
    }
    samples
}

impl Sample {
    /// Seals the payload.
    pub fn seal(&self) -> Vec<u8> {
        let keys = &KeyMaterial::new(self.suite, &self.key).unwrap();
        let Self { suite, sequence, .. } = *self;
        let config = OutboundConfig { spi: SPI, suite, keys, sequence, reservation: None };
        let mut sa = OutboundSa::resume_at(config, SeqNum(self.seq)).unwrap();
        let mut packet = vec![0; sa.sealed_len(self.payload.len())];
        packet[sa.payload_offset()..][..self.payload.len()].copy_from_slice(&self.payload);
        let seq = sa.take(1).unwrap().next_seq().unwrap();
        let len = sa.seal(seq, self.next_header, &mut packet, self.payload.len()).unwrap();
        assert_eq!(len, packet.len());
        packet
    }

    /// Opens what should be the payload.
    pub fn open(&self, packet: &mut [u8]) -> Result<Vec<u8>, String> {
        let keys = &KeyMaterial::new(self.suite, &self.key).unwrap();
        let Self { suite, sequence, .. } = *self;
        let anti_replay = AntiReplay::Window(WindowSize::default());
        let config = InboundConfig { spi: SPI, suite, keys, sequence, anti_replay, top: None };
        let mut sa = InboundSa::resume_after(config, SeqNum(self.seq - 1)).unwrap();
        let header = EspHeader::parse(packet).map_err(|error| error.to_string())?;
        assert_eq!(header.spi, SPI);
        let seq = sa.check(header.seq).map_err(|error| error.to_string())?;
        assert_eq!(seq, SeqNum(self.seq));
        let (opened, verified) = sa.open(seq, packet).map_err(|error| error.to_string())?;
        sa.commit(verified).map_err(|error| error.to_string())?;
        let inner = opened.decapsulate().map_err(|error| error.to_string())?;
        assert_eq!(inner.next_header, self.next_header);
        Ok(inner.payload.to_vec())
    }

    /// What the host sends, without any header.
    pub fn data(&self) -> &[u8] {
        let headers = match self.next_header {
            NextHeader::IPV4 => 28,
            NextHeader::IPV6 => 48,
            _ => 8,
        };
        &self.payload[headers..]
    }

    pub fn is_tunnel(&self) -> bool {
        self.next_header != NextHeader(UDP)
    }

    /// The packet on the wire around what is sealed.
    pub fn outer(&self, sealed: &[u8]) -> Vec<u8> {
        if self.udp { ip(self.outer, UDP, &udp_datagram(4500, sealed)) } else { ip(self.outer, ESP, sealed) }
    }

    pub fn outer_len(&self) -> usize {
        header_len(self.outer) + if self.udp { 8 } else { 0 }
    }
}

/// A whole UDP packet of a host.
pub fn inner_packet(family: Family, payload: &[u8]) -> Vec<u8> {
    ip(family, UDP, &udp_datagram(9, payload))
}

pub fn udp_datagram(port: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap();
    let fields = [port.to_be_bytes(), port.to_be_bytes(), len.to_be_bytes(), [0, 0]];
    [fields.as_flattened(), payload].concat()
}

/// An IP packet between a family's two ends.
pub fn ip(family: Family, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let (source, destination) = (octets(family.gateway()), octets(family.host()));
    let len = u16::try_from(payload.len()).unwrap();
    let mut packet = match family {
        Family::V4 => {
            let [high, low] = (len + 20).to_be_bytes();
            let mut header = vec![0x45, 0, high, low, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0];
            header.extend([&source[..], &destination].concat());
            let sum: u32 = header.chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]]))).sum();
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header
        }
        Family::V6 => {
            let [high, low] = len.to_be_bytes();
            [&[0x60, 0, 0, 0, high, low, protocol, 64][..], &source, &destination].concat()
        }
    };
    packet.extend(payload);
    packet
}

pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub const fn header_len(family: Family) -> usize {
    match family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

/// The first number, the last of 32 bits, the first of the next epoch, and one of the last epoch.
pub const NUMBERS: [(u64, SequenceKind); 6] = [
    (1, SequenceKind::Seq32),
    (0xffff_ffff, SequenceKind::Seq32),
    (1, SequenceKind::Extended),
    (0xffff_ffff, SequenceKind::Extended),
    (0x1_0000_0000, SequenceKind::Extended),
    (0xffff_fffe_0000_0005, SequenceKind::Extended),
];

pub const SPI: Spi = Spi::new(0xc0de_cafe).unwrap();
const ESP: u8 = 50;
pub const UDP: u8 = 17;
