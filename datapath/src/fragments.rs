//! Which flow a later fragment belongs to: remembered from its first fragment, for a while, in fixed memory.
//!
//! Selectors and latches speak of ports, and only the first fragment has them (RFC 4301 section 7). So fragments pass one
//! by one, but only as a whole datagram could: what comes before its first waits for it, so many octets and so long and no
//! more; no octet of a datagram passes twice (RFC 5722, RFC 1858), so that nothing overwrites what was judged. The inner
//! host reassembles by addresses, protocol and identification alone, so an identification belongs to the class that used it
//! first for as long as the host may be reassembling: fragments under another SA, or under none, never join a datagram that
//! they are not of (T20).

mod pieces;
mod waiting;

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::RandomState;
use latchway_tagging::{ClassId, InboundTag};

use crate::drop::DropReason;
use crate::flow::FlowKey;
use crate::packet::{Fragment, FragmentId, IpPacket, Upper};
use crate::time::Time;
use crate::traffic::Traffic;

use self::pieces::Pieces;
use self::waiting::Waiting;

/// Remembers the flows of datagrams whose fragments are passing, and keeps fragments that came before their first.
#[derive(Debug)]
pub struct FragmentFlows {
    seen: Box<[Option<Seen>]>,
    hasher: RandomState,
    waiting: Waiting,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    datagram: Datagram,
    class: Option<ClassId>,
    traffic: Traffic,
    pieces: Pieces,
    at: Time,
}

/// What a host reassembles by: addresses and protocol (as a flow without ports), and identification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Datagram {
    portless: FlowKey,
    id: FragmentId,
}

/// Datagrams remembered at a time. When two fall on one place, the later takes it if it is of the same class, and is
/// refused if it is not.
const PLACES: usize = 8192;

/// How long fragments may trail their first: as long as a host may be reassembling (RFC 8200 4.5).
const TRAIL: Duration = Duration::from_secs(60);

/// After how long a first fragment is of another datagram with an identification that comes again (RFC 4963), and no
/// duplicate.
const RENEWAL: Duration = Duration::from_secs(1);

impl FragmentFlows {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            seen: vec![None; PLACES].into_boxed_slice(),
            hasher: RandomState::default(),
            waiting: Waiting::new(),
        }
    }

    /// The packet with its flow known, if `admit` lets it pass: for a later fragment the flow comes from memory,
    /// and a first one is remembered only once it is admitted. `None` where the packet waits: it comes again by
    /// [`next`](Self::next) once its first fragment has come under the same class.
    ///
    /// # Errors
    /// What `admit` says; [`DropReason::FragmentUnresolved`] where there is no room to wait;
    /// [`DropReason::FragmentOverlap`] where its octets have passed already; [`DropReason::FragmentConflict`] where another
    /// class holds the identification.
    #[inline]
    pub fn resolve<'p>(
        &mut self,
        packet: IpPacket<'p>,
        tag: Option<InboundTag>,
        now: Time,
        admit: impl FnOnce(&IpPacket<'p>) -> Result<(), DropReason>,
    ) -> Result<Option<IpPacket<'p>>, DropReason> {
        match *packet.upper() {
            Upper::LaterFragment(fragment) => self.resolve_later(packet, fragment, (tag, now), admit),
            Upper::FirstFragment(fragment) => {
                admit(&packet)?;
                let (datagram, traffic) = (Datagram::of(packet.flow(), fragment.id), *packet.traffic());
                let (class, pieces) = (tag.map(|tag| tag.class), Pieces::of(&fragment));
                self.remember(&fragment, Seen { datagram, class, traffic, pieces, at: now })?;
                Ok(Some(packet))
            }
            _ => {
                admit(&packet)?;
                Ok(Some(packet))
            }
        }
    }

    /// The next fragment that waited and may go on: copied to the front of `buffer`. Returns its length, and the tag that it
    /// came with.
    #[inline]
    pub fn next(&mut self, buffer: &mut [u8]) -> Option<(usize, Option<InboundTag>)> {
        self.waiting.next(buffer)
    }

    /// Lets go of fragments whose first did not come in time. Returns how many, which are dropped as
    /// [`DropReason::FragmentUnresolved`].
    #[inline]
    pub fn expire(&mut self, now: Time) -> u64 {
        self.waiting.expire(now)
    }

    fn resolve_later<'p>(
        &mut self,
        packet: IpPacket<'p>,
        fragment: Fragment,
        (tag, now): (Option<InboundTag>, Time),
        admit: impl FnOnce(&IpPacket<'p>) -> Result<(), DropReason>,
    ) -> Result<Option<IpPacket<'p>>, DropReason> {
        let (datagram, class) = (Datagram::of(packet.flow(), fragment.id), tag.map(|tag| tag.class));
        let place = self.place(&datagram);
        let known = self.seen.get_mut(place).and_then(Option::as_mut);
        match known.filter(|seen| seen.datagram == datagram && !seen.is_over(now)) {
            Some(seen) if seen.class == class => {
                let packet = packet.resolved_to(seen.traffic);
                admit(&packet)?;
                seen.pieces.add(&fragment)?;
                Ok(Some(packet))
            }
            None if self.waiting.hold(datagram, tag, packet.octets(), now) => Ok(None),
            _ => Err(DropReason::FragmentUnresolved),
        }
    }

    fn remember(&mut self, fragment: &Fragment, first: Seen) -> Result<(), DropReason> {
        let place = self.place(&first.datagram);
        let place = self.seen.get_mut(place).ok_or(DropReason::FragmentConflict)?;
        let is_fresh = |seen: &Seen| first.at.since(seen.at) < RENEWAL && !seen.pieces.is_complete();
        match place {
            Some(seen) if seen.class != first.class && first.at.since(seen.at) <= TRAIL => {
                return Err(DropReason::FragmentConflict);
            }
            Some(seen) if seen.datagram == first.datagram && is_fresh(seen) => seen.pieces.add(fragment)?,
            _ => *place = Some(first),
        }
        self.waiting.wake(&first.datagram, first.class);
        Ok(())
    }

    fn place(&self, datagram: &Datagram) -> usize {
        self.hasher.hash_one(datagram) as usize % PLACES
    }
}

impl Seen {
    /// Whether what comes is of another datagram.
    fn is_over(&self, now: Time) -> bool {
        let age = now.since(self.at);
        age > TRAIL || (age >= RENEWAL && self.pieces.is_complete())
    }
}

impl Default for FragmentFlows {
    fn default() -> Self {
        Self::new()
    }
}

impl Datagram {
    fn of(flow: &FlowKey, id: FragmentId) -> Self {
        let [a, b, c, d, last] = flow.words();
        Self { portless: FlowKey::from_words([a, b, c, d, last & !0xffff_ffff]), id }
    }
}

#[cfg(test)]
mod tests;
