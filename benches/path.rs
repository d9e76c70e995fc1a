//! What a batch costs from one end of a street to the other, through the real shim and key manager, beside the bare AEAD
//! calls on the same octets in the same run: what is above that is parsing, latch, SAD, windows, cutting and merging.
//!
//! In memory, so without what the system calls around it cost. One iteration is one batch: a packet of 64 octets, or a
//! TCP super-packet that becomes 45 packets of 1348 and is merged again at the other end.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement ends where something is not as it should be"
)]

#[expect(dead_code, reason = "these benches need neither faults nor a third gateway")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use latchway_datapath::arrival::Arrival;
use latchway_datapath::outbound::Outbound;
use latchway_datapath::spd::Protection;
use latchway_esp::{HEADER_LEN, Suite};
use ring::aead::{AES_128_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::support::gateway::Terms;
use crate::support::net::{ALICE, BOB, Net, join};
use crate::support::packet::{Flow, with_header};

const SUITES: [Suite; 2] = [Suite::AES_128_GCM, Suite::CHACHA20_POLY1305];
const PROTECTIONS: [(&str, Protection); 2] =
    [("latched", Protection::LATCHED), ("unlatched", Protection::UNLATCHED)];
const BATCHES: [Batch; 2] = [Batch { packets: 1, packet_len: 64 }, Batch { packets: 45, packet_len: 1348 }];

/// Octets at the start of a super-packet in which its parser may complete what the kernel left open.
const HEADERS: usize = 64;

/// As all suites have them (RFC 4106, RFC 7634).
const IV_LEN: usize = 8;
const ICV_LEN: usize = 16;

#[derive(Clone, Copy)]
struct Batch {
    packets: usize,
    packet_len: usize,
}

/// Two gateways with an open flow between them, and what is sent by it.
struct Bed {
    net: Net,
    octets: Vec<u8>,
    template: Vec<u8>,
}

impl Batch {
    fn id(self, name: &str) -> BenchmarkId {
        BenchmarkId::new(name, format!("{}x{}", self.packets, self.packet_len))
    }

    /// How many batches are made ready before their opening is timed: enough to hide the clock's own cost, few enough
    /// to stay in the cache.
    const fn at_a_time(self) -> u64 {
        if self.packets == 1 { 64 } else { 1 }
    }
}

impl Bed {
    fn new(suite: Suite, protection: Protection, batch: Batch) -> Self {
        let mut net = Net::new(protection);
        join(&mut net.alice, &mut net.bob, &Terms { suite, ..Terms::default() }, net.now);
        let (tcp, udp) =
            (Flow::tcp("10.0.1.10:40000", "10.0.2.20:80"), Flow::udp("10.0.1.10:5000", "10.0.2.20:53"));
        for (from, packet) in [
            (ALICE, tcp.syn()),
            (BOB, tcp.reversed().syn_ack()),
            (ALICE, tcp.data(1, b"")),
            (ALICE, udp.datagram(b"")),
            (BOB, udp.reversed().datagram(b"")),
        ] {
            assert_eq!(net.send(from, &packet).len(), 1);
        }
        let template = match batch.packets {
            1 => with_header(&udp.datagram(&vec![0x42; batch.packet_len - 28])),
            packets => tcp.super_packet(1, packets, batch.packet_len),
        };
        Self { net, octets: template.clone(), template }
    }

    /// One batch of the outbound street. What it changed of the last super-packet is put back first.
    fn outbound(&mut self) -> usize {
        let headers = HEADERS.min(self.template.len());
        self.octets[..headers].copy_from_slice(&self.template[..headers]);
        let alice = &mut self.net.alice;
        alice.datapath.begin(self.net.now);
        alice.batch.clear();
        assert_eq!(alice.datapath.outbound(&mut self.octets, &mut alice.batch), Outbound::Sealed);
        alice.datapath.end();
        alice.batch.runs().map(|run| run.len()).sum()
    }

    /// One batch of the inbound street.
    fn inbound(&mut self, (train, segment_size): &mut (Vec<u8>, usize)) -> usize {
        let bob = &mut self.net.bob;
        bob.datapath.begin(self.net.now);
        bob.units.clear();
        let arrival = Arrival::udp(*segment_size, ALICE.address());
        bob.datapath.inbound(black_box(train), &arrival, &mut bob.units);
        bob.datapath.end();
        bob.units.units().map(|unit| unit.payload.len()).sum()
    }

    /// What alice sends next.
    fn train(&mut self) -> (Vec<u8>, usize) {
        self.outbound();
        let run = self.net.alice.batch.runs().next().unwrap();
        (run.bytes.to_vec(), run.segment_size)
    }
}

fn outbound(criterion: &mut Criterion) {
    for suite in SUITES {
        let mut group = criterion.benchmark_group(format!("path/outbound/{suite}"));
        for batch in BATCHES {
            group.throughput(Throughput::Elements(batch.packets as u64));
            for (name, protection) in PROTECTIONS {
                let mut bed = Bed::new(suite, protection, batch);
                group.bench_function(batch.id(name), |bencher| {
                    bencher.iter(|| assert_eq!(bed.outbound(), batch.packets));
                });
            }
            let (key, mut packets) = (bare_key(suite), bare_packets(suite, batch));
            let mut number = 0;
            group.bench_function(batch.id("bare"), |bencher| {
                bencher.iter(|| {
                    number += 1;
                    packets.iter_mut().for_each(|packet| seal(&key, number, packet));
                });
            });
        }
        group.finish();
    }
}

fn inbound(criterion: &mut Criterion) {
    for suite in SUITES {
        let mut group = criterion.benchmark_group(format!("path/inbound/{suite}"));
        for batch in BATCHES {
            group.throughput(Throughput::Elements(batch.packets as u64));
            for (name, protection) in PROTECTIONS {
                let mut bed = Bed::new(suite, protection, batch);
                group.bench_function(batch.id(name), |bencher| {
                    bencher.iter_custom(|iterations| {
                        each_prepared(&mut bed, (batch, iterations), Bed::train, |bed, train| {
                            assert_eq!(bed.inbound(train), batch.packets);
                        })
                    });
                });
            }
            let key = bare_key(suite);
            let mut sealed = bare_packets(suite, batch);
            sealed.iter_mut().for_each(|packet| seal(&key, 1, packet));
            group.bench_function(batch.id("bare"), |bencher| {
                bencher.iter_custom(|iterations| {
                    let prepare = |sealed: &mut Vec<Vec<u8>>| sealed.clone();
                    each_prepared(&mut sealed, (batch, iterations), prepare, |_, packets| {
                        packets.iter_mut().for_each(|packet| open(&key, 1, packet));
                    })
                });
            });
        }
        group.finish();
    }
}

/// The time that `iterations` batches take, apart from making them ready: each can be opened only once.
fn each_prepared<B, P>(
    bed: &mut B,
    (batch, iterations): (Batch, u64),
    prepare: impl Fn(&mut B) -> P,
    measured: impl Fn(&mut B, &mut P),
) -> Duration {
    let (mut left, mut spent) = (iterations, Duration::ZERO);
    while left > 0 {
        let count = left.min(batch.at_a_time());
        let mut prepared: Vec<P> = (0..count).map(|_| prepare(bed)).collect();
        let started = Instant::now();
        prepared.iter_mut().for_each(|one| measured(bed, one));
        spent += started.elapsed();
        left -= count;
    }
    spent
}

/// The same cipher without anything around it.
fn bare_key(suite: Suite) -> LessSafeKey {
    let algorithm = if suite == Suite::CHACHA20_POLY1305 { &CHACHA20_POLY1305 } else { &AES_128_GCM };
    LessSafeKey::new(UnboundKey::new(algorithm, &vec![0x42; suite.key_len()]).unwrap())
}

/// ESP packets as long as those of a batch.
fn bare_packets(suite: Suite, batch: Batch) -> Vec<Vec<u8>> {
    vec![vec![0x42; suite.sealed_len(batch.packet_len)]; batch.packets]
}

fn seal(key: &LessSafeKey, number: u64, packet: &mut [u8]) {
    let (aad, body, icv) = parts(packet);
    let tag = key.seal_in_place_separate_tag(nonce(number), Aad::from(aad), body).unwrap();
    icv.copy_from_slice(tag.as_ref());
}

fn open(key: &LessSafeKey, number: u64, packet: &mut [u8]) {
    let (aad, body, icv) = parts(packet);
    let opened = key.open_in_place_separate_tag(nonce(number), Aad::from(aad), (*icv).into(), body, 0..);
    black_box(opened.unwrap().len());
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0x42; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Additional data, protected part and ICV, as long as ESP has them.
fn parts(packet: &mut [u8]) -> ([u8; HEADER_LEN], &mut [u8], &mut [u8; ICV_LEN]) {
    let (header, rest) = packet.split_first_chunk_mut::<HEADER_LEN>().unwrap();
    let (body, icv) = rest[IV_LEN..].split_last_chunk_mut::<ICV_LEN>().unwrap();
    (*header, body, icv)
}

criterion_group!(benches, outbound, inbound);
criterion_main!(benches);
