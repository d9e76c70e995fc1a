//! Single SAs: how they come and go.
//!
//! They are of [`Scope::Policy`]: packets under them must meet a PROTECT rule that they serve, so they cover no flow that
//! another rule's latch protects, and conflict with none (L-71); they are in force as soon as they are published. One that
//! has no partner is of a class that nobody knows, so that no latch is born of it. Partners take the class of their pair,
//! and lose it again, while their numbers go on.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use latchway_datapath::drop::Direction;
use latchway_datapath::sad::{Handover, Role, Sad, SadEntry, Scope, Usage};
use latchway_datapath::selector::Selector;
use latchway_datapath::spd::Reqid;
use latchway_datapath::time::Time;
use latchway_esp::{Protocol, Spi};
use latchway_tagging::{AuthMethod, ClassId, Mode, SaRef};

use crate::change::{Element, Fault, Problem};
use crate::evidence::Evidence;
use crate::install::InstallError;
use crate::judge::{judge, judge_again};
use crate::keying::Keying;
use crate::nat::Nat;
use crate::notice::Notice;
use crate::pad::Pad;
use crate::proposal::{Narrowing, Proposal, Suites};
use crate::single::{
    Built, NewSingle, RevisedEnd, Revision, Single, SingleChange, SingleError, SingleFault, SingleId, Terms,
    Way,
};

impl Keying {
    /// Changes single SAs, all of it in one snapshot or nothing.
    ///
    /// # Errors
    /// [`SingleFault`]; nothing changed then.
    pub fn change_singles(&mut self, change: SingleChange, now: Time) -> Result<Vec<SingleId>, SingleFault> {
        self.check_additions_of(&change)?;
        let mut sad = self.current.sad.clone();
        let parted = self.take_out(&change.remove, &mut sad);
        let mut entered = Vec::new();
        for (place, new) in change.add.iter().enumerate() {
            match self.enter_single(new, &mut sad, now) {
                Ok(sa) => entered.push(sa),
                Err(error) => {
                    entered.into_iter().for_each(|sa| self.slots.give_back(sa));
                    return Err(SingleFault { place: Some(place), error });
                }
            }
        }
        for (place, revision) in change.revise.iter().enumerate() {
            if let Err(error) = self.revise_single(revision, &mut sad) {
                entered.into_iter().for_each(|sa| self.slots.give_back(sa));
                return Err(SingleFault { place: Some(change.add.len() + place), error });
            }
        }
        // Nothing fails from here on.
        let added: Vec<_> =
            change.add.iter().zip(entered).map(|(new, sa)| self.remember_single(new, sa)).collect();
        let gone = self.forget_singles(&change.remove, &parted, now);
        let spd = self.current.spd.clone();
        self.join(&mut sad, &spd, now);
        self.publish(sad, spd);
        gone.into_iter().for_each(|sa| self.rest_slot(sa, now));
        Ok(added)
    }

    /// Whose SA it is that a lifetime is over of. Returns whether it is a single one.
    pub(super) fn note_single(&mut self, sa: SaRef, hard: bool) -> bool {
        let Some(id) = self.single_by_sa.get(&sa) else { return false };
        self.notices.tell(Notice::SingleExpired { single: *id, hard });
        true
    }

    /// After a restart: those that are not published are gone, and what the others make together is what is published, as far
    /// as that is there.
    pub(super) fn recover_singles(&mut self, now: Time) {
        let mut sad = self.current.sad.clone();
        self.singles.retain(|_, single| sad.get(single.sa).is_some());
        let by_sa = self.singles.iter().map(|(id, single)| (single.sa, *id)).collect();
        let before = std::mem::replace(&mut self.single_by_sa, by_sa);
        before.into_keys().filter(|sa| sad.get(*sa).is_none()).for_each(|sa| self.rest_slot(sa, now));
        let mut broken = Vec::new();
        for (id, single) in &mut self.singles {
            let Some(entry) = sad.get(single.sa).map(|slot| &slot.entry) else { continue };
            let known = |sa: SaRef| self.single_by_sa.get(&sa);
            single.partner = entry.partner.and_then(known).map(|partner| (*partner, entry.class));
            single.nested = entry.nested;
            if single.partner.is_none() && entry.partner.is_some()
                || entry.nested.is_some_and(|sa| known(sa).is_none())
            {
                broken.push(*id);
            }
        }
        if broken.is_empty() {
            return;
        }
        for id in broken.into_iter().filter(|id| self.is_alone(*id)) {
            self.single_class(id, &mut sad, UNPAIRED, None);
        }
        let spd = self.current.spd.clone();
        self.join(&mut sad, &spd, now);
        self.publish(sad, spd);
    }

    fn is_alone(&self, id: SingleId) -> bool {
        self.singles.get(&id).is_some_and(|single| single.partner.is_none())
    }

    /// Whether single SAs can be changed so. Nothing changes, and nothing is taken of what is on record.
    ///
    /// # Errors
    /// [`SingleFault`]
    pub fn check_singles(&self, change: &SingleChange) -> Result<(), SingleFault> {
        self.check_additions_of(change)?;
        for (place, new) in change.add.iter().enumerate() {
            let admitted = self.admitted(&new.terms(), &new.selectors, new.mode, new.reqid);
            admitted.map_err(|error| SingleFault { place: Some(place), error })?;
        }
        Ok(())
    }

    fn check_additions_of(&self, change: &SingleChange) -> Result<(), SingleFault> {
        let unknown = |id: &&SingleId| !self.singles.contains_key(id);
        if let Some(id) = change.remove.iter().find(unknown) {
            return Err(SingleFault { place: None, error: SingleError::Unknown(*id) });
        }
        let leaving: HashSet<SaRef> =
            change.remove.iter().filter_map(|id| self.singles.get(id)).map(|single| single.sa).collect();
        let (mut names, mut keys) = (self.names(change, &leaving), HashSet::new());
        for (place, new) in change.add.iter().enumerate() {
            let checked = new
                .check()
                .and_then(|()| self.check_name(new, &leaving, &mut names))
                .and_then(|()| self.spent_keys.check_single(new, &mut keys));
            checked.map_err(|error| SingleFault { place: Some(place), error: error.into() })?;
        }
        Ok(())
    }

    /// What outbound SAs are known by that stay, where some are to be added.
    fn names(&self, change: &SingleChange, leaving: &HashSet<SaRef>) -> HashSet<Name> {
        if !change.add.iter().any(|new| new.way.direction() == Direction::Outbound) {
            return HashSet::new();
        }
        let name = |entry: &SadEntry| match &entry.role {
            Role::Outbound { path, .. } => Some((entry.protocol, entry.spi, Some(path.to.ip()))),
            Role::Inbound { .. } => None,
        };
        let stays = |entry: &&Arc<SadEntry>| !leaving.contains(&entry.sa);
        let entries = self.current.sad.iter().map(|slot| &slot.entry).filter(stays);
        entries.filter_map(|entry| name(entry)).collect()
    }

    /// Whether the SPI can name a new SA (T31), beside the names `taken`, among which it comes to be.
    fn check_name(
        &self,
        new: &NewSingle,
        leaving: &HashSet<SaRef>,
        taken: &mut HashSet<Name>,
    ) -> Result<(), InstallError> {
        let (protocol, spi) = (new.keys.material.suite().protocol(), new.keys.spi);
        match &new.way {
            Way::Inbound { .. } => {
                let holder =
                    self.current.sad.find(protocol, spi).and_then(|index| self.current.sad.slot(index));
                let held = holder.is_some_and(|slot| !leaving.contains(&slot.entry.sa));
                if held || !taken.insert((protocol, spi, None)) {
                    return Err(InstallError::DuplicateSpi(spi));
                }
            }
            Way::Outbound { path, .. } => {
                if !taken.insert((protocol, spi, Some(path.to.ip()))) {
                    return Err(InstallError::DuplicateOutbound(spi, path.to));
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
            self.slots.give_back(sa);
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
        selectors: &[Selector],
        mode: Mode,
        reqid: Reqid,
    ) -> Result<Box<[Selector]>, SingleError> {
        let proposal = proposal(terms, Suites::both(terms.suite), selectors.to_vec(), mode, reqid);
        Ok(judge(&self.pad, &proposal)?.selectors.into_boxed_slice())
    }

    /// Whether another PAD allows every one as it is: all that it may carry now, and a pair under the entry that it had (L-11).
    pub(super) fn check_singles_under(&self, pad: &Pad, faults: &mut Vec<Fault>) {
        for (id, single) in &self.singles {
            let Some(entry) = self.current.sad.get(single.sa).map(|slot| &slot.entry) else { continue };
            let suites = Suites::both(single.new.suite);
            let terms = proposal(&single.new, suites, entry.selectors.to_vec(), entry.mode, entry.reqid);
            let had =
                single.partner.and_then(|(_, class)| self.identity(self.class(class)?.peer)?.authorised);
            let problem = match judge_again(pad, &terms) {
                Err(refusal) => Problem::SingleNoLongerAllowed(refusal),
                Ok(now) if had.is_some_and(|had| had != now.id) => {
                    Problem::OtherEntry { entry: now.name.clone() }
                }
                Ok(_) => continue,
            };
            let element = Element::Single { single: *id, peer: single.new.peer.clone(), spi: entry.spi };
            faults.push(Fault { element, problem });
        }
    }

    fn remember_single(&mut self, new: &NewSingle, sa: SaRef) -> SingleId {
        self.spent_keys.spend_single(new);
        self.last_single += 1;
        let id = SingleId::from_raw(self.last_single);
        self.single_by_sa.insert(sa, id);
        self.singles.insert(id, Single { sa, new: new.terms(), partner: None, nested: None });
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
        let among: HashSet<&SingleId> = ids.iter().collect();
        ids.iter().filter_map(partner).filter(|partner| !among.contains(partner)).collect()
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
        for single in &gone {
            self.single_by_sa.remove(&single.sa);
        }
        gone.into_iter().map(|single| single.sa).collect()
    }

    fn rest_slot(&mut self, sa: SaRef, now: Time) {
        self.slots.rest(sa, self.publication, now + self.settings.rest);
    }
}

/// What the PAD is asked: who is on the other end is known by its outer address alone.
pub(super) fn proposal(
    terms: &Terms,
    suites: Suites,
    selectors: Vec<Selector>,
    mode: Mode,
    reqid: Reqid,
) -> Proposal {
    Proposal {
        peer: terms.peer.clone(),
        method: AuthMethod::Manual,
        local: terms.local.clone(),
        selectors,
        narrowing: Narrowing::Allowed,
        mode,
        suites,
        header: None,
        replay_checked: terms.replay_checked(),
        reqid,
        evidence: Evidence::default(),
        local_evidence: Evidence::default(),
        nat: Nat::default(),
    }
}

/// What an SA is known by to whoever receives: for an outbound one, at that address.
type Name = (Protocol, Spi, Option<IpAddr>);

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
pub(super) const UNPAIRED: ClassId = ClassId::from_raw(u32::MAX);
