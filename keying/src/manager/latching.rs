//! Requests about latches that somebody asks for, and how they are asked.

use crossbeam::channel::Sender;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::LatchId;
use latchway_datapath::time::Time;
use latchway_ulp_shim::{ConstraintId, RequirementId};

use crate::keying::Keying;
use crate::latching::{
    Alerts, ConnectionRequest, Constraints, Created, FlowInquiry, Holder, Inquiry, LatchError,
    ListenerRequest, Privilege,
};
use crate::manager::Stopped;
use crate::manager::client::{KeyManagerClient, Request};

/// A question about latches, and where its answer goes.
#[derive(Debug)]
pub(in crate::manager) enum LatchCall {
    Open(Sender<Result<Alerts, LatchError>>),
    Gone(Holder, Sender<usize>),
    Watch(Holder, bool, Sender<Result<(), LatchError>>),
    Listen(Box<ListenerRequest>, Holder, Privilege, Sender<Result<Created, LatchError>>),
    Connect(Box<ConnectionRequest>, Holder, Privilege, Sender<Result<Created, LatchError>>),
    Release(LatchId, Holder, Sender<Result<(), LatchError>>),
    Close(LatchId, Sender<Result<(), LatchError>>),
    Find(FlowKey, Sender<Option<LatchId>>),
    Inquire(LatchId, Sender<Result<Box<Inquiry>, LatchError>>),
    InquireFlow(FlowKey, Sender<FlowInquiry>),
    Require(RequirementId, Box<Constraints>, Option<FlowKey>, Sender<Result<ConstraintId, LatchError>>),
    Unrequire(RequirementId, Sender<bool>),
}

impl LatchCall {
    /// Answers. Returns whether the asker was still there.
    pub(super) fn answer(self, keying: &mut Keying, now: Time) -> bool {
        match self {
            Self::Open(reply) => reply.send(keying.open_holder()).is_ok(),
            Self::Gone(holder, reply) => reply.send(keying.holder_gone(holder, now)).is_ok(),
            Self::Watch(holder, all, reply) => reply.send(keying.watch_latches(holder, all)).is_ok(),
            Self::Listen(request, holder, privilege, reply) => {
                reply.send(keying.create_listener_latch(&request, holder, privilege, now)).is_ok()
            }
            Self::Connect(request, holder, privilege, reply) => {
                reply.send(keying.create_connection_latch(&request, holder, privilege, now)).is_ok()
            }
            Self::Release(latch, holder, reply) => {
                reply.send(keying.release_latch(latch, holder, now)).is_ok()
            }
            Self::Close(latch, reply) => reply.send(keying.close_latch(latch, now)).is_ok(),
            Self::Find(flow, reply) => reply.send(keying.find_latch(&flow)).is_ok(),
            Self::Inquire(latch, reply) => reply.send(keying.inquire_latch(latch).map(Box::new)).is_ok(),
            Self::InquireFlow(flow, reply) => reply.send(keying.inquire_flow(&flow)).is_ok(),
            Self::Require(id, constraints, flow, reply) => {
                reply.send(keying.require(id, &constraints, flow.as_ref())).is_ok()
            }
            Self::Unrequire(id, reply) => reply.send(keying.unrequire(id)).is_ok(),
        }
    }
}

impl KeyManagerClient {
    /// [`Keying::open_holder`](crate::Keying::open_holder). The holder survives a restart of the key manager.
    ///
    /// # Errors
    /// [`Stopped`] outside, [`LatchError`] inside.
    pub fn open_holder(&self) -> Result<Result<Alerts, LatchError>, Stopped> {
        self.ask_latch(LatchCall::Open)
    }

    /// [`Keying::holder_gone`](crate::Keying::holder_gone).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn holder_gone(&self, holder: Holder) -> Result<usize, Stopped> {
        self.ask_latch(|reply| LatchCall::Gone(holder, reply))
    }

    /// [`Keying::watch_latches`](crate::Keying::watch_latches).
    ///
    /// # Errors
    /// [`Stopped`] outside, [`LatchError`] inside.
    pub fn watch_latches(&self, holder: Holder, all: bool) -> Result<Result<(), LatchError>, Stopped> {
        self.ask_latch(|reply| LatchCall::Watch(holder, all, reply))
    }

    /// [`Keying::create_listener_latch`](crate::Keying::create_listener_latch).
    ///
    /// # Errors
    /// [`Stopped`] outside, [`LatchError`] inside.
    pub fn create_listener_latch(
        &self,
        request: ListenerRequest,
        holder: Holder,
        privilege: Privilege,
    ) -> Result<Result<Created, LatchError>, Stopped> {
        self.ask_latch(|reply| LatchCall::Listen(Box::new(request), holder, privilege, reply))
    }

    /// [`Keying::create_connection_latch`](crate::Keying::create_connection_latch).
    ///
    /// # Errors
    /// [`Stopped`] outside, [`LatchError`] inside.
    pub fn create_connection_latch(
        &self,
        request: ConnectionRequest,
        holder: Holder,
        privilege: Privilege,
    ) -> Result<Result<Created, LatchError>, Stopped> {
        self.ask_latch(|reply| LatchCall::Connect(Box::new(request), holder, privilege, reply))
    }

    /// [`Keying::release_latch`](crate::Keying::release_latch).
    ///
    /// # Errors
    /// [`Stopped`] outside, [`LatchError`] inside.
    pub fn release_latch(&self, latch: LatchId, holder: Holder) -> Result<Result<(), LatchError>, Stopped> {
        self.ask_latch(|reply| LatchCall::Release(latch, holder, reply))
    }

    /// [`Keying::close_latch`](crate::Keying::close_latch).
    ///
    /// # Errors
    /// [`Stopped`] outside, [`LatchError`] inside.
    pub fn close_latch(&self, latch: LatchId) -> Result<Result<(), LatchError>, Stopped> {
        self.ask_latch(|reply| LatchCall::Close(latch, reply))
    }

    /// [`Keying::find_latch`](crate::Keying::find_latch).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn find_latch(&self, flow: FlowKey) -> Result<Option<LatchId>, Stopped> {
        self.ask_latch(|reply| LatchCall::Find(flow, reply))
    }

    /// [`Keying::inquire_latch`](crate::Keying::inquire_latch).
    ///
    /// # Errors
    /// [`Stopped`] outside, [`LatchError`] inside.
    pub fn inquire_latch(&self, latch: LatchId) -> Result<Result<Box<Inquiry>, LatchError>, Stopped> {
        self.ask_latch(|reply| LatchCall::Inquire(latch, reply))
    }

    /// [`Keying::inquire_flow`](crate::Keying::inquire_flow).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn inquire_flow(&self, flow: FlowKey) -> Result<FlowInquiry, Stopped> {
        self.ask_latch(|reply| LatchCall::InquireFlow(flow, reply))
    }

    /// [`Keying::require`](crate::Keying::require).
    ///
    /// # Errors
    /// [`Stopped`] outside, [`LatchError`] inside.
    pub fn require(
        &self,
        id: RequirementId,
        constraints: Constraints,
        flow: Option<FlowKey>,
    ) -> Result<Result<ConstraintId, LatchError>, Stopped> {
        self.ask_latch(|reply| LatchCall::Require(id, Box::new(constraints), flow, reply))
    }

    /// [`Keying::unrequire`](crate::Keying::unrequire).
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn unrequire(&self, id: RequirementId) -> Result<bool, Stopped> {
        self.ask_latch(|reply| LatchCall::Unrequire(id, reply))
    }

    fn ask_latch<R>(&self, call: impl FnOnce(Sender<R>) -> LatchCall) -> Result<R, Stopped> {
        self.ask(|reply| Request::Latch(call(reply)))
    }
}
