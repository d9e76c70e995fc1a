//! Latches that somebody asks for on control.sock: draft-ietf-btns-connection-latching 2.1, and RFC 5660 2.3.

use std::time::Duration;

use latchway_control::{
    ConflictSpec, ConnectSpec, ConstraintsSpec, Failure, FindLatch, GoneSpec, LatchDetail, LatchNamed,
    ListenSpec, OwnerKind, OwnerView, PeerForgotten, PeerGoneSpec, ProtectionSpec,
};
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{LatchId, LatchState, OnConflict};
use latchway_esp::Suite;
use latchway_keying::{
    Alerts, Asked, ConnectionRequest, Constraints, Created, Holder, Inquiry, LatchError, ListenerRequest,
    Parameters, PeerGone, Privilege,
};
use latchway_tagging::{Identity, Mode};
use latchway_ulp_shim::Listening;

use crate::gateway::clock::since;
use crate::gateway::operator::Answer;
use crate::gateway::proven::method;
use crate::gateway::rows::{flow_text, latch_state, milliseconds, policy_row, tag_view};
use crate::gateway::state::State;
use crate::gateway::state::answers::stopped;
use crate::gateway::state::held::{bypass, held, tunnel};

impl State {
    pub(super) fn open_holder(&self) -> Answer<Alerts> {
        self.keying.open_holder().map_err(stopped)?.map_err(failure)
    }

    pub(super) fn make_listener(&self, asked: &ListenSpec, holder: Holder) -> Answer<LatchNamed> {
        let request = ListenerRequest {
            listening: listening(asked.protocol, asked.local),
            constraints: constraints(&asked.constraints)?,
            on_conflict: asked.on_conflict.map(on_conflict),
        };
        let key = request.listening.flow();
        let made = self.keying.create_listener_latch(request, holder, privilege(asked.unprivileged));
        Ok(named(made.map_err(stopped)?.map_err(failure)?, &key))
    }

    pub(super) fn make_connection(&self, asked: &ConnectSpec, holder: Holder) -> Answer<LatchNamed> {
        let flow = FlowKey::new(asked.protocol, asked.local, asked.remote);
        one_family(asked.local.is_ipv4() == asked.remote.is_ipv4())?;
        let request = ConnectionRequest {
            flow,
            constraints: constraints(&asked.constraints)?,
            on_conflict: asked.on_conflict.map(on_conflict),
            report_after: asked.report_after.map(Duration::from_millis),
        };
        let made = self.keying.create_connection_latch(request, holder, privilege(asked.unprivileged));
        Ok(named(made.map_err(stopped)?.map_err(failure)?, &flow))
    }

    pub(super) fn give_up(&self, latch: &str, holder: Holder) -> Answer<()> {
        self.keying.release_latch(handle(latch)?, holder).map_err(stopped)?.map_err(failure)
    }

    pub(super) fn close(&self, latch: &str) -> Answer<()> {
        let latch = handle(latch)?;
        self.keying.close_latch(latch).map_err(stopped)?.map_err(failure)?;
        self.end_connection(latch);
        Ok(())
    }

    pub(super) fn watch(&self, holder: Holder, all: bool) -> Answer<()> {
        self.keying.watch_latches(holder, all).map_err(stopped)?.map_err(failure)
    }

    pub(super) fn find(&self, asked: &FindLatch) -> Answer<LatchNamed> {
        let (flow, found) = match asked.remote {
            Some(remote) => {
                one_family(asked.local.is_ipv4() == remote.is_ipv4())?;
                let flow = FlowKey::new(asked.protocol, asked.local, remote);
                (flow, self.keying.find_latch(flow).map_err(stopped)?)
            }
            None => {
                let listening = listening(asked.protocol, asked.local);
                (listening.flow(), self.database.find_listener(&listening))
            }
        };
        let found = found.and_then(|latch| self.database.inquire(latch));
        let Some(found) = found else {
            let hint = "list the latches to see those there are; NAT between the application and the TUN changes addresses";
            return Err(Failure::not_found(format!("{} has no latch", flow_text(&flow)), hint));
        };
        Ok(named(Created { latch: found.id, state: found.state }, &flow))
    }

    pub(super) fn inquire(&self, latch: &str) -> Answer<(LatchDetail, Option<Holder>)> {
        let inquiry = self.keying.inquire_latch(handle(latch)?).map_err(stopped)?.map_err(failure)?;
        Ok((self.detail(&inquiry), inquiry.holder))
    }

    pub(super) fn forget_peer(&self, spec: &PeerGoneSpec) -> Answer<PeerForgotten> {
        let why = match spec.reason {
            GoneSpec::Dead => PeerGone::Dead,
            GoneSpec::InitialContact => PeerGone::InitialContact,
            GoneSpec::Withdrawn => PeerGone::Withdrawn,
        };
        let gone = self.keying.peer_gone(identity(&spec.peer)?, why).map_err(stopped)?;
        let pairs = gone.pairs.iter().map(|pair| pair.raw()).collect();
        Ok(PeerForgotten { latches: gone.latches as u64, pairs })
    }

    fn detail(&self, inquiry: &Inquiry) -> LatchDetail {
        let (latch, now) = (&inquiry.latch, since(self.started));
        let listens = latch.state == LatchState::Listener;
        let held = match &inquiry.parameters {
            Parameters::Latched { id, class, peer, local } => Some(held(*id, class, peer, local)),
            Parameters::Bypass => Some(bypass()),
            Parameters::Wanted | Parameters::Indeterminate | Parameters::Forgotten(_) => None,
        };
        let disposition = self.disposition(latch.id).map(|became| format!("; {became}")).unwrap_or_default();
        let inferred = "it was inferred from packets, and says nothing of what the application meant (L-43)";
        let is_inferred = inquiry.holder.is_none() && !latch.required;
        let unheld = "nothing protects its connection, or not yet";
        LatchDetail {
            latch: latch.id.to_string(),
            flow: flow_text(&latch.flow),
            protocol: latch.flow.protocol(),
            local: latch.flow.local(),
            remote: (!listens).then(|| latch.flow.remote()),
            state: latch_state(latch.state),
            owner: OwnerView { kind: OwnerKind::Packets, pid: None, listener: None },
            demands: inquiry.constraints.as_ref().map(Constraints::demands).unwrap_or_default(),
            indeterminate: inquiry.parameters == Parameters::Indeterminate,
            held,
            tunnel: inquiry.path.as_ref().map(|path| tunnel(path, inquiry.nat, &self.devices.listen)),
            rule: inquiry.entry.as_ref().map(policy_row),
            reason: latch.reason.map(|reason| format!("{}{disposition}", reason.name())),
            offender: inquiry.offender.as_ref().map(|party| party.record.asserted.to_string()),
            binding: inquiry.fit_for_channel_binding,
            unbindable: (!inquiry.fit_for_channel_binding)
                .then(|| if is_inferred { inferred } else { unheld }.to_owned()),
            last_tag: latch.last_inbound.map(tag_view),
            age: milliseconds(now.since(latch.opened)),
            idle: milliseconds(now.since(latch.seen)),
        }
    }
}

/// What is asked for, or why nothing could be that.
pub fn constraints(asked: &ConstraintsSpec) -> Answer<Constraints> {
    let suites = asked.suites.iter().map(|name| {
        let hint = || format!("use one of {}", Suite::RECOMMENDED.map(Suite::name).join(", "));
        name.parse::<Suite>().map_err(|_| Failure::bad_call(format!("there is no suite {name:?}"), hint()))
    });
    let identity = |text: &Option<String>| text.as_deref().map(identity).transpose();
    Ok(Constraints {
        protection: match asked.protection {
            None => Asked::Policy,
            Some(ProtectionSpec::Authenticated) => Asked::Authenticated,
            Some(ProtectionSpec::Confidential) => Asked::Confidential,
            Some(ProtectionSpec::Bypass) => Asked::Bypass,
        },
        mode: asked.mode.map(|mode| match mode {
            latchway_control::ModeSpec::Tunnel => Mode::Tunnel,
            latchway_control::ModeSpec::Transport => Mode::Transport,
        }),
        suites: suites.collect::<Answer<_>>()?,
        key_bits: asked.key_bits.unwrap_or(0),
        replay_checked: asked.replay_checked,
        peer: identity(&asked.peer)?,
        local: identity(&asked.identity)?,
        standing: asked.method.map(method),
        narrow: asked.narrow,
        ..Constraints::default()
    })
}

/// An identity as it is written.
fn identity(text: &str) -> Answer<Identity> {
    let hint = "write it as `latchway peer list` shows it";
    text.parse().map_err(|error| Failure::bad_call(format!("{text:?} {error}"), hint))
}

fn named(created: Created, flow: &FlowKey) -> LatchNamed {
    LatchNamed { latch: created.latch.to_string(), flow: flow_text(flow), state: latch_state(created.state) }
}

/// A handle as it is shown: slot and generation.
fn handle(text: &str) -> Answer<LatchId> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| number.to_string() == text);
    let parts =
        text.split_once('.').and_then(|(slot, generation)| Some((number(slot)?, number(generation)?)));
    parts.map(|(slot, generation)| LatchId::new(slot, generation)).ok_or_else(|| {
        let hint = "list the latches to see their handles, as 7.1";
        Failure::bad_call(format!("{text:?} is no handle of a latch"), hint)
    })
}

fn one_family(is_one: bool) -> Answer<()> {
    let hint = "give two addresses of one family";
    if is_one { Ok(()) } else { Err(Failure::bad_tuple("no connection has addresses of two families", hint)) }
}

const fn listening(protocol: u8, local: std::net::SocketAddr) -> Listening {
    Listening { address: local.ip(), protocol, port: local.port() }
}

const fn privilege(without: bool) -> Privilege {
    if without { Privilege::Application } else { Privilege::Operator }
}

pub const fn on_conflict(asked: ConflictSpec) -> OnConflict {
    match asked {
        ConflictSpec::Terminate => OnConflict::Terminate,
        ConflictSpec::DropNewcomer => OnConflict::DropNewcomer,
        ConflictSpec::RejectNewcomer => OnConflict::RejectNewcomer,
        ConflictSpec::Wait => OnConflict::Wait,
    }
}

/// The error of its name, with what happened and what to do.
pub fn failure(error: LatchError) -> Failure {
    let text = error.to_string();
    let (what, hint) = text.split_once("; ").unwrap_or((text.as_str(), ""));
    match error {
        LatchError::UnknownLatch(_) => Failure::not_found(what, hint),
        LatchError::NotHolder(_) => Failure::not_owner(what, hint),
        LatchError::UnknownHolder(_) => Failure::failed(what, hint),
        LatchError::ConnectionExists(_) | LatchError::ListenerExists(_) | LatchError::ConflictingSas(_) => {
            Failure::conflict(what, hint)
        }
        LatchError::BadTuple(_) => Failure::bad_tuple(what, hint),
        LatchError::Contradiction(_) => Failure::bad_call(what, hint),
        LatchError::PolicyDiscards(_)
        | LatchError::PolicyBypasses(_)
        | LatchError::PolicyForbids { .. }
        | LatchError::PadForbids { .. } => Failure::policy_forbids(what, hint),
        LatchError::PrivilegeNeeded { .. } => Failure::privilege_needed(what, hint),
        LatchError::Full
        | LatchError::TooManyHolders(_)
        | LatchError::TooManyLatches(_)
        | LatchError::TooManyConstraints(_) => Failure::full(what, hint),
    }
}
