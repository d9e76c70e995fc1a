//! The bodies of the fuzz targets: what a hostile network, and a hostile peer that has the key, can send.
//!
//! Each takes any bytes, checks what must hold whatever they are, and panics where it does not.

use std::collections::HashSet;

use crate::crypto::SealingKey;
use crate::error::{OpenError, ParseError, ReplayError};
use crate::header::EspHeader;
use crate::key::KeyMaterial;
use crate::number::{EsnHigh, SeqLow, SeqNum, Spi, Verified};
use crate::protocol::Protocol;
use crate::replay::{AntiReplay, ReplayWindow, WindowSize};
use crate::sa::{InboundConfig, InboundSa};
use crate::sequence::SequenceKind;
use crate::suite::Suite;
use crate::udp_encap::{self, Encapsulated};

pub use self::ah::ah_with_key;

mod ah;

/// RFC 3948, T03: a datagram on the NAT traversal port.
pub fn classify(datagram: &[u8]) {
    let parsed = EspHeader::parse(datagram);
    match udp_encap::classify(datagram) {
        Encapsulated::Keepalive => assert_eq!(datagram, [0xff]),
        Encapsulated::NonEsp(message) => {
            assert_eq!(message.len() + 4, datagram.len());
            assert!(datagram.iter().take(4).all(|&byte| byte == 0));
        }
        Encapsulated::Esp(header) => {
            assert_eq!(parsed, Ok(header));
            assert_eq!(datagram.first_chunk(), Some(&header.to_bytes()));
            assert!(!header.spi.is_reserved());
        }
        Encapsulated::ReservedSpi(spi) => assert_eq!(parsed, Err(ParseError::SpiReserved(spi))),
        Encapsulated::Runt => assert!(datagram.len() < 8),
    }
}

/// T01 to T03: a peer with the key seals any plaintext, trailer included; one byte may be changed on the way.
///
/// Input: the scene, the number (8 bytes), where to change a byte and by what (3 bytes), the plaintext.
pub fn open_with_key(input: &[u8]) {
    let Some((scene, input)) = Scene::of(input) else { return };
    let Some((&[a, b, c, d, e, f, g, h, at_high, at_low, change], plaintext)) = input.split_first_chunk()
    else {
        return;
    };
    let plaintext = scene.sealable(plaintext);
    let number = scene.numbered(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
    let mut packet = scene.seal(number, plaintext);
    let at = usize::from(u16::from_be_bytes([at_high, at_low])) % packet.len();
    if let Some(byte) = packet.get_mut(at) {
        *byte ^= change;
    }
    let whole = packet.len();
    let mut sa = scene.receiver(SeqNum(number.0 - 1));
    let (seq, opened) = match sa.open(number, &mut packet) {
        Ok((opened, seq)) => (seq, opened),
        Err(OpenError::Runt { needed, got }) => {
            assert!(got == whole && got < needed);
            return;
        }
        Err(OpenError::Unaligned { .. }) => unreachable!("what was sealed is whole blocks"),
        Err(other) => {
            assert_eq!(other, OpenError::IcvMismatch);
            assert_ne!(change, 0, "an unchanged packet did not open");
            let offset = scene.suite.payload_offset();
            assert!(packet.iter().skip(offset).take(plaintext.len()).all(|&byte| byte == 0));
            return;
        }
    };
    assert_eq!(change, 0, "a changed packet opened");
    assert_eq!(sa.commit(seq), Ok(()));
    assert_eq!(sa.top(), number);
    let inner = opened.decapsulate().map(|inner| (inner.next_header.0, inner.payload.to_vec()));
    assert_eq!(inner.ok(), expected(plaintext));
}

/// T03, T04: bytes from the network at an SA. Input: the scene, the top's high half, the packet.
pub fn open_raw(input: &[u8]) {
    let Some((scene, input)) = Scene::of(input) else { return };
    let Some((&[a, b, c, d], packet)) = input.split_first_chunk() else { return };
    let high = EsnHigh(u32::from_be_bytes([a, b, c, d]));
    let top = scene.numbered(SeqNum::from_halves(high, SeqLow(0x8000_0000)).0);
    let mut sa = scene.receiver(top);
    let mut packet = packet.to_vec();
    let seen = EspHeader::parse(&packet);
    let Ok(seq) = seen.map_err(drop).and_then(|header| sa.check(header.seq).map_err(drop)) else { return };
    match sa.open(seq, &mut packet) {
        Ok((opened, verified)) => {
            // The corpus holds packets sealed under this very key, so some of these are genuine.
            assert_eq!(*verified.get(), seq);
            assert_eq!(sa.commit(verified), Ok(()));
            if let Ok(inner) = opened.decapsulate() {
                let end = inner.offset + inner.payload.len();
                assert!(end + 2 + scene.suite.icv_len() <= packet.len());
            }
        }
        Err(OpenError::Runt { needed, got }) => assert!(got < needed),
        Err(OpenError::Unaligned { block, got }) => {
            assert!(got % block != 0 && block == 16)
        }
        Err(other) => {
            assert_eq!(other, OpenError::IcvMismatch);
            let (offset, icv) = (scene.suite.payload_offset(), scene.suite.icv_len());
            assert!(packet.iter().skip(offset).rev().skip(icv).all(|&byte| byte == 0));
            assert_eq!(sa.top(), top);
        }
    }
}

/// T07, T08: a window against an oracle. Input: window size (3 bytes), top (8 bytes), operations of 2 bytes each.
pub fn replay(input: &[u8]) {
    let Some((&[size_high, size_mid, size_low, a, b, c, d, e, f, g, h], operations)) =
        input.split_first_chunk()
    else {
        return;
    };
    let packets = u32::from_be_bytes([0, size_high, size_mid, size_low]);
    let Ok(size) = WindowSize::new(packets) else {
        assert!(!(32..=65536).contains(&packets));
        return;
    };
    let top = SeqNum(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
    let mut window = ReplayWindow::resume_after(size, top);
    let mut oracle = Oracle::resume_after(size, top);
    for operation in operations.chunks_exact(2) {
        if let &[kind, value] = operation {
            let seq = step(window.top(), size, kind, value);
            oracle.compare(&mut window, seq, kind & 0x80 == 0);
        }
    }
}

/// The number an operation is about: some distance from the top that has a meaning to a window.
fn step(top: SeqNum, size: WindowSize, kind: u8, value: u8) -> SeqNum {
    let value = u64::from(value);
    let distance = match kind & 0x0f {
        0 => 1,
        1 => value,
        2 => value << 4,
        3 => value * 64 + 1,
        4 => value * 64,
        5 => (value * 64).saturating_sub(1),
        6 => u64::from(size.get()) - 1,
        7 => u64::from(size.get()),
        8 => u64::from(size.get()) + value,
        9 => (1 << 31) + value,
        10 => (1 << 32) - value,
        11 => (1 << 32) + value,
        12 => value << 48,
        13 => return SeqNum(value),
        14 => return SeqNum(u64::MAX - value),
        _ => value << 8,
    };
    SeqNum(if kind & 0x40 == 0 { top.0.saturating_add(distance) } else { top.0.saturating_sub(distance) })
}

/// The window as RFC 4303 appendix A2.1 tells it, kept as a set of numbers.
pub(crate) struct Oracle {
    seen: HashSet<u64>,
    /// Every number up to here counts as seen.
    resumed: u64,
    top: u64,
    size: u64,
}

impl Oracle {
    pub(crate) fn resume_after(size: WindowSize, top: SeqNum) -> Self {
        Self { seen: HashSet::new(), resumed: top.0, top: top.0, size: u64::from(size.get()) }
    }

    /// Checks `seq` at both, commits it at both where `verified`, and compares every answer.
    pub(crate) fn compare(&mut self, window: &mut ReplayWindow, seq: SeqNum, verified: bool) {
        let verdict = self.verdict(seq.0);
        assert_eq!(window.check(seq), verdict, "{seq:?} with the top at {}", self.top);
        if verified {
            assert_eq!(window.commit(Verified::new(seq)), verdict, "{seq:?} with the top at {}", self.top);
            if verdict.is_ok() {
                self.seen.insert(seq.0);
                self.top = self.top.max(seq.0);
            }
        }
        assert_eq!(window.top().0, self.top);
    }

    fn verdict(&self, seq: u64) -> Result<(), ReplayError> {
        let bottom = i128::from(self.top) - i128::from(self.size) + 1;
        if seq == 0 {
            Err(ReplayError::Zero)
        } else if i128::from(seq) < bottom {
            Err(ReplayError::TooOld)
        } else if seq <= self.resumed || self.seen.contains(&seq) {
            Err(ReplayError::Replayed)
        } else {
            Ok(())
        }
    }
}

/// An SA as one byte chooses it, or two where the suite is a rare one, under a key everybody knows.
struct Scene {
    suite: Suite,
    sequence: SequenceKind,
    anti_replay: AntiReplay,
}

impl Scene {
    /// The scene, and what is left of the input.
    fn of(input: &[u8]) -> Option<(Self, &[u8])> {
        let (&choices, mut rest) = input.split_first()?;
        let suite = match (choices & 0x20 != 0, choices % 3) {
            _ if choices & 0x10 != 0 => {
                let (&rare, behind) = rest.split_first()?;
                rest = behind;
                let suites = Suite::all().filter(|suite| suite.protocol() == Protocol::Esp);
                suites.collect::<Vec<_>>().into_iter().cycle().nth(rare.into())?
            }
            (false, 0) => Suite::AES_128_GCM,
            (false, 1) => Suite::AES_256_GCM,
            (false, _) => Suite::CHACHA20_POLY1305,
            (true, 0) => Suite::AES_128_CBC_HMAC_SHA_256,
            (true, _) => Suite::AES_256_CBC_HMAC_SHA_256,
        };
        let sequence = if choices & 0x80 == 0 { SequenceKind::Seq32 } else { SequenceKind::Extended };
        let anti_replay =
            if choices & 0x40 == 0 { AntiReplay::Window(WindowSize::default()) } else { AntiReplay::Off };
        Some((Self { suite, sequence, anti_replay }, rest))
    }

    /// `number`, brought into the SA's range.
    fn numbered(&self, number: u64) -> SeqNum {
        SeqNum((number & self.sequence.last().0).max(1))
    }

    /// What of `plaintext` a sender can seal: all of it, or as much as makes whole blocks.
    fn sealable<'p>(&self, plaintext: &'p [u8]) -> &'p [u8] {
        let block = if self.suite.pad_alignment() == 16 { 16 } else { 1 };
        plaintext.get(..plaintext.len() - plaintext.len() % block).unwrap_or_default()
    }

    fn seal(&self, seq: SeqNum, plaintext: &[u8]) -> Vec<u8> {
        let header = EspHeader { spi: spi(), seq: seq.low() }.to_bytes();
        let mut packet =
            [&header[..], &vec![0; self.suite.iv_len()], plaintext, &vec![0; self.suite.icv_len()]].concat();
        let high = (self.sequence == SequenceKind::Extended).then(|| seq.high());
        let sealed = SealingKey::new(&self.keys()).map(|key: SealingKey| key.seal(seq, high, &mut packet));
        assert_eq!(sealed, Ok(Ok(())));
        packet
    }

    fn receiver(&self, top: SeqNum) -> InboundSa {
        let Self { suite, sequence, anti_replay } = *self;
        let config =
            InboundConfig { spi: spi(), suite, keys: &self.keys(), sequence, anti_replay, top: None };
        match InboundSa::resume_after(config, top) {
            Ok(sa) => sa,
            Err(error) => unreachable!("{error}"),
        }
    }

    fn keys(&self) -> KeyMaterial {
        keys(self.suite)
    }
}

/// The key everybody knows.
fn keys(suite: Suite) -> KeyMaterial {
    let octets: Vec<u8> = (0..).take(suite.material_len()).collect();
    match KeyMaterial::new(suite, &octets) {
        Ok(keys) => keys,
        Err(error) => unreachable!("{error}"),
    }
}

fn spi() -> Spi {
    match Spi::new(0xc0de_cafe) {
        Some(spi) => spi,
        None => unreachable!(),
    }
}

/// Next header and payload of a plaintext, or `None` where its trailer is bad, told backwards from RFC 4303
/// section 2.
fn expected(plaintext: &[u8]) -> Option<(u8, Vec<u8>)> {
    let mut rest = plaintext.to_vec();
    let next_header = rest.pop()?;
    let pad = rest.pop()?;
    if next_header != 59 {
        for padding in (1..=pad).rev() {
            if rest.pop()? != padding {
                return None;
            }
        }
    }
    Some((next_header, rest))
}
