//! What a wire socket moved, in the kernel's own units, for status output.

use crate::drop::Counter;

/// Written by the worker that has the socket, read by anyone.
#[derive(Debug, Default)]
pub struct WireCounters {
    /// Receives that returned something: a datagram, or several that the kernel had joined (UDP_GRO).
    pub received_units: Counter,
    /// Datagrams in them.
    pub received_datagrams: Counter,
    /// Their octets, without UDP header.
    pub received_octets: Counter,
    /// Sends that the kernel took, each of one datagram or of several to be cut (UDP_SEGMENT).
    pub sent_units: Counter,
    /// Datagrams in them.
    pub sent_datagrams: Counter,
    /// Their octets, without UDP header.
    pub sent_octets: Counter,
    /// Sends of several datagrams that the kernel or the device could not cut.
    pub refused_units: Counter,
}

impl WireCounters {
    #[inline]
    pub(super) fn received(&self, datagrams: usize, octets: usize) {
        self.received_units.add(1);
        self.received_datagrams.add(datagrams as u64);
        self.received_octets.add(octets as u64);
    }

    #[inline]
    pub(super) fn sent(&self, datagrams: usize, octets: usize) {
        self.sent_units.add(1);
        self.sent_datagrams.add(datagrams as u64);
        self.sent_octets.add(octets as u64);
    }
}
