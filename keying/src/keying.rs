//! The decision maker: SPD, PAD, SAD metadata and interned classes in one owner's hands, time as an argument.
//!
//! It owns no latch and no lock; what workers read of it is the published [`Snapshot`]. Order of an installation
//! (L-74): published as pending, grace, then in force. Each publication is counted by the [`StateClock`] before it
//! becomes visible (L-89).

mod attending;
mod changing;
mod committing;
mod conflicts;
mod entering;
mod explaining;
mod farewell;
mod holding;
mod inquiring;
mod joining;
mod recovery;
mod requiring;
mod revising;
mod settling;
mod showing;
mod singles;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use latchway_datapath::drop::Direction;
use latchway_datapath::event::Event;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::LatchId;
use latchway_datapath::low::publish::Publisher;
use latchway_datapath::pmtu::PathMtu;
use latchway_datapath::sad::{self, Follow, Path, Role, Sad, SadEntry};
use latchway_datapath::snapshot::Snapshot;
use latchway_datapath::spd::Spd;
use latchway_datapath::time::Time;
use latchway_datapath::traffic::Traffic;
use latchway_esp::{Protocol, Spi};
use latchway_tagging::{ClassId, SaRef, SnapshotId, StateClock, StateVersion};
use latchway_ulp_shim::{LatchDatabase, RequirementId};

use crate::change::Changed;
use crate::install::{InstallError, Keys, Start};
use crate::interned::{ClassObserver, Interned};
use crate::judge::{Judged, judge, judge_successor};
use crate::latching::{Asking, Constraints, Register};
use crate::notice::{Notice, Notices, Wanted};
use crate::origin::Origin;
use crate::outbox::Outbox;
use crate::pad::Pad;
use crate::pair::{Pair, PairId};
use crate::policy::Policy;
use crate::proposal::{Narrowing, Offer, Proposal, Refusal};
use crate::settings::Settings;
use crate::single::{Single, SingleId};
use crate::slots::Slots;
use crate::spent_keys::SpentKeys;
use crate::spis::RestingSpis;
use crate::ticket::{Promise, Ticket, Tickets};
use crate::transaction::SpdChange;

use self::farewell::Farewell;
pub use self::farewell::{Gone, PeerGone};
pub(crate) use self::settling::Stage;
use self::settling::Staged;

/// The key manager without its thread.
#[derive(Debug)]
pub struct Keying {
    settings: Settings,
    pad: Pad,
    policy: Policy,
    clock: Arc<StateClock>,
    database: Arc<LatchDatabase>,
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
    /// SAs of one direction each.
    singles: BTreeMap<SingleId, Single>,
    single_by_sa: HashMap<SaRef, SingleId>,
    /// What peers know our outbound SAs by.
    outbound_names: HashSet<(Protocol, Spi, SocketAddr)>,
    /// Pairs whose grace is not over, each for itself.
    settling: Vec<PairId>,
    /// The change whose grace is not over.
    staged: Option<Staged>,
    /// Breaks of latches whose grace is not over, oldest first, each with the publication to wait for (0 is none yet).
    untold: VecDeque<(u64, Event)>,
    /// Breaks that nobody took note of yet.
    broken: Outbox,
    /// Broken latches that are to come back when their conflicts are gone.
    waiting: BTreeSet<LatchId>,
    /// The publication from which on they may be gone; 0 is none.
    recheck: u64,
    /// Peers whose latches are to be looked at a last time.
    farewells: Vec<Farewell>,
    /// Pairs on their way out, by when they are gone.
    draining: BTreeSet<(Time, PairId)>,
    slots: Slots,
    spis: RestingSpis,
    spent_keys: SpentKeys,
    notices: Notices,
    last_pair: u64,
    last_single: u64,
    /// Latches that somebody asked for.
    register: Register,
    /// What their listeners ask for, and what is required of sockets.
    asking: Asking,
    /// What is required of sockets, in its one spelling.
    required: BTreeMap<RequirementId, Constraints>,
    /// Pairs that came into force since latches were attended to.
    begun: Vec<PairId>,
    /// The snapshot under which LARVAL latches were looked at.
    attended: SnapshotId,
    /// When latches were last gone through for what nobody told.
    walked: Time,
}

/// What a [`Keying::poll`] brought about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Pairs whose grace ended, now in force as their keys asked. Those of a change are in `changed`.
    pub settled: Vec<PairId>,
    /// Whether other pairs, or a change, still wait for theirs: poll again soon.
    pub settling: bool,
    /// The change that is in force now.
    pub changed: Option<Changed>,
    /// Pairs that are gone, what was under way having had its time.
    pub drained: Vec<PairId>,
    /// Pairs that are gone, since a latch does not give way to them.
    pub refused: Vec<(PairId, InstallError)>,
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
    /// latches share, and `database` is where the latches are.
    #[must_use]
    pub fn new(
        pad: Pad,
        settings: Settings,
        clock: Arc<StateClock>,
        database: Arc<LatchDatabase>,
        observer: Arc<dyn ClassObserver>,
    ) -> Self {
        let settings = Settings { rest: settings.rest.max(Settings::LEAST_REST), ..settings };
        let current = Arc::new(Snapshot { id: SnapshotId::from_raw(1), ..Snapshot::default() });
        let Settings { identities, classes, evidence, rest, pairs, holders, .. } = settings;
        Self {
            settings,
            pad,
            policy: Policy::default(),
            clock,
            database,
            publisher: Arc::new(Publisher::new(Arc::clone(&current))),
            current,
            publication: 1,
            version: StateVersion::default(),
            interned: Interned::new(identities, classes, evidence, rest, observer),
            tickets: Tickets::default(),
            pairs: BTreeMap::new(),
            by_sa: HashMap::new(),
            singles: BTreeMap::new(),
            single_by_sa: HashMap::new(),
            outbound_names: HashSet::new(),
            settling: Vec::new(),
            staged: None,
            untold: VecDeque::new(),
            broken: Outbox::default(),
            waiting: BTreeSet::new(),
            recheck: 0,
            farewells: Vec::new(),
            draining: BTreeSet::new(),
            slots: Slots::new(pairs.saturating_mul(2)),
            spis: RestingSpis::new(),
            spent_keys: SpentKeys::default(),
            notices: Notices::default(),
            last_pair: 0,
            last_single: 0,
            register: Register::new(holders),
            asking: Asking::default(),
            required: BTreeMap::new(),
            begun: Vec::new(),
            attended: SnapshotId::default(),
            walked: Time::default(),
        }
    }

    /// Asks whether a pair of SAs may be made, before anything is promised to the peer. The PAD is asked first.
    ///
    /// # Errors
    /// [`Refusal`], which says what to do; nothing changes then.
    pub fn propose(&mut self, proposal: Proposal, now: Time) -> Result<Offer, Refusal> {
        self.offer(proposal, Origin::Hand, now)
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

    /// Gives an offer back that will not be used. Returns whether it still stood.
    pub fn withdraw(&mut self, ticket: &Ticket, now: Time) -> bool {
        self.expire_tickets(now);
        let promise = self.tickets.redeem(ticket);
        if let Some(promise) = &promise {
            self.interned.release(promise.class, now);
        }
        promise.is_some()
    }

    /// Makes a successor of a pair, on the same terms and so of the same class, with the same worker, which
    /// receives but does not send yet. [`Transaction::replace`](crate::Transaction::replace) puts it in the place of the old one once the peer has it.
    ///
    /// # Errors
    /// [`RekeyError`]; no SA was published then.
    pub fn rekey(&mut self, old: PairId, keys: Keys, now: Time) -> Result<PairId, RekeyError> {
        let pair = self.pairs.get(&old).ok_or(RekeyError::UnknownPair(old))?;
        // C-25: never narrowed on rekey.
        let class = self.class(pair.class).ok_or(RekeyError::UnknownPair(old))?;
        let records = [class.peer, class.local].map(|id| self.identity(id));
        let [Some(peer), Some(local)] = records else { return Err(RekeyError::UnknownPair(old)) };
        let terms = Proposal { narrowing: Narrowing::Forbidden, ..pair.terms.clone() };
        let keys = Keys { start: Start::Standby, worker: pair.worker, ..keys };
        let origin = pair.origin;
        self.expire_tickets(now);
        // What both ends have proven was kept with the pair that is succeeded.
        let judged = judge_successor(&self.pad, &terms, [&peer, &local])?;
        let offer = self.offer_judged(judged, &terms, (origin, now))?;
        Ok(self.install(offer.ticket, keys, now)?)
    }

    /// Does what time brings: pairs and changes whose grace is over come into force, and pairs whose time to drain is
    /// over go, all in one snapshot; offers expire; what rested long enough is free again; replaced snapshots are freed,
    /// with the keys they hold.
    pub fn poll(&mut self, now: Time) -> Progress {
        let mut progress = self.settle(now);
        progress.settling |= self.attend(now);
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
        match event {
            Event::Acquire { flow, required } => {
                let wanted = self.wanted(flow, *required);
                self.notices.tell(Notice::Acquire(Box::new(wanted)));
            }
            Event::SoftExpired { sa, direction } => self.note_soft(*sa, *direction),
            Event::HardExpired { sa, direction } => self.note_hard(*sa, *direction),
            Event::PathMtu { sa, mtu, suspected } => {
                self.note_path_mtu(*sa, PathMtu { in_force: *mtu, suspected: *suspected });
            }
            Event::LatchBroken { latch, .. } => {
                self.note_broken(*latch);
                self.hear(event);
            }
            Event::LatchSpawned { .. } | Event::LatchChanged { .. } => self.hear(event),
            // The worker follows by itself.
            Event::PeerMoved { sa, from, to } => self.note_moved(*sa, *from, *to),
            Event::LatchIdle { .. } => {}
        }
    }

    /// Where the latches are.
    #[must_use]
    pub const fn database(&self) -> &Arc<LatchDatabase> {
        &self.database
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
        let taken =
            |protocol| self.current.sad.find(protocol, spi).is_some() || self.spis.contains((protocol, spi));
        !spi.is_reserved() && !taken(Protocol::Esp) && !taken(Protocol::Ah)
    }

    /// Whether a change waits for its grace, so that another must wait for it.
    #[must_use]
    pub const fn is_changing(&self) -> bool {
        self.staged.is_some()
    }

    /// Takes what became different since last time, oldest first.
    pub fn take_notices(&mut self) -> impl Iterator<Item = Notice> + use<> {
        self.notices.take()
    }

    /// Offers what the PAD allows of a proposal.
    fn offer(&mut self, proposal: Proposal, origin: Origin, now: Time) -> Result<Offer, Refusal> {
        self.expire_tickets(now);
        // RFC 4301 section 4.4.3: authorisation comes before anything else is looked at.
        let judged = judge(&self.pad, &proposal)?;
        let offer = self.offer_judged(judged, &proposal, (origin, now))?;
        self.interned.keep(offer.class, &proposal);
        Ok(offer)
    }

    fn offer_judged(
        &mut self,
        judged: Judged,
        proposal: &Proposal,
        (origin, now): (Origin, Time),
    ) -> Result<Offer, Refusal> {
        if self.tickets.len() >= self.settings.offers {
            return Err(Refusal::TooManyOffers(self.settings.offers));
        }
        let class = self.interned.acquire(proposal, &judged)?;
        self.accept(class);
        let offered = self.offer_of(class, judged, proposal, (origin, now));
        if offered.is_err() {
            self.interned.release(class, now);
        }
        offered
    }

    /// Offers what latches allow of what the PAD allows.
    fn offer_of(
        &mut self,
        class: ClassId,
        judged: Judged,
        proposal: &Proposal,
        (origin, now): (Origin, Time),
    ) -> Result<Offer, Refusal> {
        let (selectors, latches_that_would_break) =
            self.fit(&judged.selectors, (class, judged.standing), proposal.narrowing)?;
        let selectors = match proposal.narrowing {
            Narrowing::Allowed => self.beside_listeners(selectors, class),
            Narrowing::Forbidden => selectors,
        };
        let judged = Judged { selectors, ..judged };
        let (entry, terms) = (judged.entry, judged.terms(proposal));
        let selectors = terms.selectors.clone().into_boxed_slice();
        let expires = now + self.settings.offer_lifetime;
        let promise = Promise { terms, entry, class, origin, expires };
        let ticket = self.tickets.issue(promise).map_err(Refusal::NoRandomness)?;
        Ok(Offer { ticket, selectors, class, expires, latches_that_would_break })
    }

    fn expire_tickets(&mut self, now: Time) {
        let expired = self.tickets.expire(now);
        self.give_back(expired, now);
    }

    fn give_back(&mut self, promises: Vec<(u64, Promise)>, now: Time) {
        for (ticket, promise) in promises {
            self.interned.release(promise.class, now);
            self.notices.tell(Notice::OfferExpired { ticket, peer: promise.terms.peer });
        }
    }

    /// What a pair must be to serve a flow that none serves.
    fn wanted(&self, flow: &FlowKey, class: Option<ClassId>) -> Wanted {
        let rule = match class {
            Some(_) => None,
            None => self.current.spd.find(&Traffic::of(flow), Direction::Outbound),
        };
        let rule = rule.and_then(|(place, _)| self.policy.views().into_iter().nth(place));
        let peer = class.and_then(|class| self.identity(self.class(class)?.peer));
        Wanted { flow: *flow, rule, class, peer: peer.map(|record| record.asserted), constraints: None }
    }

    fn note_soft(&mut self, sa: SaRef, direction: Direction) {
        if self.note_single(sa, false) {
            return;
        }
        let Some(pair) = self.by_sa.get(&sa).copied() else { return };
        let Some(peer) = self.pairs.get(&pair).map(|pair| pair.terms.peer.clone()) else { return };
        self.notices.tell(Notice::SoftExpired { pair, peer, direction });
    }

    fn note_path_mtu(&mut self, sa: SaRef, found: PathMtu) {
        let Some(pair) = self.by_sa.get(&sa).copied() else { return };
        let Some(peer) = self.pairs.get(&pair).map(|pair| pair.terms.peer.clone()) else { return };
        self.notices.tell(Notice::PathMtu { pair, peer, found });
    }

    fn note_hard(&mut self, sa: SaRef, direction: Direction) {
        if self.note_single(sa, true) {
            return;
        }
        let Some(id) = self.by_sa.get(&sa).copied() else { return };
        let Some(pair) = self.pairs.get_mut(&id) else { return };
        match direction {
            Direction::Inbound => pair.inbound_expired = true,
            Direction::Outbound => pair.outbound_expired = true,
        }
        pair.secrets.forget(direction);
        self.notices.tell(Notice::HardExpired { pair: id, peer: pair.terms.peer.clone(), direction });
        if !self.waiting.is_empty() {
            self.recheck = self.publication;
        }
    }

    /// Says of a pair that its peer is elsewhere: its worker sends there already (T34). Its latches stay, since a class has no
    /// address (C-17).
    fn note_moved(&mut self, sa: SaRef, from: SocketAddr, to: SocketAddr) {
        let Some(id) = self.by_sa.get(&sa).copied() else { return };
        let Some(pair) = self.pairs.get(&id).filter(|pair| pair.path.to == from) else { return };
        // Told before its worker knew that it is to stay, which has it come back.
        let inbound = self.current.sad.get(pair.inbound).map(|slot| &slot.entry.role);
        if !matches!(inbound, Some(Role::Inbound { from, .. }) if from.follow == Follow::Follow) {
            return;
        }
        let (mut sad, sas, peer) = (self.current.sad.clone(), pair.sas(), pair.terms.peer.clone());
        let class = pair.class;
        let path = Path { to, ..pair.path };
        self.lead(id, path);
        for sa in sas {
            let entry = sad.get(sa).map(|slot| SadEntry::clone(&slot.entry));
            if let Some(entry) = entry {
                sad.revise(Arc::new(moved(entry, to)));
            }
        }
        self.publish(sad, self.current.spd.clone());
        self.notices.tell(Notice::PeerMoved { pair: id, peer, class, from, to });
    }

    /// Tells what became of pairs and policy.
    fn tell(&mut self, activated: &[PairId], retired: &[PairId], spd: Option<SpdChange>) {
        let peer = |id: &PairId| self.pairs.get(id).map(|pair| (*id, pair.terms.peer.clone()));
        let class = |id: &PairId| self.pairs.get(id).map(|pair| pair.class);
        let activated: Vec<_> = activated.iter().filter_map(|id| peer(id).zip(class(id))).collect();
        let retired: Vec<_> = retired.iter().filter_map(peer).collect();
        for ((pair, peer), class) in activated {
            self.notices.tell(Notice::PairActivated { pair, peer, class });
        }
        retired.into_iter().for_each(|(pair, peer)| self.notices.tell(Notice::PairRetired { pair, peer }));
        spd.into_iter().for_each(|change| self.notices.tell(Notice::PolicyChanged(change)));
    }

    /// Makes these databases what workers adopt from now on. Whatever policy is about to be stays so, unless it is.
    fn publish(&mut self, sad: Sad, spd: Spd) {
        let pending = self.current.pending.clone().filter(|next| **next != spd);
        self.publish_with(sad, spd, pending);
    }

    /// The same, with the policy that is about to be (L-74).
    fn publish_with(&mut self, sad: Sad, spd: Spd, pending: Option<Arc<Spd>>) {
        // L-89: counted before it becomes visible.
        self.version = self.clock.advance();
        let id = SnapshotId::from_raw(self.current.id.raw() + 1);
        let snapshot = Arc::new(Snapshot { id, sad, spd, pending });
        self.publication = self.publisher.publish(Arc::clone(&snapshot));
        self.current = snapshot;
        if !self.waiting.is_empty() {
            self.recheck = self.publication;
        }
    }
}

/// What the SAD says of an SA whose peer is elsewhere.
fn moved(entry: SadEntry, to: SocketAddr) -> SadEntry {
    let role = match entry.role {
        Role::Inbound { sa, from, outer } => {
            Role::Inbound { sa, from: sad::Peer { address: to.ip(), ..from }, outer }
        }
        Role::Outbound { sa, path, shape } => Role::Outbound { sa, path: Path { to, ..path }, shape },
    };
    SadEntry { role, ..entry }
}
