//! Tests of the crate as a whole, and what they share.

use proptest::test_runner::{Config, RngSeed};

use crate::key::KeyMaterial;
use crate::number::{FreshSeq, FreshSeqs, SeqNum, Spi};
use crate::protocol::Protocol;
use crate::replay::{AntiReplay, WindowSize};
use crate::sa::{InboundConfig, InboundSa, OutboundConfig, OutboundSa};
use crate::sequence::SequenceKind;
use crate::suite::Suite;

mod ah;
mod backends;
mod cbc_hmac;
mod corpus;
mod doubt;
mod forged;
mod numbers;
mod packets;
mod vectors;
mod wycheproof;

/// Property tests run the same cases every time.
pub(crate) fn seeded(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(4303), failure_persistence: None, ..Config::default() }
}

pub(crate) const SPI: u32 = 0xc0de_cafe;
/// The suites whose encryption and integrity are one.
pub(crate) const AEADS: [Suite; 3] = [Suite::AES_128_GCM, Suite::AES_256_GCM, Suite::CHACHA20_POLY1305];
/// The suites of AES-CBC with HMAC-SHA-256-128.
pub(crate) const CBCS: [Suite; 2] = [Suite::AES_128_CBC_HMAC_SHA_256, Suite::AES_256_CBC_HMAC_SHA_256];

/// Every suite of ESP.
pub(crate) fn esp() -> impl Iterator<Item = Suite> {
    Suite::all().filter(|suite| suite.protocol() == Protocol::Esp)
}

/// Every suite of AH.
pub(crate) fn ah() -> impl Iterator<Item = Suite> {
    Suite::all().filter(|suite| suite.protocol() == Protocol::Ah)
}

/// Octets of IV, block and ICV, told from a suite's name and by none of the code under test (T23).
pub(crate) fn by_name(suite: Suite) -> (usize, usize, usize) {
    let name = suite.name();
    let has = |part: &str| name.contains(part);
    let iv = match () {
        () if has("cbc") => 16,
        () if has("iiv") || has("null") || (has("ah-") && !has("gmac")) => 0,
        () => 8,
    };
    let icv = match () {
        () if has("-ccm-8") || has("-gcm-8") => 8,
        () if has("-ccm-12") || has("-gcm-12") || has("sha-1") || has("sha-256-96") || has("aes-cmac") => 12,
        () if has("sha-384") => 24,
        () if has("sha-512") => 32,
        () => 16,
    };
    (iv, if has("cbc") { 16 } else { 4 }, icv)
}

pub(crate) const KINDS: [SequenceKind; 2] = [SequenceKind::Seq32, SequenceKind::Extended];

pub(crate) fn keys(suite: Suite) -> KeyMaterial {
    let octets: Vec<u8> = (0..).take(suite.material_len()).collect();
    KeyMaterial::new(suite, &octets).unwrap()
}

/// An SA that sends `next` next.
pub(crate) fn outbound(suite: Suite, sequence: SequenceKind, next: u64) -> OutboundSa {
    let config = OutboundConfig {
        spi: Spi::new(SPI).unwrap(),
        suite,
        keys: &keys(suite),
        sequence,
        reservation: None,
    };
    OutboundSa::resume_at(config, SeqNum(next)).unwrap()
}

/// The other end, which may have received everything up to `top`.
pub(crate) fn inbound(suite: Suite, sequence: SequenceKind, anti_replay: AntiReplay, top: u64) -> InboundSa {
    let config = InboundConfig {
        spi: Spi::new(SPI).unwrap(),
        suite,
        keys: &keys(suite),
        sequence,
        anti_replay,
        top: None,
    };
    InboundSa::resume_after(config, SeqNum(top)).unwrap()
}

pub(crate) fn window(packets: u32) -> AntiReplay {
    AntiReplay::Window(WindowSize::new(packets).unwrap())
}

pub(crate) fn fresh(number: u64) -> FreshSeq {
    FreshSeqs::new(number, 1).next_seq().unwrap()
}

/// A payload that repeats nowhere a block would.
pub(crate) fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// The sealed packet around `payload(len)`, in a buffer of its exact length.
pub(crate) fn sealed(sa: &OutboundSa, number: u64, len: usize) -> Vec<u8> {
    let mut packet = vec![0; sa.sealed_len(len)];
    let offset = sa.payload_offset();
    packet[offset..offset + len].copy_from_slice(&payload(len));
    let written = sa.seal(fresh(number), crate::NextHeader::IPV4, &mut packet, len).unwrap();
    assert_eq!(written, packet.len());
    packet
}
