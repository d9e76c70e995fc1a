//! Which peer a class belongs to and what rests on the class, readable by every worker without a lock (C-19: another peer
//! breaks a latch, another quality of protection does not).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use latchway_tagging::{AuthMethod, ClassId, IdentityId};

use crate::constraint::ConstraintId;
use crate::sync::{AtomicU64, Ordering, fence};

/// Class to peer, its standing, and how many latches hold the class. The key manager publishes a class before any SA of
/// it (L-74), and retires it when neither an SA nor a latch holds it any more.
#[derive(Debug)]
pub struct ClassPeers {
    places: Box<[Place]>,
    /// Latches on whose connection only the remote side has spoken, by peer.
    half_open: Box<[AtomicU64]>,
    /// Strict latches in force, of all classes.
    strict: AtomicU64,
    writer: Mutex<Writer>,
}

/// No room for another class: its SA must not be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many classes are live for the table of their peers; delete SAs of peers no longer needed")]
pub struct ClassPeersFull;

/// One class.
#[derive(Debug)]
struct Place {
    /// Class (32 bits), standing (4) and peer (28); 0 is empty, as no class has the number 0.
    word: AtomicU64,
    /// Bit c: the class satisfies constraint c.
    accepts: AtomicU64,
    /// How many latches hold the class (low half), and how many of them are strict and in force (high half).
    latches: AtomicU64,
    /// The peer (high half), and where its half-open latches are counted (low half).
    counted: AtomicU64,
}

/// What only the key manager's calls look at.
#[derive(Debug, Default)]
struct Writer {
    /// Where a peer's half-open latches are counted, and how many places say so.
    peers: HashMap<u64, (u32, usize)>,
    free: Vec<u32>,
    next: u32,
}

/// Places that one class may be in. Class numbers count up, so that they spread evenly.
#[cfg(not(loom))]
const REACH: usize = 64;
/// Few enough for every interleaving.
#[cfg(loom)]
const REACH: usize = 2;

impl ClassPeers {
    /// Room for about `classes` live classes.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        let places = classes.saturating_mul(2).max(REACH);
        Self {
            places: (0..places).map(|_| Place::new()).collect(),
            half_open: (0..places).map(|_| AtomicU64::new(0)).collect(),
            strict: AtomicU64::new(0),
            writer: Mutex::default(),
        }
    }

    /// Makes known whose class it is, how that peer was authenticated, and which constraints the class satisfies (bit c
    /// for constraint c). Called before an SA of the class becomes visible; for a class that is known, only the standing is
    /// taken anew.
    ///
    /// # Errors
    /// [`ClassPeersFull`]; the SA must then be refused.
    pub fn publish(
        &self,
        class: ClassId,
        peer: IdentityId,
        standing: AuthMethod,
        accepts: u64,
    ) -> Result<(), ClassPeersFull> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = u64::from(peer.raw());
        if peer > PEER || class.raw() == 0 {
            return Err(ClassPeersFull);
        }
        let word = u64::from(class.raw()) << 32 | code(standing) << STANDING | peer;
        if let Some(place) = self.known(class) {
            // Whose class it is never changes (RFC 5660 2.6).
            place.word.store(word, Ordering::Release);
            return Ok(());
        }
        let place = self.reach(class).find(|place| writer.vacate(place)).ok_or(ClassPeersFull)?;
        place.counted.store(peer << 32 | u64::from(writer.join(peer)), Ordering::Relaxed);
        place.accepts.store(accepts, Ordering::Relaxed);
        place.word.store(word, Ordering::Release);
        Ok(())
    }

    /// Says anew which constraints a class satisfies (bit c for constraint c): before a listener has a new one.
    pub fn set_accepts(&self, class: ClassId, accepts: u64) {
        if let Some(place) = self.place(class) {
            place.accepts.store(accepts, Ordering::Release);
        }
    }

    /// Forgets a class that neither an SA nor a latch holds. If a latch holds it all the same, its peer is unknown from
    /// now on, and its place is free when the latch is gone.
    pub fn retire(&self, class: ClassId) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = self.place(class) {
            place.word.store(u64::from(class.raw()) << 32 | RETIRED, Ordering::Release);
            writer.vacate(place);
        }
    }

    /// Whether both classes are known and of one peer. An unknown class is another peer's: fail closed.
    #[must_use]
    pub fn same_peer(&self, one: ClassId, other: ClassId) -> bool {
        matches!((self.peer(one), self.peer(other)), (Some(one), Some(other)) if one == other)
    }

    /// Whether the class is known and of this peer.
    #[must_use]
    pub fn is_of(&self, class: ClassId, peer: IdentityId) -> bool {
        self.peer(class) == Some(u64::from(peer.raw()))
    }

    /// How the peer of a class was authenticated, which is its standing (L-70). An unknown class has none.
    #[must_use]
    pub fn standing(&self, class: ClassId) -> Option<AuthMethod> {
        let word = self.known(class)?.word.load(Ordering::Acquire);
        METHODS.get((word >> STANDING & 15) as usize).copied()
    }

    /// Whether the class satisfies a listener's constraint.
    #[must_use]
    pub fn accepts(&self, class: ClassId, constraint: ConstraintId) -> bool {
        let accepts = self.known(class).map(|place| place.accepts.load(Ordering::Acquire));
        accepts.is_some_and(|accepts| accepts & constraint.bit() != 0)
    }

    /// Whether the class satisfies every one of these constraints (bit c for constraint c).
    #[must_use]
    pub(crate) fn accepts_all(&self, class: ClassId, constraints: u64) -> bool {
        let accepts = self.known(class).map(|place| place.accepts.load(Ordering::Acquire));
        accepts.is_some_and(|accepts| accepts & constraints == constraints)
    }

    /// How many latches hold the class, tombstones included.
    #[must_use]
    pub fn latches(&self, class: ClassId) -> u32 {
        self.place(class).map_or(0, |place| place.latches.load(Ordering::Acquire) as u32)
    }

    /// Whether a strict latch of another class is in force. Never misses one that was there before the call.
    #[must_use]
    pub fn strict_others(&self, class: ClassId) -> bool {
        // A latch is counted for all before it is for its class, and the other way when it goes.
        let own = self.place(class).map_or(0, |place| place.latches.load(Ordering::Acquire) >> 32);
        self.strict.load(Ordering::Acquire) > own
    }

    /// Counts a latch that is to hold the class. Returns whether the class is known: one that is not has none.
    pub(crate) fn enter(&self, class: ClassId) -> bool {
        let Some(place) = self.known(class) else { return false };
        place.latches.fetch_add(LATCH, Ordering::AcqRel);
        // Either the class is seen to be retired here, or the latch is seen there.
        fence(Ordering::SeqCst);
        let stays = is_of(place.word.load(Ordering::Acquire), class);
        if !stays {
            place.latches.fetch_sub(LATCH, Ordering::AcqRel);
        }
        stays
    }

    /// Counts a latch that held the class and is gone.
    pub(crate) fn leave(&self, class: ClassId) {
        if let Some(place) = self.place(class) {
            place.latches.fetch_sub(LATCH, Ordering::AcqRel);
        }
    }

    /// Counts a strict latch of the class that comes into force, or no longer is. It is counted as a latch meanwhile.
    pub(crate) fn count_strict(&self, class: ClassId, comes: bool) {
        let Some(place) = self.place(class) else { return };
        if comes {
            self.strict.fetch_add(1, Ordering::AcqRel);
            place.latches.fetch_add(STRICT, Ordering::AcqRel);
        } else {
            place.latches.fetch_sub(STRICT, Ordering::AcqRel);
            self.strict.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Counts a latch on whose connection only the remote side has spoken, or no longer only. Returns how many the
    /// class's peer had before. It is counted as a latch of the class meanwhile.
    pub(crate) fn count_half_open(&self, class: ClassId, comes: bool) -> u64 {
        let Some(count) = self.place(class).and_then(|place| self.half_open_of(place)) else { return 0 };
        if comes { count.fetch_add(1, Ordering::Relaxed) } else { count.fetch_sub(1, Ordering::Relaxed) }
    }

    /// On how many connections with the class's peer only the remote side has spoken.
    #[must_use]
    pub fn half_open(&self, class: ClassId) -> u64 {
        let count = self.place(class).and_then(|place| self.half_open_of(place));
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn half_open_of(&self, place: &Place) -> Option<&AtomicU64> {
        self.half_open.get(place.counted.load(Ordering::Relaxed) as u32 as usize)
    }

    fn peer(&self, class: ClassId) -> Option<u64> {
        self.known(class).map(|place| place.word.load(Ordering::Acquire) & PEER)
    }

    /// The place of a class that is not retired.
    fn known(&self, class: ClassId) -> Option<&Place> {
        self.place(class).filter(|place| is_of(place.word.load(Ordering::Acquire), class))
    }

    /// The place of a class, retired or not.
    fn place(&self, class: ClassId) -> Option<&Place> {
        let wanted = u64::from(class.raw());
        self.reach(class)
            .find(|place| place.word.load(Ordering::Acquire) >> 32 == wanted)
            .filter(|_| wanted != 0)
    }

    fn reach(&self, class: ClassId) -> impl Iterator<Item = &Place> {
        let home = class.raw() as usize % self.places.len().max(1);
        let from_home = self.places.get(home..).unwrap_or_default();
        from_home.iter().chain(&self.places).take(REACH)
    }
}

impl Place {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { word: zero(), accepts: zero(), latches: zero(), counted: zero() }
    }
}

impl Writer {
    /// Makes a place empty if its class is retired and no latch holds it. Returns whether it is empty.
    fn vacate(&mut self, place: &Place) -> bool {
        let word = place.word.load(Ordering::Relaxed);
        if word == 0 {
            return true;
        }
        fence(Ordering::SeqCst);
        if word & RETIRED != RETIRED || place.latches.load(Ordering::Acquire) != 0 {
            return false;
        }
        self.leave(place);
        place.word.store(0, Ordering::Release);
        true
    }

    /// Where the peer is counted, for one place more.
    fn join(&mut self, peer: u64) -> u32 {
        if let Some((slot, places)) = self.peers.get_mut(&peer) {
            *places += 1;
            return *slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.peers.insert(peer, (slot, 1));
        slot
    }

    /// The place no longer counts for its peer.
    fn leave(&mut self, place: &Place) {
        let counted = place.counted.load(Ordering::Relaxed);
        let Some((_, places)) = self.peers.get_mut(&(counted >> 32)) else { return };
        *places = places.saturating_sub(1);
        if *places == 0 {
            self.peers.remove(&(counted >> 32));
            self.free.push(counted as u32);
        }
    }
}

const fn is_of(word: u64, class: ClassId) -> bool {
    (word >> 32) as u32 == class.raw() && word & RETIRED != RETIRED
}

/// The number of a standing, by its place in [`METHODS`].
const fn code(standing: AuthMethod) -> u64 {
    match standing {
        AuthMethod::Btns => 0,
        AuthMethod::LeapOfFaith => 1,
        AuthMethod::Manual => 2,
        AuthMethod::PreSharedKey => 3,
        AuthMethod::PublicKey => 4,
        AuthMethod::Certificate => 5,
    }
}

const METHODS: [AuthMethod; 6] = [
    AuthMethod::Btns,
    AuthMethod::LeapOfFaith,
    AuthMethod::Manual,
    AuthMethod::PreSharedKey,
    AuthMethod::PublicKey,
    AuthMethod::Certificate,
];

const STANDING: u32 = 28;
const PEER: u64 = (1 << STANDING) - 1;
/// No standing has the number 15.
const RETIRED: u64 = 0xffff_ffff;
const LATCH: u64 = 1;
const STRICT: u64 = 1 << 32;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use latchway_tagging::{Credential, Identity, IdentityLimit, IdentityRecord, IdentityTable};

    const METHOD: AuthMethod = AuthMethod::PreSharedKey;

    fn peers(count: u32) -> Vec<IdentityId> {
        let mut table = IdentityTable::new(IdentityLimit::default());
        let record = |name: u32| IdentityRecord {
            asserted: Identity::Fqdn(format!("peer{name}")),
            authorised: None,
            method: METHOD,
            credential: Credential::None,
        };
        (0..count).map(|name| table.acquire(&record(name)).unwrap()).collect()
    }

    #[test]
    fn c_19_classes_of_one_peer_are_told_from_those_of_another_and_unknown_is_another() {
        let (table, ids) = (ClassPeers::new(8), peers(2));
        let [a, b, c, unknown] = [1, 2, 3, 4].map(ClassId::from_raw);
        table.publish(a, ids[0], METHOD, 0).unwrap();
        table.publish(b, ids[0], METHOD, 0).unwrap();
        table.publish(c, ids[1], METHOD, 0).unwrap();
        assert!(table.same_peer(a, b) && table.same_peer(a, a));
        assert!(!table.same_peer(a, c) && !table.same_peer(a, unknown) && !table.same_peer(unknown, unknown));
        table.retire(b);
        assert!(!table.same_peer(a, b));
    }

    #[test]
    fn the_table_of_peers_is_bounded_and_room_comes_back() {
        let (table, ids) = (ClassPeers::new(0), peers(1));
        for class in 1..=64 {
            table.publish(ClassId::from_raw(class), ids[0], METHOD, 0).unwrap();
        }
        table.publish(ClassId::from_raw(64), ids[0], METHOD, 0).unwrap();
        assert_eq!(table.publish(ClassId::from_raw(65), ids[0], METHOD, 0), Err(ClassPeersFull));
        table.retire(ClassId::from_raw(9));
        assert_eq!(table.publish(ClassId::from_raw(65), ids[0], METHOD, 0), Ok(()));
        assert!(table.same_peer(ClassId::from_raw(65), ClassId::from_raw(1)));
        assert!(!table.same_peer(ClassId::from_raw(9), ClassId::from_raw(1)));
    }

    #[test]
    fn l_70_every_standing_is_kept_and_an_unknown_class_has_none() {
        let (table, ids) = (ClassPeers::new(8), peers(1));
        let class = ClassId::from_raw(7);
        assert_eq!(table.standing(class), None);
        for method in METHODS {
            table.publish(class, ids[0], method, 0).unwrap();
            assert_eq!(table.standing(class), Some(method));
        }
        assert!(METHODS.is_sorted(), "the order of standing");
        table.retire(class);
        assert_eq!(table.standing(class), None);
    }

    #[test]
    fn l_46_a_class_satisfies_the_constraints_that_it_is_said_to() {
        let (table, ids) = (ClassPeers::new(8), peers(1));
        let [one, last] = [1, 63].map(|number| ConstraintId::new(number).unwrap());
        assert_eq!((ConstraintId::new(0), ConstraintId::new(64)), (None, None));
        let class = ClassId::from_raw(7);
        assert!(!table.accepts(class, one));
        table.publish(class, ids[0], METHOD, one.bit()).unwrap();
        assert!(table.accepts(class, one) && !table.accepts(class, last));
        table.set_accepts(class, last.bit());
        assert!(!table.accepts(class, one) && table.accepts(class, last));
    }

    /// A class that is retired too early stays counted until its last latch is gone, and nobody gets its place before.
    #[test]
    fn d_2_latches_of_a_class_are_counted_until_the_last_is_gone() {
        let (table, ids) = (ClassPeers::new(0), peers(1));
        let [one, other] = [1, 1 + 64].map(ClassId::from_raw);
        for class in 1..=64 {
            table.publish(ClassId::from_raw(class), ids[0], METHOD, 0).unwrap();
        }
        assert!(table.enter(one) && !table.enter(other), "an unknown class has no latch");
        table.count_strict(one, true);
        assert_eq!(
            (table.latches(one), table.strict_others(one), table.strict_others(other)),
            (1, false, true)
        );
        table.retire(one);
        assert!(!table.enter(one));
        assert_eq!(table.publish(other, ids[0], METHOD, 0), Err(ClassPeersFull));
        table.count_strict(one, false);
        table.leave(one);
        assert_eq!((table.latches(one), table.strict_others(other)), (0, false));
        assert_eq!(table.publish(other, ids[0], METHOD, 0), Ok(()));
    }

    #[test]
    fn d_7_half_open_connections_are_counted_by_peer_and_not_by_class() {
        let (table, ids) = (ClassPeers::new(8), peers(2));
        let [a, b, c] = [1, 2, 3].map(ClassId::from_raw);
        for (class, peer) in [(a, ids[0]), (b, ids[0]), (c, ids[1])] {
            table.publish(class, peer, METHOD, 0).unwrap();
        }
        assert_eq!([a, b, c].map(|class| table.count_half_open(class, true)), [0, 1, 0]);
        assert_eq!([a, b, c].map(|class| table.half_open(class)), [2, 2, 1]);
        table.count_half_open(b, false);
        assert_eq!(table.half_open(a), 1);
    }
}
