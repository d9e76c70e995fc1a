//! scapy as the judge of AH: whole packets, with options and extension headers that routers change and some that they must not,
//! in both directions.

use latchway_esp::{
    Align, AntiReplay, InboundConfig, InboundSa, KeyMaterial, NextHeader, OutboundConfig, OutboundSa,
    Protocol, SeqNum, SequenceKind, Suite, WindowSize,
};
use serde_json::{Value, json};

use crate::case::Family;
use crate::sample::{NUMBERS, SPI, UDP, inner_packet, octets, udp_datagram};
use crate::scapy::Scapy;

/// RFC 4302 section 3.3.3 (T22): every suite of AH that scapy knows, at every edge of the numbers, in tunnel and transport mode,
/// behind headers of every kind. What routers change on the way is no harm to either side, and any other change is.
#[test]
fn ah_is_what_scapy_takes_it_for() {
    let Some(mut scapy) = Scapy::start("authenticated::ah_is_what_scapy_takes_it_for") else { return };
    let mut judged = 0;
    for suite in Suite::all().filter(|suite| suite.protocol() == Protocol::Ah) {
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
    assert!(judged >= 6 * 6 * 11, "only {judged} packets were judged");
}

/// One packet under one SA.
#[derive(Debug)]
struct Sample {
    suite: Suite,
    key: Vec<u8>,
    seq: u64,
    sequence: SequenceKind,
    align: Align,
    outer: Family,
    /// Options, or extension headers.
    between: Between,
    /// In tunnel mode a whole packet.
    payload: Vec<u8>,
    next_header: NextHeader,
}

/// What stands between the IP header and AH.
#[derive(Clone, Copy, Debug)]
struct Between {
    what: &'static str,
    /// The type of the first extension header.
    first: u8,
    octets: &'static [u8],
    /// Where in it routers may write.
    written: &'static [usize],
}

/// Headers, modes, numbers, lengths and alignments, dealt out under one key.
fn samples(suite: Suite) -> Vec<Sample> {
    let mut random = fastrand::Rng::with_seed(51);
    let mut key = vec![0; suite.key_len() + suite.salt_len()];
    random.fill(&mut key);
    let mut samples = Vec::new();
    for (seq, sequence) in NUMBERS {
        for outer in Family::BOTH {
            let between = if outer == Family::V4 { &OPTIONS[..] } else { &EXTENSIONS };
            let inners = [Some(Family::V4), Some(Family::V6)].into_iter().map(|inner| (inner, &NOTHING));
            for (inner, between) in inners.chain(between.iter().map(|between| (None, between))) {
                let length = [0, 1, 2, 3, 13, 64, 1371][samples.len() % 7];
                let mut payload = vec![0; length];
                random.fill(&mut payload);
                let (payload, next_header) = match inner {
                    Some(Family::V4) => (inner_packet(Family::V4, &payload), NextHeader::IPV4),
                    Some(Family::V6) => (inner_packet(Family::V6, &payload), NextHeader::IPV6),
                    None => (udp_datagram(9, &payload), NextHeader(UDP)),
                };
                let align = if samples.len() % 3 == 0 { Align::Eight } else { Align::Rfc };
                let (key, between) = (key.clone(), *between);
                let sample =
                    Sample { suite, key, seq, sequence, align, outer, between, payload, next_header };
                samples.push(sample);
            }
        }
    }
    samples
}

impl Sample {
    /// Whether scapy knows the suite; if it does, it has to agree.
    fn is_agreed_on(&self, scapy: &mut Scapy) -> bool {
        let Self { suite, seq, sequence, align, outer, between, .. } = self;
        let what = format!("{suite} {seq} {sequence:?} {align:?} {outer:?} {}", between.what);
        let sealed = self.authenticate();
        for packet in [&sealed, &self.routed(&sealed)] {
            let answer = scapy.ask(&self.order("unprotect", packet));
            if answer["unknown"].is_string() {
                return false;
            }
            assert_eq!(self.inner_of(&answer), self.payload, "{what}: what scapy opened: {answer}");
            assert_eq!(
                self.verify(packet).as_deref(),
                Ok(&self.payload[..]),
                "{what}: what we opened of ours"
            );
        }
        let answer = scapy.ask(&self.order("unprotect", &self.damaged(&sealed)));
        assert!(answer["refused"].is_string(), "{what}: scapy opened what was changed: {answer}");

        let answer = scapy.ask(&self.order("protect", &self.whole()));
        // scapy has the RFC's alignment only (RFC 4302 section 2.6).
        let by_rfc =
            Self { align: Align::Rfc, key: self.key.clone(), payload: self.payload.clone(), ..*self };
        let protected = hex::decode(answer["packet"].as_str().unwrap()).unwrap();
        for packet in [&protected, &self.routed(&protected)] {
            assert_eq!(by_rfc.verify(packet).as_deref(), Ok(&self.payload[..]), "{what}: what we opened");
        }
        assert!(by_rfc.verify(&self.damaged(&protected)).is_err(), "{what}: we opened what was changed");
        true
    }

    /// What scapy is asked to do with a packet.
    fn order(&self, verb: &str, packet: &[u8]) -> Value {
        let ends = [self.outer.gateway(), self.outer.host()];
        json!({
            "do": verb, "suite": self.suite.name(), "key": hex::encode(&self.key), "spi": SPI.get(), "seq": self.seq,
            "esn": self.sequence == SequenceKind::Extended, "udp": false, "packet": hex::encode(packet),
            "tunnel": if self.is_tunnel() { json!(ends) } else { Value::Null },
        })
    }

    fn is_tunnel(&self) -> bool {
        self.next_header != NextHeader(UDP)
    }

    /// The packet before protection, as scapy is to protect it.
    fn whole(&self) -> Vec<u8> {
        if self.is_tunnel() { self.payload.clone() } else { self.packet(0, self.next_header.0) }
    }

    /// What scapy opened, without the headers that transport mode leaves on it.
    fn inner_of(&self, answer: &Value) -> Vec<u8> {
        let mut inner = hex::decode(answer["packet"].as_str().unwrap_or_default()).unwrap();
        if self.is_tunnel() { inner } else { inner.split_off(self.at().min(inner.len())) }
    }

    /// Where AH stands.
    fn at(&self) -> usize {
        self.between.octets.len() + if self.outer == Family::V4 { 20 } else { 40 }
    }

    /// The packet on the wire with so much room for AH, which `protocol` says is next.
    fn packet(&self, room: usize, protocol: u8) -> Vec<u8> {
        let Between { first, octets: between, .. } = self.between;
        let (source, destination) = (octets(self.outer.gateway()), octets(self.outer.host()));
        let len = u16::try_from(self.at() + room + self.payload.len()).unwrap();
        let mut packet = match self.outer {
            Family::V4 => {
                let ([high, low], words) = (len.to_be_bytes(), u8::try_from(self.at() / 4).unwrap());
                let fixed = [0x40 | words, 0, high, low, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0];
                [&fixed[..], &source, &destination, between].concat()
            }
            Family::V6 => {
                let [high, low] = (len - 40).to_be_bytes();
                let next = if between.is_empty() { protocol } else { first };
                let fixed = [0x60, 0, 0, 0, high, low, next, 64];
                let mut packet = [&fixed[..], &source, &destination, between].concat();
                // The last of the extension headers says what comes next.
                if let Some(last) = last_of(first, between) {
                    packet[40 + last] = protocol;
                }
                packet
            }
        };
        packet.resize(self.at() + room, 0);
        packet.extend(&self.payload);
        packet
    }

    /// Protects the payload.
    fn authenticate(&self) -> Vec<u8> {
        let keys = &KeyMaterial::new(self.suite, &self.key).unwrap();
        let Self { suite, sequence, .. } = *self;
        let config = OutboundConfig { spi: SPI, suite, keys, sequence, reservation: None };
        let mut sa = OutboundSa::resume_at(config, SeqNum(self.seq)).unwrap().aligned(self.align);
        let mut packet = self.packet(sa.ah_len(self.outer == Family::V6), AH);
        let seq = sa.take(1).unwrap().next_seq().unwrap();
        sa.authenticate(seq, &mut packet, self.at(), self.next_header).unwrap();
        packet
    }

    /// Opens what should be the payload.
    fn verify(&self, packet: &[u8]) -> Result<Vec<u8>, String> {
        let keys = &KeyMaterial::new(self.suite, &self.key).unwrap();
        let Self { suite, sequence, .. } = *self;
        let anti_replay = AntiReplay::Window(WindowSize::default());
        let config = InboundConfig { spi: SPI, suite, keys, sequence, anti_replay, top: None };
        let sa = InboundSa::resume_after(config, SeqNum(self.seq - 1)).unwrap().aligned(self.align);
        let low = SeqNum(self.seq).low();
        let seq = sa.check(low).map_err(|error| error.to_string())?;
        let (verified, _) = sa.verify(seq, packet, self.at()).map_err(|error| error.to_string())?;
        assert_eq!(verified.next_header, self.next_header);
        Ok(packet[verified.payload..].to_vec())
    }

    /// The same packet, with everything changed that routers change.
    fn routed(&self, packet: &[u8]) -> Vec<u8> {
        let mut packet = packet.to_vec();
        match self.outer {
            Family::V4 => {
                packet[1] = 0xb9;
                packet[6] ^= 0x40;
                packet[8] -= 7;
                packet[10..12].copy_from_slice(&[0xab, 0xcd]);
            }
            Family::V6 => {
                packet[..4].copy_from_slice(&[0x6b, 0x91, 0x23, 0x45]);
                packet[7] -= 7;
            }
        }
        let header = self.at() - self.between.octets.len();
        self.between.written.iter().for_each(|place| packet[header + place] ^= 0x5a);
        packet
    }

    /// The same packet with one bit changed that no router changes: of an address, the ICV or what is behind it.
    fn damaged(&self, packet: &[u8]) -> Vec<u8> {
        let mut packet = packet.to_vec();
        let mut random = fastrand::Rng::with_seed(self.seq ^ packet.len() as u64);
        let source = if self.outer == Family::V4 { 12..16 } else { 8..24 };
        let place =
            if random.bool() { random.usize(source) } else { random.usize(self.at() + 12..packet.len()) };
        packet[place] ^= 1 << (place % 8);
        packet
    }
}

/// Where the last of these extension headers begins.
fn last_of(first: u8, headers: &[u8]) -> Option<usize> {
    let (mut kind, mut place, mut last) = (first, 0, None);
    while place < headers.len() {
        assert!([HOP_BY_HOP, DESTINATION_OPTIONS].contains(&kind));
        last = Some(place);
        (kind, place) = (headers[place], place + (usize::from(headers[place + 1]) + 1) * 8);
    }
    last
}

const NOTHING: Between = Between { what: "nothing", first: 0, octets: &[], written: &[] };

/// RFC 4302 appendix A1: two that are covered, and three of which routers write in two.
const OPTIONS: [Between; 6] = [
    NOTHING,
    Between { what: "router alert", octets: &[148, 4, 0, 0], ..NOTHING },
    Between { what: "security", octets: &[130, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1], ..NOTHING },
    Between { what: "record route", octets: &[7, 7, 4, 0, 0, 0, 0, 1], written: &[2, 3, 4, 5, 6], ..NOTHING },
    Between { what: "time stamp", octets: &[68, 8, 5, 0, 0, 0, 0, 0], written: &[2, 4, 5, 6, 7], ..NOTHING },
    Between { what: "source route", octets: &[131, 7, 4, 192, 0, 2, 7, 1], ..NOTHING },
];

/// RFC 4302 appendix A2: options that stay, options of which the contents may change, and both kinds of header.
const EXTENSIONS: [Between; 5] = [
    NOTHING,
    Between { what: "router alert", first: HOP_BY_HOP, octets: &[0, 0, 5, 2, 0, 0, 1, 0], written: &[] },
    Between {
        what: "what may change",
        first: HOP_BY_HOP,
        octets: &[0, 0, 0x3e, 4, 1, 2, 3, 4],
        written: &[4, 7],
    },
    Between {
        what: "for the destination",
        first: DESTINATION_OPTIONS,
        octets: &[0, 1, 0x1e, 4, 1, 2, 3, 4, 0x3e, 4, 5, 6, 7, 8, 1, 0],
        written: &[10, 11, 12, 13],
    },
    Between {
        what: "one of each",
        first: HOP_BY_HOP,
        octets: &[DESTINATION_OPTIONS, 0, 0x3e, 4, 1, 2, 3, 4, 0, 0, 1, 4, 0, 0, 0, 0],
        written: &[4, 5],
    },
];

const AH: u8 = 51;
const HOP_BY_HOP: u8 = 0;
const DESTINATION_OPTIONS: u8 = 60;
