//! What applications require of what protects their sockets (latching-04 section 2, Q-44, L-33): kept under the socket's own
//! cookie, looked up where a flow begins, and gone with the socket.
//!
//! A requirement restricts what policy chose; it chooses nothing itself. Workers ask [`any`](Requirements::any) first, which
//! is one relaxed load, and nothing more while nobody requires anything.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::{LatchTerms, OnConflict, Unlatchable};
use latchway_datapath::time::Time;

use crate::constraint::ConstraintId;
use crate::rooms::Rooms;

/// A socket: its network namespace and its number there, as the kernel gives them to it alone (SO_NETNS_COOKIE, SO_COOKIE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cookie {
    /// Of the network namespace.
    pub space: u64,
    /// Of the socket.
    pub socket: u64,
}

/// Whose packet it is that may begin a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This socket's.
    Socket(Cookie),
    /// No socket's of ours: it is forwarded.
    Nobody,
    /// It has an address of ours, and no socket has it, or not any more.
    Gone,
    /// The kernel did not say.
    Unknown,
}

/// Names a requirement as long as the process lives: ids are not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequirementId(pub u64);

/// What is required for one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Its name.
    pub id: RequirementId,
    /// What SAs must be.
    pub constraint: ConstraintId,
    /// What becomes of its connections in a conflict, other than the rule says.
    pub on_conflict: Option<OnConflict>,
    /// The protocol of the socket.
    pub protocol: u8,
    /// The port that the socket is bound to, where it is.
    pub port: Option<u16>,
    /// Whether the socket shares its port with others, so that which of them a packet is of cannot be told from its ends
    /// (SO_REUSEPORT): then this is required of all of them.
    pub shares: bool,
}

/// What is required of the flow of a packet: all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Required {
    pub(crate) id: RequirementId,
    /// The bits of the constraints that SAs must satisfy.
    pub(crate) constraints: u64,
    pub(crate) on_conflict: Option<OnConflict>,
}

/// All that is required, shared by the workers and whoever answers applications.
pub struct Requirements {
    rooms: Rooms,
    /// How many there are, with those whose sockets are gone and may have left packets.
    standing: AtomicU64,
    /// How often what was required of a socket went with it.
    departures: AtomicU64,
    table: Mutex<Table>,
    /// By port, before when the owner of a UDP flow may have been another, in steps.
    changed: Box<[AtomicU32]>,
    /// The same of all ports.
    changed_everywhere: AtomicU32,
}

#[derive(Debug, Default)]
struct Table {
    sockets: HashMap<Cookie, Requirement>,
    /// Those of sockets that share their port, by protocol and port.
    shared: HashMap<(u8, u16), Vec<Cookie>>,
    /// How many UDP sockets with a requirement are at a port.
    placed: HashMap<u16, usize>,
    /// How many of them have none yet.
    unplaced: usize,
    /// The UDP ports of sockets that are gone, where they had any, each until no packet of theirs can be under way.
    left: HashMap<Option<u16>, Time>,
}

impl Requirements {
    pub(crate) fn new() -> Self {
        Self {
            rooms: Rooms::new(),
            standing: AtomicU64::new(0),
            departures: AtomicU64::new(0),
            table: Mutex::default(),
            changed: (0..=u16::MAX).map(|_| AtomicU32::new(0)).collect(),
            changed_everywhere: AtomicU32::new(0),
        }
    }

    /// Whether anything is required at all.
    #[inline]
    #[must_use]
    pub fn any(&self) -> bool {
        self.standing.load(Ordering::Relaxed) != 0
    }

    /// What is required of rooms.
    #[must_use]
    pub const fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// How many sockets something is required for.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.lock().sockets.len() as u64
    }

    /// What is required for a socket.
    #[must_use]
    pub fn of(&self, socket: &Cookie) -> Option<Requirement> {
        self.lock().sockets.get(socket).copied()
    }

    /// Requires something for a socket, in place of what was: it holds for the next packet that may begin a flow. Returns
    /// what was required before.
    pub fn set(&self, socket: Cookie, requirement: Requirement, now: Time) -> Option<Requirement> {
        let mut table = self.lock();
        let before = table.take(&socket);
        table.put(socket, requirement);
        self.count_anew(&table);
        drop(table);
        if requirement.protocol == protocol::UDP {
            self.owner_changed(requirement.port, now);
        }
        before
    }

    /// Requires nothing for a socket any more. Returns what was.
    pub fn remove(&self, socket: &Cookie, now: Time) -> Option<Requirement> {
        let mut table = self.lock();
        let before = table.take(socket)?;
        self.count_anew(&table);
        drop(table);
        if before.protocol == protocol::UDP {
            self.owner_changed(before.port, now);
        }
        Some(before)
    }

    /// Takes note that a socket is gone, which had this UDP port. What it sent last may not have been looked at yet: until
    /// that is over, a packet that no socket has may be its own.
    pub fn gone(&self, socket: &Cookie, udp_port: Option<u16>, now: Time) {
        let mut table = self.lock();
        let Some(before) = table.take(socket) else { return };
        self.departures.fetch_add(1, Ordering::SeqCst);
        let port = udp_port.or(before.port).filter(|_| before.protocol == protocol::UDP);
        let known = table.left.insert(port, now + UNDER_WAY).is_some();
        if let Some(port) = port.filter(|_| !known) {
            *table.placed.entry(port).or_default() += 1;
        }
        self.count_anew(&table);
        drop(table);
        if port.is_some() {
            self.owner_changed(port, now);
        }
    }

    /// How often what was required of a socket went with it. Whoever learns that a flow is a socket's, and then that nothing is
    /// required of it, knows both of the same moment only if this was the same before the one and after the other.
    pub(crate) fn departures(&self) -> u64 {
        self.departures.load(Ordering::SeqCst)
    }

    /// Forgets sockets that are gone for so long that nothing of theirs is under way.
    pub fn expire(&self, now: Time) {
        let mut table = self.lock();
        let over: Vec<_> = table.left.extract_if(|_, until| *until <= now).map(|(port, _)| port).collect();
        over.into_iter().flatten().for_each(|port| table.leave(port));
        self.count_anew(&table);
    }

    /// Under the lock, so that the number never belies the table.
    fn count_anew(&self, table: &Table) {
        self.standing.store((table.sockets.len() + table.left.len()) as u64, Ordering::SeqCst);
    }

    /// Takes note that the flows of a UDP port, or of any, may have other owners from now on: those that are there are asked
    /// about once more.
    pub fn owner_changed(&self, port: Option<u16>, now: Time) {
        let place = port.map_or(Some(&self.changed_everywhere), |port| self.changed.get(usize::from(port)));
        if let Some(place) = place {
            place.fetch_max(step_after(now), Ordering::SeqCst);
        }
    }

    /// Every socket that something is required for.
    #[must_use]
    pub fn sockets(&self) -> Vec<Cookie> {
        self.lock().sockets.keys().copied().collect()
    }

    /// Whether the owner of a UDP flow whose entry was made, or was asked about, at `opened` may be another by now.
    #[inline]
    pub(crate) fn may_have_changed(&self, flow: &FlowKey, opened: Time) -> bool {
        let at = |place: &AtomicU32| u64::from(place.load(Ordering::Relaxed)) << STEP;
        let port = self.changed.get(usize::from(flow.local_port())).map_or(u64::MAX, at);
        opened.as_nanos() < port.max(at(&self.changed_everywhere))
    }

    /// What is required of a flow that this socket begins, or that comes to it.
    pub(crate) fn demand(&self, owner: Owner, flow: &FlowKey) -> Option<Required> {
        let mut table = self.lock();
        let own = match owner {
            Owner::Socket(cookie) => {
                table.place(&cookie, flow);
                table.sockets.get(&cookie).copied()
            }
            Owner::Nobody | Owner::Gone | Owner::Unknown => None,
        };
        let sharing = table.shared.get(&(flow.protocol(), flow.local_port()));
        let shared = sharing.into_iter().flatten().filter_map(|cookie| table.sockets.get(cookie).copied());
        // Where the packet is of no socket of ours, what those of a port share is not asked of it.
        let shared = shared.filter(|_| matches!(owner, Owner::Socket(_)));
        own.into_iter().chain(shared).fold(None, |demand: Option<Required>, next| {
            let bit = next.constraint.bit();
            Some(match demand {
                None => Required { id: next.id, constraints: bit, on_conflict: next.on_conflict },
                Some(demand) => Required {
                    constraints: demand.constraints | bit,
                    on_conflict: demand.on_conflict.or(next.on_conflict),
                    ..demand
                },
            })
        })
    }

    /// Whether a UDP packet that no socket has any more may be of one that something is required for.
    pub(crate) fn may_be_of(&self, local_port: u16) -> bool {
        let table = self.lock();
        table.unplaced > 0 || table.placed.contains_key(&local_port)
    }

    /// Whether a UDP packet of which the kernel says that it is of a socket without requirement may be of one that has this
    /// port, too, or had it a moment ago (SO_REUSEADDR): which of them sent it cannot be told from its ends.
    pub(crate) fn may_be_of_another(&self, local_port: u16, now: Time) -> bool {
        let table = self.lock();
        let left = table.left.get(&Some(local_port));
        let placed = table.placed.get(&local_port).copied().unwrap_or_default();
        placed > usize::from(left.is_some())
            || left.is_some_and(|&until| now + UNDER_WAY < until + SUCCESSION)
    }

    /// Whether something is required for any UDP socket.
    pub(crate) fn any_of_udp(&self) -> bool {
        let table = self.lock();
        table.unplaced > 0 || !table.placed.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn put(&mut self, socket: Cookie, requirement: Requirement) {
        self.sockets.insert(socket, requirement);
        let Requirement { protocol: of, port, shares, .. } = requirement;
        if let Some(port) = port.filter(|_| shares) {
            self.shared.entry((of, port)).or_default().push(socket);
        }
        match port {
            _ if of != protocol::UDP => {}
            Some(port) => *self.placed.entry(port).or_default() += 1,
            None => self.unplaced += 1,
        }
    }

    fn take(&mut self, socket: &Cookie) -> Option<Requirement> {
        let requirement = self.sockets.remove(socket)?;
        let Requirement { protocol: of, port, shares, .. } = requirement;
        if let Some(Entry::Occupied(mut sharing)) =
            port.filter(|_| shares).map(|port| self.shared.entry((of, port)))
        {
            sharing.get_mut().retain(|other| other != socket);
            if sharing.get().is_empty() {
                sharing.remove();
            }
        }
        match port {
            _ if of != protocol::UDP => {}
            Some(port) => self.leave(port),
            None => self.unplaced = self.unplaced.saturating_sub(1),
        }
        Some(requirement)
    }

    /// Takes note of the port that a UDP socket was seen at.
    fn place(&mut self, socket: &Cookie, flow: &FlowKey) {
        let unplaced = |known: &&mut Requirement| known.protocol == protocol::UDP && known.port.is_none();
        let Some(known) = self.sockets.get_mut(socket).filter(unplaced) else { return };
        known.port = Some(flow.local_port());
        self.unplaced = self.unplaced.saturating_sub(1);
        *self.placed.entry(flow.local_port()).or_default() += 1;
    }

    fn leave(&mut self, port: u16) {
        let left = self.placed.get_mut(&port).map(|placed| {
            *placed = placed.saturating_sub(1);
            *placed
        });
        if left == Some(0) {
            self.placed.remove(&port);
        }
    }
}

impl Required {
    /// The terms of a latch that is to be what is demanded, where a rule or a listener has these. What is demanded is not
    /// gone without.
    pub(crate) fn terms(&self, otherwise: Option<LatchTerms>) -> LatchTerms {
        let terms = otherwise.unwrap_or_default();
        let on_conflict = self.on_conflict.unwrap_or(terms.on_conflict);
        LatchTerms { on_conflict, unlatchable: Unlatchable::Refuse, ..terms }
    }
}

impl fmt::Debug for Requirements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requirements").field("standing", &self.count()).finish_non_exhaustive()
    }
}

/// The step after this moment: what was opened before it is older.
fn step_after(now: Time) -> u32 {
    u32::try_from((now.as_nanos() >> STEP).saturating_add(1)).unwrap_or(u32::MAX)
}

/// How long a packet may wait in the TUN before a worker looks at it: one that takes longer is none that works.
const UNDER_WAY: Duration = Duration::from_secs(30);

/// How long who has a port next waits for what its predecessor left. A packet that waits in the TUN for longer is one in a
/// million; to wait as long as one could would shut out those who come next.
const SUCCESSION: Duration = Duration::from_secs(1);

/// A step is 2^24 ns, some 17 ms: 32 bits of it are two years.
const STEP: u32 = 24;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const NOW: Time = Time::from_nanos(5_000_000_000);

    fn requirement(number: u8, protocol: u8, port: Option<u16>) -> Requirement {
        Requirement {
            id: RequirementId(number.into()),
            constraint: ConstraintId::new(number).unwrap(),
            on_conflict: None,
            protocol,
            port,
            shares: false,
        }
    }

    fn cookie(socket: u64) -> Cookie {
        Cookie { space: 1, socket }
    }

    fn flow(protocol: u8, port: u16) -> FlowKey {
        FlowKey::new(protocol, ([10, 0, 0, 1], port).into(), ([10, 0, 0, 2], 80).into())
    }

    /// Q-44, L-33: what is required is found under the socket's own cookie, and nowhere else; and all counts come back to 0.
    #[test]
    fn q_44_a_requirement_is_its_sockets_alone() {
        let requirements = Requirements::new();
        assert!(!requirements.any());
        let tcp = flow(protocol::TCP, 1000);
        assert_eq!(requirements.set(cookie(7), requirement(3, protocol::TCP, None), NOW), None);
        assert!(requirements.any());
        let demand = requirements.demand(Owner::Socket(cookie(7)), &tcp).unwrap();
        assert_eq!((demand.id, demand.constraints), (RequirementId(3), 1 << 3));
        let elsewhere = Cookie { space: 2, socket: 7 };
        for owner in [Owner::Socket(cookie(8)), Owner::Socket(elsewhere), Owner::Nobody, Owner::Gone] {
            assert_eq!(requirements.demand(owner, &tcp), None);
        }
        let replaced = requirements.set(cookie(7), requirement(4, protocol::TCP, None), NOW).unwrap();
        assert_eq!((replaced.id, requirements.count()), (RequirementId(3), 1));
        assert!(requirements.remove(&cookie(7), NOW).is_some());
        assert_eq!(requirements.remove(&cookie(7), NOW), None);
        assert!(!requirements.any() && requirements.sockets().is_empty());
    }

    /// What is required of one socket that shares its port is required of all that do.
    #[test]
    fn sockets_that_share_a_port_are_held_to_all_that_is_required_of_any() {
        let requirements = Requirements::new();
        let sharing = |number| Requirement { shares: true, ..requirement(number, protocol::UDP, Some(53)) };
        requirements.set(cookie(1), sharing(1), NOW);
        requirements.set(cookie(2), sharing(2), NOW);
        let demand = |owner, port| {
            requirements.demand(owner, &flow(protocol::UDP, port)).map(|demand| demand.constraints)
        };
        for socket in 1..=3 {
            assert_eq!(demand(Owner::Socket(cookie(socket)), 53), Some(0b110));
        }
        assert_eq!(demand(Owner::Socket(cookie(3)), 54), None);
        assert_eq!(demand(Owner::Nobody, 53), None);
        requirements.remove(&cookie(1), NOW);
        assert_eq!(demand(Owner::Socket(cookie(3)), 53), Some(0b100));
        requirements.remove(&cookie(2), NOW);
        assert_eq!(demand(Owner::Socket(cookie(3)), 53), None);
        assert!(requirements.lock().shared.is_empty());
    }

    /// A UDP socket that is bound later is known at its port from then on; before, any port may be its.
    #[test]
    fn a_udp_socket_may_be_anywhere_until_it_is_seen() {
        let requirements = Requirements::new();
        requirements.set(cookie(1), requirement(1, protocol::TCP, None), NOW);
        assert!(!requirements.any_of_udp() && !requirements.may_be_of(9));
        requirements.set(cookie(2), requirement(1, protocol::UDP, None), NOW);
        assert!(requirements.any_of_udp() && requirements.may_be_of(9) && requirements.may_be_of(10));
        requirements.demand(Owner::Socket(cookie(2)), &flow(protocol::UDP, 9));
        assert!(requirements.may_be_of(9) && !requirements.may_be_of(10));
        requirements.remove(&cookie(2), NOW);
        assert!(!requirements.any_of_udp() && !requirements.may_be_of(9));
        assert!(requirements.lock().placed.is_empty());
    }

    /// L-33: what a socket sent last is not free of what was required of it because the socket is gone before it is looked at.
    #[test]
    fn l_33_what_a_socket_leaves_is_its_own_until_it_is_over() {
        let requirements = Requirements::new();
        requirements.set(cookie(1), requirement(1, protocol::UDP, None), NOW);
        requirements.set(cookie(2), requirement(1, protocol::TCP, None), NOW);
        requirements.gone(&cookie(1), Some(9), NOW);
        requirements.gone(&cookie(2), None, NOW);
        requirements.gone(&cookie(3), Some(10), NOW);
        assert_eq!((requirements.count(), requirements.any()), (0, true));
        assert_eq!(requirements.departures(), 2, "nothing was required of the third");
        assert!(requirements.may_be_of(9) && !requirements.may_be_of(10));
        requirements.expire(NOW + UNDER_WAY.saturating_sub(Duration::from_nanos(1)));
        assert!(requirements.may_be_of(9));
        requirements.expire(NOW + UNDER_WAY);
        assert!(!requirements.any() && !requirements.may_be_of(9) && !requirements.any_of_udp());
    }

    /// L-33: who has a port beside a socket with a requirement, or after one, is not taken for the sender of what that sent.
    #[test]
    fn l_33_a_port_has_one_owner_at_a_time() {
        let requirements = Requirements::new();
        assert!(!requirements.may_be_of_another(9, NOW));
        requirements.set(cookie(1), requirement(1, protocol::UDP, Some(9)), NOW);
        requirements.set(cookie(2), requirement(1, protocol::TCP, Some(10)), NOW);
        assert!(requirements.may_be_of_another(9, NOW) && !requirements.may_be_of_another(10, NOW));
        requirements.gone(&cookie(1), Some(9), NOW);
        assert!(requirements.may_be_of_another(9, NOW));
        assert!(requirements.may_be_of_another(9, NOW + SUCCESSION.saturating_sub(Duration::from_nanos(1))));
        assert!(!requirements.may_be_of_another(9, NOW + SUCCESSION));
        assert!(requirements.may_be_of(9), "what no socket has may still be its own");
        requirements.set(cookie(3), requirement(1, protocol::UDP, Some(9)), NOW + SUCCESSION);
        assert!(requirements.may_be_of_another(9, NOW + SUCCESSION));
        requirements.remove(&cookie(3), NOW + SUCCESSION);
        assert!(!requirements.may_be_of_another(9, NOW + SUCCESSION));
    }

    /// An entry that is older than the last change of its port is asked about, and one that is newer is not.
    #[test]
    fn entries_from_before_a_change_are_asked_about_again() {
        let requirements = Requirements::new();
        let later = NOW + Duration::from_millis(40);
        let old = |port, opened| requirements.may_have_changed(&flow(protocol::UDP, port), opened);
        assert!(!old(9, Time::default()));
        requirements.owner_changed(Some(9), NOW);
        assert!(old(9, NOW) && !old(9, later) && !old(10, NOW));
        requirements.set(cookie(2), requirement(1, protocol::UDP, None), later);
        assert!(old(9, later) && old(10, later));
        assert!(!old(10, later + Duration::from_millis(40)));
        requirements.owner_changed(Some(9), NOW);
        assert!(old(9, later), "never backwards");
    }
}
