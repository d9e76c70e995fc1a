//! The thread itself: what it owns, and its loop.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TrySendError, never};
use crossbeam::select;
use latchway_datapath::event::Event;
use latchway_datapath::spd::Rule;
use latchway_datapath::time::Time;

use crate::change::{Change, ChangeError, Changed};
use crate::install::InstallError;
use crate::keying::{Keying, Progress, RekeyError};
use crate::manager::Inputs;
use crate::manager::client::{Request, Show};
use crate::pair::PairId;
use crate::policy::{RuleError, RuleNumber};
use crate::transaction::{CommitError, Commitment, Committed, Transaction};

/// What outlives the thread.
#[derive(Debug)]
pub(super) struct Estate {
    keying: Keying,
    inputs: Inputs,
    /// A broken latch that nobody took yet. Until then no event is read, so that the next ones wait in the datapath's
    /// queue, and when that is full, in the latches (L-100).
    held: Option<Event>,
}

/// The thread's own.
pub(super) struct Server<'e> {
    estate: &'e mut Estate,
    requests: Receiver<Request>,
    alive: Receiver<Infallible>,
    /// Pairs in their grace, and who is to be told of its end.
    waiting: Vec<(PairId, Waiter)>,
    /// Who is to be told of the end of the change in its grace.
    changing: Option<Changing>,
    /// What changes policy, and questions of that, while it waits for the change in its grace.
    queued: VecDeque<Request>,
    /// What is in force from a publication on that some worker may not have adopted yet.
    arriving: Vec<(u64, Arrival)>,
}

/// Who waits for a grace to end.
enum Waiter {
    Install(Sender<Result<PairId, InstallError>>),
    Rekey(Sender<Result<PairId, RekeyError>>),
}

/// Who asked for the change in its grace, and what is answered when it is over.
enum Changing {
    Change(Sender<Result<Changed, ChangeError>>),
    Commit(Sender<Result<Committed, CommitError>>),
    AddRule(Sender<Result<RuleNumber, RuleError>>, RuleNumber),
    DeleteRule(Sender<Result<Vec<Rule>, RuleError>>, Vec<Rule>),
    Templated(Sender<()>),
}

/// An answer that is given when every worker goes by what it says.
enum Arrival {
    Pair(PairId, Waiter),
    /// Tells whoever asked. A failed send is an asker that went away.
    Other(Box<dyn FnOnce() + Send>),
}

impl Estate {
    pub(super) const fn new(keying: Keying, inputs: Inputs) -> Self {
        Self { keying, inputs, held: None }
    }

    /// Brings the key manager in step with what is published.
    pub(super) fn recover(&mut self) {
        let now = self.now();
        self.keying.recover(now);
    }

    fn now(&self) -> Time {
        (self.inputs.clock)()
    }
}

impl<'e> Server<'e> {
    pub(super) fn new(
        estate: &'e mut Estate,
        requests: Receiver<Request>,
        alive: Receiver<Infallible>,
    ) -> Self {
        Self {
            estate,
            requests,
            alive,
            waiting: Vec::new(),
            changing: None,
            queued: VecDeque::new(),
            arriving: Vec::new(),
        }
    }

    /// Serves until nobody needs it any more.
    pub(super) fn run(mut self) {
        loop {
            // A change may have begun under another thread, before a restart.
            let settling = self.poll();
            let told = self.estate.held.is_none() && self.estate.keying.next_broken().is_none();
            let idle = !settling && self.arriving.is_empty() && told;
            let step = if idle { HOUSEKEEPING } else { GRACE_STEP };
            let events = if self.estate.held.is_none() { self.estate.inputs.events.clone() } else { never() };
            select! {
                recv(self.requests) -> request => match request {
                    Ok(request) => self.answer(request),
                    Err(_) => return,
                },
                recv(self.alive) -> _ => return,
                recv(events) -> event => match event {
                    Ok(event) => self.note(event),
                    // Every worker is gone; there may still be requests.
                    Err(_) => self.estate.inputs.events = never(),
                },
                default(step) => {}
            }
        }
    }

    fn answer(&mut self, request: Request) {
        let (now, keying) = (self.estate.now(), &mut self.estate.keying);
        // A failed send is an asker that went away.
        let _ = match request {
            Request::Propose(proposal, reply) => reply.send(keying.propose(*proposal, now)).is_ok(),
            Request::Withdraw(ticket, reply) => reply.send(keying.withdraw(&ticket, now)).is_ok(),
            Request::Install(ticket, keys, reply) => match keying.install(ticket, *keys, now) {
                Ok(id) => self.wait(id, Waiter::Install(reply)),
                Err(error) => reply.send(Err(error)).is_ok(),
            },
            Request::Rekey(old, keys, reply) => match keying.rekey(old, *keys, now) {
                Ok(id) => self.wait(id, Waiter::Rekey(reply)),
                Err(error) => reply.send(Err(error)).is_ok(),
            },
            request if keying.is_changing() && request.waits_for_change() => {
                self.queued.push_back(request);
                true
            }
            Request::Commit(transaction, reply) => self.commit(transaction, reply, now),
            Request::Change(change, reply) => self.change(*change, reply, now),
            Request::CheckChange(change, reply) => reply.send(keying.check_change(&change)).is_ok(),
            Request::AddRule(rules, before, reply) => match keying.add_rule(rules, before) {
                Ok(number) => {
                    self.changing = Some(Changing::AddRule(reply, number));
                    true
                }
                Err(error) => reply.send(Err(error)).is_ok(),
            },
            Request::DeleteRule(number, reply) => match keying.delete_rule(number) {
                Ok(rule) => {
                    self.changing = Some(Changing::DeleteRule(reply, rule));
                    true
                }
                Err(error) => reply.send(Err(error)).is_ok(),
            },
            Request::Templated(rules, reply) => {
                let replaced = keying.replace_templated(&rules);
                self.changing = replaced.ok().map(|()| Changing::Templated(reply));
                true
            }
            Request::Singles(change, reply) => match keying.change_singles(*change, now) {
                Ok(added) => self.arrive(reply, Ok(added)),
                Err(fault) => reply.send(Err(fault)).is_ok(),
            },
            Request::CheckSingles(change, reply) => {
                reply.send(keying.check_singles(&change).map(|()| *change)).is_ok()
            }
            Request::PeerGone(peer, why, reply) => {
                let gone = keying.peer_gone(&peer, why, now);
                self.tell_removed(&gone.pairs);
                self.arrive(reply, gone)
            }
            Request::Latch(call) => call.answer(keying, now),
            Request::Show(show) => show.answer(keying),
        };
    }

    fn change(&mut self, change: Change, reply: Sender<Result<Changed, ChangeError>>, now: Time) -> bool {
        match self.estate.keying.begin_change(change, now) {
            Ok(()) => {
                self.changing = Some(Changing::Change(reply));
                true
            }
            Err(error) => reply.send(Err(error)).is_ok(),
        }
    }

    fn commit(
        &mut self,
        transaction: Transaction,
        reply: Sender<Result<Committed, CommitError>>,
        now: Time,
    ) -> bool {
        match self.estate.keying.commit(transaction, now) {
            Ok(Commitment::InForce(committed)) => {
                self.tell_removed(&committed.removed);
                reply.send(Ok(committed)).is_ok()
            }
            Ok(Commitment::Staged) => {
                self.changing = Some(Changing::Commit(reply));
                true
            }
            Err(error) => reply.send(Err(error)).is_ok(),
        }
    }

    fn wait(&mut self, id: PairId, waiter: Waiter) -> bool {
        self.waiting.push((id, waiter));
        true
    }

    /// Gives an answer once every worker has adopted what is published now.
    fn arrive<R: Send + 'static>(&mut self, reply: Sender<R>, outcome: R) -> bool {
        let newest = self.estate.keying.publisher().newest();
        let tell = move || {
            let _ = reply.send(outcome);
        };
        self.arriving.push((newest, Arrival::Other(Box::new(tell))));
        true
    }

    /// Who waits for a pair that is gone waits in vain.
    fn tell_removed(&mut self, removed: &[PairId]) {
        self.tell_gone(removed, InstallError::Removed);
    }

    fn tell_gone(&mut self, removed: &[PairId], why: InstallError) {
        let waiting = self.waiting.extract_if(.., |(id, _)| removed.contains(id)).map(|(_, waiter)| waiter);
        let is_removed = |arrival: &Arrival| matches!(arrival, Arrival::Pair(id, _) if removed.contains(id));
        let arriving = self.arriving.extract_if(.., |(_, arrival)| is_removed(arrival));
        let arriving = arriving.filter_map(|(_, arrival)| match arrival {
            Arrival::Pair(_, waiter) => Some(waiter),
            Arrival::Other(_) => None,
        });
        waiting.chain(arriving).for_each(|waiter| waiter.tell(Err(why)));
    }

    fn note(&mut self, event: Event) {
        self.estate.keying.note(&event);
        self.forward(event);
    }

    /// An ACQUIRE that is lost is asked again by a later packet (L-61). A broken latch, or a new one, is told once.
    fn forward(&mut self, event: Event) {
        let refused = match self.estate.inputs.forward.try_send(event) {
            Err(TrySendError::Full(event)) => Some(event),
            Ok(()) | Err(TrySendError::Disconnected(_)) => None,
        };
        let once = |event: &Event| matches!(event, Event::LatchBroken { .. } | Event::LatchSpawned { .. });
        self.estate.held = refused.filter(once);
    }

    /// Does what time brings. Returns whether something waits for a grace.
    fn poll(&mut self) -> bool {
        if let Some(event) = self.estate.held.take() {
            self.forward(event);
        }
        let now = self.estate.now();
        let progress = self.estate.keying.poll(now);
        self.tell_broken();
        let settling = progress.settling;
        self.settle(progress);
        if !self.estate.keying.is_changing()
            && let Some(request) = self.queued.pop_front()
        {
            self.answer(request);
        }
        for notice in self.estate.keying.take_notices() {
            // Nothing depends on its being read.
            let _ = self.estate.inputs.notices.try_send(notice);
        }
        settling || self.estate.keying.is_changing() || !self.queued.is_empty()
    }

    /// Tells whoever ends connections of latches that a decision broke, as many as there is room for.
    fn tell_broken(&mut self) {
        while let Some(event) = self.estate.keying.next_broken() {
            if let Err(TrySendError::Full(_)) = self.estate.inputs.forward.try_send(event) {
                return;
            }
            self.estate.keying.broken_told();
        }
    }

    /// Tells of what came into force, but only once every worker goes by it: whoever is told may let the peer send at
    /// once.
    fn settle(&mut self, progress: Progress) {
        let newest = self.estate.keying.publisher().newest();
        let in_force = self.waiting.extract_if(.., |(id, _)| progress.settled.contains(id));
        self.arriving.extend(in_force.map(|(id, waiter)| (newest, Arrival::Pair(id, waiter))));
        if let Some(changed) = progress.changed {
            self.tell_removed(&changed.outline.removed);
            match self.changing.take() {
                Some(Changing::Change(reply)) => self.arrive(reply, Ok(changed)),
                Some(Changing::Commit(reply)) => self.arrive(reply, Ok(changed.into())),
                Some(Changing::AddRule(reply, number)) => self.arrive(reply, Ok(number)),
                Some(Changing::DeleteRule(reply, rule)) => self.arrive(reply, Ok(rule)),
                Some(Changing::Templated(reply)) => self.arrive(reply, ()),
                // Whoever asked did so before a restart.
                None => true,
            };
        }
        self.tell_removed(&progress.drained);
        for (id, why) in &progress.refused {
            self.tell_gone(&[*id], *why);
        }
        let publisher = self.estate.keying.publisher();
        for (_, arrival) in
            self.arriving.extract_if(.., |(publication, _)| publisher.is_settled(*publication))
        {
            match arrival {
                Arrival::Pair(id, waiter) => waiter.tell(Ok(id)),
                Arrival::Other(tell) => tell(),
            }
        }
    }
}

impl Show {
    /// Answers. Returns whether the asker was still there.
    fn answer(self, keying: &Keying) -> bool {
        match self {
            Self::Pairs(reply) => reply.send(keying.pairs()).is_ok(),
            Self::Singles(reply) => reply.send(keying.singles()).is_ok(),
            Self::Single(id, reply) => reply.send(keying.single(id)).is_ok(),
            Self::SingleSas(reply) => reply.send(keying.single_sas()).is_ok(),
            Self::Peers(reply) => reply.send(keying.peers()).is_ok(),
            Self::Policy(reply) => reply.send(keying.policy()).is_ok(),
            Self::Pad(reply) => reply.send(keying.pad().clone()).is_ok(),
            Self::Explain(question, reply) => reply.send(keying.explain(&question)).is_ok(),
            Self::Class(id, reply) => reply.send(keying.class(id)).is_ok(),
            Self::Identity(id, reply) => reply.send(keying.identity(id)).is_ok(),
            Self::Evidence(id, reply) => reply.send(keying.evidence(id)).is_ok(),
            Self::Nat(class, reply) => reply.send(keying.nat(class)).is_ok(),
            Self::Keys(reply) => reply.send(keying.keys()).is_ok(),
            Self::Counts(reply) => reply.send(keying.counts()).is_ok(),
        }
    }
}

impl Waiter {
    fn tell(self, outcome: Result<PairId, InstallError>) {
        // A failed send is an asker that went away.
        let _ = match self {
            Self::Install(reply) => reply.send(outcome).is_ok(),
            Self::Rekey(reply) => reply.send(outcome.map_err(RekeyError::from)).is_ok(),
        };
    }
}

/// How often a grace is asked after: some batches of packets take as long.
const GRACE_STEP: Duration = Duration::from_micros(200);

/// How often offers and rests are looked after when nothing else happens.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
