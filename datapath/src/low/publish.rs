//! Publication of snapshots: the control thread replaces, workers adopt at the start of a batch, and nobody waits.
//!
//! The invariant (RFC 5660 section 2.4 leans on it, L-74): once [`Publisher::is_settled`] has said so of a snapshot, no
//! reader uses an older one, nor ever will. It holds because a reader *announces* what it uses in a seat of its own: the
//! id of the snapshot, or that it is quiescent and uses none. A reader that blocks is quiescent first, and one that is
//! dropped leaves its seat, so a grace period always ends.
//!
//! Ending a quiescence and publishing race like this: the reader writes its seat, then reads the newest id; the publisher
//! writes the newest id, then reads the seats. Between the two steps each has a sequentially consistent fence, so at
//! least one of them sees the other. `tests/loom_publish.rs` is the model.

use std::sync::{Arc, PoisonError};

use crate::low::sync::{AtomicU64, Mutex, Ordering, fence, yield_now};

#[cfg_attr(loom, path = "publish/slot_loom.rs")]
mod slot;

use slot::Slot;

/// The writing end. Held by the one thread that decides; sharing it is safe.
#[derive(Debug)]
pub struct Publisher<T: Send + Sync + 'static> {
    shared: Arc<Shared<T>>,
    control: Mutex<Control<T>>,
}

impl<T: Send + Sync + 'static> Publisher<T> {
    /// Begins with `first`, whose id is 1.
    pub fn new(first: Arc<T>) -> Publisher<T> {
        let snapshot = Snapshot { id: 1, value: first };
        let shared = Shared { newest: AtomicU64::new(1), slot: Slot::new(snapshot.clone()) };
        let control = Control { current: snapshot, retired: Vec::new(), seats: Vec::new() };
        Publisher { shared: Arc::new(shared), control: Mutex::new(control) }
    }

    /// Makes `next` what readers adopt from now on, and returns its id. Ids only grow.
    pub fn publish(&self, next: Arc<T>) -> u64 {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = Snapshot { id: control.current.id + 1, value: next };
        let id = snapshot.id;
        self.shared.slot.replace(snapshot.clone());
        // The slot first: whoever sees the id finds at least that snapshot.
        self.shared.newest.store(id, Ordering::Release);
        let old = std::mem::replace(&mut control.current, snapshot);
        control.retired.push(old);
        id
    }

    /// The id of what was published last.
    pub fn newest(&self) -> u64 {
        self.control.lock().unwrap_or_else(PoisonError::into_inner).current.id
    }

    /// What was published last, with its id.
    pub fn current(&self) -> (u64, Arc<T>) {
        let Snapshot { id, value } =
            self.control.lock().unwrap_or_else(PoisonError::into_inner).current.clone();
        (id, value)
    }

    /// A new reader, quiescent until its first [`Reader::adopt`]. It may go to another thread.
    pub fn reader(&self) -> Reader<T> {
        let seat = Arc::new(AtomicU64::new(QUIESCENT));
        self.control.lock().unwrap_or_else(PoisonError::into_inner).seats.push(Arc::clone(&seat));
        Reader { shared: Arc::clone(&self.shared), seat, held: None, last: 0, active: false }
    }

    /// Whether every reader uses snapshot `id` or a newer one, or is quiescent: the grace of `id` is over (L-74). Frees
    /// the snapshots nobody can use any more, with the keys they hold.
    pub fn is_settled(&self, id: u64) -> bool {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        fence(Ordering::SeqCst);
        control.seats.retain(|seat| seat.load(Ordering::Acquire) != GONE);
        let oldest = control.seats.iter().map(|seat| seat.load(Ordering::Acquire)).min().unwrap_or(QUIESCENT);
        let retired = control.retired.len();
        control.retired.retain(|snapshot| snapshot.id >= oldest);
        if control.retired.len() < retired {
            slot::reclaim();
        }
        oldest >= id
    }

    /// Waits until [`Publisher::is_settled`]. It takes as long as the longest batch in flight; never call it from a
    /// reader's own thread, nor on the packet path.
    pub fn grace(&self, id: u64) {
        while !self.is_settled(id) {
            yield_now();
        }
    }
}

/// The reading end: one per worker.
#[derive(Debug)]
pub struct Reader<T: Send + Sync + 'static> {
    shared: Arc<Shared<T>>,
    seat: Arc<AtomicU64>,
    held: Option<Snapshot<T>>,
    last: u64,
    active: bool,
}

impl<T: Send + Sync + 'static> Reader<T> {
    /// The newest snapshot, and whether it is another than last time. Called at the start of each batch; costs one load
    /// when nothing was published. The snapshot must not be kept beyond the next call (a clone of it defeats the grace).
    #[inline]
    pub fn adopt(&mut self) -> (&Arc<T>, bool) {
        if !self.active {
            self.seat.store(USES_UNKNOWN, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            self.active = true;
        }
        let newest = self.shared.newest.load(Ordering::Acquire);
        let current = match self.held.take() {
            Some(held) if held.id >= newest => held,
            stale => self.replace(stale),
        };
        let changed = current.id != self.last;
        self.last = current.id;
        (&self.held.insert(current).value, changed)
    }

    /// The id of the snapshot last adopted; 0 before the first.
    #[inline]
    pub fn adopted_id(&self) -> u64 {
        self.last
    }

    /// Announces that no snapshot is in use. Called before blocking; [`Reader::adopt`] ends it.
    #[inline]
    pub fn quiesce(&mut self) {
        self.held = None;
        self.active = false;
        self.seat.store(QUIESCENT, Ordering::Release);
    }

    #[cold]
    fn replace(&self, stale: Option<Snapshot<T>>) -> Snapshot<T> {
        let fresh = self.shared.slot.load();
        // Released before announced: the publisher may then be the last owner.
        drop(stale);
        self.seat.store(fresh.id, Ordering::Release);
        fresh
    }
}

impl<T: Send + Sync + 'static> Drop for Reader<T> {
    fn drop(&mut self) {
        self.held = None;
        self.seat.store(GONE, Ordering::Release);
    }
}

#[derive(Debug)]
struct Shared<T: Send + Sync + 'static> {
    newest: AtomicU64,
    slot: Slot<T>,
}

#[derive(Debug)]
struct Control<T> {
    current: Snapshot<T>,
    /// Kept until no reader can use them, so that it is never a worker that frees a snapshot.
    retired: Vec<Snapshot<T>>,
    seats: Vec<Arc<AtomicU64>>,
}

/// One published value and its id.
#[derive(Debug)]
struct Snapshot<T> {
    id: u64,
    value: Arc<T>,
}

impl<T> Clone for Snapshot<T> {
    fn clone(&self) -> Snapshot<T> {
        Snapshot { id: self.id, value: Arc::clone(&self.value) }
    }
}

/// In use, but which is not decided yet: older than every id.
const USES_UNKNOWN: u64 = 0;
/// Newer than every id, since a quiescent reader will adopt the newest.
const QUIESCENT: u64 = u64::MAX - 1;
const GONE: u64 = u64::MAX;

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use super::*;

    /// L-74: a grace ends only when the reader that used the old snapshot has moved on.
    #[test]
    fn a_snapshot_in_use_is_not_settled() {
        let publisher = Publisher::new(Arc::new(1));
        let mut reader = publisher.reader();
        assert_eq!(reader.adopt(), (&Arc::new(1), true));
        assert_eq!(reader.adopt(), (&Arc::new(1), false));
        let id = publisher.publish(Arc::new(2));
        assert!(!publisher.is_settled(id));
        assert_eq!(reader.adopt(), (&Arc::new(2), true));
        assert!(publisher.is_settled(id));
        assert_eq!(reader.adopted_id(), id);
    }

    /// L-74: neither a blocked, nor a dropped, nor a fresh reader holds up a grace.
    #[test]
    fn quiescent_dropped_and_fresh_readers_do_not_delay() {
        let publisher = Publisher::new(Arc::new(1));
        let (mut blocked, mut dropped) = (publisher.reader(), publisher.reader());
        blocked.adopt();
        dropped.adopt();
        blocked.quiesce();
        let id = publisher.publish(Arc::new(2));
        assert!(!publisher.is_settled(id));
        drop(dropped);
        let mut fresh = publisher.reader();
        assert!(publisher.is_settled(id));
        assert_eq!(fresh.adopt(), (&Arc::new(2), true));
        assert_eq!(blocked.adopt(), (&Arc::new(2), true));
    }

    /// T32: keys go with their snapshot: after the grace nothing keeps an old one alive.
    #[test]
    fn a_settled_grace_frees_what_was_replaced() {
        let publisher = Publisher::new(Arc::new(1));
        let mut reader = publisher.reader();
        let old = Arc::downgrade(reader.adopt().0);
        let id = publisher.publish(Arc::new(2));
        publisher.is_settled(id);
        assert!(old.upgrade().is_some());
        reader.adopt();
        publisher.grace(id);
        // Other tests of this process may hold the epoch for an instant.
        while old.upgrade().is_some() {
            slot::reclaim();
            thread::yield_now();
        }
        reader.quiesce();
    }

    /// The snapshots a reader sees only grow, and each is whole, while another thread publishes.
    #[test]
    fn readers_see_whole_snapshots_in_order() {
        let publisher = Publisher::new(Arc::new((0u64, 0u64)));
        let readers: Vec<_> = (0..2).map(|_| publisher.reader()).collect();
        thread::scope(|scope| {
            for mut reader in readers {
                scope.spawn(move || {
                    let mut last = 0;
                    while last < 500 {
                        let (snapshot, _) = reader.adopt();
                        assert_eq!(snapshot.0, snapshot.1);
                        assert!(snapshot.0 >= last);
                        last = snapshot.0;
                        if last % 3 == 0 {
                            reader.quiesce();
                        }
                    }
                });
            }
            for n in 1..=500 {
                let id = publisher.publish(Arc::new((n, n)));
                if n % 10 == 0 {
                    publisher.grace(id);
                }
            }
        });
    }
}
