//! The congruence class of a pair of SAs: everything a latch compares, interned into one integer.
//!
//! Covers the latched set of draft-ietf-btns-connection-latching-04 section 2 (L-6 to L-11) and the local identity of
//! RFC 5660. Not in a class (C-17): SPI, outer addresses, lifetimes, ESN, window size, worker; so rekeying, several
//! SAs per peer, NAT rebinding and SPI reuse need no special case.

use std::collections::HashMap;
use std::fmt;

use crate::{ClassId, GroupId, IdentityId};

/// One algorithm with its key length: the transform id of the IKEv2 registry (RFC 7296 3.3.2) and key bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transform {
    /// The IANA transform id (type 1 for encryption, type 3 for integrity).
    pub id: u16,
    /// The key length in bits (L-9).
    pub key_bits: u16,
}

/// The algorithms of one SA: type of protection is which of them are present (L-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Transforms {
    /// ESP encryption, combined mode included; `None` for NULL.
    pub encryption: Option<Transform>,
    /// ESP integrity where it is apart from encryption.
    pub integrity: Option<Transform>,
    /// AH integrity; with ESP algorithms present as well, AH is the outer of the two.
    pub authentication_header: Option<Transform>,
}

/// The algorithms of both directions of a pair of SAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Algorithms {
    /// Of the SA that protects what we receive.
    pub inbound: Transforms,
    /// Of the SA that protects what we send.
    pub outbound: Transforms,
}

/// Tunnel or transport mode (RFC 4301 section 4.1), latched by L-7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The whole inner packet is protected, inside a new outer header.
    Tunnel,
    /// The payload is protected, under the packet's own header.
    Transport,
}

/// Everything a latch compares, for the pair of SAs of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Class {
    /// Tunnel or transport (L-7).
    pub mode: Mode,
    /// Type of protection, suites and key lengths, both directions (L-6, L-8, L-9).
    pub algorithms: Algorithms,
    /// Whether our inbound SA checks for replays (L-10); neither the window's size nor ESN is latched.
    pub replay_checked: bool,
    /// The peer, asserted and authorised (L-11).
    pub peer: IdentityId,
    /// Our own identity (R-1, C-23).
    pub local: IdentityId,
}

/// Interns [`Class`]es. Ids count up and are never reused; live ones are capped.
#[derive(Clone, Debug)]
pub struct ClassTable {
    classes: HashMap<ClassId, Interned>,
    ids: HashMap<Class, ClassId>,
    /// With how many live classes each has.
    groups: HashMap<Group, (GroupId, usize)>,
    next: u32,
    next_group: u32,
    limit: ClassLimit,
}

/// How many classes may be live at a time; at the cap the proposal is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassLimit(pub usize);

impl Default for ClassLimit {
    fn default() -> Self {
        Self(65_536)
    }
}

/// The cap of live classes is reached, or every id of this process's life was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyClasses;

impl fmt::Display for TooManyClasses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "as many congruence classes are live as the cap allows; delete SAs of peers no longer needed",
        )
    }
}

impl std::error::Error for TooManyClasses {}

/// What `ipsec_cmp_pToken` compares: peers, mode and kind of protection, but not the exact suite (C-16), nor where SAs lead (C-17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Group {
    mode: Mode,
    confidential: (bool, bool),
    authenticated: (bool, bool),
    peer: IdentityId,
    local: IdentityId,
}

#[derive(Clone, Debug)]
struct Interned {
    class: Class,
    group: GroupId,
    holders: usize,
}

impl Transforms {
    /// Whether the payload is hidden from the wire.
    #[must_use]
    pub const fn confidential(&self) -> bool {
        self.encryption.is_some()
    }

    /// Whether AH protects the outer header too.
    #[must_use]
    pub const fn header_protected(&self) -> bool {
        self.authentication_header.is_some()
    }
}

impl ClassTable {
    /// An empty table with a cap of live classes.
    #[must_use]
    pub fn new(limit: ClassLimit) -> Self {
        Self {
            classes: HashMap::new(),
            ids: HashMap::new(),
            groups: HashMap::new(),
            next: 1,
            next_group: 0,
            limit,
        }
    }

    /// The id of `class`, new or known, with one more holder (an SA or a latch).
    ///
    /// # Errors
    /// [`TooManyClasses`] where the class is new and the cap is reached; nothing changes then.
    pub fn acquire(&mut self, class: &Class) -> Result<ClassId, TooManyClasses> {
        if let Some(&id) = self.ids.get(class) {
            if let Some(interned) = self.classes.get_mut(&id) {
                interned.holders += 1;
            }
            return Ok(id);
        }
        if self.classes.len() >= self.limit.0 {
            return Err(TooManyClasses);
        }
        let id = ClassId::from_raw(self.next);
        self.next = self.next.checked_add(1).ok_or(TooManyClasses)?;
        let group = self.join_group(Group::of(class));
        self.ids.insert(*class, id);
        self.classes.insert(id, Interned { class: *class, group, holders: 1 });
        Ok(id)
    }

    /// Gives back one hold on `id`; the last one forgets the class, and its id is never used again.
    pub fn release(&mut self, id: ClassId) {
        let Some(interned) = self.classes.get_mut(&id) else { return };
        interned.holders = interned.holders.saturating_sub(1);
        if interned.holders == 0
            && let Some(interned) = self.classes.remove(&id)
        {
            self.ids.remove(&interned.class);
            self.leave_group(&Group::of(&interned.class));
        }
    }

    /// The class of a live id.
    #[must_use]
    pub fn class(&self, id: ClassId) -> Option<&Class> {
        self.classes.get(&id).map(|interned| &interned.class)
    }

    /// The coarser group of a live id (C-16).
    #[must_use]
    pub fn group(&self, id: ClassId) -> Option<GroupId> {
        self.classes.get(&id).map(|interned| interned.group)
    }

    fn join_group(&mut self, group: Group) -> GroupId {
        // There are no more groups than classes, whose ids are spent first.
        let fresh = GroupId(self.next_group);
        let (id, classes) = self.groups.entry(group).or_insert((fresh, 0));
        *classes += 1;
        if *id == fresh {
            self.next_group = self.next_group.wrapping_add(1);
        }
        *id
    }

    fn leave_group(&mut self, group: &Group) {
        let Some((_, classes)) = self.groups.get_mut(group) else { return };
        *classes = classes.saturating_sub(1);
        if *classes == 0 {
            self.groups.remove(group);
        }
    }
}

impl Group {
    fn of(class: &Class) -> Self {
        let Algorithms { inbound, outbound } = class.algorithms;
        Self {
            mode: class.mode,
            confidential: (inbound.confidential(), outbound.confidential()),
            authenticated: (inbound.header_protected(), outbound.header_protected()),
            peer: class.peer,
            local: class.local,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GCM_128: Transform = Transform { id: 20, key_bits: 128 };
    const GCM_256: Transform = Transform { id: 20, key_bits: 256 };
    const CHACHA: Transform = Transform { id: 28, key_bits: 256 };
    const HMAC: Transform = Transform { id: 12, key_bits: 256 };

    fn esp(encryption: Transform) -> Transforms {
        Transforms { encryption: Some(encryption), ..Transforms::default() }
    }

    fn both(transforms: Transforms) -> Algorithms {
        Algorithms { inbound: transforms, outbound: transforms }
    }

    fn class() -> Class {
        Class {
            mode: Mode::Tunnel,
            algorithms: both(esp(GCM_128)),
            replay_checked: true,
            peer: IdentityId(1),
            local: IdentityId(0),
        }
    }

    /// Every member of the REQUIRED set of section 2, changed alone, makes another class.
    #[test]
    fn l_6_to_l_11_and_r_1_each_latched_parameter_alone_makes_another_class() {
        let one_way = Algorithms { inbound: esp(GCM_128), outbound: esp(GCM_256) };
        let ah = Transforms { authentication_header: Some(HMAC), ..Transforms::default() };
        let nested = Transforms { authentication_header: Some(HMAC), ..esp(GCM_128) };
        let null = Transforms { integrity: Some(HMAC), ..Transforms::default() };
        let others = [
            ("L-6 AH", Class { algorithms: both(ah), ..class() }),
            ("L-6 ESP NULL", Class { algorithms: both(null), ..class() }),
            ("L-6 AH over ESP", Class { algorithms: both(nested), ..class() }),
            ("L-7 mode", Class { mode: Mode::Transport, ..class() }),
            ("L-8 suite", Class { algorithms: both(esp(CHACHA)), ..class() }),
            ("L-9 key length", Class { algorithms: both(esp(GCM_256)), ..class() }),
            ("L-9 one direction", Class { algorithms: one_way, ..class() }),
            ("L-10 replay", Class { replay_checked: false, ..class() }),
            ("L-11 peer", Class { peer: IdentityId(2), ..class() }),
            ("R-1 local", Class { local: IdentityId(3), ..class() }),
        ];
        let mut table = ClassTable::new(ClassLimit::default());
        let base = table.acquire(&class()).unwrap();
        assert_eq!(table.acquire(&class()).unwrap(), base, "R-2: equal parameters are the same class");
        let mut seen = vec![base];
        for (name, other) in others {
            let id = table.acquire(&other).unwrap();
            assert!(!seen.contains(&id), "{name}");
            seen.push(id);
        }
    }

    /// C-17: what peers change among themselves is in neither, as a class has no place for it.
    #[test]
    fn c_17_the_mode_is_in_both_relations() {
        let mut table = ClassTable::new(ClassLimit::default());
        let base = table.acquire(&class()).unwrap();
        let transport = table.acquire(&Class { mode: Mode::Transport, ..class() }).unwrap();
        assert_ne!(base, transport);
        assert_ne!(table.group(base), table.group(transport));
    }

    #[test]
    fn c_16_the_strict_relation_lies_within_the_coarse_one() {
        let mut table = ClassTable::new(ClassLimit::default());
        let base = table.acquire(&class()).unwrap();
        let longer = table.acquire(&Class { algorithms: both(esp(GCM_256)), ..class() }).unwrap();
        let other_peer = table.acquire(&Class { peer: IdentityId(9), ..class() }).unwrap();
        assert_ne!(base, longer);
        assert_eq!(table.group(base), table.group(longer));
        assert_ne!(table.group(base), table.group(other_peer));
    }

    /// C-16, T33: every new identity makes new groups, so they must go with their classes, and their ids stay spent.
    #[test]
    fn c_16_a_group_goes_with_its_last_class_and_its_id_is_not_used_again() {
        let mut table = ClassTable::new(ClassLimit::default());
        let longer = Class { algorithms: both(esp(GCM_256)), ..class() };
        let (base, same_group) = (table.acquire(&class()).unwrap(), table.acquire(&longer).unwrap());
        let group = table.group(base);
        table.release(base);
        assert_eq!(table.group(same_group), group, "one class of the group lives");
        table.release(same_group);
        assert!(table.groups.is_empty());
        let again = table.acquire(&class()).unwrap();
        assert_ne!(table.group(again), group);
        let next = table.acquire(&Class { peer: IdentityId(9), ..class() }).unwrap();
        assert_ne!(table.group(next), table.group(again));
    }

    #[test]
    fn class_ids_are_never_reused_and_live_ones_are_capped() {
        let mut table = ClassTable::new(ClassLimit(1));
        let first = table.acquire(&class()).unwrap();
        let other = Class { mode: Mode::Transport, ..class() };
        assert_eq!(table.acquire(&other), Err(TooManyClasses));
        table.release(first);
        assert_eq!(table.class(first), None);
        assert_ne!(table.acquire(&other).unwrap(), first);
    }
}
