//! The slots, and the list of those that are free.

use crate::sync::{AtomicU64, Ordering, fence};
use crate::table::{Head, Key, Life};

/// Slots in two arrays: what every packet touches, and what almost none does.
pub(super) struct Slab {
    slots: Box<[Slot]>,
    cold: Box<[Offender]>,
    /// The first free slot plus one (low half), and how often the list changed (high half).
    free: AtomicU64,
}

/// Two cache lines: the first is all that a check needs.
#[repr(align(128))]
pub(crate) struct Slot {
    head: AtomicU64,
    key: [AtomicU64; 5],
    /// The class of the latch, with the generation of the entry (high half).
    pub(crate) class: AtomicU64,
    /// The version of the latch's last change (C-31).
    pub(crate) changed_at: AtomicU64,
    /// The SA that served the flow last, packed.
    pub(crate) hint: AtomicU64,
    /// What the hint is valid for.
    pub(crate) stamp: AtomicU64,
    /// When a packet last passed, or the state last changed.
    pub(crate) seen: AtomicU64,
    /// When the entry was made.
    pub(crate) opened: AtomicU64,
    /// How far each side of the connection is: what local sent, and what remote sent.
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    /// The SA and version of the last inbound tag.
    pub(crate) last_sa: AtomicU64,
    pub(crate) last_version: AtomicU64,
}

/// Whom a latch met when it broke; a class of 0 is nobody. Holds the next free slot while its own is free.
pub(crate) struct Offender {
    /// With the generation of the latch (high half).
    pub(crate) class: AtomicU64,
    pub(crate) sa: AtomicU64,
    next: AtomicU64,
}

impl Slab {
    pub(super) fn new(capacity: u32) -> Self {
        let next = |index: u32| if index + 1 < capacity { u64::from(index) + 2 } else { 0 };
        Self {
            slots: (0..capacity).map(|_| Slot::new()).collect(),
            cold: (0..capacity).map(|index| Offender::new(next(index))).collect(),
            free: AtomicU64::new(u64::from(capacity.min(1))),
        }
    }

    #[inline]
    pub(super) fn slot(&self, index: u32) -> Option<&Slot> {
        self.slots.get(index as usize)
    }

    pub(super) fn offender(&self, index: u32) -> Option<&Offender> {
        self.cold.get(index as usize)
    }

    pub(super) fn capacity(&self) -> u32 {
        self.slots.len() as u32
    }

    /// A free slot, for the caller alone. Its head still says free.
    pub(super) fn take(&self) -> Option<u32> {
        let mut list = self.free.load(Ordering::Acquire);
        loop {
            let index = (list as u32).checked_sub(1)?;
            let cold = self.offender(index)?;
            let rest = changed(list) | (cold.next.load(Ordering::Relaxed) & LOW);
            match self.free.compare_exchange(list, rest, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    cold.class.store(0, Ordering::Relaxed);
                    // Whoever still reads the slot's last entry sees, with anything written from here on, the free head.
                    fence(Ordering::Release);
                    return Some(index);
                }
                Err(now) => list = now,
            }
        }
    }

    /// Empties a slot that the caller alone holds, and lists it as free.
    pub(super) fn give_back(&self, index: u32) {
        let (Some(slot), Some(cold)) = (self.slot(index), self.offender(index)) else { return };
        slot.publish(slot.head().recycled());
        let mut list = self.free.load(Ordering::Relaxed);
        loop {
            cold.next.store(list & LOW, Ordering::Relaxed);
            let longer = changed(list) | (u64::from(index) + 1);
            match self.free.compare_exchange(list, longer, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => list = now,
            }
        }
    }
}

impl Slot {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            head: AtomicU64::new(Head::FRESH.word()),
            key: std::array::from_fn(|_| zero()),
            class: zero(),
            changed_at: zero(),
            hint: zero(),
            stamp: zero(),
            seen: zero(),
            opened: zero(),
            sent: zero(),
            received: zero(),
            last_sa: zero(),
            last_version: zero(),
        }
    }

    /// The head now.
    #[inline]
    pub(crate) fn head(&self) -> Head {
        Head::from_word(self.head.load(Ordering::Acquire))
    }

    /// Changes the head from what it was seen as. Returns whether it still was.
    pub(crate) fn change(&self, from: Head, to: Head) -> bool {
        self.head.compare_exchange(from.word(), to.word(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The key. Only meaningful while the entry is known to stay.
    pub(crate) fn key(&self) -> Key {
        let mut key = [0; 5];
        for (word, place) in key.iter_mut().zip(&self.key) {
            *word = place.load(Ordering::Relaxed);
        }
        key
    }

    #[inline]
    pub(super) fn holds(&self, key: &Key) -> bool {
        self.key.iter().zip(key).all(|(mine, theirs)| mine.load(Ordering::Relaxed) == *theirs)
    }

    pub(super) fn write_key(&self, key: &Key) {
        for (place, word) in self.key.iter().zip(key) {
            place.store(*word, Ordering::Relaxed);
        }
    }

    pub(super) fn publish(&self, head: Head) {
        debug_assert!(matches!(head.life(), Life::Tentative | Life::Free));
        self.head.store(head.word(), Ordering::Release);
    }
}

impl Offender {
    fn new(next: u64) -> Self {
        let zero = || AtomicU64::new(0);
        Self { class: zero(), sa: zero(), next: AtomicU64::new(next) }
    }
}

const LOW: u64 = 0xffff_ffff;

/// The change count of the list, one further.
const fn changed(list: u64) -> u64 {
    (list >> 32).wrapping_add(1) << 32
}
