//! Which peer a class belongs to, readable by every worker without a lock (C-19: another peer breaks a latch, another
//! quality of protection does not).

use std::sync::{Mutex, PoisonError};

use latchway_tagging::{ClassId, IdentityId};

use crate::sync::{AtomicU64, Ordering};

/// Class to peer. The key manager publishes a class before any SA of it (L-74), and retires it when neither an SA
/// nor a latch holds it any more.
#[derive(Debug)]
pub struct ClassPeers {
    /// Class in the high half, peer in the low one; 0 is empty, as no class has the number 0.
    places: Box<[AtomicU64]>,
    writer: Mutex<()>,
}

/// No room for another class: its SA must not be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many classes are live for the table of their peers; delete SAs of peers no longer needed")]
pub struct ClassPeersFull;

/// Places that one class may be in. Class numbers count up, so that they spread evenly.
const REACH: usize = 64;

impl ClassPeers {
    /// Room for about `classes` live classes.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        let places = classes.saturating_mul(2).max(REACH);
        Self { places: (0..places).map(|_| AtomicU64::new(0)).collect(), writer: Mutex::new(()) }
    }

    /// Makes known whose class it is. Called before an SA of the class becomes visible.
    ///
    /// # Errors
    /// [`ClassPeersFull`]; the SA must then be refused.
    pub fn publish(&self, class: ClassId, peer: IdentityId) -> Result<(), ClassPeersFull> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let word = (u64::from(class.raw()) << 32) | u64::from(peer.raw());
        let place =
            self.place(class).or_else(|| self.reach(class).find(|place| place.load(Ordering::Relaxed) == 0));
        place.ok_or(ClassPeersFull)?.store(word, Ordering::Release);
        Ok(())
    }

    /// Forgets a class that neither an SA nor a latch holds.
    pub fn retire(&self, class: ClassId) {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = self.place(class) {
            place.store(0, Ordering::Release);
        }
    }

    /// Whether both classes are known and of one peer. An unknown class is another peer's: fail closed.
    #[must_use]
    pub fn same_peer(&self, one: ClassId, other: ClassId) -> bool {
        matches!((self.peer(one), self.peer(other)), (Some(one), Some(other)) if one == other)
    }

    fn peer(&self, class: ClassId) -> Option<u32> {
        let word = |place: &AtomicU64| place.load(Ordering::Acquire);
        self.reach(class).map(word).find(|word| is_of(*word, class)).map(|word| word as u32)
    }

    fn place(&self, class: ClassId) -> Option<&AtomicU64> {
        self.reach(class).find(|place| is_of(place.load(Ordering::Relaxed), class))
    }

    fn reach(&self, class: ClassId) -> impl Iterator<Item = &AtomicU64> {
        let home = class.raw() as usize % self.places.len().max(1);
        let from_home = self.places.get(home..).unwrap_or_default();
        from_home.iter().chain(&self.places).take(REACH)
    }
}

const fn is_of(word: u64, class: ClassId) -> bool {
    word != 0 && (word >> 32) as u32 == class.raw()
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use latchway_tagging::{AuthMethod, Credential, Identity, IdentityLimit, IdentityRecord, IdentityTable};

    fn peers(count: u32) -> Vec<IdentityId> {
        let mut table = IdentityTable::new(IdentityLimit::default());
        let record = |name: u32| IdentityRecord {
            asserted: Identity::Fqdn(format!("peer{name}")),
            authorised: None,
            method: AuthMethod::PreSharedKey,
            credential: Credential::None,
        };
        (0..count).map(|name| table.acquire(&record(name)).unwrap()).collect()
    }

    #[test]
    fn c_19_classes_of_one_peer_are_told_from_those_of_another_and_unknown_is_another() {
        let (table, ids) = (ClassPeers::new(8), peers(2));
        let [a, b, c, unknown] = [1, 2, 3, 4].map(ClassId::from_raw);
        table.publish(a, ids[0]).unwrap();
        table.publish(b, ids[0]).unwrap();
        table.publish(c, ids[1]).unwrap();
        assert!(table.same_peer(a, b) && table.same_peer(a, a));
        assert!(!table.same_peer(a, c) && !table.same_peer(a, unknown) && !table.same_peer(unknown, unknown));
        table.retire(b);
        assert!(!table.same_peer(a, b));
    }

    #[test]
    fn the_table_of_peers_is_bounded_and_room_comes_back() {
        let (table, ids) = (ClassPeers::new(0), peers(1));
        for class in 1..=64 {
            table.publish(ClassId::from_raw(class), ids[0]).unwrap();
        }
        table.publish(ClassId::from_raw(64), ids[0]).unwrap();
        assert_eq!(table.publish(ClassId::from_raw(65), ids[0]), Err(ClassPeersFull));
        table.retire(ClassId::from_raw(9));
        assert_eq!(table.publish(ClassId::from_raw(65), ids[0]), Ok(()));
        assert!(table.same_peer(ClassId::from_raw(65), ClassId::from_raw(1)));
        assert!(!table.same_peer(ClassId::from_raw(9), ClassId::from_raw(1)));
    }
}
