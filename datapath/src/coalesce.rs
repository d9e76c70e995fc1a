//! Inbound: decrypted packets of one flow merged back into one TUN write.
//!
//! Neighbouring in-sequence TCP segments become one TSO unit, equal-sized UDP datagrams of one flow one USO unit (virtio
//! 1.2, section 5.1.6.2), and everything else stays a unit of its own, untouched. The merge is undone exactly by
//! [`crate::segment`] (T28): what differs between two packets in any way that segmentation could not restore keeps them
//! apart. Units leave in the order in which they were begun and a packet joins only the youngest unit of its flow, so the
//! order within a flow is never broken.

use std::fmt;
use std::ops::Range;

use crate::segment::header::MAX_HEADER_LEN;
use crate::virtio::VNET_HDR_LEN;

mod candidate;
mod slot;

use candidate::{Candidate, FlowKey, Sight};
use slot::Slot;

pub use slot::{Unit, UnitPart, UnitParts};

/// What the TUN takes merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// TCP segments (TSO).
    pub tcp: bool,
    /// UDP datagrams (USO).
    pub udp: bool,
}

impl Offloads {
    /// Every packet is a unit of its own.
    pub const NONE: Offloads = Offloads { tcp: false, udp: false };
}

/// Collects packets that lie in one buffer of the caller's into units to be written to the TUN.
#[derive(Debug)]
pub struct Coalescer {
    offloads: Offloads,
    slots: Box<[Slot]>,
    used: usize,
    /// Indices of the slots that may still grow, oldest first.
    open: [usize; OPEN_FLOWS],
    open_len: usize,
}

impl Coalescer {
    /// An empty one. This is its only allocation.
    pub fn new(offloads: Offloads) -> Coalescer {
        let slots = (0..MAX_UNITS).map(|_| Slot::default()).collect();
        Coalescer { offloads, slots, used: 0, open: [0; OPEN_FLOWS], open_len: 0 }
    }

    /// Takes the packet at `buffer[packet]`; the buffer must be the same, and unchanged there, until the next
    /// [`Coalescer::clear`]. Full is answered before anything is taken: write the units, clear, and push again. An empty
    /// range, or one outside the buffer, holds no packet and makes no unit.
    pub fn push(&mut self, buffer: &[u8], packet: Range<usize>) -> Result<(), Full> {
        if self.is_full() {
            return Err(Full);
        }
        let Some(bytes) = buffer.get(packet.clone()).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        match Candidate::look(bytes, self.offloads) {
            Sight::Mergeable(candidate) => self.merge(bytes, &candidate, packet.start),
            Sight::Alone(flow) => {
                self.close(flow.as_ref());
                self.begin_alone(packet);
            }
        }
        Ok(())
    }

    /// Takes a packet whose `header` is not in the buffer where its payload is. It is never merged.
    pub(crate) fn push_headed(&mut self, header: &[u8], payload: Range<usize>) -> Result<(), Full> {
        self.close(None);
        let slot = self.slots.get_mut(self.used).ok_or(Full)?;
        if slot.begin_headed(header, payload) {
            self.used += 1;
        }
        Ok(())
    }

    /// The units so far, each to be written in one call. None of them grows any further.
    pub fn units(&mut self) -> impl Iterator<Item = Unit<'_>> {
        self.open_len = 0;
        let slots = self.slots.get_mut(..self.used).unwrap_or_default();
        for slot in slots.iter_mut() {
            slot.complete();
        }
        slots.iter().map(|slot| slot.unit())
    }

    /// Forgets all units: they have been written.
    pub fn clear(&mut self) {
        self.used = 0;
        self.open_len = 0;
    }

    /// What is merged from here on: a TUN that refuses merged writes gets single packets (T28).
    pub fn set_offloads(&mut self, offloads: Offloads) {
        self.offloads = offloads;
    }

    /// Whether the next packet would be refused.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.used == self.slots.len()
    }

    /// Whether there is nothing to write.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    #[inline]
    fn merge(&mut self, bytes: &[u8], candidate: &Candidate, start: usize) {
        let open = self.open.get(..self.open_len).unwrap_or_default();
        let same =
            open.iter().rposition(|at| self.slots.get(*at).is_some_and(|slot| slot.holds(&candidate.flow)));
        let grown = same
            .and_then(|position| self.open.get(position))
            .and_then(|at| self.slots.get_mut(*at))
            .is_some_and(|slot| slot.append(bytes, candidate, start));
        if grown {
            return;
        }
        if let Some(position) = same {
            self.remove_open(position);
        } else if self.open_len == OPEN_FLOWS {
            self.remove_open(0);
        }
        self.begin(bytes, candidate, start);
    }

    fn begin(&mut self, bytes: &[u8], candidate: &Candidate, start: usize) {
        let Some(slot) = self.slots.get_mut(self.used) else { return };
        slot.begin(bytes, candidate, start);
        if let Some(place) = self.open.get_mut(self.open_len) {
            *place = self.used;
            self.open_len += 1;
        }
        self.used += 1;
    }

    fn begin_alone(&mut self, packet: Range<usize>) {
        if let Some(slot) = self.slots.get_mut(self.used) {
            slot.begin_alone(packet);
            self.used += 1;
        }
    }

    /// What follows must not be overtaken: ends the flow's unit, or, where the flow is not known, all of them.
    fn close(&mut self, flow: Option<&FlowKey>) {
        let Some(flow) = flow else {
            self.open_len = 0;
            return;
        };
        let open = self.open.get(..self.open_len).unwrap_or_default();
        let same = open.iter().rposition(|at| self.slots.get(*at).is_some_and(|slot| slot.holds(flow)));
        if let Some(position) = same {
            self.remove_open(position);
        }
    }

    fn remove_open(&mut self, position: usize) {
        if let Some(tail) = self.open.get_mut(position..self.open_len) {
            tail.rotate_left(1);
            self.open_len -= 1;
        }
    }
}

/// No room for another unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room for another unit: write those there are first")
    }
}

impl std::error::Error for Full {}

/// Units held at once.
pub const MAX_UNITS: usize = 128;
/// Packets merged into one unit.
pub const MAX_PARTS: usize = 64;
/// Bytes of the longest header a unit has.
pub const MAX_UNIT_HEADER: usize = VNET_HDR_LEN + MAX_HEADER_LEN;

/// Flows that may grow at once. More than a handful are rarely interleaved within one batch.
const OPEN_FLOWS: usize = 8;
/// A unit is one IP packet with a 16-bit length.
const MAX_UNIT_LEN: usize = 65_535;

#[cfg(test)]
mod tests;
