//! A look at packets as they pass, on both sides of the transform, with what became of them.
//!
//! Nothing is looked at while nobody asks: a packet then pays with one look at a flag per batch. While somebody does, a
//! packet is copied before it is changed, and goes its usual way; whoever is too slow to take the copies loses some, and is
//! told how many. What became of a packet is read off the counters, so that a capture cannot differ from them.

mod outer;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use latchway_esp::{Protocol, Spi};
use latchway_tagging::{ClassId, SaRef};

use crate::arrival::{Arrival, Carrier};
use crate::coalesce::Coalescer;
use crate::drop::{Direction, DropReason, Street};
use crate::gateway::Datapath;
use crate::outbound::Outbound;
use crate::sad::{Role, SadEntry};
use crate::segment::SuperPacket;
use crate::send_batch::{Run, SendBatch};
use crate::time::Time;
use crate::ulp::Ulp;
use crate::virtio::VNET_HDR_LEN;

/// Where captures are opened; clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct Taps(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    on: AtomicBool,
    sinks: Mutex<Vec<Sink>>,
}

/// One who looks.
#[derive(Debug)]
struct Sink {
    wanted: Wanted,
    packets: Sender<Captured>,
    lost: Arc<AtomicU64>,
    waiting: Arc<AtomicUsize>,
}

/// Which packets to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// On this side alone; `None` is both.
    pub side: Option<Side>,
    /// Only packets that are dropped.
    pub dropped: bool,
    /// At most so many octets of each.
    pub snap_len: usize,
}

/// The packets of one capture, until dropped.
#[derive(Debug)]
pub struct Capture {
    taps: Taps,
    packets: Receiver<Captured>,
    lost: Arc<AtomicU64>,
    /// Octets of packets that wait.
    waiting: Arc<AtomicUsize>,
}

/// A side of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards the inner hosts: packets in the clear.
    Inner,
    /// Towards the peers: packets as they are on the wire.
    Wire,
}

/// One packet that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The time of its batch.
    pub at: Time,
    /// Where it was seen.
    pub side: Side,
    /// Which way it went.
    pub direction: Direction,
    /// How long it was.
    pub len: usize,
    /// Its first octets, from the IP header on. Around what came in UDP, the headers are written from what the socket says.
    pub octets: Bytes,
    /// What became of it.
    pub verdict: Verdict,
    /// The SA that it came or left under.
    pub sa: Option<CapturedSa>,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It went on.
    Passed,
    /// It went around IPsec (RFC 4301 section 5).
    Bypassed,
    /// It was dropped.
    Dropped(DropReason),
}

/// An SA as a packet names it, and the tag that came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapturedSa {
    /// Its SPI.
    pub spi: Spi,
    /// Class and slot, where the SAD has it.
    pub tag: Option<(ClassId, SaRef)>,
}

/// A worker's end of the [`Taps`].
#[derive(Clone, Debug)]
pub struct Tap {
    taps: Taps,
    /// Address and carrier of each wire, by number.
    wires: Arc<[(SocketAddr, Carrier)]>,
}

/// Packets that may wait for one who looks, and their octets.
const ROOM: usize = 4096;
const ROOM_OCTETS: usize = 16 << 20;

impl Taps {
    /// Begins to look.
    #[must_use]
    pub fn open(&self, wanted: Wanted) -> Capture {
        let ((sender, packets), lost, waiting) = (bounded(ROOM), Arc::default(), Arc::default());
        let mut sinks = self.sinks();
        sinks.push(Sink { wanted, packets: sender, lost: Arc::clone(&lost), waiting: Arc::clone(&waiting) });
        self.0.on.store(true, Ordering::Relaxed);
        drop(sinks);
        Capture { taps: self.clone(), packets, lost, waiting }
    }

    /// The end for a worker with these wires: the address and the carrier of each.
    #[must_use]
    pub fn tap(self, wires: Vec<(SocketAddr, Carrier)>) -> Tap {
        Tap { taps: self, wires: wires.into() }
    }

    fn sinks(&self) -> MutexGuard<'_, Vec<Sink>> {
        self.0.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Capture {
    /// The next packet, waited for so long at most; `None` where there was none.
    #[must_use]
    pub fn next(&self, patience: Duration) -> Option<Captured> {
        let captured = self.packets.recv_timeout(patience).ok()?;
        self.waiting.fetch_sub(captured.octets.len(), Ordering::Relaxed);
        Some(captured)
    }

    /// How many packets there was no room for, since this was asked last.
    #[must_use]
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let mut sinks = self.taps.sinks();
        sinks.retain(|sink| !Arc::ptr_eq(&sink.lost, &self.lost));
        self.taps.0.on.store(!sinks.is_empty(), Ordering::Relaxed);
    }
}

impl Sink {
    /// Lets a packet wait, or counts it where there is no room.
    fn take(&self, captured: Captured) {
        let len = captured.octets.len();
        let has_room = self.waiting.fetch_add(len, Ordering::Relaxed) + len <= ROOM_OCTETS;
        let is_lost = !has_room || matches!(self.packets.try_send(captured), Err(TrySendError::Full(_)));
        if is_lost {
            self.waiting.fetch_sub(len, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Tap {
    /// Whether anybody looks.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.taps.0.on.load(Ordering::Relaxed)
    }

    /// [`Datapath::outbound`], looked at.
    #[cold]
    pub fn outbound<U: Ulp>(
        &self,
        datapath: &mut Datapath<U>,
        octets: &mut [u8],
        batch: &mut SendBatch,
    ) -> Outbound {
        let (inner, before) = (packets_of(&mut octets.to_vec()), Drops::of(datapath, Direction::Outbound));
        let mark = batch.len();
        let outcome = datapath.outbound(octets, batch);
        let verdict = match before.risen(datapath) {
            Some(reason) => Verdict::Dropped(reason),
            None if outcome == Outbound::Bypass => Verdict::Bypassed,
            None => Verdict::Passed,
        };
        let seen = Seen { datapath, direction: Direction::Outbound, tap: self };
        let sealed = seen.sealed_since(batch, mark);
        let sa = sealed.first().and_then(|(_, sa)| *sa);
        inner.into_iter().for_each(|packet| self.tell(seen.packet(Side::Inner, packet, verdict, sa)));
        for ((run, datagram), sa) in sealed {
            let packet = match self.carrier(run.from) {
                Carrier::Native => datagram.to_vec(),
                Carrier::Udp => {
                    let from = self.local(run.from, run.to);
                    outer::udp((from, run.to), run.marks.traffic_class, datagram)
                }
            };
            self.tell(seen.packet(Side::Wire, packet, Verdict::Passed, sa));
        }
        outcome
    }

    /// [`Datapath::inbound`] for one datagram, or one packet of a native carrier, looked at.
    #[cold]
    pub fn inbound<U: Ulp>(
        &self,
        datapath: &mut Datapath<U>,
        one: &mut [u8],
        arrival: &Arrival,
        units: &mut Coalescer,
    ) {
        let (wire, before) = (one.to_vec(), Drops::of(datapath, Direction::Inbound));
        datapath.inbound(one, arrival, units);
        let verdict = before.risen(datapath).map_or(Verdict::Passed, Verdict::Dropped);
        let seen = Seen { datapath, direction: Direction::Inbound, tap: self };
        let protected = match arrival.carrier {
            Carrier::Udp => Some((Protocol::Esp, &*wire)),
            Carrier::Native => outer::protected(&wire),
        };
        let sa = protected.and_then(|(protocol, octets)| seen.received_under(protocol, octets));
        let packet = match arrival.carrier {
            Carrier::Native => wire,
            Carrier::Udp => {
                let to = self.local(arrival.wire, arrival.from);
                outer::udp((arrival.from, to), arrival.traffic_class, &wire)
            }
        };
        self.tell(seen.packet(Side::Wire, packet, verdict, sa));
        for unit in units.units() {
            let mut inner = unit.header.get(VNET_HDR_LEN..).unwrap_or_default().to_vec();
            let parts = unit.payload.iter().filter_map(|range: &Range<usize>| one.get(range.clone()));
            parts.for_each(|part| inner.extend_from_slice(part));
            self.tell(seen.packet(Side::Inner, inner, Verdict::Passed, sa));
        }
    }

    /// [`Datapath::unprotected`], looked at.
    #[cold]
    pub fn unprotected<U: Ulp>(&self, datapath: &mut Datapath<U>, octets: &mut [u8]) -> bool {
        let (inner, before) = (packets_of(&mut octets.to_vec()), Drops::of(datapath, Direction::Inbound));
        let passed = datapath.unprotected(octets);
        let verdict = before.risen(datapath).map_or(Verdict::Bypassed, Verdict::Dropped);
        let seen = Seen { datapath, direction: Direction::Inbound, tap: self };
        inner.into_iter().for_each(|packet| self.tell(seen.packet(Side::Inner, packet, verdict, None)));
        passed
    }

    /// The address of a wire socket; where it is bound to none, only the family is known.
    fn local(&self, wire: usize, peer: SocketAddr) -> SocketAddr {
        let unknown = if peer.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        self.wires.get(wire).map_or(SocketAddr::new(unknown, peer.port()), |(local, _)| *local)
    }

    fn carrier(&self, wire: usize) -> Carrier {
        self.wires.get(wire).map_or_else(Carrier::default, |(_, carrier)| *carrier)
    }

    fn tell(&self, captured: Captured) {
        for sink in self.taps.sinks().iter() {
            let Wanted { side, dropped, snap_len } = sink.wanted;
            let is_dropped = matches!(captured.verdict, Verdict::Dropped(_));
            if side.is_some_and(|side| side != captured.side) || (dropped && !is_dropped) {
                continue;
            }
            // What is not wanted of a packet is not kept.
            let octets = match captured.octets.get(..snap_len) {
                Some(first) => Bytes::copy_from_slice(first),
                None => captured.octets.clone(),
            };
            sink.take(Captured { octets, ..captured.clone() });
        }
    }
}

/// What the drop counters of a street said before a packet was taken.
struct Drops {
    direction: Direction,
    counts: Vec<u64>,
}

impl Drops {
    fn of<U: Ulp>(datapath: &Datapath<U>, direction: Direction) -> Self {
        Self { direction, counts: counts(datapath.counters().street(direction)) }
    }

    /// The reason for which something was dropped since.
    fn risen<U: Ulp>(&self, datapath: &Datapath<U>) -> Option<DropReason> {
        let now = counts(datapath.counters().street(self.direction));
        let mut both = DropReason::ALL.iter().zip(self.counts.iter().zip(now));
        both.find(|(_, (before, now))| *before != now).map(|(&reason, _)| reason)
    }
}

fn counts(street: &Street) -> Vec<u64> {
    DropReason::ALL.iter().map(|&reason| street.dropped(reason)).collect()
}

/// A datapath after it had a packet in hand.
struct Seen<'d, U> {
    tap: &'d Tap,
    datapath: &'d Datapath<U>,
    direction: Direction,
}

/// A datagram with the run it is part of, and the SA that it was sealed under.
type Sealed<'b> = ((Run<'b>, &'b [u8]), Option<CapturedSa>);

impl<U: Ulp> Seen<'_, U> {
    fn packet(&self, side: Side, octets: Vec<u8>, verdict: Verdict, sa: Option<CapturedSa>) -> Captured {
        let (at, direction, len) = (self.datapath.now, self.direction, octets.len());
        Captured { at, side, direction, len, octets: octets.into(), verdict, sa }
    }

    /// What was added to a batch behind its first `mark` octets.
    fn sealed_since<'b>(&self, batch: &'b SendBatch, mark: usize) -> Vec<Sealed<'b>> {
        let mut end = 0;
        let mut sealed = Vec::new();
        for run in batch.runs() {
            for datagram in run.datagrams() {
                end += datagram.len();
                if end > mark {
                    sealed.push(((run, datagram), self.sealed_under(&run, datagram)));
                }
            }
        }
        sealed
    }

    fn sealed_under(&self, run: &Run<'_>, datagram: &[u8]) -> Option<CapturedSa> {
        let (_, protected) = match self.tap.carrier(run.from) {
            Carrier::Udp => (Protocol::Esp, datagram),
            Carrier::Native => outer::protected(datagram)?,
        };
        let spi = spi_of(protected)?;
        let leads_there = |entry: &SadEntry| match &entry.role {
            Role::Outbound { path, .. } => entry.spi == spi && path.to.ip() == run.to.ip(),
            Role::Inbound { .. } => false,
        };
        let slot = self.datapath.snapshot.sad.iter().find(|slot| leads_there(&slot.entry));
        Some(CapturedSa { spi, tag: slot.map(|slot| (slot.entry.class, slot.entry.sa)) })
    }

    fn received_under(&self, protocol: Protocol, protected: &[u8]) -> Option<CapturedSa> {
        let (spi, sad) = (spi_of(protected)?, &self.datapath.snapshot.sad);
        let slot = sad.find(protocol, spi).and_then(|index| sad.slot(index));
        Some(CapturedSa { spi, tag: slot.map(|slot| (slot.entry.class, slot.entry.sa)) })
    }
}

/// The SPI of what begins with it: ESP does, and so do the octets of AH that [`outer::protected`] gives.
fn spi_of(protected: &[u8]) -> Option<Spi> {
    protected.first_chunk().and_then(|octets| Spi::new(u32::from_be_bytes(*octets)))
}

/// The packets of a super-packet, as they would be on a wire.
fn packets_of(octets: &mut [u8]) -> Vec<Vec<u8>> {
    let Ok(super_packet) = SuperPacket::parse(octets) else { return Vec::new() };
    let (mut segments, mut one) = (super_packet.segments(), vec![0; LONGEST]);
    let mut packets = Vec::new();
    while let Some(packet) = segments.write_next(&mut one).and_then(|len| one.get(..len)) {
        packets.push(packet.to_vec());
    }
    packets
}

/// The longest IP packet: IPv6 counts its header extra.
const LONGEST: usize = 40 + 65_535;
