//! The key manager's thread: it owns a [`Keying`], answers requests in their order and reads the datapath's events.
//!
//! Waiting for a grace holds up nobody: an installation is answered when its pair is in force, and other requests are
//! served meanwhile. If the thread ends, even by a panic, workers keep the last snapshot, since the
//! [`Publisher`](latchway_datapath::low::publish::Publisher) is shared and not owned, and every request is answered
//! with [`Stopped`].

use std::convert::Infallible;
use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded, never, unbounded};
use crossbeam::select;
use latchway_datapath::event::Event;
use latchway_datapath::time::Time;
use latchway_tagging::{Class, ClassId, IdentityId, IdentityRecord};

use crate::install::{InstallError, Keys};
use crate::keying::{Keying, RekeyError};
use crate::pair::PairId;
use crate::proposal::{Offer, Proposal, Refusal};
use crate::ticket::Ticket;
use crate::transaction::{CommitError, Committed, Transaction};
use crate::view::{Counts, PairView};

/// The running key manager. Dropped, it ends its thread and waits for it.
#[derive(Debug)]
pub struct KeyManager {
    client: KeyManagerClient,
    /// Nothing is ever sent; the thread ends when this does.
    alive: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

/// Asks the key manager, from any thread.
#[derive(Clone, Debug)]
pub struct KeyManagerClient {
    requests: Sender<Request>,
}

/// What the thread reads and writes beside requests.
pub struct Inputs {
    /// What the datapath tells.
    pub events: Receiver<Event>,
    /// Where events go once they were noted: ACQUIREs to whoever makes SAs (L-60), broken latches to whoever ends
    /// connections. Never waited for: a full queue loses an ACQUIRE or an expiry, and holds up other events where it
    /// would lose a broken latch.
    pub forward: Sender<Event>,
    /// The workers' clock.
    pub clock: Box<dyn Fn() -> Time + Send>,
}

/// The key manager does not run any more. What was published stays in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key manager has stopped; SAs and policy stay as they are, restart the gateway to change them")]
pub struct Stopped;

/// A question, and where its answer goes. Nobody waits for an asker that went away.
#[derive(Debug)]
enum Request {
    Propose(Box<Proposal>, Sender<Result<Offer, Refusal>>),
    Install(Ticket, Box<Keys>, Sender<Result<PairId, InstallError>>),
    Rekey(PairId, Box<Keys>, Sender<Result<PairId, RekeyError>>),
    Commit(Transaction, Sender<Result<Committed, CommitError>>),
    Pairs(Sender<Vec<PairView>>),
    Class(ClassId, Sender<Option<Class>>),
    Identity(IdentityId, Sender<Option<IdentityRecord>>),
    Counts(Sender<Counts>),
}

/// The thread's own.
struct Server {
    keying: Keying,
    inputs: Inputs,
    requests: Receiver<Request>,
    alive: Receiver<Infallible>,
    /// Pairs in their grace, and who is to be told of its end.
    waiting: Vec<(PairId, Waiter)>,
    /// Pairs in force from a publication on that some worker may not have adopted yet.
    arriving: Vec<(u64, PairId, Waiter)>,
    /// A broken latch that nobody took yet. Until then no event is read, so that the next ones wait in the datapath's
    /// queue, and when that is full, in the latches (L-100).
    held: Option<Event>,
}

/// Who waits for a grace to end.
enum Waiter {
    Install(Sender<Result<PairId, InstallError>>),
    Rekey(Sender<Result<PairId, RekeyError>>),
}

impl KeyManager {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's, where it gives no thread.
    pub fn spawn(keying: Keying, inputs: Inputs) -> io::Result<Self> {
        let (sender, requests) = unbounded();
        let (alive, owner) = bounded(0);
        let (waiting, arriving) = (Vec::new(), Vec::new());
        let server = Server { keying, inputs, requests, alive: owner, waiting, arriving, held: None };
        let thread = Builder::new().name("keying".into()).spawn(move || server.run())?;
        let client = KeyManagerClient { requests: sender };
        Ok(Self { client, alive: Some(alive), thread: Some(thread) })
    }

    /// Someone else who may ask.
    #[must_use]
    pub fn client(&self) -> KeyManagerClient {
        self.client.clone()
    }
}

impl Drop for KeyManager {
    fn drop(&mut self) {
        drop(self.alive.take());
        if let Some(thread) = self.thread.take() {
            // If it ended by a panic, the message was printed then.
            let _ = thread.join();
        }
    }
}

impl KeyManagerClient {
    /// [`Keying::propose`].
    ///
    /// # Errors
    /// [`Stopped`] outside, [`Refusal`] inside.
    pub fn propose(&self, proposal: Proposal) -> Result<Result<Offer, Refusal>, Stopped> {
        self.ask(|reply| Request::Propose(Box::new(proposal), reply))
    }

    /// [`Keying::install`], answered when the pair is in force.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`InstallError`] inside.
    pub fn install(&self, ticket: Ticket, keys: Keys) -> Result<Result<PairId, InstallError>, Stopped> {
        self.ask(|reply| Request::Install(ticket, Box::new(keys), reply))
    }

    /// [`Keying::rekey`], answered when the new pair receives.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`RekeyError`] inside.
    pub fn rekey(&self, old: PairId, keys: Keys) -> Result<Result<PairId, RekeyError>, Stopped> {
        self.ask(|reply| Request::Rekey(old, Box::new(keys), reply))
    }

    /// [`Keying::commit`].
    ///
    /// # Errors
    /// [`Stopped`] outside, [`CommitError`] inside.
    pub fn commit(&self, transaction: Transaction) -> Result<Result<Committed, CommitError>, Stopped> {
        self.ask(|reply| Request::Commit(transaction, reply))
    }

    /// [`Keying::pairs`].
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn pairs(&self) -> Result<Vec<PairView>, Stopped> {
        self.ask(Request::Pairs)
    }

    /// [`Keying::class`].
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn class(&self, id: ClassId) -> Result<Option<Class>, Stopped> {
        self.ask(|reply| Request::Class(id, reply))
    }

    /// [`Keying::identity`].
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn identity(&self, id: IdentityId) -> Result<Option<IdentityRecord>, Stopped> {
        self.ask(|reply| Request::Identity(id, reply))
    }

    /// [`Keying::counts`].
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn counts(&self) -> Result<Counts, Stopped> {
        self.ask(Request::Counts)
    }

    fn ask<R>(&self, request: impl FnOnce(Sender<R>) -> Request) -> Result<R, Stopped> {
        let (reply, answer) = bounded(1);
        self.requests.send(request(reply)).map_err(|_| Stopped)?;
        answer.recv().map_err(|_| Stopped)
    }
}

impl Server {
    fn run(mut self) {
        loop {
            let idle = self.waiting.is_empty() && self.arriving.is_empty();
            let step = if idle && self.held.is_none() { HOUSEKEEPING } else { GRACE_STEP };
            let events = if self.held.is_none() { self.inputs.events.clone() } else { never() };
            select! {
                recv(self.requests) -> request => match request {
                    Ok(request) => self.answer(request),
                    Err(_) => return,
                },
                recv(self.alive) -> _ => return,
                recv(events) -> event => match event {
                    Ok(event) => self.note(event),
                    // Every worker is gone; there may still be requests.
                    Err(_) => self.inputs.events = never(),
                },
                default(step) => {}
            }
            self.poll();
        }
    }

    fn answer(&mut self, request: Request) {
        let (keying, now) = (&mut self.keying, (self.inputs.clock)());
        // A failed send is an asker that went away.
        let _ = match request {
            Request::Propose(proposal, reply) => reply.send(keying.propose(*proposal, now)).is_ok(),
            Request::Install(ticket, keys, reply) => match keying.install(ticket, *keys, now) {
                Ok(id) => self.wait(id, Waiter::Install(reply)),
                Err(error) => reply.send(Err(error)).is_ok(),
            },
            Request::Rekey(old, keys, reply) => match keying.rekey(old, *keys, now) {
                Ok(id) => self.wait(id, Waiter::Rekey(reply)),
                Err(error) => reply.send(Err(error)).is_ok(),
            },
            Request::Commit(transaction, reply) => {
                let committed = keying.commit(transaction, now);
                let removed = committed.as_ref().map_or(&[][..], |committed| &committed.removed);
                let waiting =
                    self.waiting.extract_if(.., |(id, _)| removed.contains(id)).map(|(_, waiter)| waiter);
                let arriving = self.arriving.extract_if(.., |(_, id, _)| removed.contains(id));
                for waiter in waiting.chain(arriving.map(|(_, _, waiter)| waiter)) {
                    waiter.tell(Err(InstallError::Removed));
                }
                reply.send(committed).is_ok()
            }
            Request::Pairs(reply) => reply.send(keying.pairs()).is_ok(),
            Request::Class(id, reply) => reply.send(keying.class(id)).is_ok(),
            Request::Identity(id, reply) => reply.send(keying.identity(id)).is_ok(),
            Request::Counts(reply) => reply.send(keying.counts()).is_ok(),
        };
    }

    fn wait(&mut self, id: PairId, waiter: Waiter) -> bool {
        self.waiting.push((id, waiter));
        true
    }

    fn note(&mut self, event: Event) {
        self.keying.note(&event);
        self.forward(event);
    }

    /// An ACQUIRE that is lost is asked again by a later packet (L-61). A broken latch is told once.
    fn forward(&mut self, event: Event) {
        let refused = match self.inputs.forward.try_send(event) {
            Err(TrySendError::Full(event)) => Some(event),
            Ok(()) | Err(TrySendError::Disconnected(_)) => None,
        };
        self.held = refused.filter(|event| matches!(event, Event::LatchBroken { .. }));
    }

    fn poll(&mut self) {
        if let Some(event) = self.held.take() {
            self.forward(event);
        }
        let progress = self.keying.poll((self.inputs.clock)());
        let publisher = self.keying.publisher();
        let in_force = self.waiting.extract_if(.., |(id, _)| progress.settled.contains(id));
        self.arriving.extend(in_force.map(|(id, waiter)| (publisher.newest(), id, waiter)));
        // Told only once every worker receives under the new SA: whoever is told may let the peer send at once.
        for (_, id, waiter) in
            self.arriving.extract_if(.., |(publication, ..)| publisher.is_settled(*publication))
        {
            waiter.tell(Ok(id));
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

impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs").finish_non_exhaustive()
    }
}

/// How often a grace is asked after: some batches of packets take as long.
const GRACE_STEP: Duration = Duration::from_micros(200);

/// How often offers and rests are looked after when nothing else happens.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
