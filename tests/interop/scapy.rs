//! scapy as the judge of single packets, both directions: what it protects we open, what we protect it opens, and neither
//! takes what was changed on the way.

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use latchway_esp::{
    AntiReplay, EspHeader, InboundConfig, InboundSa, KeyMaterial, NextHeader, OutboundConfig, OutboundSa,
    Protocol, SeqNum, SequenceKind, Spi, Suite, WindowSize,
};
use latchway_netns::skip;
use serde_json::{Value, json};

use crate::case::Family;
use crate::guest::fetched;

/// RFC 4303, RFC 4106, RFC 4309, RFC 4543, RFC 7634, RFC 8750: every suite of ESP, at every edge of the numbers.
#[test]
fn esp_is_what_scapy_takes_it_for() {
    let Some(mut scapy) = Scapy::start("scapy::esp_is_what_scapy_takes_it_for") else { return };
    let mut judged = 0;
    for suite in Suite::all().filter(|suite| suite.protocol() == Protocol::Esp) {
        let mut unknown = false;
        for sample in samples(suite) {
            unknown = !sample.is_agreed_on(&mut scapy);
            if unknown {
                break;
            }
            judged += 1;
        }
        eprintln!("{:32} {}", suite.name(), if unknown { "is not known to scapy" } else { "agrees" });
    }
    assert!(judged > 1000 || Suite::all().count() < 20, "only {judged} packets were judged");
}

/// One packet under one SA.
struct Sample {
    suite: Suite,
    key: Vec<u8>,
    seq: u64,
    sequence: SequenceKind,
    outer: Family,
    udp: bool,
    /// The inner packet in tunnel mode, or what transport mode protects of it.
    payload: Vec<u8>,
    next_header: NextHeader,
}

/// Edges of the numbers, families, carriers, modes and lengths, dealt out so that each suite meets each of them.
fn samples(suite: Suite) -> Vec<Sample> {
    let mut random = fastrand::Rng::with_seed(5);
    let mut samples = Vec::new();
    for (seq, sequence) in NUMBERS {
        for outer in Family::BOTH {
            for udp in [false, true] {
                for inner in [Some(Family::V4), Some(Family::V6), None] {
                    let mut key = vec![0; suite.key_len() + suite.salt_len()];
                    random.fill(&mut key);
                    let length = [0, 1, 2, 3, 13, 64, 1371][samples.len() % 7];
                    let mut payload = vec![0; length];
                    random.fill(&mut payload);
                    let (payload, next_header) = match inner {
                        Some(Family::V4) => (inner_packet(Family::V4, &payload), NextHeader::IPV4),
                        Some(Family::V6) => (inner_packet(Family::V6, &payload), NextHeader::IPV6),
                        None => (udp_datagram(9, &payload), NextHeader(UDP)),
                    };
                    let sample = Sample { suite, key, seq, sequence, outer, udp, payload, next_header };
                    samples.push(sample);
                }
            }
        }
    }
    samples
}

impl Sample {
    /// Whether scapy knows the suite; if it does, it has to agree.
    fn is_agreed_on(&self, scapy: &mut Scapy) -> bool {
        let what = format!("{} {} {:?} udp {}", self.suite, self.seq, self.sequence, self.udp);
        let sealed = self.seal();
        let answer = scapy.ask(&self.order("unprotect", &self.outer(&sealed)));
        if answer["unknown"].is_string() {
            return false;
        }
        assert_eq!(self.inner_of(&answer), self.payload, "{what}: what scapy opened: {answer}");
        let protected =
            hex::decode(scapy.ask(&self.order("protect", &self.whole()))["packet"].as_str().unwrap());
        let mut protected = protected.unwrap().split_off(self.outer_len());
        let mut changed = damaged(&protected);
        assert_eq!(self.open(&mut protected).as_deref(), Ok(&self.payload[..]), "{what}: what we opened");
        assert!(self.open(&mut changed).is_err(), "{what}: we opened what was changed");
        let answer = scapy.ask(&self.order("unprotect", &self.outer(&damaged(&sealed))));
        assert!(answer["refused"].is_string(), "{what}: scapy opened what was changed: {answer}");
        true
    }

    fn seal(&self) -> Vec<u8> {
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

    fn open(&self, packet: &mut [u8]) -> Result<Vec<u8>, String> {
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

    /// What scapy is asked to do with a packet.
    fn order(&self, verb: &str, packet: &[u8]) -> Value {
        let ends = [self.outer.gateway(), self.outer.host()];
        json!({
            "do": verb, "suite": self.suite.name(), "key": hex::encode(&self.key), "spi": SPI.get(), "seq": self.seq,
            "esn": self.sequence == SequenceKind::Extended, "udp": self.udp, "packet": hex::encode(packet),
            "tunnel": if self.is_tunnel() { json!(ends) } else { Value::Null },
        })
    }

    /// The packet before protection, as scapy is to protect it.
    fn whole(&self) -> Vec<u8> {
        if self.is_tunnel() { self.payload.clone() } else { ip(self.outer, UDP, &self.payload) }
    }

    /// What scapy opened, without the header that transport mode leaves on it.
    fn inner_of(&self, answer: &Value) -> Vec<u8> {
        let mut inner = hex::decode(answer["packet"].as_str().unwrap_or_default()).unwrap();
        if self.is_tunnel() { inner } else { inner.split_off(header_len(self.outer).min(inner.len())) }
    }

    fn is_tunnel(&self) -> bool {
        self.next_header != NextHeader(UDP)
    }

    /// The packet on the wire around what is sealed.
    fn outer(&self, sealed: &[u8]) -> Vec<u8> {
        if self.udp { ip(self.outer, UDP, &udp_datagram(4500, sealed)) } else { ip(self.outer, ESP, sealed) }
    }

    fn outer_len(&self) -> usize {
        header_len(self.outer) + if self.udp { 8 } else { 0 }
    }
}

/// The process that answers.
struct Scapy {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Scapy {
    fn start(test: &str) -> Option<Self> {
        let python = fetched("scapy").join("bin/python");
        if !python.exists() {
            skip::report(test, "no scapy: run `tests/interop/fetch scapy`");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/oracle.py");
        let child = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let (orders, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { child, orders, answers })
    }

    fn ask(&mut self, order: &Value) -> Value {
        writeln!(self.orders, "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer)
            .unwrap_or_else(|_| panic!("scapy does not answer to {order}: {answer:?}"))
    }
}

impl Drop for Scapy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same ESP packet with one bit changed behind its header.
fn damaged(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let place = fastrand::Rng::with_seed(packet.len() as u64).usize(8..packet.len());
    packet[place] ^= 1 << (place % 8);
    packet
}

/// A whole UDP packet of a host.
fn inner_packet(family: Family, payload: &[u8]) -> Vec<u8> {
    ip(family, UDP, &udp_datagram(9, payload))
}

fn udp_datagram(port: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap();
    let fields = [port.to_be_bytes(), port.to_be_bytes(), len.to_be_bytes(), [0, 0]];
    [fields.as_flattened(), payload].concat()
}

/// An IP packet between a family's two ends.
fn ip(family: Family, protocol: u8, payload: &[u8]) -> Vec<u8> {
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

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

const fn header_len(family: Family) -> usize {
    match family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

/// The first number, the last of 32 bits, the first of the next epoch, and one of the last epoch.
const NUMBERS: [(u64, SequenceKind); 6] = [
    (1, SequenceKind::Seq32),
    (0xffff_ffff, SequenceKind::Seq32),
    (1, SequenceKind::Extended),
    (0xffff_ffff, SequenceKind::Extended),
    (0x1_0000_0000, SequenceKind::Extended),
    (0xffff_fffe_0000_0005, SequenceKind::Extended),
];

const SPI: Spi = Spi::new(0xc0de_cafe).unwrap();
const ESP: u8 = 50;
const UDP: u8 = 17;
