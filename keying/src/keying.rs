//! The decision maker: SPD, PAD, SAD metadata and interned classes in one owner's hands, time as an argument.
//!
//! It owns no latch and no lock; what workers read of it is the published [`Snapshot`]. Order of an installation
//! (L-74): published as pending, grace, then in force. Each publication is counted by the [`StateClock`] before it
//! becomes visible (L-89).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use latchway_datapath::drop::Direction;
use latchway_datapath::event::Event;
use latchway_datapath::low::publish::Publisher;
use latchway_datapath::sad::{Handover, Role, SaUse, Sad, SadEntry, Usage};
use latchway_datapath::snapshot::Snapshot;
use latchway_datapath::spd::Spd;
use latchway_datapath::time::Time;
use latchway_esp::Spi;
use latchway_tagging::{
    Class, ClassId, IdentityId, IdentityRecord, Mode, SaRef, SnapshotId, StateClock, StateVersion,
};

use crate::install::{InstallError, Keys, Start};
use crate::interned::{ClassObserver, Interned};
use crate::narrow::narrow;
use crate::pad::Pad;
use crate::pair::{Pair, PairId};
use crate::proposal::{Narrowing, Offer, Proposal, Refusal};
use crate::settings::Settings;
use crate::slots::Slots;
use crate::spent_keys::SpentKeys;
use crate::spis::RestingSpis;
use crate::ticket::{Promise, Ticket, Tickets};
use crate::transaction::{CommitError, Committed, Transaction};
use crate::view::{Counts, PairView};

/// The key manager without its thread.
#[derive(Debug)]
pub struct Keying {
    settings: Settings,
    pad: Pad,
    clock: Arc<StateClock>,
    publisher: Arc<Publisher<Snapshot>>,
    current: Arc<Snapshot>,
    /// The publisher's own number of the current snapshot, for its grace.
    publication: u64,
    /// The state version counted before it was published.
    version: StateVersion,
    interned: Interned,
    tickets: Tickets,
    pairs: BTreeMap<PairId, Pair>,
    by_sa: HashMap<SaRef, PairId>,
    /// What peers know our outbound SAs by.
    outbound_names: HashSet<(Spi, SocketAddr)>,
    settling: Vec<PairId>,
    slots: Slots,
    spis: RestingSpis,
    spent_keys: SpentKeys,
    last_pair: u64,
}

/// What a [`Keying::poll`] brought about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Pairs whose grace ended, now in force as their keys asked.
    pub settled: Vec<PairId>,
    /// Whether other pairs still wait for theirs: poll again soon.
    pub settling: bool,
}

/// Why a pair cannot be rekeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RekeyError {
    /// There is nothing to rekey.
    #[error("there is no pair {0}; propose a new one")]
    UnknownPair(PairId),
    /// The terms of the old pair are not acceptable any more.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The new keys are not acceptable.
    #[error(transparent)]
    Install(#[from] InstallError),
}

impl Keying {
    /// A key manager with no SA and no policy, so that everything is discarded. `clock` is the one that workers and
    /// latches share.
    #[must_use]
    pub fn new(
        pad: Pad,
        settings: Settings,
        clock: Arc<StateClock>,
        observer: Arc<dyn ClassObserver>,
    ) -> Self {
        let settings = Settings { rest: settings.rest.max(Settings::LEAST_REST), ..settings };
        let current = Arc::new(Snapshot { id: SnapshotId::from_raw(1), ..Snapshot::default() });
        let Settings { identities, classes, rest, pairs, .. } = settings;
        Self {
            settings,
            pad,
            clock,
            publisher: Arc::new(Publisher::new(Arc::clone(&current))),
            current,
            publication: 1,
            version: StateVersion::default(),
            interned: Interned::new(identities, classes, rest, observer),
            tickets: Tickets::default(),
            pairs: BTreeMap::new(),
            by_sa: HashMap::new(),
            outbound_names: HashSet::new(),
            settling: Vec::new(),
            slots: Slots::new(pairs.saturating_mul(2)),
            spis: RestingSpis::new(),
            spent_keys: SpentKeys::default(),
            last_pair: 0,
        }
    }

    /// Asks whether a pair of SAs may be made, before anything is promised to the peer. The PAD is asked first.
    ///
    /// # Errors
    /// [`Refusal`], which says what to do; nothing changes then.
    pub fn propose(&mut self, proposal: Proposal, now: Time) -> Result<Offer, Refusal> {
        self.expire_tickets(now);
        // RFC 4301 section 4.4.3: authorisation comes before anything else is looked at.
        let entry = self.pad.authorise(&proposal.peer, proposal.method)?;
        if entry.local != proposal.local {
            let (entry, expected) = (entry.name.clone(), entry.local.clone());
            return Err(Refusal::WrongLocalIdentity { entry, expected, proposed: proposal.local });
        }
        let selectors = narrow(&proposal, entry)?;
        if proposal.mode == Mode::Transport {
            return Err(Refusal::TransportMode);
        }
        if self.tickets.len() >= self.settings.offers {
            return Err(Refusal::TooManyOffers(self.settings.offers));
        }
        let entry = entry.id;
        let class = self.interned.acquire(&proposal, entry)?;
        let terms = Proposal { selectors, ..proposal };
        let accepted = terms.selectors.clone().into_boxed_slice();
        let expires = now + self.settings.offer_lifetime;
        let ticket = self.tickets.issue(Promise { terms, entry, class, expires });
        Ok(Offer { ticket, selectors: accepted, class, latches_that_would_break: Vec::new() })
    }

    /// Makes an offer real: publishes the pair as pending (L-74). [`poll`](Self::poll) brings it into force. The ticket
    /// is spent, come what may.
    ///
    /// # Errors
    /// [`InstallError`], which says what to do; no SA was published then.
    pub fn install(&mut self, ticket: Ticket, keys: Keys, now: Time) -> Result<PairId, InstallError> {
        self.expire_tickets(now);
        let promise = self.tickets.redeem(&ticket).ok_or(InstallError::TicketSpent)?;
        let class = promise.class;
        let installed = self.enter(promise, &keys, now);
        if installed.is_err() {
            self.interned.release(class, now);
        }
        installed
    }

    /// Makes a successor of a pair, on the same terms and so of the same class, with the same worker, which
    /// receives but does not send yet. [`Transaction::replace`] puts it in the place of the old one once the peer has it.
    ///
    /// # Errors
    /// [`RekeyError`]; no SA was published then.
    pub fn rekey(&mut self, old: PairId, keys: Keys, now: Time) -> Result<PairId, RekeyError> {
        let pair = self.pairs.get(&old).ok_or(RekeyError::UnknownPair(old))?;
        // C-25: never narrowed on rekey.
        let terms = Proposal { narrowing: Narrowing::Forbidden, ..pair.terms.clone() };
        let keys = Keys { start: Start::Standby, worker: pair.worker, ..keys };
        let offer = self.propose(terms, now)?;
        Ok(self.install(offer.ticket, keys, now)?)
    }

    /// Applies changes of pairs and policy in one snapshot, all or nothing.
    ///
    /// # Errors
    /// [`CommitError`]; nothing changed then.
    pub fn commit(&mut self, transaction: Transaction, now: Time) -> Result<Committed, CommitError> {
        let mut draft = transaction
            .draft(&self.current.sad, |id| self.pairs.get(&id).map(|pair| pair.state(&self.current.sad)))?;
        let spd_change = draft.spd_change(&self.current.spd);
        let (activated, retired) = (draft.became(Some(Usage::Active)), draft.became(Some(Usage::Retired)));
        let removed = draft.became(None);
        let changed =
            spd_change.is_some() || [&activated, &retired, &removed].iter().any(|ids| !ids.is_empty());
        if changed {
            let spd = draft.spd.take().unwrap_or_else(|| self.current.spd.clone());
            self.publish(draft.sad, spd);
        }
        for (id, (_, usage)) in draft.pairs {
            match usage {
                Some(usage) => self.pairs.get_mut(&id).into_iter().for_each(|pair| pair.usage = usage),
                None => self.bury(id, now),
            }
        }
        let (snapshot, version) = (self.current.id, self.version);
        Ok(Committed { snapshot, version, activated, retired, removed, spd: spd_change })
    }

    /// Does what time brings: pairs whose grace is over come into force, in one snapshot; offers expire; what rested
    /// long enough is free again; replaced snapshots are freed, with the keys they hold.
    pub fn poll(&mut self, now: Time) -> Progress {
        let progress = self.settle();
        self.expire_tickets(now);
        let publisher = &self.publisher;
        publisher.is_settled(self.publication);
        self.slots.wake(now, |publication| publisher.is_settled(publication));
        self.spis.wake(now);
        self.interned.forget(now);
        progress
    }

    /// Notes what the datapath tells. An expired SA has lost its keys already; its pair stays, so that drops can say
    /// why, until it is removed.
    pub fn note(&mut self, event: &Event) {
        let Event::HardExpired { sa, direction } = event else { return };
        let Some(pair) = self.by_sa.get(sa).and_then(|id| self.pairs.get_mut(id)) else { return };
        match direction {
            Direction::Inbound => pair.inbound_expired = true,
            Direction::Outbound => pair.outbound_expired = true,
        }
    }

    /// Where workers get their readers from. It outlives the key manager, and with it the last snapshot.
    #[must_use]
    pub const fn publisher(&self) -> &Arc<Publisher<Snapshot>> {
        &self.publisher
    }

    /// What is published.
    #[must_use]
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.current
    }

    /// Whether an inbound SA may have this SPI: not reserved, not in use, not at rest (T31).
    #[must_use]
    pub fn is_free(&self, spi: Spi) -> bool {
        !spi.is_reserved() && self.current.sad.find(spi).is_none() && !self.spis.contains(spi)
    }

    /// Every pair, oldest first. Never keys.
    #[must_use]
    pub fn pairs(&self) -> Vec<PairView> {
        self.pairs.iter().filter_map(|(id, pair)| pair.view(*id, &self.current.sad)).collect()
    }

    /// The class of an id, while anything holds it.
    #[must_use]
    pub fn class(&self, id: ClassId) -> Option<Class> {
        self.interned.classes().class(id).copied()
    }

    /// The identity of an id, while anything holds it.
    #[must_use]
    pub fn identity(&self, id: IdentityId) -> Option<IdentityRecord> {
        self.interned.identities().record(id).cloned()
    }

    /// How much is held.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            pairs: self.pairs.len(),
            settling: self.settling.len(),
            offers: self.tickets.len(),
            classes: self.interned.len(),
            resting_slots: self.slots.resting(),
            resting_spis: self.spis.len(),
            slots_ever_used: self.slots.ever_used(),
        }
    }

    /// Publishes the pair that was promised, as pending.
    fn enter(&mut self, promise: Promise, keys: &Keys, now: Time) -> Result<PairId, InstallError> {
        keys.check(&promise.terms)?;
        self.check_names(keys)?;
        self.spent_keys.check(keys)?;
        let (inbound_sa, outbound_sa) = keys.build()?;
        let Promise { terms, entry, class, .. } = promise;
        let Some((inbound, outbound)) = self.take_slots(now) else { return Err(InstallError::Full) };
        let roles = [
            (inbound, &keys.inbound, Role::Inbound(Handover::new(inbound_sa))),
            (outbound, &keys.outbound, Role::Outbound { sa: Handover::new(outbound_sa), path: keys.path }),
        ];
        let mut sad = self.current.sad.clone();
        for (sa, direction, role) in roles {
            let entry = SadEntry {
                sa,
                spi: direction.spi,
                class,
                selectors: terms.selectors.clone().into_boxed_slice(),
                reqid: terms.reqid,
                worker: keys.worker,
                limits: direction.limits,
                added: now,
                role,
                use_: SaUse::default(),
            };
            if let Err(error) = sad.insert(Arc::new(entry), Usage::Pending) {
                self.rest_slots(inbound, outbound, now);
                return Err(error.into());
            }
        }
        self.spent_keys.spend(keys);
        self.publish(sad, self.current.spd.clone());
        let pair = Pair {
            inbound,
            inbound_spi: keys.inbound.spi,
            outbound,
            outbound_spi: keys.outbound.spi,
            terms,
            entry,
            class,
            origin: keys.origin,
            worker: keys.worker,
            path: keys.path,
            usage: Usage::Pending,
            settling: Some((self.publication, keys.start)),
            inbound_expired: false,
            outbound_expired: false,
        };
        Ok(self.remember(pair))
    }

    /// Whether the SPIs can name new SAs (T31).
    fn check_names(&self, keys: &Keys) -> Result<(), InstallError> {
        let (inbound, outbound) = (keys.inbound.spi, keys.outbound.spi);
        if self.current.sad.find(inbound).is_some() {
            return Err(InstallError::DuplicateSpi(inbound));
        }
        if self.spis.contains(inbound) {
            return Err(InstallError::RestingSpi(inbound));
        }
        if self.outbound_names.contains(&(outbound, keys.path.to)) {
            return Err(InstallError::DuplicateOutbound(outbound, keys.path.to));
        }
        Ok(())
    }

    fn take_slots(&mut self, now: Time) -> Option<(SaRef, SaRef)> {
        let inbound = self.slots.take()?;
        let outbound = self.slots.take();
        if outbound.is_none() {
            self.slots.rest(inbound, self.publication, now + self.settings.rest);
        }
        Some((inbound, outbound?))
    }

    fn rest_slots(&mut self, inbound: SaRef, outbound: SaRef, now: Time) {
        for sa in [inbound, outbound] {
            self.slots.rest(sa, self.publication, now + self.settings.rest);
        }
    }

    fn remember(&mut self, pair: Pair) -> PairId {
        self.last_pair += 1;
        let id = PairId::from_raw(self.last_pair);
        self.by_sa.insert(pair.inbound, id);
        self.by_sa.insert(pair.outbound, id);
        self.outbound_names.insert((pair.outbound_spi, pair.path.to));
        self.settling.push(id);
        self.pairs.insert(id, pair);
        id
    }

    /// Forgets a pair that is no longer published. Its slots and its SPI rest.
    fn bury(&mut self, id: PairId, now: Time) {
        let Some(pair) = self.pairs.remove(&id) else { return };
        self.by_sa.remove(&pair.inbound);
        self.by_sa.remove(&pair.outbound);
        self.outbound_names.remove(&(pair.outbound_spi, pair.path.to));
        self.settling.retain(|other| *other != id);
        self.rest_slots(pair.inbound, pair.outbound, now);
        self.spis.rest(pair.inbound_spi, now + self.settings.rest);
        self.interned.release(pair.class, now);
    }

    /// Brings the pairs into force whose grace is over, all in one snapshot.
    fn settle(&mut self) -> Progress {
        let publisher = &self.publisher;
        let over =
            |pair: &Pair| pair.settling.is_some_and(|(publication, _)| publisher.is_settled(publication));
        let pairs = &self.pairs;
        let settled: Vec<_> = self.settling.extract_if(.., |id| pairs.get(id).is_none_or(&over)).collect();
        if !settled.is_empty() {
            let mut sad = self.current.sad.clone();
            for id in &settled {
                let Some(pair) = self.pairs.get_mut(id) else { continue };
                let Some((_, start)) = pair.settling.take() else { continue };
                pair.usage = start.into();
                sad.set_usage(pair.inbound, pair.usage);
                sad.set_usage(pair.outbound, pair.usage);
            }
            self.publish(sad, self.current.spd.clone());
        }
        Progress { settled, settling: !self.settling.is_empty() }
    }

    fn expire_tickets(&mut self, now: Time) {
        for promise in self.tickets.expire(now) {
            self.interned.release(promise.class, now);
        }
    }

    /// Makes these databases what workers adopt from now on.
    fn publish(&mut self, sad: Sad, spd: Spd) {
        // L-89: counted before it becomes visible.
        self.version = self.clock.advance();
        let id = SnapshotId::from_raw(self.current.id.raw() + 1);
        let snapshot = Arc::new(Snapshot { id, sad, spd });
        self.publication = self.publisher.publish(Arc::clone(&snapshot));
        self.current = snapshot;
    }
}
