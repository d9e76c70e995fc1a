//! The paths of a worker's SAs of which more is known than what they are configured to take, or is to be.

use std::collections::HashMap;
use std::time::Duration;

use latchway_esp::{Protocol, Spi};
use latchway_tagging::{ClassId, SaRef, SnapshotId};

use crate::icmp_error::is_group;
use crate::owned::OwnedSas;
use crate::packet::{IpPacket, Upper};
use crate::pmtu::search::{CONFIRM, Search};
use crate::pmtu::{Discovery, Hint, PathMtu, ProbeEnds};
use crate::probe::{Probe, Secrets};
use crate::sad::{Path, Role, Sad, SadEntry, Slot};
use crate::snapshot::Snapshot;
use crate::time::Time;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    pub(super) all: Vec<Tracked>,
    pub(super) index: Index,
    pub(super) secrets: Secrets,
    /// When one of them has something to ask.
    pub(super) next: Option<Time>,
    /// The classes whose packets are looked at, in order: answers may be among them, or who could answer.
    wanted: Vec<ClassId>,
    /// The SAs whose packets are looked at: they show who could be asked, where nobody at the other end is heard of.
    seeking: Vec<SaRef>,
}

/// One SA's path.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub(super) sa: SaRef,
    pub(super) search: Search,
    /// Between whom it asks.
    pub(super) ends: Option<ProbeEnds>,
    /// What was put in force.
    pub(super) told: Option<PathMtu>,
    /// How these are known.
    standing: Standing,
    class: ClassId,
    /// The path as it is configured.
    configured: Path,
    sent: [Option<(Probe, Time)>; SENT],
    place: usize,
}

/// How it is known who could be asked, by how likely they are to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Nobody is known.
    Unknown,
    /// A packet went to them: where the path swallows all that is long, nothing else may pass, and nothing return.
    SentTo,
    /// A packet came from them.
    Heard,
    /// They are configured.
    Named,
}

/// Paths tracked because of hints: who forges them must not fill memory.
const MOST: usize = 1024;

/// Probes whose answers are waited for: more are not sent while one would be.
const SENT: usize = 8;

/// How long an answer is known for one, and kept from the inner hosts.
const LATE: Duration = Duration::from_secs(10);

impl Paths {
    /// Whether any packet is to be looked at.
    #[inline]
    pub(super) const fn attends(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Whether an SA's packets are to be looked at for who could be asked.
    #[inline]
    pub(super) fn seeks(&self, sa: SaRef) -> bool {
        !self.seeking.is_empty() && self.seeking.contains(&sa)
    }

    /// A packet of an SA is about to leave.
    pub(super) fn see(&mut self, packet: &IpPacket<'_>, sa: SaRef, now: Time) {
        for tracked in self.all.iter_mut().filter(|tracked| tracked.sa == sa) {
            tracked.learn(packet, Standing::SentTo, now);
        }
    }

    /// The path of an SA, which is tracked from here on if what is claimed of it could be.
    pub(super) fn track(
        &mut self,
        sas: &mut OwnedSas,
        sa: SaRef,
        (claimed, now): (u16, Time),
    ) -> Option<&mut Tracked> {
        if !self.all.iter().any(|tracked| tracked.sa == sa) {
            let could_be = (sas.floor(sa)?..sas.outbound(sa)?.path.mtu).contains(&claimed);
            if !could_be || self.all.len() >= MOST {
                return None;
            }
            self.all.push(Tracked::new(sas, sa, now)?);
        }
        self.all.iter_mut().find(|tracked| tracked.sa == sa)
    }

    /// Looks whether a packet of a class answers a probe, or comes from whom one could be sent to.
    pub(super) fn hear(&mut self, packet: &IpPacket<'_>, class: ClassId, now: Time) -> bool {
        if self.wanted.binary_search(&class).is_err() {
            return false;
        }
        let mut of_class = self.all.iter_mut().filter(|tracked| tracked.class == class);
        of_class.any(|tracked| tracked.hear(packet, now))
    }

    /// What SAs came, went and changed. An SA that takes the place of another on the same path knows what that one knew.
    pub(super) fn adopt(&mut self, sas: &mut OwnedSas, (old, new): (&Sad, &Sad), now: Time) {
        new.for_each_change(old, |_, slot| {
            let Some(slot) = slot else { return };
            if self.all.iter().any(|tracked| tracked.sa == slot.entry.sa) {
                return;
            }
            let Some(path) = path(&slot.entry) else { return };
            let known = self.all.iter().find(|tracked| tracked.configured == path && tracked.is_narrow());
            let known = known.map(|tracked| tracked.search.finding().in_force);
            let asks = slot.entry.role.discovery() == Discovery::Probes && within(&slot.entry).is_none();
            if (known.is_some() || asks)
                && let Some(tracked) = Tracked::new(sas, slot.entry.sa, now)
            {
                self.all.push(match known {
                    Some(in_force) => tracked.knowing(in_force, now),
                    None => tracked,
                });
            }
        });
        // What leads elsewhere now begins anew, and what was found is in force again where the SA was revised.
        self.all.retain_mut(|tracked| {
            let slot = new.get(tracked.sa);
            let stays = slot.is_some_and(|Slot { entry, .. }| {
                path(entry) == Some(tracked.configured) && entry.role.discovery() != Discovery::Off
            });
            if !stays && let Some(owned) = sas.outbound(tracked.sa) {
                owned.forget_mtu();
            }
            tracked.told = None;
            stays
        });
    }

    /// What is to be looked at, and when something is to be asked next.
    pub(super) fn plan(&mut self, now: Time) {
        self.wanted.clear();
        self.seeking.clear();
        for tracked in &mut self.all {
            if tracked.standing == Standing::Unknown {
                self.seeking.push(tracked.sa);
            }
            if tracked.wants_to_hear(now) {
                self.wanted.push(tracked.class);
            }
        }
        self.wanted.sort_unstable();
        self.wanted.dedup();
        self.next = self.all.iter().filter_map(Tracked::next).min();
    }
}

impl Tracked {
    fn new(sas: &mut OwnedSas, sa: SaRef, now: Time) -> Option<Self> {
        let floor = sas.floor(sa)?;
        let owned = sas.outbound(sa)?;
        let configured = path(&owned.entry)?;
        let pmtu = owned.sizing().pmtu;
        let confirm = (pmtu.discovery == Discovery::Probes).then_some(CONFIRM);
        Some(Self {
            sa: owned.entry.sa,
            search: Search::new(configured.mtu, floor, confirm, now),
            ends: pmtu.probe,
            told: None,
            standing: if pmtu.probe.is_some() { Standing::Named } else { Standing::Unknown },
            class: owned.entry.class,
            configured,
            sent: [None; SENT],
            place: 0,
        })
    }

    fn knowing(self, in_force: u16, now: Time) -> Self {
        Self { search: self.search.knowing(in_force, now), ..self }
    }

    pub(super) const fn class(&self) -> ClassId {
        self.class
    }

    /// Asks others the next time, where nobody answered.
    pub(super) fn try_others(&mut self) {
        if self.search.is_resting() && self.search.finding().suspected {
            self.forget_ends();
        }
    }

    /// Others may be heard of who can be asked, but whoever was named is.
    pub(super) const fn forget_ends(&mut self) {
        if !matches!(self.standing, Standing::Named) {
            (self.ends, self.standing) = (None, Standing::Unknown);
        }
    }

    /// What was found and is not in force yet.
    pub(super) fn news(&self) -> Option<PathMtu> {
        let found = self.search.finding();
        let as_configured = PathMtu { in_force: self.configured.mtu, suspected: false };
        (self.told.unwrap_or(as_configured) != found).then_some(found)
    }

    pub(super) fn remember(&mut self, probe: Probe, now: Time) {
        if let Some(place) = self.sent.get_mut(self.place) {
            *place = Some((probe, now));
        }
        self.place = (self.place + 1) % SENT;
    }

    fn hear(&mut self, packet: &IpPacket<'_>, now: Time) -> bool {
        for (probe, _) in self.sent.iter_mut().flatten() {
            if probe.is_answered_by(packet) {
                self.search.answered(probe.size, probe.octets, now);
                // Who answers is asked on, and nobody else.
                self.standing = self.standing.max(Standing::Heard);
                return true;
            }
        }
        self.learn(packet, Standing::Heard, now);
        false
    }

    /// A packet shows who could be asked, if nobody better is known.
    fn learn(&mut self, packet: &IpPacket<'_>, standing: Standing, now: Time) {
        if self.standing >= standing || matches!(packet.upper(), Upper::LaterFragment(_)) {
            return;
        }
        let (from, to) = (packet.flow().local().ip(), packet.flow().remote().ip());
        if is_group(from) || is_group(to) || packet.flow().is_link_local() {
            return;
        }
        let ends = Some(ProbeEnds { from, to });
        if self.ends.is_some() && self.ends != ends {
            self.search.begin_again(now);
        }
        (self.ends, self.standing) = (ends, standing);
    }

    fn is_narrow(&self) -> bool {
        self.search.finding().in_force < self.configured.mtu
    }

    fn wants_to_hear(&mut self, now: Time) -> bool {
        for place in &mut self.sent {
            *place = place.filter(|(_, at)| now.since(*at) < LATE);
        }
        self.standing < Standing::Heard || self.sent.iter().any(Option::is_some)
    }

    fn next(&self) -> Option<Time> {
        let late = self.sent.iter().flatten().map(|(_, at)| *at + LATE);
        late.chain(self.search.next()).min()
    }
}

/// Which SAs have an SPI, as far as hints ask: what we send under was numbered by others, who may agree.
#[derive(Debug, Default)]
pub(super) struct Index {
    of: Option<(SnapshotId, Time)>,
    sas: HashMap<(Protocol, Spi), Vec<SaRef>>,
}

/// How soon the SAs are gone through again: forgers must not keep the gateway busy with it.
const REINDEX: Duration = Duration::from_secs(1);

/// SAs that one hint is taken to speak of.
const CANDIDATES: usize = 8;

impl Index {
    pub(super) fn candidates(&mut self, hint: &Hint, snapshot: &Snapshot, now: Time) -> Vec<SaRef> {
        if self.of.is_none_or(|(id, at)| id != snapshot.id && now.since(at) >= REINDEX) {
            self.sas.clear();
            for slot in snapshot.sad.iter().filter(|slot| !slot.entry.is_inbound()) {
                let sas = self.sas.entry((slot.entry.protocol, slot.entry.spi)).or_default();
                // Of a bundle, the SA within is the one whose packets are made to fit.
                sas.push(within(&slot.entry).unwrap_or(slot.entry.sa));
            }
            self.of = Some((snapshot.id, now));
        }
        let sas = self.sas.get(&(hint.protocol, hint.spi)).into_iter().flatten();
        sas.take(CANDIDATES).copied().collect()
    }
}

/// The ESP SA that an AH SA goes around (RFC 4301 section 4.3).
fn within(entry: &SadEntry) -> Option<SaRef> {
    entry.nested.filter(|_| entry.protocol == Protocol::Ah)
}

fn path(entry: &SadEntry) -> Option<Path> {
    match &entry.role {
        Role::Outbound { path, .. } => Some(*path),
        Role::Inbound { .. } => None,
    }
}
