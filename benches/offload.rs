//! What super-packets cost: cutting one, merging one, and the checksum both need. Times are per iteration; one
//! iteration of `segment` and `coalesce` is 48 packets of 1348 bytes.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test or a measurement ends where something is not as it should be"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use latchway_datapath::coalesce::{Coalescer, Offloads};
use latchway_datapath::segment::SuperPacket;
use latchway_datapath::virtio::{GSO_TCPV4, NEEDS_CSUM, VirtioNetHdr};
use zerocopy::IntoBytes;

const SEGMENTS: usize = 48;
const HEADERS: usize = 52;
const SEGMENT_SIZE: usize = 1348 - HEADERS;

/// A virtio header and one TCP super-packet with timestamps, as the kernel hands it out.
fn super_packet() -> Vec<u8> {
    let virtio = VirtioNetHdr {
        flags: NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: (HEADERS as u16).into(),
        gso_size: (SEGMENT_SIZE as u16).into(),
        csum_start: 20.into(),
        csum_offset: 16.into(),
    };
    let len = HEADERS + SEGMENTS * SEGMENT_SIZE;
    let mut ip = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    ip[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    let tcp = [0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x80, 0x10, 1, 0, 0, 0, 0, 0];
    let timestamps = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let payload: Vec<u8> = (0..SEGMENTS * SEGMENT_SIZE).map(|n| (n * 7 + n / 251) as u8).collect();
    [virtio.as_bytes(), &ip, &tcp, &timestamps, &payload].concat()
}

/// Its segments, end to end.
fn segments() -> Vec<u8> {
    let mut buf = super_packet();
    let mut out = vec![0; SEGMENTS * 1348];
    let mut segments = SuperPacket::parse(&mut buf).expect("the super-packet is right").segments();
    for room in out.chunks_mut(1348) {
        assert_eq!(segments.write_next(room), Some(1348));
    }
    out
}

fn segment(c: &mut Criterion) {
    let mut group = c.benchmark_group("offload");
    group.throughput(Throughput::Elements(SEGMENTS as u64));
    let mut buf = super_packet();
    let mut out = vec![0; SEGMENTS * 1348];
    group.bench_function("segment", |b| {
        b.iter(|| {
            let mut segments =
                SuperPacket::parse(black_box(&mut buf)).expect("the super-packet is right").segments();
            let mut end = 0;
            while let Some(len) = segments.write_next(&mut out[end..]) {
                end += len;
            }
            black_box(&out);
            assert_eq!(end, out.len());
        });
    });
    let buffer = segments();
    let mut coalescer = Coalescer::new(Offloads { tcp: true, udp: true });
    group.bench_function("coalesce", |b| {
        b.iter(|| {
            for n in 0..SEGMENTS {
                coalescer.push(black_box(&buffer), n * 1348..(n + 1) * 1348).expect("there is room");
            }
            assert_eq!(coalescer.units().map(|unit| unit.payload.len()).sum::<usize>(), SEGMENTS);
            coalescer.clear();
        });
    });
    group.finish();
}

/// One packet whose checksum is to be completed: the sum, and little else.
fn checksum(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for kib in [1usize, 16] {
        let len = kib * 1024;
        let virtio = VirtioNetHdr { flags: NEEDS_CSUM, csum_offset: 16.into(), ..VirtioNetHdr::default() };
        let mut buf = [virtio.as_bytes(), &vec![0x45; len]].concat();
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("{kib} KiB"), |b| {
            b.iter(|| SuperPacket::parse(black_box(&mut buf)).expect("a packet").segment_count());
        });
    }
    group.finish();
}

criterion_group!(benches, segment, checksum);
criterion_main!(benches);
