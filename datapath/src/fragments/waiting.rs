//! Later fragments that wait for their first: copied into memory that is there from the start, so many and no more, each
//! class with a share of it, and for a while only (T20, T41).

use std::time::Duration;

use latchway_tagging::{ClassId, InboundTag};

use super::Datagram;
use crate::time::Time;

/// The fragments, in the order in which they came.
#[derive(Debug)]
pub(super) struct Waiting {
    fragments: Vec<One>,
    pool: Pool,
    /// How many may go on.
    awake: usize,
    /// How many there may be of one class, and how many chunks.
    most_of_class: usize,
    chunks_of_class: usize,
}

#[derive(Debug)]
struct One {
    datagram: Datagram,
    tag: Option<InboundTag>,
    until: Time,
    octets: Chain,
    awake: bool,
}

/// Octets in chunks of a pool.
#[derive(Clone, Copy, Debug)]
struct Chain {
    first: u16,
    len: usize,
}

/// Which part of the room one class may have where there are others.
pub(super) const SHARE: usize = 4;

/// Fragments at a time.
pub(super) const MOST: usize = 256;

/// Chunks: half a megabyte in all.
const CHUNKS: u16 = 1024;
const CHUNK: usize = 512;

/// How long a fragment waits. Reordering is over in a fraction of that.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

impl Waiting {
    /// Each class may have one part of so many of the room.
    pub(super) fn new(parts: usize) -> Self {
        Self {
            fragments: Vec::with_capacity(MOST),
            pool: Pool::new(),
            awake: 0,
            most_of_class: MOST / parts,
            chunks_of_class: usize::from(CHUNKS) / parts,
        }
    }

    /// Lets a fragment wait. Returns whether there is room.
    pub(super) fn hold(
        &mut self,
        datagram: Datagram,
        tag: Option<InboundTag>,
        octets: &[u8],
        now: Time,
    ) -> bool {
        let class = tag.map(|tag| tag.class);
        let own = || self.fragments.iter().filter(|one| one.class() == class);
        let chunks =
            own().map(|one| Pool::chunks(one.octets.len)).sum::<usize>() + Pool::chunks(octets.len());
        let is_full = own().count() >= self.most_of_class || chunks > self.chunks_of_class;
        if self.fragments.len() >= MOST || is_full {
            return false;
        }
        let Some(octets) = self.pool.store(octets) else { return false };
        self.fragments.push(One { datagram, tag, until: now + PATIENCE, octets, awake: false });
        true
    }

    /// Lets the fragments of a datagram go on, under the class under which its first came.
    pub(super) fn wake(&mut self, datagram: &Datagram, class: Option<ClassId>) {
        for one in &mut self.fragments {
            if !one.awake && one.datagram == *datagram && one.class() == class {
                one.awake = true;
                self.awake += 1;
            }
        }
    }

    /// Lets the fragments of a datagram wait on that were let go on, and have not yet.
    pub(super) fn calm(&mut self, datagram: &Datagram, class: Option<ClassId>) {
        for one in &mut self.fragments {
            if one.awake && one.datagram == *datagram && one.class() == class {
                one.awake = false;
                self.awake -= 1;
            }
        }
    }

    /// Takes out the fragment that has waited longest of those that may go on: to the front of `buffer`. Returns its length
    /// and tag.
    #[inline]
    pub(super) fn next(&mut self, buffer: &mut [u8]) -> Option<(usize, Option<InboundTag>)> {
        if self.awake == 0 {
            return None;
        }
        let place = self.fragments.iter().position(|one| one.awake)?;
        let one = self.fragments.remove(place);
        self.awake -= 1;
        self.pool.take(one.octets, buffer);
        Some((one.octets.len, one.tag))
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    /// Lets go of those whose first did not come in time. Returns how many.
    pub(super) fn expire(&mut self, now: Time) -> u64 {
        // They came in order, so the first is the first to go.
        let Self { fragments, pool, awake, .. } = self;
        let mut count = 0;
        while fragments.first().is_some_and(|one| one.until < now) {
            let one = fragments.remove(0);
            *awake -= usize::from(one.awake);
            pool.take(one.octets, &mut []);
            count += 1;
        }
        count
    }
}

impl One {
    fn class(&self) -> Option<ClassId> {
        self.tag.map(|tag| tag.class)
    }
}

/// Memory in chunks, each of which knows the next one of its chain.
#[derive(Debug)]
struct Pool {
    octets: Box<[[u8; CHUNK]]>,
    next: Box<[u16]>,
    /// The first that is free; [`CHUNKS`] where none is.
    free: u16,
    left: usize,
}

impl Pool {
    fn new() -> Self {
        Self {
            octets: vec![[0; CHUNK]; usize::from(CHUNKS)].into_boxed_slice(),
            next: (1..=CHUNKS).collect(),
            free: 0,
            left: usize::from(CHUNKS),
        }
    }

    const fn chunks(len: usize) -> usize {
        len.div_ceil(CHUNK)
    }

    /// Copies octets in. `None` where there is no room.
    fn store(&mut self, octets: &[u8]) -> Option<Chain> {
        let chunks = Self::chunks(octets.len());
        self.left = self.left.checked_sub(chunks)?;
        let (first, mut next) = (self.free, self.free);
        for part in octets.chunks(CHUNK) {
            let place = usize::from(next);
            self.octets.get_mut(place)?.get_mut(..part.len())?.copy_from_slice(part);
            next = *self.next.get(place)?;
        }
        self.free = next;
        Some(Chain { first, len: octets.len() })
    }

    /// Frees a chain, once as much of it is copied to `buffer` as that takes.
    fn take(&mut self, chain: Chain, mut buffer: &mut [u8]) {
        let (mut place, mut left) = (chain.first, chain.len);
        while left > 0 {
            let len = left.min(CHUNK);
            let Some(from) = self.octets.get(usize::from(place)).and_then(|chunk| chunk.get(..len)) else {
                return;
            };
            let room = len.min(buffer.len());
            let (to, rest) = buffer.split_at_mut(room);
            to.copy_from_slice(from.get(..room).unwrap_or_default());
            (buffer, left) = (rest, left - len);
            let Some(next) = self.next.get_mut(usize::from(place)) else { return };
            place = std::mem::replace(next, if left == 0 { self.free } else { *next });
        }
        if chain.len > 0 {
            self.free = chain.first;
        }
        self.left += Self::chunks(chain.len);
    }
}
