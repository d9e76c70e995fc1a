//! Requests to the key manager's thread, and how they are asked.

use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::channel::{Sender, bounded, unbounded};
use latchway_datapath::spd::Rule;
use latchway_tagging::{Class, ClassId, Identity, IdentityId, IdentityRecord};

use crate::change::{Change, ChangeError, Changed, Outline};
use crate::evidence::Evidence;
use crate::explain::{Explanation, Question};
use crate::install::{InstallError, Keys};
use crate::keying::{Gone, PeerGone, RekeyError};
use crate::manager::Stopped;
use crate::manager::latching::LatchCall;
use crate::nat::Nat;
use crate::pad::Pad;
use crate::pair::PairId;
use crate::policy::{RuleError, RuleNumber, RuleView};
use crate::proposal::{Offer, Proposal, Refusal};
use crate::secrets::ShownSa;
use crate::single::{SingleChange, SingleFault, SingleId, SingleSa, SingleView};
use crate::ticket::Ticket;
use crate::transaction::{CommitError, Committed, Transaction};
use crate::view::{Counts, PairView, PeerView};

/// Asks the key manager, from any thread, and the same after a restart of it.
#[derive(Clone, Debug)]
pub struct KeyManagerClient {
    requests: Arc<Mutex<Sender<Request>>>,
}

/// A question, and where its answer goes. Nobody waits for an asker that went away.
#[derive(Debug)]
pub(super) enum Request {
    Propose(Box<Proposal>, Sender<Result<Offer, Refusal>>),
    Withdraw(Ticket, Sender<bool>),
    Install(Ticket, Box<Keys>, Sender<Result<PairId, InstallError>>),
    Rekey(PairId, Box<Keys>, Sender<Result<PairId, RekeyError>>),
    Commit(Transaction, Sender<Result<Committed, CommitError>>),
    Change(Box<Change>, Sender<Result<Changed, ChangeError>>),
    CheckChange(Box<Change>, Sender<Result<Outline, ChangeError>>),
    AddRule(Vec<Rule>, Option<RuleNumber>, Sender<Result<RuleNumber, RuleError>>),
    DeleteRule(RuleNumber, Sender<Result<Vec<Rule>, RuleError>>),
    Templated(Box<[Rule]>, Sender<()>),
    Singles(Box<SingleChange>, Sender<Result<Vec<SingleId>, SingleFault>>),
    CheckSingles(Box<SingleChange>, Sender<Result<SingleChange, SingleFault>>),
    Latch(LatchCall),
    PeerGone(Box<Identity>, PeerGone, Sender<Gone>),
    Show(Show),
}

impl Request {
    /// Whether it changes policy, of which there is one change at a time, or asks about that.
    pub(super) fn waits_for_change(&self) -> bool {
        match self {
            Self::Change(..)
            | Self::CheckChange(..)
            | Self::AddRule(..)
            | Self::DeleteRule(..)
            | Self::Templated(..) => true,
            Self::Commit(transaction, _) => transaction.changes_policy(),
            _ => false,
        }
    }
}

/// A question that changes nothing.
#[derive(Debug)]
pub(super) enum Show {
    Pairs(Sender<Vec<PairView>>),
    Singles(Sender<Vec<SingleView>>),
    Single(SingleId, Sender<Option<SingleView>>),
    SingleSas(Sender<Vec<SingleSa>>),
    Peers(Sender<Vec<PeerView>>),
    Policy(Sender<Vec<RuleView>>),
    Pad(Sender<Pad>),
    Explain(Question, Sender<Explanation>),
    Class(ClassId, Sender<Option<Class>>),
    Identity(IdentityId, Sender<Option<IdentityRecord>>),
    Evidence(IdentityId, Sender<Option<Evidence>>),
    Nat(ClassId, Sender<Option<Nat>>),
    Keys(Sender<Vec<ShownSa>>),
    Counts(Sender<Counts>),
}

impl KeyManagerClient {
    /// [`Keying::propose`](crate::Keying::propose).
    ///
    /// # Errors
    /// [`Stopped`] outside, [`Refusal`] inside.
    pub fn propose(&self, proposal: Proposal) -> Result<Result<Offer, Refusal>, Stopped> {
        self.ask(|reply| Request::Propose(Box::new(proposal), reply))
    }

    /// [`Keying::withdraw`](crate::Keying::withdraw).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn withdraw(&self, ticket: Ticket) -> Result<bool, Stopped> {
        self.ask(|reply| Request::Withdraw(ticket, reply))
    }

    /// [`Keying::install`](crate::Keying::install), answered when the pair is in force.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`InstallError`] inside.
    pub fn install(&self, ticket: Ticket, keys: Keys) -> Result<Result<PairId, InstallError>, Stopped> {
        self.ask(|reply| Request::Install(ticket, Box::new(keys), reply))
    }

    /// [`Keying::rekey`](crate::Keying::rekey), answered when the new pair receives.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`RekeyError`] inside.
    pub fn rekey(&self, old: PairId, keys: Keys) -> Result<Result<PairId, RekeyError>, Stopped> {
        self.ask(|reply| Request::Rekey(old, Box::new(keys), reply))
    }

    /// [`Keying::commit`](crate::Keying::commit). Where policy changes, answered when that is in force on every worker.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`CommitError`] inside.
    pub fn commit(&self, transaction: Transaction) -> Result<Result<Committed, CommitError>, Stopped> {
        self.ask(|reply| Request::Commit(transaction, reply))
    }

    /// [`Keying::begin_change`](crate::Keying::begin_change), answered when the change is in force on every worker. Where
    /// another change is on its way, it waits for it.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`ChangeError`] inside.
    pub fn change(&self, change: Change) -> Result<Result<Changed, ChangeError>, Stopped> {
        self.ask(|reply| Request::Change(Box::new(change), reply))
    }

    /// [`Keying::check_change`](crate::Keying::check_change). Where a change is on its way, it waits for it.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`ChangeError`] inside.
    pub fn check_change(&self, change: Change) -> Result<Result<Outline, ChangeError>, Stopped> {
        self.ask(|reply| Request::CheckChange(Box::new(change), reply))
    }

    /// [`Keying::add_rule`](crate::Keying::add_rule), answered when the rule is in force on every worker.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`RuleError`] inside.
    pub fn add_rule(
        &self,
        rules: Vec<Rule>,
        before: Option<RuleNumber>,
    ) -> Result<Result<RuleNumber, RuleError>, Stopped> {
        self.ask(|reply| Request::AddRule(rules, before, reply))
    }

    /// [`Keying::delete_rule`](crate::Keying::delete_rule), answered when no worker goes by the rule any more.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`RuleError`] inside.
    pub fn delete_rule(&self, number: RuleNumber) -> Result<Result<Vec<Rule>, RuleError>, Stopped> {
        self.ask(|reply| Request::DeleteRule(number, reply))
    }

    /// [`Keying::replace_templated`](crate::Keying::replace_templated), answered when the rules are in force on every worker.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn replace_templated(&self, rules: Vec<Rule>) -> Result<(), Stopped> {
        self.ask(|reply| Request::Templated(rules.into_boxed_slice(), reply))
    }

    /// [`Keying::change_singles`](crate::Keying::change_singles), answered when every worker goes by the change.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`SingleFault`] inside.
    pub fn change_singles(
        &self,
        change: SingleChange,
    ) -> Result<Result<Vec<SingleId>, SingleFault>, Stopped> {
        self.ask(|reply| Request::Singles(Box::new(change), reply))
    }

    /// [`Keying::check_singles`](crate::Keying::check_singles), which gives the change back where it can be.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`SingleFault`] inside.
    pub fn check_singles(&self, change: SingleChange) -> Result<Result<SingleChange, SingleFault>, Stopped> {
        self.ask(|reply| Request::CheckSingles(Box::new(change), reply))
    }

    /// [`Keying::singles`](crate::Keying::singles).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn singles(&self) -> Result<Vec<SingleView>, Stopped> {
        self.see(Show::Singles)
    }

    /// [`Keying::single`](crate::Keying::single).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn single(&self, id: SingleId) -> Result<Option<SingleView>, Stopped> {
        self.see(|reply| Show::Single(id, reply))
    }

    /// [`Keying::single_sas`](crate::Keying::single_sas).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn single_sas(&self) -> Result<Vec<SingleSa>, Stopped> {
        self.see(Show::SingleSas)
    }

    /// [`Keying::peer_gone`](crate::Keying::peer_gone), answered when no worker goes by the peer's SAs any more.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn peer_gone(&self, peer: Identity, why: PeerGone) -> Result<Gone, Stopped> {
        self.ask(|reply| Request::PeerGone(Box::new(peer), why, reply))
    }

    /// [`Keying::pairs`](crate::Keying::pairs).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn pairs(&self) -> Result<Vec<PairView>, Stopped> {
        self.see(Show::Pairs)
    }

    /// [`Keying::peers`](crate::Keying::peers).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn peers(&self) -> Result<Vec<PeerView>, Stopped> {
        self.see(Show::Peers)
    }

    /// [`Keying::policy`](crate::Keying::policy).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn policy(&self) -> Result<Vec<RuleView>, Stopped> {
        self.see(Show::Policy)
    }

    /// [`Keying::pad`](crate::Keying::pad).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn pad(&self) -> Result<Pad, Stopped> {
        self.see(Show::Pad)
    }

    /// [`Keying::explain`](crate::Keying::explain).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn explain(&self, question: Question) -> Result<Explanation, Stopped> {
        self.see(|reply| Show::Explain(question, reply))
    }

    /// [`Keying::class`](crate::Keying::class).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn class(&self, id: ClassId) -> Result<Option<Class>, Stopped> {
        self.see(|reply| Show::Class(id, reply))
    }

    /// [`Keying::identity`](crate::Keying::identity).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn identity(&self, id: IdentityId) -> Result<Option<IdentityRecord>, Stopped> {
        self.see(|reply| Show::Identity(id, reply))
    }

    /// [`Keying::evidence`](crate::Keying::evidence).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn evidence(&self, id: IdentityId) -> Result<Option<Evidence>, Stopped> {
        self.see(|reply| Show::Evidence(id, reply))
    }

    /// [`Keying::keys`](crate::Keying::keys).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn keys(&self) -> Result<Vec<ShownSa>, Stopped> {
        self.see(Show::Keys)
    }

    /// [`Keying::nat`](crate::Keying::nat).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn nat(&self, class: ClassId) -> Result<Option<Nat>, Stopped> {
        self.see(|reply| Show::Nat(class, reply))
    }

    /// [`Keying::counts`](crate::Keying::counts).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn counts(&self) -> Result<Counts, Stopped> {
        self.see(Show::Counts)
    }

    /// A client whom nobody hears yet.
    pub(super) fn unheard() -> Self {
        Self { requests: Arc::new(Mutex::new(unbounded().0)) }
    }

    /// From now on, this and every clone of it is heard there.
    pub(super) fn hear(&self, sender: Sender<Request>) {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner) = sender;
    }

    fn see<R>(&self, show: impl FnOnce(Sender<R>) -> Show) -> Result<R, Stopped> {
        self.ask(|reply| Request::Show(show(reply)))
    }

    pub(super) fn ask<R>(&self, request: impl FnOnce(Sender<R>) -> Request) -> Result<R, Stopped> {
        let (reply, answer) = bounded(1);
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        requests.send(request(reply)).map_err(|_| Stopped)?;
        answer.recv().map_err(|_| Stopped)
    }
}
