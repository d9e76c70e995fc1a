//! What single SAs make together: bundles, where policy asks for AH around ESP (RFC 4301 section 4.3), and pairs.
//!
//! Both follow from what is published, and are worked out anew with each change of SAs or of policy, in one snapshot with
//! it. Nobody says of a single SA what it belongs to, as nobody does to a kernel: reqid, ends, mode and protocol do.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use latchway_datapath::arrival::Carrier;
use latchway_datapath::drop::Direction;
use latchway_datapath::sad::{Role, Sad, SadEntry};
use latchway_datapath::spd::{Action, Around, Reqid, Rule, Spd};
use latchway_datapath::time::Time;
use latchway_esp::{Protocol, Suite};
use latchway_tagging::{ClassId, Mode, SaRef};

use crate::judge::judge;
use crate::keying::Keying;
use crate::keying::singles::{UNPAIRED, proposal};
use crate::proposal::Suites;
use crate::single::{Single, SingleId};

/// Where an SA runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ends {
    local: IpAddr,
    remote: IpAddr,
    carrier: Carrier,
}

/// What the two directions of one protection have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kinship {
    reqid: Reqid,
    mode: Mode,
    protocol: Protocol,
    ends: Ends,
    /// Whether AH goes around it.
    bundled: bool,
}

/// The ESP SAs that policy wants AH around: by their reqid, or where a template names none, by mode, and in tunnel mode
/// their ends. What a rule names by its reqid is that rule's, with AH or alone, and of no rule that names none.
#[derive(Debug, Default)]
struct Bundles {
    named: HashMap<(Direction, Reqid), Option<Around>>,
    any: HashMap<Unnamed, Around>,
}

/// What a template without a reqid names.
type Unnamed = (Direction, Mode, Option<(IpAddr, IpAddr)>);

impl Keying {
    /// Makes bundles of single SAs that policy wants, and pairs of those that have no partner and match.
    pub(super) fn join(&mut self, sad: &mut Sad, spd: &Spd, now: Time) {
        let bundles = Bundles::wanted(spd);
        let nested = if bundles.is_empty() { HashMap::new() } else { self.nest(&bundles, sad) };
        let differs = |(id, single): (&SingleId, &Single)| {
            let other = nested.get(&single.sa).copied();
            (single.nested != other).then_some((*id, other))
        };
        let differing: Vec<_> = self.singles.iter().filter_map(differs).collect();
        for (id, nested) in differing {
            // AH around them is part of their class (L-6).
            self.part(id, sad, now);
            self.revise_entry(id, sad, |entry| SadEntry { nested, ..entry });
            self.singles.get_mut(&id).into_iter().for_each(|single| single.nested = nested);
        }
        for (inbound, outbound) in self.couples(sad) {
            // Where classes are too many, they stay without one.
            self.marry(inbound, outbound, sad);
        }
    }

    /// Which SA belongs to which in a bundle: to each ESP SA the AH SA around it, the newest to the newest. Where there are
    /// fewer of AH, the oldest of them goes around several, as while new ones come one by one.
    fn nest(&self, bundles: &Bundles, sad: &Sad) -> HashMap<SaRef, SaRef> {
        let newest_first =
            || self.singles.values().rev().filter_map(|single| Some(&sad.get(single.sa)?.entry));
        let mut headers: HashMap<(Direction, Ends, Option<Reqid>), Vec<SaRef>> = HashMap::new();
        let is_header =
            |entry: &&Arc<SadEntry>| entry.protocol == Protocol::Ah && entry.mode == Mode::Transport;
        for header in newest_first().filter(is_header) {
            let alone = bundles.is_alone(header);
            for reqid in [Some(header.reqid)].into_iter().chain((!alone).then_some(None)) {
                headers.entry((direction(header), ends(header), reqid)).or_default().push(header.sa);
            }
        }
        let (mut counts, mut nested) = (HashMap::new(), HashMap::new());
        for entry in newest_first().filter(|entry| entry.protocol == Protocol::Esp) {
            let Some(around) = bundles.around(entry) else { continue };
            let among = (direction(entry), ends(entry), around.reqid);
            let Some(headers) = headers.get(&among) else { continue };
            let count: &mut usize = counts.entry((among, entry.reqid, entry.mode)).or_default();
            let Some(header) = headers.get(*count).or(headers.last()) else { continue };
            *count += 1;
            nested.insert(entry.sa, *header);
            nested.entry(*header).or_insert(entry.sa);
        }
        nested
    }

    /// Those without a partner that match, the newest with the newest. What goes around another is no pair by itself.
    fn couples(&self, sad: &Sad) -> Vec<(SingleId, SingleId)> {
        let mut waiting: HashMap<(Kinship, Direction), VecDeque<SingleId>> = HashMap::new();
        let mut couples = Vec::new();
        for (id, single) in self.singles.iter().rev().filter(|(_, single)| single.partner.is_none()) {
            let entry = sad.get(single.sa).map(|slot| &slot.entry);
            let Some(entry) = entry.filter(|entry| !entry.is_for_another()) else { continue };
            let (own, other) = match direction(entry) {
                Direction::Inbound => (Direction::Inbound, Direction::Outbound),
                Direction::Outbound => (Direction::Outbound, Direction::Inbound),
            };
            let found = waiting.get_mut(&(kinship(entry), other)).and_then(VecDeque::pop_front);
            match (found, own) {
                (Some(found), Direction::Inbound) => couples.push((*id, found)),
                (Some(found), Direction::Outbound) => couples.push((found, *id)),
                (None, _) => waiting.entry((kinship(entry), own)).or_default().push_back(*id),
            }
        }
        couples
    }

    /// Gives two the class of their pair.
    fn marry(&mut self, inbound: SingleId, outbound: SingleId, sad: &mut Sad) -> Option<()> {
        let (first, second) = (self.singles.get(&inbound)?, self.singles.get(&outbound)?);
        let header = match (first.nested, second.nested) {
            (Some(first), Some(second)) => {
                Some(Suites { inbound: self.suite_of(first)?, outbound: self.suite_of(second)? })
            }
            _ => None,
        };
        let entry = &sad.get(first.sa)?.entry;
        let suites = Suites { inbound: first.new.suite, outbound: second.new.suite };
        let selectors = entry.selectors.to_vec();
        let mut proposal = proposal(&first.new, suites, selectors, entry.mode, entry.reqid);
        proposal.header = header;
        let judged = judge(&self.pad, &proposal).ok()?;
        let refs = (first.sa, second.sa);
        let class = self.interned.acquire(&proposal, &judged).ok()?;
        // Each holds it.
        if self.interned.acquire(&proposal, &judged).is_err() {
            return None;
        }
        self.accept(class);
        self.single_class(inbound, sad, class, Some(refs.1));
        self.single_class(outbound, sad, class, Some(refs.0));
        self.singles.get_mut(&inbound)?.partner = Some((outbound, class));
        self.singles.get_mut(&outbound)?.partner = Some((inbound, class));
        Some(())
    }

    /// Takes the class of its pair from one and its partner, if it has one.
    fn part(&mut self, id: SingleId, sad: &mut Sad, now: Time) {
        let take = |single: &mut Single| single.partner.take();
        let Some((partner, _)) = self.singles.get(&id).and_then(|single| single.partner) else { return };
        for id in [id, partner] {
            self.single_class(id, sad, UNPAIRED, None);
            let left = self.singles.get_mut(&id).and_then(take);
            left.into_iter().for_each(|(_, class)| self.interned.release(class, now));
        }
    }

    /// Says in a database of which class one is, and who its partner.
    pub(super) fn single_class(&self, id: SingleId, sad: &mut Sad, class: ClassId, partner: Option<SaRef>) {
        self.revise_entry(id, sad, |entry| SadEntry { class, partner, ..entry });
    }

    fn revise_entry(&self, id: SingleId, sad: &mut Sad, revised: impl FnOnce(SadEntry) -> SadEntry) {
        let slot = self.singles.get(&id).and_then(|single| sad.get(single.sa));
        if let Some(entry) = slot.map(|slot| SadEntry::clone(&slot.entry)) {
            sad.revise(Arc::new(revised(entry)));
        }
    }

    fn suite_of(&self, sa: SaRef) -> Option<Suite> {
        Some(self.singles.get(self.single_by_sa.get(&sa)?)?.new.suite)
    }
}

impl Bundles {
    fn wanted(spd: &Spd) -> Self {
        let mut bundles = Self::default();
        for rule in spd.rules() {
            bundles.add(rule);
        }
        bundles
    }

    fn add(&mut self, rule: &Rule) -> Option<()> {
        let Action::Protect(protection) = rule.action else { return None };
        let (template, direction) = (protection.template?, rule.direction?);
        if let Some(reqid) = protection.reqid {
            self.named.entry((direction, reqid)).or_insert(template.around);
            return Some(());
        }
        let (around, mode) = (template.around?, template.mode?);
        let ends = template.ends.filter(|_| mode == Mode::Tunnel);
        self.any.entry((direction, mode, ends)).or_insert(around);
        Some(())
    }

    fn is_empty(&self) -> bool {
        self.named.values().all(Option::is_none) && self.any.is_empty()
    }

    /// Whether a rule names it and wants nothing around it.
    fn is_alone(&self, entry: &SadEntry) -> bool {
        self.named.get(&(direction(entry), entry.reqid)).is_some_and(Option::is_none)
    }

    /// The AH that policy wants around an ESP SA. There is none in UDP (RFC 3948).
    fn around(&self, entry: &SadEntry) -> Option<Around> {
        let Ends { local, remote, carrier } = ends(entry);
        if carrier == Carrier::Udp {
            return None;
        }
        let (direction, mode) = (direction(entry), entry.mode);
        let ends = (mode == Mode::Tunnel).then_some((local, remote));
        match self.named.get(&(direction, entry.reqid)) {
            Some(named) => *named,
            None => self.any.get(&(direction, mode, ends)).copied(),
        }
    }
}

const fn direction(entry: &SadEntry) -> Direction {
    if entry.is_inbound() { Direction::Inbound } else { Direction::Outbound }
}

const fn ends(entry: &SadEntry) -> Ends {
    match &entry.role {
        Role::Inbound { from, .. } => Ends { local: from.local, remote: from.address, carrier: from.carrier },
        Role::Outbound { path, .. } => Ends { local: path.from, remote: path.to.ip(), carrier: path.carrier },
    }
}

const fn kinship(entry: &SadEntry) -> Kinship {
    Kinship {
        reqid: entry.reqid,
        mode: entry.mode,
        protocol: entry.protocol,
        ends: ends(entry),
        bundled: entry.nested.is_some(),
    }
}
