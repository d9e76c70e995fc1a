//! What ESP costs: seal and open by suite, size and width of numbers, beside the bare AEAD in the same run; and the
//! replay window by order of arrival.
//!
//! Opening destroys the packet, so `open` and its baseline both begin with the same copy; their difference is ESP's.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement ends where something is not as it should be"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use latchway_esp::{
    AntiReplay, EspHeader, HEADER_LEN, InboundConfig, InboundSa, KeyMaterial, NextHeader, OutboundConfig,
    OutboundSa, ReplayWindow, SeqLow, SeqNum, SequenceKind, Spi, Suite, Verified, WindowSize,
};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

const SIZES: [usize; 5] = [64, 512, 1348, 1420, 8900];
const KINDS: [(SequenceKind, &str); 2] = [(SequenceKind::Seq32, "seq32"), (SequenceKind::Extended, "esn")];
const ICV_LEN: usize = 16;

fn seal(criterion: &mut Criterion) {
    for suite in Suite::RECOMMENDED {
        let mut group = criterion.benchmark_group(format!("seal/{suite}"));
        for size in SIZES {
            group.throughput(Throughput::Bytes(size as u64));
            for (kind, name) in KINDS {
                let mut sa = outbound(suite, kind);
                let mut packet = vec![0; sa.sealed_len(size)];
                group.bench_function(BenchmarkId::new(name, size), |bencher| {
                    bencher.iter(|| seal_next(&mut sa, &mut packet, size));
                });
            }
            let Some(key) = bare_key(suite) else { continue };
            let mut packet = vec![0; suite.sealed_len(size)];
            group.bench_function(BenchmarkId::new("bare", size), |bencher| {
                let mut number = 0_u64;
                bencher.iter(|| {
                    number += 1;
                    let (aad, body, icv) = parts(&mut packet);
                    let tag = key.seal_in_place_separate_tag(nonce(number), Aad::from(aad), body).unwrap();
                    icv.copy_from_slice(tag.as_ref());
                });
            });
        }
        group.finish();
    }
}

fn open(criterion: &mut Criterion) {
    for suite in Suite::RECOMMENDED {
        let mut group = criterion.benchmark_group(format!("open/{suite}"));
        for size in SIZES {
            group.throughput(Throughput::Bytes(size as u64));
            for (kind, name) in KINDS {
                let sa = inbound(suite, kind);
                let mut sealed = vec![0; suite.sealed_len(size)];
                seal_next(&mut outbound(suite, kind), &mut sealed, size);
                let mut packet = sealed.clone();
                group.bench_function(BenchmarkId::new(name, size), |bencher| {
                    bencher.iter(|| {
                        packet.copy_from_slice(black_box(&sealed));
                        let seq = sa.check(EspHeader::parse(&packet).unwrap().seq).unwrap();
                        let (opened, verified) = sa.open(seq, &mut packet).unwrap();
                        let _ = black_box(verified);
                        black_box(opened.decapsulate().unwrap().payload.len())
                    });
                });
            }
            open_bare(&mut group, suite, size);
        }
        group.finish();
    }
}

fn open_bare(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    suite: Suite,
    size: usize,
) {
    let Some(key) = bare_key(suite) else { return };
    let mut sealed = vec![0; suite.sealed_len(size)];
    let (aad, body, icv) = parts(&mut sealed);
    let tag = key.seal_in_place_separate_tag(nonce(1), Aad::from(aad), body).unwrap();
    icv.copy_from_slice(tag.as_ref());
    let mut packet = sealed.clone();
    group.bench_function(BenchmarkId::new("bare", size), |bencher| {
        bencher.iter(|| {
            packet.copy_from_slice(black_box(&sealed));
            let (aad, body, icv) = parts(&mut packet);
            let tag = <[u8; ICV_LEN]>::try_from(&*icv).unwrap();
            let opened = key.open_in_place_separate_tag(nonce(1), Aad::from(aad), tag.into(), body, 0..);
            black_box(opened.unwrap().len())
        });
    });
}

/// Check and commit, as two packets of a batch would see them.
fn replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay");
    // Making verified numbers takes far longer than what is measured, so few are made.
    group.warm_up_time(Duration::from_millis(20)).measurement_time(Duration::from_millis(50)).sample_size(50);
    for (order, shuffled) in [("sequential", false), ("random", true)] {
        for packets in [64, 4096, 65536] {
            group.bench_function(BenchmarkId::new(order, packets), |bencher| {
                bencher.iter_custom(|iterations| commit_run(packets, shuffled, iterations));
            });
        }
    }
    for packets in [64, 4096, 65536] {
        let config = window(packets);
        let sa = inbound_with(Suite::AES_128_GCM, SequenceKind::Extended, config);
        group.bench_function(BenchmarkId::new("check-esn", packets), |bencher| {
            bencher.iter(|| sa.check(black_box(SeqLow(7))));
        });
    }
    group.finish();
}

/// The time that `iterations` numbers take at one window, made and put in order outside the measured stretch.
fn commit_run(packets: u32, shuffled: bool, iterations: u64) -> Duration {
    let (mut sender, receiver) = (
        outbound(Suite::AES_128_GCM, SequenceKind::Extended),
        inbound(Suite::AES_128_GCM, SequenceKind::Extended),
    );
    let mut replay = ReplayWindow::new(WindowSize::new(packets).unwrap());
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut spent = Duration::ZERO;
    let mut left = iterations;
    while left > 0 {
        // Never more than the window spans, so that an order of any kind is accepted whole.
        let count = left.min(u64::from(packets)).min(1024);
        let mut run: Vec<Verified<SeqNum>> = (0..count).map(|_| verified(&mut sender, &receiver)).collect();
        if shuffled {
            for at in (1..run.len()).rev() {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                run.swap(at, (random % (at as u64 + 1)) as usize);
            }
        }
        let started = Instant::now();
        for seq in run {
            replay.check(*seq.get()).unwrap();
            replay.commit(seq).unwrap();
        }
        spent += started.elapsed();
        left -= count;
    }
    spent
}

/// The sender's next number, as the receiver's integrity check hands it out.
fn verified(sender: &mut OutboundSa, receiver: &InboundSa) -> Verified<SeqNum> {
    let mut packet = [0; 64];
    let len = seal_next(sender, &mut packet, 0);
    receiver.open(sender.counter().taken(), &mut packet[..len]).unwrap().1
}

fn seal_next(sa: &mut OutboundSa, packet: &mut [u8], size: usize) -> usize {
    let seq = sa.take(1).unwrap().next_seq().unwrap();
    sa.seal(seq, NextHeader::IPV4, packet, size).unwrap()
}

fn outbound(suite: Suite, sequence: SequenceKind) -> OutboundSa {
    OutboundSa::new(OutboundConfig { spi: spi(), suite, keys: &keys(suite), sequence, reservation: None })
        .unwrap()
}

fn inbound(suite: Suite, sequence: SequenceKind) -> InboundSa {
    inbound_with(suite, sequence, window(4096))
}

fn inbound_with(suite: Suite, sequence: SequenceKind, anti_replay: AntiReplay) -> InboundSa {
    InboundSa::new(InboundConfig { spi: spi(), suite, keys: &keys(suite), sequence, anti_replay, top: None })
        .unwrap()
}

fn window(packets: u32) -> AntiReplay {
    AntiReplay::Window(WindowSize::new(packets).unwrap())
}

fn spi() -> Spi {
    Spi::new(0xc0de_cafe).unwrap()
}

fn keys(suite: Suite) -> KeyMaterial {
    KeyMaterial::new(suite, &vec![0x42; suite.key_len() + suite.salt_len()]).unwrap()
}

/// The same cipher without ESP around it, where it is an AEAD.
fn bare_key(suite: Suite) -> Option<LessSafeKey> {
    let algorithm = match suite {
        Suite::AES_128_GCM => &AES_128_GCM,
        Suite::AES_256_GCM => &AES_256_GCM,
        Suite::CHACHA20_POLY1305 => &CHACHA20_POLY1305,
        _ => return None,
    };
    Some(LessSafeKey::new(UnboundKey::new(algorithm, &vec![0x42; suite.key_len()]).unwrap()))
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0x42; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Additional data, protected part and ICV, as long as ESP would have them.
fn parts(packet: &mut [u8]) -> ([u8; HEADER_LEN], &mut [u8], &mut [u8]) {
    let (header, rest) = packet.split_first_chunk_mut::<HEADER_LEN>().unwrap();
    let (body, icv) = rest[8..].split_last_chunk_mut::<ICV_LEN>().unwrap();
    (*header, body, icv)
}

criterion_group!(benches, seal, open, replay);
criterion_main!(benches);
