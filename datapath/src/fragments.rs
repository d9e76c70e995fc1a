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

use foldhash::quality::RandomState;
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
    rows: Box<[Row]>,
    share: usize,
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

/// What a host reassembles by: addresses and identification, and of IPv4 the protocol (as a flow without ports). Fragments of
/// one IPv6 datagram may say different things of what follows (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Datagram {
    portless: FlowKey,
    id: FragmentId,
}

/// Datagrams that are looked for in the same place.
type Row = [Option<Seen>; PLACES];

/// Rows, and datagrams remembered in each: which row is a datagram's nobody can tell. When a class has its share of a row, or
/// others have the rest, the latest takes the place of its oldest; without one it is refused.
const ROWS: usize = 1024;
const PLACES: usize = 8;

/// Places of a row that one class may have.
const SHARE: usize = PLACES / 4;

/// How long fragments may trail their first: as long as a host may be reassembling (RFC 8200 4.5).
const TRAIL: Duration = Duration::from_secs(60);

/// After how long a first fragment is of another datagram with an identification that comes again (RFC 4963), and no
/// duplicate.
const RENEWAL: Duration = Duration::from_secs(1);

impl FragmentFlows {
    /// Remembers nothing yet; each class has a share of the room.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rows: vec![[None; PLACES]; ROWS].into_boxed_slice(),
            share: SHARE,
            hasher: RandomState::default(),
            waiting: Waiting::new(waiting::SHARE),
        }
    }

    /// The same where all packets are of one class.
    #[must_use]
    pub fn of_one_class() -> Self {
        Self { share: PLACES, waiting: Waiting::new(1), ..Self::new() }
    }

    /// Makes a packet's flow known, and returns whether it goes on, if `admit` lets it pass: for a later fragment the flow
    /// comes from memory, and a first one is remembered only once it is admitted. A packet that does not go on waits: it comes
    /// again by [`next`](Self::next) once its first fragment has come under the same class.
    ///
    /// # Errors
    /// What `admit` says; [`DropReason::FragmentUnresolved`] where there is no room to wait;
    /// [`DropReason::FragmentOverlap`] where its octets have passed already; [`DropReason::FragmentConflict`] where another
    /// class holds the identification.
    #[inline(always)]
    pub fn resolve<'p>(
        &mut self,
        packet: &mut IpPacket<'p>,
        tag: Option<InboundTag>,
        now: Time,
        admit: impl FnOnce(&IpPacket<'p>) -> Result<(), DropReason>,
    ) -> Result<bool, DropReason> {
        match *packet.upper() {
            Upper::LaterFragment(fragment) => self.resolve_later(packet, fragment, (tag, now), admit),
            Upper::FirstFragment(fragment) => {
                admit(packet)?;
                let (datagram, traffic) = (Datagram::of(packet.flow(), fragment.id), *packet.traffic());
                let (class, pieces) = (tag.map(|tag| tag.class), Pieces::of(&fragment));
                self.remember(&fragment, Seen { datagram, class, traffic, pieces, at: now })?;
                Ok(true)
            }
            _ => {
                admit(packet)?;
                Ok(true)
            }
        }
    }

    /// The next fragment that waited and may go on: copied to the front of `buffer`. Returns its length, and the tag that it
    /// came with.
    #[inline]
    pub fn next(&mut self, buffer: &mut [u8]) -> Option<(usize, Option<InboundTag>)> {
        self.waiting.next(buffer)
    }

    /// Whether a fragment waits.
    #[inline]
    pub(crate) const fn wait(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Lets go of fragments whose first did not come in time. Returns how many, which are dropped as
    /// [`DropReason::FragmentUnresolved`].
    #[cold]
    pub fn expire(&mut self, now: Time) -> u64 {
        self.waiting.expire(now)
    }

    /// Lets go of a datagram whose first fragment was let pass here and is dropped all the same: no host is reassembling it, so
    /// that its identification is free. Those that waited for it wait on, until their time is over.
    #[cold]
    pub(crate) fn forget(&mut self, packet: &IpPacket<'_>, class: Option<ClassId>) {
        let Upper::FirstFragment(fragment) = *packet.upper() else { return };
        let datagram = Datagram::of(packet.flow(), fragment.id);
        for place in row(&mut self.rows, &self.hasher, &datagram) {
            place.take_if(|seen| seen.datagram == datagram && seen.class == class);
        }
        self.waiting.calm(&datagram, class);
    }

    fn resolve_later<'p>(
        &mut self,
        packet: &mut IpPacket<'p>,
        fragment: Fragment,
        (tag, now): (Option<InboundTag>, Time),
        admit: impl FnOnce(&IpPacket<'p>) -> Result<(), DropReason>,
    ) -> Result<bool, DropReason> {
        let (datagram, class) = (Datagram::of(packet.flow(), fragment.id), tag.map(|tag| tag.class));
        let known = row(&mut self.rows, &self.hasher, &datagram).iter_mut().flatten();
        let mut known = known.filter(|seen| seen.datagram == datagram && !seen.is_over(now));
        match known.next() {
            Some(seen) if seen.class == class => {
                packet.resolve_to(seen.traffic);
                admit(packet)?;
                seen.pieces.add(&fragment)?;
                Ok(true)
            }
            None if self.waiting.hold(datagram, tag, packet.octets(), now) => Ok(false),
            _ => Err(DropReason::FragmentUnresolved),
        }
    }

    fn remember(&mut self, fragment: &Fragment, first: Seen) -> Result<(), DropReason> {
        let row = row(&mut self.rows, &self.hasher, &first.datagram);
        let place = place_for(row, &first, self.share).ok_or(DropReason::FragmentConflict)?;
        let is_fresh = |seen: &Seen| first.at.since(seen.at) < RENEWAL && !seen.pieces.is_complete();
        match place {
            Some(seen) if seen.datagram == first.datagram && is_fresh(seen) => seen.pieces.add(fragment)?,
            _ => *place = Some(first),
        }
        self.waiting.wake(&first.datagram, first.class);
        Ok(())
    }
}

fn row<'r>(rows: &'r mut [Row], hasher: &RandomState, datagram: &Datagram) -> &'r mut [Option<Seen>] {
    let row = hasher.hash_one(datagram) as usize % ROWS;
    rows.get_mut(row).map_or(&mut [], |row| row.as_mut_slice())
}

/// Where in its row a datagram is remembered: where it is already, where nothing is that anybody needs, or where the oldest of
/// its class is. `None` where it is another class's, or others have all the room.
fn place_for<'r>(row: &'r mut [Option<Seen>], first: &Seen, share: usize) -> Option<&'r mut Option<Seen>> {
    let of_class = |seen: &Seen| seen.class == first.class && !seen.is_over(first.at);
    let own = row.iter().flatten().filter(|seen| of_class(seen)).count();
    let same = row.iter().position(|place| place.is_some_and(|seen| seen.datagram == first.datagram));
    let place = match same {
        Some(place) => {
            let seen = (*row.get(place)?)?;
            let is_others = seen.class != first.class && first.at.since(seen.at) <= TRAIL;
            (!is_others).then_some(place)
        }
        None => {
            let free = row.iter().position(|place| place.is_none_or(|seen| seen.is_over(first.at)));
            let ages = row.iter().enumerate().filter_map(|(place, seen)| Some((place, (*seen)?)));
            let oldest = ages.filter(|(_, seen)| of_class(seen)).min_by_key(|(_, seen)| seen.at);
            free.filter(|_| own < share).or(oldest.map(|(place, _)| place))
        }
    };
    row.get_mut(place?)
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
        let protocol = if flow.is_ipv4() { last & !0xffff_ffff } else { 0 };
        Self { portless: FlowKey::from_words([a, b, c, d, protocol]), id }
    }
}

#[cfg(test)]
mod tests;
