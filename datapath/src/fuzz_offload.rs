//! What fuzzers and property tests do with segmentation and coalescing (T28).
//!
//! Both bodies take any bytes. They panic on a broken promise, never on bad input.

use zerocopy::{FromBytes, IntoBytes, U16, U32};

use crate::checksum::Sum;
use crate::coalesce::{Coalescer, Offloads, Unit};
use crate::segment::SuperPacket;
use crate::segment::header::{
    ACK, DONT_FRAGMENT, Ipv4, Ipv6, Layout, PSH, TCP, Tcp, UDP, Udp, Upper, Version,
};
use crate::virtio::{GSO_NONE, VNET_HDR_LEN, VirtioNetHdr};

/// `data` is a virtio header and a packet, as hostile as can be: either it is refused, or every segment is a packet with
/// right lengths and checksums, and together they carry exactly the payload.
pub fn segment(data: &[u8]) {
    let mut buf = data.to_vec();
    let is_single =
        VirtioNetHdr::ref_from_prefix(data).is_ok_and(|(virtio, _)| virtio.gso_type & 0x7f == GSO_NONE);
    let Ok(parsed) = SuperPacket::parse(&mut buf) else { return };
    let (count, longest, total) = (parsed.segment_count(), parsed.max_segment_len(), parsed.total_payload());
    let whole = parsed.packet().to_vec();
    let mut segments = parsed.segments();
    let mut out = vec![0; longest];
    let (mut written, mut payload) = (0, Vec::new());
    while let Some(len) = segments.write_next(&mut out) {
        let packet = out.get(..len).unwrap_or_default();
        written += 1;
        if is_single {
            assert_eq!(packet, whole, "a single packet is handed on as it is");
            return;
        }
        payload.extend_from_slice(intact_payload(packet));
    }
    assert!(!segments.overflowed(), "the longest segment was announced too short");
    assert_eq!(segments.remaining(), 0);
    assert_eq!(written, count);
    assert_eq!(payload.len(), total);
    assert!(whole.ends_with(&payload));
    too_short_a_buffer_is_an_error(data, longest);
}

/// `data` describes packets of a few flows, one record each; merged and taken apart again they are what they were, and
/// in order within each flow.
pub fn coalesce(data: &[u8]) {
    let packets = described(data);
    for offloads in [
        Offloads { tcp: true, udp: true },
        Offloads { tcp: true, udp: false },
        Offloads { tcp: false, udp: true },
        Offloads::NONE,
    ] {
        round_trip(&packets, offloads);
    }
}

/// The packets that `data` describes, eight bytes each: mostly neighbours that could be merged, with every difference
/// that must keep them apart.
pub(crate) fn described(data: &[u8]) -> Vec<Vec<u8>> {
    let mut flows = [const { State { seq: 0xffff_f000, id: 0xfffa } }; 8];
    let (records, _) = data.as_chunks::<8>();
    records.iter().filter_map(|record| describe(record, &mut flows)).collect()
}

/// split(coalesce(x)) = x. Returns how many units there were.
pub(crate) fn round_trip(packets: &[Vec<u8>], offloads: Offloads) -> usize {
    let mut coalescer = Coalescer::new(offloads);
    let (mut buffer, mut units, mut result) = (Vec::new(), 0, Vec::new());
    for packet in packets {
        let start = buffer.len();
        buffer.extend_from_slice(packet);
        if coalescer.push(&buffer, start..buffer.len()).is_err() {
            units += take_apart(&mut coalescer, &buffer, &mut result);
            assert!(coalescer.push(&buffer, start..buffer.len()).is_ok(), "an empty coalescer is full");
        }
    }
    units += take_apart(&mut coalescer, &buffer, &mut result);
    // Sorted by flow, and nothing moved within one: equal only if none was lost, changed, made or overtaken.
    let mut before = packets.to_vec();
    before.sort_by_cached_key(|packet| flow_of(packet));
    result.sort_by_cached_key(|packet| flow_of(packet));
    assert!(before == result, "a packet was lost, changed, made, or overtook another of its flow");
    units
}

fn take_apart(coalescer: &mut Coalescer, buffer: &[u8], result: &mut Vec<Vec<u8>>) -> usize {
    let mut units = 0;
    for unit in coalescer.units() {
        let mut parts = unit.parts();
        let mut packets = Vec::new();
        while let Some(part) = parts.next_part(buffer) {
            let header = part.header.get(VNET_HDR_LEN..).unwrap_or_default();
            packets.push([header, part.payload].concat());
        }
        assert_eq!(packets.len(), unit.payload.len());
        agrees_with_segmentation(&unit, buffer, &packets);
        result.append(&mut packets);
        units += 1;
    }
    coalescer.clear();
    units
}

/// What the kernel would make of the unit is what went into it.
fn agrees_with_segmentation(unit: &Unit<'_>, buffer: &[u8], packets: &[Vec<u8>]) {
    let payload = unit.payload.iter().filter_map(|range| buffer.get(range.clone()));
    let mut written = [unit.header, &payload.flatten().copied().collect::<Vec<u8>>()].concat();
    assert!(written.len() <= 65_535 + VNET_HDR_LEN || !unit.is_merged());
    let parsed = SuperPacket::parse(&mut written);
    let Ok(parsed) = parsed else {
        assert!(!unit.is_merged(), "a merged unit must be valid: {parsed:?}");
        return;
    };
    assert_eq!(parsed.segment_count(), packets.len());
    let mut segments = parsed.segments();
    let mut out = vec![0; 65_535 * 2];
    for packet in packets {
        let len = segments.write_next(&mut out).unwrap_or_default();
        let cut = out.get(..len).unwrap_or_default();
        assert!(without_atomic_id(cut) == without_atomic_id(packet), "cut differently than merged");
    }
}

/// RFC 6864 section 4.1: in a packet that is never fragmented the identification means nothing.
fn without_atomic_id(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if let Ok((ip, _)) = Ipv4::mut_from_prefix(&mut packet)
        && ip.version_ihl >> 4 == 4
        && ip.fragment.get() & DONT_FRAGMENT != 0
    {
        (ip.id, ip.checksum) = (U16::ZERO, [0; 2]);
    }
    packet
}

fn intact_payload(packet: &[u8]) -> &[u8] {
    let layout = Layout::parse(packet);
    assert!(layout.is_ok(), "a segment has wrong lengths: {layout:?}");
    let Ok(layout) = layout else { return &[] };
    let (ip, upper) = packet.split_at_checked(layout.upper_start).unwrap_or_default();
    assert!(layout.version == Version::V6 || Sum::ZERO.bytes(ip).is_intact(), "IPv4 header checksum");
    let len = u16::try_from(upper.len()).unwrap_or_default();
    assert!(layout.pseudo_sum(packet).u16(len).bytes(upper).is_intact(), "upper-layer checksum");
    packet.get(layout.header_len..).unwrap_or_default()
}

fn too_short_a_buffer_is_an_error(data: &[u8], longest: usize) {
    let mut buf = data.to_vec();
    let Ok(parsed) = SuperPacket::parse(&mut buf) else { return };
    let mut segments = parsed.segments();
    let mut out = vec![0; longest - 1];
    while segments.write_next(&mut out).is_some() {}
    assert!(segments.overflowed());
    assert_eq!(segments.write_next(&mut vec![0; longest]), None);
}

/// Version, addresses, protocol and ports, or everything there is of a packet whose flow cannot be known.
fn flow_of(packet: &[u8]) -> Vec<u8> {
    let Ok(layout) = Layout::parse(packet) else { return packet.to_vec() };
    let addresses = match layout.version {
        Version::V4 => packet.get(12..20),
        Version::V6 => packet.get(8..40),
    };
    let ports = packet.get(layout.upper_start..layout.upper_start + 4);
    [addresses.unwrap_or_default(), ports.unwrap_or_default(), &[layout.upper.protocol()]].concat()
}

struct State {
    seq: u32,
    id: u16,
}

fn describe(record: &[u8; 8], flows: &mut [State; 8]) -> Option<Vec<u8>> {
    let [kind, flags, seq_step, id_step, len_high, len_low, traffic, damage] = *record;
    let (v6, udp, atomic, fixed_id) = (kind & 1 != 0, kind & 2 != 0, kind & 4 != 0, kind & 8 != 0);
    let (options, damaged) = (kind & 64 != 0, kind & 128 != 0);
    let flow = usize::from(kind >> 4 & 3) * 2 + usize::from(udp);
    let state = flows.get_mut(flow)?;
    let payload_len = usize::from(u16::from_be_bytes([len_high, len_low])) % 1441;
    if seq_step >= 240 {
        state.seq = state.seq.wrapping_add(u32::from(seq_step));
    }
    state.id = match id_step {
        240.. => state.id.wrapping_add(u16::from(id_step)),
        _ if fixed_id => state.id,
        _ => state.id.wrapping_add(1),
    };
    let flags = if flags >= 224 { flags } else { ACK | flags & PSH };
    let upper = if udp { udp_header(payload_len) } else { tcp_header(state.seq, flags, options) };
    state.seq = state.seq.wrapping_add(payload_len as u32);
    let payload = (0..payload_len).map(|n| (n as u8).wrapping_mul(seq_step | 1)).collect::<Vec<u8>>();
    let traffic = if traffic >= 240 { traffic & 3 } else { 0 };
    let protocol = if udp { UDP } else { TCP };
    let body = [upper, payload].concat();
    let mut packet = if v6 {
        [ipv6(flow, traffic, protocol, body.len()).as_bytes(), &body].concat()
    } else {
        let fragment = if atomic { DONT_FRAGMENT } else { u16::from(damage == 255) << 13 };
        [ipv4(flow, traffic, protocol, body.len(), (state.id, fragment)).as_bytes(), &body].concat()
    };
    set_checksum(&mut packet);
    if damaged {
        let at = usize::from(damage) % packet.len();
        *packet.get_mut(at)? ^= 1 << (damage & 7);
    }
    Some(packet)
}

fn ipv4(flow: usize, tos: u8, protocol: u8, len: usize, (id, fragment): (u16, u16)) -> Ipv4 {
    let mut ip = Ipv4 {
        version_ihl: 0x45,
        tos,
        total_len: U16::new((size_of::<Ipv4>() + len) as u16),
        id: U16::new(id),
        fragment: U16::new(fragment),
        ttl: 64,
        protocol,
        checksum: [0; 2],
        source: [192, 0, 2, flow as u8],
        destination: [198, 51, 100, 1],
    };
    ip.checksum = Sum::ZERO.bytes(ip.as_bytes()).checksum();
    ip
}

fn ipv6(flow: usize, traffic: u8, next_header: u8, len: usize) -> Ipv6 {
    let [mut source, mut destination] = [[0x20; 16]; 2];
    (source[15], destination[15]) = (flow as u8, 0xff);
    Ipv6 {
        version_class_label: U32::new(0x6000_0000 | u32::from(traffic) << 20 | flow as u32),
        payload_len: U16::new(len as u16),
        next_header,
        hop_limit: 64,
        source,
        destination,
    }
}

fn tcp_header(seq: u32, flags: u8, options: bool) -> Vec<u8> {
    let tcp = Tcp {
        ports: [0x12, 0x34, 0x00, 0x50],
        seq: U32::new(seq),
        ack: U32::new(7),
        offset_reserved: if options { 8 << 4 } else { 5 << 4 },
        flags,
        window: U16::new(502),
        checksum: [0; 2],
        urgent: U16::ZERO,
    };
    let timestamps: &[u8] = if options { &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2] } else { &[] };
    [tcp.as_bytes(), timestamps].concat()
}

fn udp_header(payload_len: usize) -> Vec<u8> {
    let len = U16::new((size_of::<Udp>() + payload_len) as u16);
    Udp { ports: [0x12, 0x34, 0x00, 0x50], len, checksum: [0; 2] }.as_bytes().to_vec()
}

fn set_checksum(packet: &mut [u8]) {
    let Ok(layout) = Layout::parse(packet) else { return };
    let sum = layout.pseudo_sum(packet);
    let Some(upper) = packet.get_mut(layout.upper_start..) else { return };
    let sum = sum.u16(upper.len() as u16).bytes(upper);
    let checksum = if layout.upper == Upper::Udp { sum.udp_checksum() } else { sum.checksum() };
    let field = upper.get_mut(layout.upper.checksum_offset()..).and_then(|rest| rest.first_chunk_mut());
    if let Some(field) = field {
        *field = checksum;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::collection::vec;
    use proptest::prelude::any;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

    use super::*;

    fn replay(corpus: &str, body: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(corpus);
        let mut seeds: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        seeds.sort();
        assert!(!seeds.is_empty(), "{} is empty", folder.display());
        for seed in seeds {
            body(&fs::read(seed).unwrap());
        }
    }

    fn runner(cases: u32) -> TestRunner {
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
    }

    /// T28: what fuzzing found stays found.
    #[test]
    fn corpora_replay() {
        replay("datapath_segment", segment);
        replay("datapath_coalesce", coalesce);
    }

    /// T28: split(coalesce(x)) = x, whatever stands beside whatever.
    #[test]
    fn merging_is_undone_exactly() {
        runner(150)
            .run(&vec(any::<u8>(), 0..8 * 120), |data| {
                coalesce(&data);
                Ok(())
            })
            .unwrap();
    }

    /// T28: well-behaved neighbours of equal size, where nearly everything merges.
    #[test]
    fn merging_is_undone_exactly_where_everything_merges() {
        let record = (any::<u8>(), 0u8..40, 0u8..240, 0u8..240);
        runner(60)
            .run(&vec(record, 1..150), |records| {
                let data: Vec<u8> = records
                    .iter()
                    .flat_map(|(kind, flags, seq, id)| [kind & 0x7f, *flags & 0xf7, *seq, *id, 4, 0, 0, 0])
                    .collect();
                let packets = described(&data);
                let units = round_trip(&packets, Offloads { tcp: true, udp: true });
                assert!(packets.len() < 60 || units < packets.len(), "nothing was merged");
                Ok(())
            })
            .unwrap();
    }

    /// T28: any bytes behind any virtio header.
    #[test]
    fn hostile_super_packets_are_refused_or_cut_right() {
        runner(4000)
            .run(&vec(any::<u8>(), 0..200), |data| {
                segment(&data);
                Ok(())
            })
            .unwrap();
    }

    /// T28: a right packet with any virtio header, and with any byte of either changed.
    #[test]
    fn nearly_right_super_packets_are_refused_or_cut_right() {
        let virtio = (0u8..2, 0u8..7, any::<bool>(), 0u16..80, 0u16..50, 0u16..20);
        let strategy = (vec(any::<u8>(), 8), virtio, any::<[u16; 2]>(), any::<u8>());
        runner(6000)
            .run(&strategy, |(record, (flags, gso_type, ecn, size, start, offset), at, change)| {
                let Some(packet) = described(&record).pop() else { return Ok(()) };
                let virtio = VirtioNetHdr {
                    flags,
                    gso_type: gso_type | u8::from(ecn) << 7,
                    hdr_len: U16::ZERO,
                    gso_size: U16::new(size * 20),
                    csum_start: U16::new(start),
                    csum_offset: U16::new(offset),
                };
                let mut data = [virtio.as_bytes(), &packet].concat();
                segment(&data);
                for at in at {
                    let at = usize::from(at) % data.len();
                    data[at] ^= change;
                    segment(&data);
                }
                Ok(())
            })
            .unwrap();
    }
}
