//! What merges, what does not, and where everything stays in order.

use super::*;
use crate::fuzz_offload::{described, round_trip};

const BOTH: Offloads = Offloads { tcp: true, udp: true };
const TCP4: [u8; 8] = [64, 0, 1, 0, 4, 0, 0, 0];
const UDP6: [u8; 8] = [3, 0, 1, 0, 4, 0, 0, 0];

fn with(record: [u8; 8], at: usize, value: u8) -> [u8; 8] {
    let mut record = record;
    record[at] = value;
    record
}

fn units(records: &[[u8; 8]]) -> usize {
    round_trip(&described(records.as_flattened()), BOTH)
}

/// Architecture section 6: neighbours become one write, and no more than the kernel takes.
#[test]
fn neighbours_merge_up_to_the_limits() {
    assert_eq!(units(&[TCP4; 40]), 1);
    assert_eq!(units(&[UDP6; 40]), 1);
    assert_eq!(units(&[with(UDP6, 4, 0); 3]), 3, "empty datagrams");
    let small = with(with(UDP6, 4, 0), 5, 100);
    assert_eq!(units(&[small; 64]), 1);
    assert_eq!(units(&[small; 65]), 2);
    assert_eq!(units(&[TCP4; 65]), 2, "64 KiB");
}

/// T28: what segmentation could not restore keeps packets apart.
#[test]
fn differences_do_not_merge() {
    for (what, at, value, expected) in [
        ("a gap in the sequence", 2, 250, 2),
        ("FIN", 1, 0xf1, 3),
        ("SYN", 1, 0xf2, 3),
        ("RST", 1, 0xf4, 3),
        ("URG", 1, 0xf0, 3),
        ("a jump of the identification", 3, 250, 2),
        ("congestion experienced", 6, 243, 3),
        ("another flow", 0, 64 | 16, 2),
        ("other options", 0, 0, 3),
        ("damage to the payload", 7, 200, 1),
    ] {
        let found = units(&[TCP4, TCP4, with(TCP4, at, value), TCP4, TCP4]);
        assert_eq!(found, expected, "{what}");
    }
    let damaged = with(with(TCP4, 0, 64 | 128), 7, 200);
    assert_eq!(units(&[TCP4, TCP4, damaged, TCP4, TCP4]), 3, "a checksum that does not verify");
}

/// RFC 9293 section 3.9.1.2: pushed data is not held together with what follows. A short segment ends a unit too.
#[test]
fn push_and_a_short_segment_end_the_unit() {
    assert_eq!(units(&[TCP4, with(TCP4, 1, 8), TCP4]), 2);
    assert_eq!(units(&[TCP4, with(TCP4, 4, 1), TCP4]), 2);
    assert_eq!(units(&[UDP6, with(UDP6, 4, 1), UDP6]), 2);
    assert_eq!(units(&[UDP6, with(UDP6, 4, 5)]), 2, "a longer one");
}

/// RFC 6864 section 4.1: the identification may stand still only where the packet is never fragmented.
#[test]
fn an_identification_that_stands_still() {
    assert_eq!(units(&[[64 | 4 | 8, 0, 1, 0, 4, 0, 0, 0]; 4]), 1);
    assert_eq!(units(&[[64 | 8, 0, 1, 0, 4, 0, 0, 0]; 4]), 4);
}

/// Interleaved flows merge side by side, eight at a time.
#[test]
fn flows_grow_side_by_side() {
    let flow = |n: u8| [64 | n << 4, 0, 1, 0, 4, 0, 0, 0];
    let records: Vec<[u8; 8]> = (0..40).map(|n| flow(n % 4)).collect();
    assert_eq!(units(&records), 4);
}

/// T29: what belongs to no flow that can be known, such as a fragment, is overtaken by nothing.
#[test]
fn a_fragment_is_not_overtaken() {
    let udp4 = [2, 0, 1, 0, 4, 0, 0, 0];
    let packets = described([udp4, udp4, with(udp4, 7, 255), udp4, udp4].as_flattened());
    let mut coalescer = Coalescer::new(BOTH);
    let mut buffer = Vec::new();
    for packet in &packets {
        let start = buffer.len();
        buffer.extend_from_slice(packet);
        coalescer.push(&buffer, start..buffer.len()).unwrap();
    }
    let parts: Vec<usize> = coalescer.units().map(|unit| unit.payload.len()).collect();
    assert_eq!(parts, [2, 1, 2]);
}

/// T28: a plain TUN gets every packet by itself, untouched, behind a virtio header of zeros.
#[test]
fn without_offloads_nothing_is_touched() {
    let packets = described([TCP4; 3].as_flattened());
    let buffer = packets.concat();
    let mut coalescer = Coalescer::new(Offloads::NONE);
    let mut start = 0;
    for packet in &packets {
        coalescer.push(&buffer, start..start + packet.len()).unwrap();
        start += packet.len();
    }
    let units: Vec<_> = coalescer.units().collect();
    assert_eq!(units.len(), 3);
    for (unit, packet) in units.iter().zip(&packets) {
        assert!(!unit.is_merged());
        assert_eq!(unit.header, [0; VNET_HDR_LEN]);
        assert_eq!(&buffer[unit.payload[0].clone()], packet);
    }
}

/// A full coalescer refuses before it takes, and an empty range is no packet.
#[test]
fn full_is_said_in_time() {
    let buffer = [0u8; 64];
    let mut coalescer = Coalescer::new(BOTH);
    assert_eq!(coalescer.push(&buffer, 3..3), Ok(()));
    assert_eq!(coalescer.push(&buffer, 60..70), Ok(()));
    assert!(coalescer.is_empty());
    for _ in 0..MAX_UNITS {
        assert_eq!(coalescer.push(&buffer, 0..40), Ok(()));
    }
    assert!(coalescer.is_full());
    assert_eq!(coalescer.push(&buffer, 0..40), Err(Full));
    assert_eq!(coalescer.units().count(), MAX_UNITS);
    coalescer.clear();
    assert_eq!(coalescer.push(&buffer, 0..40), Ok(()));
}
