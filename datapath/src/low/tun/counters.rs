//! What a TUN queue moved, in the kernel's own units, for status output.

use crate::drop::Counter;

/// Written by the worker that has the queue, read by anyone.
#[derive(Debug, Default)]
pub struct TunCounters {
    /// Reads that returned something: a packet or a super-packet.
    pub read_units: Counter,
    /// Their octets, without virtio header.
    pub read_octets: Counter,
    /// Writes that the kernel took: a packet or a merged unit.
    pub written_units: Counter,
    /// Their packets.
    pub written_packets: Counter,
    /// Merged units that the kernel refused although it offers to take them (T28). Their packets were written one by one.
    pub refused_units: Counter,
}

impl TunCounters {
    #[inline]
    pub(super) fn read(&self, octets: usize) {
        self.read_units.add(1);
        self.read_octets.add(octets as u64);
    }

    #[inline]
    pub(super) fn written(&self, packets: usize) {
        self.written_units.add(1);
        self.written_packets.add(packets as u64);
    }
}
