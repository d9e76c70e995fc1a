//! From hash to slot: buckets of atomic words, two to choose from for each flow.
//!
//! Entries never move, so a removal leaves no mark. With as many places as twice the slots, two choices of eight
//! leave no flow without a place in practice; one without is refused as if the table were full.

use crate::sync::{AtomicU64, Ordering};

/// Words of fingerprint (high half) and slot number plus one (low half); 0 is empty.
pub(super) struct Index {
    buckets: Box<[Bucket]>,
}

/// Where a flow may be, and what its words look like.
#[derive(Clone, Copy)]
pub(super) struct Probe {
    first: u32,
    second: u32,
    fingerprint: u32,
}

/// One cache line.
#[repr(align(64))]
struct Bucket([AtomicU64; WAYS]);

#[cfg(not(loom))]
const WAYS: usize = 8;
/// Small enough for every interleaving.
#[cfg(loom)]
const WAYS: usize = 2;

impl Index {
    pub(super) fn new(slots: u32) -> Self {
        let buckets = (slots as usize * 2).div_ceil(WAYS).max(2);
        Self { buckets: (0..buckets).map(|_| Bucket(std::array::from_fn(|_| AtomicU64::new(0)))).collect() }
    }

    #[inline]
    pub(super) fn probe(&self, hash: u64) -> Probe {
        let buckets = self.buckets.len() as u64;
        let first = ((hash & 0xffff_ffff) * buckets) >> 32;
        let second = ((hash >> 32) * buckets) >> 32;
        let fingerprint = (hash.wrapping_mul(SPREAD) >> 32) as u32;
        Probe { first: first as u32, second: second as u32, fingerprint }
    }

    /// The first answer that `ask` has for a slot that may hold the flow.
    #[inline]
    pub(super) fn search<T>(&self, probe: Probe, ask: impl Fn(u32) -> Option<T>) -> Option<T> {
        for bucket in [probe.first, probe.second] {
            for word in &self.buckets.get(bucket as usize)?.0 {
                let word = word.load(Ordering::Acquire);
                if (word >> 32) as u32 == probe.fingerprint
                    && let Some(slot) = (word as u32).checked_sub(1)
                    && let Some(answer) = ask(slot)
                {
                    return Some(answer);
                }
            }
        }
        None
    }

    /// Puts a slot into the emptier of its buckets. Returns whether there was room.
    pub(super) fn place(&self, probe: Probe, slot: u32) -> bool {
        let word = word(probe, slot);
        let empty = |place: &&AtomicU64| place.load(Ordering::Relaxed) == 0;
        loop {
            let free = |bucket| self.bucket(bucket).filter(empty).count();
            let (first, second) = (free(probe.first), free(probe.second));
            if first == 0 && second == 0 {
                return false;
            }
            let bucket = if second > first { probe.second } else { probe.first };
            let mut places = self.bucket(bucket).filter(empty);
            if places
                .any(|place| place.compare_exchange(0, word, Ordering::AcqRel, Ordering::Relaxed).is_ok())
            {
                return true;
            }
        }
    }

    /// Takes a slot out. Only whoever retires the slot calls this, so its word is there once and stays.
    pub(super) fn remove(&self, probe: Probe, slot: u32) {
        let word = word(probe, slot);
        if let Some(place) = self.words(probe).find(|place| place.load(Ordering::Relaxed) == word) {
            place.store(0, Ordering::Release);
        }
    }

    fn words(&self, probe: Probe) -> impl Iterator<Item = &AtomicU64> {
        let second = if probe.second == probe.first { u32::MAX } else { probe.second };
        self.bucket(probe.first).chain(self.bucket(second))
    }

    fn bucket(&self, bucket: u32) -> impl Iterator<Item = &AtomicU64> {
        self.buckets.get(bucket as usize).into_iter().flat_map(|bucket| &bucket.0)
    }
}

#[inline]
fn word(probe: Probe, slot: u32) -> u64 {
    (u64::from(probe.fingerprint) << 32) | (u64::from(slot) + 1)
}

/// 2^64 over the golden ratio: the fingerprint comes from other bits than the buckets do.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
