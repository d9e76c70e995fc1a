//! The audit log: what an auditable event says of the packet that caused it (RFC 4301 section 5.2; RFC 4302 and RFC 4303,
//! sections 3.3 to 4).
//!
//! Whether a drop is auditable is a column of the drop table. A flood must not become one of log lines: so many records a
//! second, and each says how many came before it and were not recorded. Counters count them all.

use std::net::SocketAddr;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use latchway_esp::{EspHeader, SeqLow, Spi};

use crate::arrival::{Arrival, Carrier};
use crate::drop::{Direction, DropReason, Severity};
use crate::flow::FlowKey;
use crate::gateway::Datapath;
use crate::limit::Limit;
use crate::packet::{IpPacket, carried, flow_label};
use crate::segment::SuperPacket;
use crate::time::Time;

/// One entry of the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, by the time of the packet's batch.
    pub at: Time,
    /// Which way the packet went.
    pub direction: Direction,
    /// What happened: a reason of [`Severity::Audit`].
    pub reason: DropReason,
    /// What a packet from the wire said of itself. Nothing of it is authentic.
    pub outer: Option<Outer>,
    /// The flow of a packet of an inner host.
    pub flow: Option<FlowKey>,
    /// How many auditable events came since the last record and have none.
    pub unrecorded: u64,
}

/// The outside of a packet from the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Who seems to have sent it.
    pub from: SocketAddr,
    /// By which of the gateway's wires it came.
    pub wire: usize,
    /// The SPI, where there is one.
    pub spi: Option<Spi>,
    /// The sequence number's low half.
    pub seq: Option<SeqLow>,
    /// The flow label, of IPv6 packets that show their header.
    pub flow_label: Option<u32>,
}

/// Writes records, so many a second.
#[derive(Debug, Default)]
pub struct Auditor(Option<Open>);

#[derive(Debug)]
struct Open {
    records: Sender<Record>,
    /// Each way has its own, so that strangers on the wire cannot keep off the record what inner hosts do.
    inbound: Limit,
    outbound: Limit,
    unrecorded: u64,
}

/// Records that may wait to be read.
const ROOM: usize = 256;

/// Between two records of a direction, and what is saved up for bursts: ten a second, thirty at once.
const INTERVAL: Duration = Duration::from_millis(100);
const SAVED: Duration = Duration::from_secs(3);

impl Auditor {
    /// An auditor, and where its records are read.
    #[must_use]
    pub fn open() -> (Self, Receiver<Record>) {
        let (records, read) = bounded(ROOM);
        let [inbound, outbound] = [Limit::every(INTERVAL, SAVED), Limit::every(INTERVAL, SAVED)];
        (Self(Some(Open { records, inbound, outbound, unrecorded: 0 })), read)
    }

    /// Nothing is written of what is not auditable; what can tell is asked only where something is.
    #[inline]
    fn note(
        &mut self,
        (direction, reason): (Direction, DropReason),
        now: Time,
        record: impl FnOnce() -> Record,
    ) {
        let Some(open) = self.0.as_mut().filter(|_| reason.info().severity == Severity::Audit) else {
            return;
        };
        let limit = match direction {
            Direction::Inbound => &mut open.inbound,
            Direction::Outbound => &mut open.outbound,
        };
        let heard = limit.allows(now)
            && open.records.try_send(Record { unrecorded: open.unrecorded, ..record() }).is_ok();
        open.unrecorded = if heard { 0 } else { open.unrecorded + 1 };
    }
}

impl<U> Datapath<U> {
    /// The same datapath, with its auditable drops on record.
    #[must_use]
    pub fn audited(mut self, auditor: Auditor) -> Self {
        self.auditor = auditor;
        self
    }

    /// Notes that a packet from the wire was dropped.
    #[cold]
    pub(crate) fn audit_inbound(&mut self, reason: DropReason, packet: &[u8], arrival: &Arrival) {
        let Self { auditor, now, .. } = self;
        auditor.note((Direction::Inbound, reason), *now, || Record {
            outer: Some(Outer::of(packet, arrival)),
            ..Record::new(*now, Direction::Inbound, reason)
        });
    }

    /// Notes that a super-packet from a port, virtio header first, was dropped.
    #[cold]
    pub(crate) fn audit_inner(&mut self, direction: Direction, reason: DropReason, octets: &mut [u8]) {
        let Self { auditor, now, .. } = self;
        auditor.note((direction, reason), *now, || {
            let packet = SuperPacket::parse(octets).ok();
            let flow =
                packet.and_then(|packet| Some(*IpPacket::parse(packet.packet(), direction).ok()?.flow()));
            Record { flow, ..Record::new(*now, direction, reason) }
        });
    }

    /// Notes that a packet was dropped which had come before.
    #[cold]
    pub(crate) fn audit_packet(&mut self, direction: Direction, reason: DropReason, octets: &[u8]) {
        let Self { auditor, now, .. } = self;
        auditor.note((direction, reason), *now, || {
            let flow = IpPacket::parse(octets, direction).ok().map(|packet| *packet.flow());
            Record { flow, ..Record::new(*now, direction, reason) }
        });
    }
}

impl Record {
    const fn new(at: Time, direction: Direction, reason: DropReason) -> Self {
        Self { at, direction, reason, outer: None, flow: None, unrecorded: 0 }
    }
}

impl Outer {
    fn of(packet: &[u8], arrival: &Arrival) -> Self {
        let protected = match arrival.carrier {
            Carrier::Udp => Some(packet),
            // AH has its SPI behind four other octets (RFC 4302 section 2).
            Carrier::Native => carried(packet).and_then(|(protocol, octets)| match protocol {
                AH => octets.get(4..),
                _ => Some(octets),
            }),
        };
        let header = protected.and_then(|octets| EspHeader::parse(octets).ok());
        Self {
            from: arrival.from,
            wire: arrival.wire,
            spi: header.map(|header| header.spi),
            seq: header.map(|header| header.seq),
            flow_label: (arrival.carrier == Carrier::Native).then(|| flow_label(packet)).flatten(),
        }
    }
}

const AH: u8 = 51;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Host, Open as Layer, joined};
    use latchway_netns::packet;

    const NOW: Time = Time::from_nanos(1_000_000_000);

    fn audited(host: &mut Host<Layer>) -> Receiver<Record> {
        let (auditor, records) = Auditor::open();
        host.datapath.auditor = auditor;
        records
    }

    fn inner(to: &str) -> Vec<u8> {
        packet::udp("10.0.1.10:40000".parse().unwrap(), to.parse().unwrap(), b"hello").unwrap()
    }

    /// RFC 4303 sections 3.4.2 to 3.4.4: SPI, time, source and sequence number of what was discarded.
    #[test]
    fn rfc_4303_4_an_auditable_drop_is_recorded_with_what_the_packet_said() {
        let (mut one, mut two) = joined(Layer, Layer);
        let records = audited(&mut two);
        let (sent, _) = one.send(&inner("10.0.2.20:53"), NOW);
        let mut forged = sent[0].clone();
        *forged.last_mut().unwrap() ^= 1;
        two.receive(&forged, NOW);
        let record = records.try_recv().unwrap();
        let outer = record.outer.unwrap();
        assert_eq!(
            (record.at, record.direction, record.reason),
            (NOW, Direction::Inbound, DropReason::IcvMismatch)
        );
        assert_eq!((outer.spi.unwrap().get(), outer.seq), (0x1001, Some(SeqLow(1))));
        two.receive(&sent[0], NOW);
        two.receive(&sent[0], NOW);
        assert!(records.try_recv().is_err(), "what passes, and a replay, are no audit events");
        let mut stranger = sent[0].clone();
        stranger[..4].copy_from_slice(&0x9999_u32.to_be_bytes());
        two.receive(&stranger, NOW);
        assert_eq!(records.try_recv().unwrap().reason, DropReason::NoSa);
    }

    /// RFC 4301 section 5.1: what no policy speaks of, with its flow.
    #[test]
    fn rfc_4301_5_1_what_policy_does_not_let_out_is_recorded_with_its_flow() {
        let (mut one, _) = joined(Layer, Layer);
        let records = audited(&mut one);
        one.send(&inner("10.9.9.9:53"), NOW);
        let record = records.try_recv().unwrap();
        assert_eq!((record.direction, record.reason), (Direction::Outbound, DropReason::NoPolicy));
        assert_eq!(record.flow.unwrap().to_string(), "udp 10.0.1.10:40000-10.9.9.9:53");
    }

    /// T41: a flood writes no more than its share, and the next record says how many have none.
    #[test]
    fn t41_a_flood_is_recorded_in_part_and_counted_in_whole() {
        let (mut one, _) = joined(Layer, Layer);
        let records = audited(&mut one);
        for _ in 0..1000 {
            one.send(&inner("10.9.9.9:53"), NOW);
        }
        assert_eq!(records.try_iter().count(), 30);
        one.send(&inner("10.9.9.9:53"), NOW + INTERVAL);
        assert_eq!(records.try_recv().unwrap().unrecorded, 970);
        assert_eq!(one.dropped(Direction::Outbound, DropReason::NoPolicy), 1001);
    }

    /// T41: what strangers send keeps nothing off the record that inner hosts do.
    #[test]
    fn t41_a_flood_from_the_wire_leaves_the_record_to_inner_hosts() {
        let (mut one, _) = joined(Layer, Layer);
        let records = audited(&mut one);
        for _ in 0..1000 {
            one.receive(&[7; 100], NOW);
        }
        assert_eq!(records.try_iter().count(), 30);
        one.send(&inner("10.9.9.9:53"), NOW);
        let record = records.try_recv().unwrap();
        assert_eq!((record.reason, record.unrecorded), (DropReason::NoPolicy, 970));
    }

    /// RFC 4301 sections 5.2 and 7.3, RFC 4302 and RFC 4303 section 3: whatever these documents call auditable is.
    #[test]
    fn rfc_4301_5_2_rfc_4303_3_what_the_documents_call_auditable_is() {
        for reason in [
            DropReason::SelectorMismatch,
            DropReason::NoPolicy,
            DropReason::SeqExhausted,
            DropReason::Fragment,
            DropReason::FragmentUnresolved,
            DropReason::FragmentConflict,
            DropReason::NoSa,
            DropReason::IcvMismatch,
        ] {
            assert_eq!(reason.info().severity, Severity::Audit, "{reason}");
        }
    }

    /// RFC 4303 section 4: auditing can be switched off; then nothing is recorded.
    #[test]
    fn rfc_4303_4_without_an_auditor_drops_are_counted_alone() {
        let (mut one, _) = joined(Layer, Layer);
        one.send(&inner("10.9.9.9:53"), NOW);
        assert_eq!(one.dropped(Direction::Outbound, DropReason::NoPolicy), 1);
    }
}
