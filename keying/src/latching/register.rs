//! Who holds which latch, and what was asked with it. The latches are in the Latch Database: this follows what becomes of
//! them there, and tells.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{BreakReason, LatchId, LatchState};
use latchway_datapath::time::Time;
use latchway_ulp_shim::Listening;

use crate::latching::alert::Mailbox;
use crate::latching::permission::Permit;
use crate::latching::{AlertKind, Alerts, Constraints, Holder, LatchAlert, LatchError};
use crate::settings::HolderLimits;

/// All that is held.
#[derive(Debug)]
pub(crate) struct Register {
    limits: HolderLimits,
    accounts: BTreeMap<Holder, Account>,
    held: BTreeMap<LatchId, Held>,
    by_flow: HashMap<FlowKey, LatchId>,
    watchers: BTreeSet<Holder>,
    /// When to look at which latch again.
    due: BTreeSet<(Time, LatchId)>,
    /// LARVAL latches that SAs which came or went may concern.
    stirred: VecDeque<LatchId>,
    /// Latches that are CLOSED since they were last asked for.
    closed: Vec<LatchId>,
    last_holder: u64,
    gone: (Sender<Holder>, Receiver<Holder>),
    /// Where the next look at what became of latches begins.
    cursor: Option<LatchId>,
}

/// A latch that somebody holds.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) holder: Holder,
    /// Its connection; of a listener, the remote end is left out.
    pub(crate) flow: FlowKey,
    /// Whether it awaits connections.
    pub(crate) listens: bool,
    pub(crate) constraints: Constraints,
    pub(crate) permit: Permit,
    /// The state that the holder knows of.
    pub(crate) state: LatchState,
    /// After how long without an SA the holder is told (L-39).
    pub(crate) report_after: Option<Duration>,
    /// Since when no SA serves it, where that is known.
    pub(crate) unserved_since: Option<Time>,
    /// Whether the holder was told of that.
    pub(crate) reported: bool,
    /// While LARVAL: when it is given up (C-20), and how long to wait before the next ACQUIRE (L-60).
    pub(crate) waiting: Option<Waiting>,
    /// Once it is CLOSED: when its handle becomes void.
    pub(crate) let_go_at: Option<Time>,
}

/// The patience of a LARVAL latch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) until: Time,
    pub(crate) next_acquire: Time,
    pub(crate) pause: Duration,
}

#[derive(Debug)]
struct Account {
    mailbox: Arc<Mailbox>,
    latches: BTreeSet<LatchId>,
}

/// What the Latch Database says of a latch now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) state: LatchState,
    pub(crate) reason: Option<BreakReason>,
}

impl Held {
    /// A latch that is made now.
    pub(crate) const fn new(
        holder: Holder,
        flow: FlowKey,
        constraints: Constraints,
        permit: Permit,
        state: LatchState,
    ) -> Self {
        Self {
            holder,
            flow,
            listens: matches!(state, LatchState::Listener),
            constraints,
            permit,
            state,
            report_after: None,
            unserved_since: None,
            reported: false,
            waiting: None,
            let_go_at: None,
        }
    }
}

impl Register {
    /// Nobody, holding nothing.
    pub(crate) fn new(limits: HolderLimits) -> Self {
        Self {
            limits,
            accounts: BTreeMap::new(),
            held: BTreeMap::new(),
            by_flow: HashMap::new(),
            watchers: BTreeSet::new(),
            due: BTreeSet::new(),
            stirred: VecDeque::new(),
            closed: Vec::new(),
            last_holder: 0,
            gone: unbounded(),
            cursor: None,
        }
    }

    /// Somebody new.
    ///
    /// # Errors
    /// [`LatchError::TooManyHolders`]
    pub(crate) fn open(&mut self) -> Result<Alerts, LatchError> {
        if self.accounts.len() >= self.limits.holders {
            return Err(LatchError::TooManyHolders(self.limits.holders));
        }
        self.last_holder += 1;
        let holder = Holder::from_raw(self.last_holder);
        let (mailbox, alerts) = Mailbox::open(holder, self.limits.alerts, self.gone.0.clone());
        self.accounts.insert(holder, Account { mailbox, latches: BTreeSet::new() });
        Ok(alerts)
    }

    /// Whether the holder may have another latch. News of a latch that ended counts as long as it is not read.
    ///
    /// # Errors
    /// [`LatchError::UnknownHolder`], [`LatchError::TooManyLatches`]
    pub(crate) fn may_hold(&self, holder: Holder) -> Result<(), LatchError> {
        let account = self.accounts.get(&holder).ok_or(LatchError::UnknownHolder(holder))?;
        let most = self.limits.latches;
        let has = account.latches.len() + account.mailbox.kept();
        if has >= most { Err(LatchError::TooManyLatches(most)) } else { Ok(()) }
    }

    /// Notes a latch that was made.
    pub(crate) fn hold(&mut self, id: LatchId, held: Held) {
        let Some(account) = self.accounts.get_mut(&held.holder) else { return };
        account.latches.insert(id);
        self.by_flow.insert(held.flow, id);
        if let Some(waiting) = held.waiting {
            self.due.insert((waiting.next_acquire, id));
            self.stirred.push_back(id);
        } else if let (Some(after), Some(since)) = (held.report_after, held.unserved_since) {
            self.due.insert((since + after, id));
        }
        self.held.insert(id, held);
    }

    /// Forgets a latch. Nobody is told.
    pub(crate) fn forget(&mut self, id: LatchId) -> Option<Held> {
        let held = self.held.remove(&id)?;
        if self.by_flow.get(&held.flow) == Some(&id) {
            self.by_flow.remove(&held.flow);
        }
        if let Some(account) = self.accounts.get_mut(&held.holder) {
            account.latches.remove(&id);
        }
        Some(held)
    }

    /// Closes the account of a holder. What it held is returned, and held by nobody then.
    pub(crate) fn close(&mut self, holder: Holder) -> Vec<(LatchId, Held)> {
        self.watchers.remove(&holder);
        let account = self.accounts.remove(&holder);
        let latches = account.map(|account| account.latches).unwrap_or_default();
        latches.into_iter().filter_map(|id| self.forget(id).map(|held| (id, held))).collect()
    }

    /// Holders whose reading end was dropped since last time.
    pub(crate) fn gone(&self) -> Vec<Holder> {
        self.gone.1.try_iter().collect()
    }

    /// Lets a holder hear of every latch, or of its own only.
    ///
    /// # Errors
    /// [`LatchError::UnknownHolder`]
    pub(crate) fn watch(&mut self, holder: Holder, all: bool) -> Result<(), LatchError> {
        if !self.accounts.contains_key(&holder) {
            return Err(LatchError::UnknownHolder(holder));
        }
        if all {
            self.watchers.insert(holder)
        } else {
            self.watchers.remove(&holder)
        };
        Ok(())
    }

    /// Whether somebody wants to hear of every latch.
    pub(crate) fn is_watched(&self) -> bool {
        !self.watchers.is_empty()
    }

    /// A latch that is held.
    pub(crate) fn get(&self, id: LatchId) -> Option<&Held> {
        self.held.get(&id)
    }

    /// The same, to note something.
    pub(crate) fn get_mut(&mut self, id: LatchId) -> Option<&mut Held> {
        self.held.get_mut(&id)
    }

    /// Every latch that is held.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (LatchId, &Held)> {
        self.held.iter().map(|(id, held)| (*id, held))
    }

    /// How many are held.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// How many hold them.
    pub(crate) fn holders(&self) -> usize {
        self.accounts.len()
    }

    /// The listener latch that awaits such a connection: that of the exact address before that of any (D.4).
    pub(crate) fn listener_of(&self, flow: &FlowKey) -> Option<(LatchId, &Held)> {
        let local = flow.local();
        let any = match local.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let key = |address| Listening { address, protocol: flow.protocol(), port: local.port() }.flow();
        let listens = |key: FlowKey| {
            let id = *self.by_flow.get(&key)?;
            let held = self.held.get(&id).filter(|held| held.state == LatchState::Listener)?;
            Some((id, held))
        };
        listens(key(local.ip())).or_else(|| listens(key(any)))
    }

    /// Tells of a latch what it is now, where that is not what its holder knows. A latch that is gone was CLOSED. Those
    /// who watch are told of any change. One that is CLOSED waits to be let go.
    pub(crate) fn observe(&mut self, id: LatchId, sight: Option<Sight>) {
        let gone = sight.is_none();
        let Some(held) = self.held.get_mut(&id) else { return };
        let Sight { state, reason } = sight.unwrap_or(Sight { state: LatchState::Closed, reason: None });
        if held.state != state {
            held.state = state;
            if state != LatchState::Larval {
                held.waiting = None;
            }
            if state == LatchState::Closed {
                self.closed.push(id);
            }
            let alert = LatchAlert {
                latch: id,
                flow: held.flow,
                state,
                reason: reason.or(gone.then_some(BreakReason::ConnectionEnded)),
                listener: None,
                kind: AlertKind::Changed,
            };
            let holder = held.holder;
            self.tell(holder, alert);
            self.tell_watchers(alert, Some(holder));
        }
        if gone {
            self.forget(id);
        }
    }

    /// Lets go, at a moment, of latches that became CLOSED since last time.
    pub(crate) fn rest_closed(&mut self, until: Time) {
        for id in std::mem::take(&mut self.closed) {
            let Some(held) = self.held.get_mut(&id) else { continue };
            held.let_go_at = Some(until);
            self.due.insert((until, id));
        }
    }

    /// Tells a holder something. That one of its latches is CLOSED is not lost.
    pub(crate) fn tell(&self, holder: Holder, alert: LatchAlert) {
        let Some(Account { mailbox, latches }) = self.accounts.get(&holder) else { return };
        if alert.state == LatchState::Closed && latches.contains(&alert.latch) {
            mailbox.tell_last(alert);
        } else {
            mailbox.tell(alert);
        }
    }

    /// Tells those who watch every latch, but the one who was told already.
    pub(crate) fn tell_watchers(&self, alert: LatchAlert, told: Option<Holder>) {
        for watcher in self.watchers.iter().filter(|watcher| Some(**watcher) != told) {
            self.accounts.get(watcher).into_iter().for_each(|account| account.mailbox.tell(alert));
        }
    }

    /// Looks at a latch again at a moment.
    pub(crate) fn look_at(&mut self, id: LatchId, moment: Time) {
        self.due.insert((moment, id));
    }

    /// A latch whose moment has come.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<LatchId> {
        let (moment, id) = *self.due.first()?;
        if moment > now {
            return None;
        }
        self.due.pop_first();
        Some(id)
    }

    /// SAs came or went, so that every LARVAL latch may have what it waits for.
    pub(crate) fn stir(&mut self) {
        let larval = self.held.iter().filter(|(_, held)| held.state == LatchState::Larval);
        self.stirred = larval.map(|(id, _)| *id).collect();
    }

    /// A LARVAL latch to look at because SAs came or went.
    pub(crate) fn take_stirred(&mut self) -> Option<LatchId> {
        self.stirred.pop_front()
    }

    /// Whether there are more of those.
    pub(crate) fn is_stirred(&self) -> bool {
        !self.stirred.is_empty()
    }

    /// The next latches, in turn, to see what became of them.
    pub(crate) fn walk(&mut self, most: usize) -> Vec<LatchId> {
        let from = self.cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let ids: Vec<_> = self.held.range((from, Bound::Unbounded)).take(most).map(|(id, _)| *id).collect();
        self.cursor = if ids.len() < most { None } else { ids.last().copied() };
        ids
    }
}
