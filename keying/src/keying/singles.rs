//! Single SAs: how they come, go, and make pairs of a class.
//!
//! They are of [`Scope::Policy`]: packets under them must meet a PROTECT rule that they serve, so they cover no flow that
//! another rule's latch protects, and conflict with none (L-71); they are in force as soon as they are published. One that
//! has no partner is of a class that nobody knows, so that no latch is born of it. Partners take the class of their pair,
//! and lose it again, while their numbers go on.

use std::collections::HashSet;
use std::sync::Arc;

use latchway_datapath::drop::Direction;
use latchway_datapath::sad::{Handover, Role, Sad, SadEntry, Scope, Usage};
use latchway_datapath::time::Time;
use latchway_esp::{Protocol, Spi};
use latchway_tagging::{AuthMethod, ClassId, SaRef};

use crate::evidence::Evidence;
use crate::install::InstallError;
use crate::judge::judge;
use crate::keying::Keying;
use crate::nat::Nat;
use crate::notice::Notice;
use crate::proposal::{Narrowing, Proposal, Suites};
use crate::single::{
    Built, NewSingle, RevisedEnd, Revision, Single, SingleChange, SingleError, SingleFault, SingleId,
    SingleView, Terms, Way,
};

impl Keying {
    /// Changes single SAs, all of it in one snapshot or nothing.
    ///
    /// # Errors
    /// [`SingleFault`]; nothing changed then.
    pub fn change_singles(&mut self, change: SingleChange, now: Time) -> Result<Vec<SingleId>, SingleFault> {
        self.check_singles(&change)?;
        let mut sad = self.current.sad.clone();
        let parted = self.take_out(&change.remove, &mut sad);
        let mut entered = Vec::new();
        for (place, new) in change.add.iter().enumerate() {
            match self.enter_single(new, &mut sad, now) {
                Ok(sa) => entered.push(sa),
                Err(error) => {
                    entered.into_iter().for_each(|sa| self.rest_slot(sa, now));
                    return Err(SingleFault { place: Some(place), error });
                }
            }
        }
        for (place, revision) in change.revise.iter().enumerate() {
            if let Err(error) = self.revise_single(revision, &mut sad) {
                entered.into_iter().for_each(|sa| self.rest_slot(sa, now));
                return Err(SingleFault { place: Some(change.add.len() + place), error });
            }
        }
        // Nothing fails from here on.
        let added: Vec<_> =
            change.add.iter().zip(entered).map(|(new, sa)| self.remember_single(new, sa)).collect();
        let gone = self.forget_singles(&change.remove, &parted, now);
        self.join(&mut sad);
        self.publish(sad, self.current.spd.clone());
        gone.into_iter().for_each(|sa| self.rest_slot(sa, now));
        Ok(added)
    }

    /// The single SAs, in the order in which they were added.
    #[must_use]
    pub fn singles(&self) -> Vec<SingleView> {
        let view = |(id, single): (&SingleId, &Single)| {
            let entry = &self.current.sad.get(single.sa)?.entry;
            Some(SingleView {
                id: *id,
                partner: single.partner.map(|(partner, _)| partner),
                packets: entry.use_.packets.get(),
                octets: entry.use_.octets.get(),
                added: entry.added,
                last_used: entry.use_.last_used(),
                soft_expired: entry.use_.is_soft_expired(),
                expired: entry.use_.is_expired(),
            })
        };
        self.singles.iter().filter_map(view).collect()
    }

    /// Whose SA it is that a lifetime is over of. Returns whether it is a single one.
    pub(super) fn note_single(&mut self, sa: SaRef, hard: bool) -> bool {
        let Some((id, _)) = self.singles.iter().find(|(_, single)| single.sa == sa) else { return false };
        self.notices.tell(Notice::SingleExpired { single: *id, hard });
        true
    }

    /// After a restart: those that are not published are gone.
    pub(super) fn recover_singles(&mut self, now: Time) {
        let sad = self.current.sad.clone();
        let lost = |(id, single): (&SingleId, &Single)| sad.get(single.sa).is_none().then_some(*id);
        let lost: Vec<_> = self.singles.iter().filter_map(lost).collect();
        if lost.is_empty() {
            return;
        }
        let parted: Vec<_> = self.partners(&lost);
        self.forget_singles(&lost, &parted, now).into_iter().for_each(|sa| self.rest_slot(sa, now));
        let mut sad = sad;
        for id in parted {
            self.single_class(id, &mut sad, UNPAIRED, None);
        }
        self.join(&mut sad);
        self.publish(sad, self.current.spd.clone());
    }

    fn check_singles(&self, change: &SingleChange) -> Result<(), SingleFault> {
        let unknown = |id: &&SingleId| !self.singles.contains_key(id);
        if let Some(id) = change.remove.iter().find(unknown) {
            return Err(SingleFault { place: None, error: SingleError::Unknown(*id) });
        }
        let leaving: HashSet<SaRef> =
            change.remove.iter().filter_map(|id| self.singles.get(id)).map(|single| single.sa).collect();
        let (mut names, mut keys) = (HashSet::new(), HashSet::new());
        for (place, new) in change.add.iter().enumerate() {
            let checked = new
                .check()
                .and_then(|()| self.check_name(new, &leaving, &mut names))
                .and_then(|()| self.spent_keys.check_single(new, &mut keys));
            checked.map_err(|error| SingleFault { place: Some(place), error: error.into() })?;
        }
        Ok(())
    }

    /// Whether the SPI can name a new SA (T31), beside those in `together`.
    fn check_name(
        &self,
        new: &NewSingle,
        leaving: &HashSet<SaRef>,
        together: &mut HashSet<(Protocol, Spi, Option<std::net::SocketAddr>)>,
    ) -> Result<(), InstallError> {
        let (protocol, spi) = (new.keys.material.suite().protocol(), new.keys.spi);
        match &new.way {
            Way::Inbound { .. } => {
                let holder =
                    self.current.sad.find(protocol, spi).and_then(|index| self.current.sad.slot(index));
                let taken = holder.is_some_and(|slot| !leaving.contains(&slot.entry.sa));
                if taken || !together.insert((protocol, spi, None)) {
                    return Err(InstallError::DuplicateSpi(spi));
                }
            }
            Way::Outbound { path, .. } => {
                let to = path.to;
                let same = |entry: &SadEntry| match &entry.role {
                    Role::Outbound { path, .. } => {
                        (entry.protocol, entry.spi, path.to.ip()) == (protocol, spi, to.ip())
                            && !leaving.contains(&entry.sa)
                    }
                    Role::Inbound { .. } => false,
                };
                let taken = self.current.sad.iter().any(|slot| same(&slot.entry));
                if taken || !together.insert((protocol, spi, Some(to))) {
                    return Err(InstallError::DuplicateOutbound(spi, to));
                }
            }
        }
        Ok(())
    }

    /// Puts one into a database. Its slot is taken then.
    fn enter_single(&mut self, new: &NewSingle, sad: &mut Sad, now: Time) -> Result<SaRef, SingleError> {
        let terms = new.terms();
        let selectors = self.admitted(&terms, &new.selectors, new.mode, new.reqid)?;
        let built = new.build().map_err(InstallError::from)?;
        let sa = self.slots.take().ok_or(InstallError::Full)?;
        let role = match (built, &new.way) {
            (Built::Inbound(state), Way::Inbound { from, outer, .. }) => {
                Role::Inbound { sa: Handover::new(state), from: *from, outer: outer.clone() }
            }
            (Built::Outbound(state), Way::Outbound { path, shape, .. }) => {
                Role::Outbound { sa: Handover::new(state), path: *path, shape: shape.clone() }
            }
            // What is built is of the direction that it was built for.
            _ => return Err(SingleError::NoRevision),
        };
        let entry = SadEntry {
            sa,
            spi: new.keys.spi,
            protocol: terms.suite.protocol(),
            mode: new.mode,
            class: UNPAIRED,
            selectors,
            scope: Scope::Policy,
            reqid: new.reqid,
            worker: new.worker,
            limits: new.keys.limits,
            added: now,
            partner: None,
            nested: None,
            role,
            use_: Arc::default(),
        };
        if let Err(error) = sad.insert(Arc::new(entry), Usage::Active) {
            self.rest_slot(sa, now);
            return Err(InstallError::from(error).into());
        }
        Ok(sa)
    }

    fn revise_single(&self, revision: &Revision, sad: &mut Sad) -> Result<(), SingleError> {
        let unknown = SingleError::Unknown(revision.single);
        let single = self.singles.get(&revision.single).ok_or_else(|| unknown.clone())?;
        let entry = &sad.get(single.sa).ok_or(unknown)?.entry;
        let selectors = self.admitted(&single.new, &revision.selectors, entry.mode, entry.reqid)?;
        let role = match (&entry.role, &revision.end) {
            (Role::Inbound { sa, .. }, RevisedEnd::Inbound(from, outer)) => {
                Role::Inbound { sa: sa.clone(), from: *from, outer: outer.clone() }
            }
            (Role::Outbound { sa, .. }, RevisedEnd::Outbound(path, shape)) => {
                Role::Outbound { sa: sa.clone(), path: *path, shape: shape.clone() }
            }
            _ => return Err(SingleError::NoRevision),
        };
        let revised = SadEntry { selectors, limits: revision.limits, role, ..SadEntry::clone(entry) };
        if sad.revise(Arc::new(revised)) { Ok(()) } else { Err(SingleError::NoRevision) }
    }

    /// What the PAD lets its peer carry under an SA of such terms (RFC 4301 section 4.4.3).
    fn admitted(
        &self,
        terms: &Terms,
        selectors: &[latchway_datapath::selector::Selector],
        mode: latchway_tagging::Mode,
        reqid: latchway_datapath::spd::Reqid,
    ) -> Result<Box<[latchway_datapath::selector::Selector]>, SingleError> {
        let proposal = proposal(terms, (terms.suite, terms.suite), selectors.to_vec(), mode, reqid);
        Ok(judge(&self.pad, &proposal)?.selectors.into_boxed_slice())
    }

    fn remember_single(&mut self, new: &NewSingle, sa: SaRef) -> SingleId {
        self.spent_keys.spend_single(new);
        self.last_single += 1;
        let id = SingleId::from_raw(self.last_single);
        self.singles.insert(id, Single { sa, new: new.terms(), partner: None });
        id
    }

    /// Takes SAs out of a database, and their partners out of their class. Returns those.
    fn take_out(&self, ids: &[SingleId], sad: &mut Sad) -> Vec<SingleId> {
        for single in ids.iter().filter_map(|id| self.singles.get(id)) {
            sad.remove(single.sa);
        }
        let parted = self.partners(ids);
        for id in &parted {
            self.single_class(*id, sad, UNPAIRED, None);
        }
        parted
    }

    /// The partners of these that are not among them.
    fn partners(&self, ids: &[SingleId]) -> Vec<SingleId> {
        let partner = |id: &SingleId| self.singles.get(id)?.partner.map(|(partner, _)| partner);
        ids.iter().filter_map(partner).filter(|partner| !ids.contains(partner)).collect()
    }

    fn forget_singles(&mut self, ids: &[SingleId], parted: &[SingleId], now: Time) -> Vec<SaRef> {
        let mut classes = Vec::new();
        for id in parted {
            let partner = self.singles.get_mut(id).and_then(|single| single.partner.take());
            classes.extend(partner.map(|(_, class)| class));
        }
        let gone: Vec<_> = ids.iter().filter_map(|id| self.singles.remove(id)).collect();
        classes.extend(gone.iter().filter_map(|single| single.partner).map(|(_, class)| class));
        classes.into_iter().for_each(|class| self.interned.release(class, now));
        gone.into_iter().map(|single| single.sa).collect()
    }

    /// Makes pairs of those that have no partner and match, the newest first.
    fn join(&mut self, sad: &mut Sad) {
        let alone: Vec<_> = self
            .singles
            .iter()
            .rev()
            .filter(|(_, single)| single.partner.is_none())
            .map(|(id, _)| *id)
            .collect();
        let mut joined = HashSet::new();
        for (place, &one) in alone.iter().enumerate() {
            let fits = |other: &&SingleId| {
                !joined.contains(&one) && !joined.contains(*other) && self.matches(one, **other, sad)
            };
            let Some(&other) = alone.iter().skip(place + 1).find(fits) else { continue };
            // Where classes are too many, they stay without one.
            if self.marry(one, other, sad).is_some() {
                joined.extend([one, other]);
            }
        }
    }

    /// Whether two are the two directions of one protection.
    fn matches(&self, one: SingleId, other: SingleId, sad: &Sad) -> bool {
        let entry = |id: SingleId| Some(&sad.get(self.singles.get(&id)?.sa)?.entry);
        let (Some(one), Some(other)) = (entry(one), entry(other)) else { return false };
        let same = (one.reqid, one.mode, one.protocol) == (other.reqid, other.mode, other.protocol);
        same && match (&one.role, &other.role) {
            (Role::Inbound { from, .. }, Role::Outbound { path, .. })
            | (Role::Outbound { path, .. }, Role::Inbound { from, .. }) => {
                (from.address, from.local, from.carrier) == (path.to.ip(), path.from, path.carrier)
            }
            _ => false,
        }
    }

    /// Gives two the class of their pair.
    fn marry(&mut self, one: SingleId, other: SingleId, sad: &mut Sad) -> Option<()> {
        let (first, second) = (self.singles.get(&one)?, self.singles.get(&other)?);
        let (inbound, outbound) =
            if first.new.replay_checked.is_some() { (first, second) } else { (second, first) };
        let entry = &sad.get(inbound.sa)?.entry;
        let suites = (inbound.new.suite, outbound.new.suite);
        let terms = inbound.new.clone();
        let proposal = proposal(&terms, suites, entry.selectors.to_vec(), entry.mode, entry.reqid);
        let judged = judge(&self.pad, &proposal).ok()?;
        let class = self.interned.acquire(&proposal, &judged).ok()?;
        // Each holds it.
        if self.interned.acquire(&proposal, &judged).is_err() {
            return None;
        }
        self.accept(class);
        let refs = (self.singles.get(&one)?.sa, self.singles.get(&other)?.sa);
        self.single_class(one, sad, class, Some(refs.1));
        self.single_class(other, sad, class, Some(refs.0));
        self.singles.get_mut(&one)?.partner = Some((other, class));
        self.singles.get_mut(&other)?.partner = Some((one, class));
        Some(())
    }

    /// Says in a database of which class one is, and who its partner.
    fn single_class(&self, id: SingleId, sad: &mut Sad, class: ClassId, partner: Option<SaRef>) {
        let entry =
            self.singles.get(&id).and_then(|single| sad.get(single.sa)).map(|slot| Arc::clone(&slot.entry));
        if let Some(entry) = entry {
            sad.revise(Arc::new(SadEntry { class, partner, ..SadEntry::clone(&entry) }));
        }
    }

    fn rest_slot(&mut self, sa: SaRef, now: Time) {
        self.slots.rest(sa, self.publication, now + self.settings.rest);
    }
}

/// What the PAD is asked: who is on the other end is known by its outer address alone.
fn proposal(
    terms: &Terms,
    (inbound, outbound): (latchway_esp::Suite, latchway_esp::Suite),
    selectors: Vec<latchway_datapath::selector::Selector>,
    mode: latchway_tagging::Mode,
    reqid: latchway_datapath::spd::Reqid,
) -> Proposal {
    Proposal {
        peer: terms.peer.clone(),
        method: AuthMethod::Manual,
        local: terms.local.clone(),
        selectors,
        narrowing: Narrowing::Allowed,
        mode,
        suites: Suites { inbound, outbound },
        header: None,
        replay_checked: terms.replay_checked.unwrap_or(true),
        reqid,
        evidence: Evidence::default(),
        nat: Nat::default(),
    }
}

/// Which street a single SA is of.
impl Way {
    /// Its direction.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        match self {
            Self::Inbound { .. } => Direction::Inbound,
            Self::Outbound { .. } => Direction::Outbound,
        }
    }
}

/// The class of SAs without a partner, which is interned nowhere and published to nobody: a class table never comes that
/// far.
const UNPAIRED: ClassId = ClassId::from_raw(u32::MAX);
