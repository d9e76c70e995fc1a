//! What applications require of what protects their sockets (Q-44, L-33): taken up here, compared by the worker when a flow
//! begins, and gone with the socket.
//!
//! Whoever has a socket may require something of it, and harms nobody by that: a requirement checks what policy chose, and has
//! a connection refused that would be less. Bounded for each user, as the numbers by which workers compare are few.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use latchway_control::app::{Require, Required, RequirementSpec};
use latchway_control::{ConstraintsSpec, Done, Failure, ProtectionSpec};
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::LatchState;
use latchway_keying::Constraints;
use latchway_ulp_shim::{ConstraintId, Cookie, Requirement, RequirementId, SocketsGone};

use crate::gateway::app::Applications;
use crate::gateway::app::descriptor::{Facts, Stage};
use crate::gateway::app::hands::Socket;
use crate::gateway::app::record::{Record, Recorded};
use crate::gateway::clock::since;
use crate::gateway::operator::Answer;
use crate::gateway::proven::method;
use crate::gateway::state::State;
use crate::gateway::state::answers::stopped;
use crate::gateway::state::latching::{constraints, failure, on_conflict};

/// All that is required, and by whom.
pub struct Requiring {
    state: Arc<State>,
    /// Tells when a socket is gone; joined while anything is required.
    ends: Arc<SocketsGone>,
    /// What is required outlives the process.
    record: Record,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    sockets: HashMap<Cookie, One>,
    last: u64,
}

/// What is required of one socket.
struct One {
    id: RequirementId,
    user: u32,
    constraints: Constraints,
}

impl Applications {
    /// Requires something of a socket. It holds when this returns.
    ///
    /// # Errors
    /// A [`Failure`]; what was required before is required still.
    pub fn require(&self, socket: &Socket, user: u32, call: &Require) -> Answer<Required> {
        let facts = socket.facts()?;
        let wanted = wanted(call)?;
        if wanted == Constraints::default() {
            self.requiring.forget(&facts.cookie)?;
        } else {
            check(&facts)?;
            let stage = || socket.facts().map(|facts| facts.stage);
            self.requiring.require(&facts, (user, wanted), call, stage)?;
            socket.keep_from_other_ways().inspect_err(|_| {
                let _ = self.requiring.forget(&facts.cookie);
            })?;
        }
        let view = facts.remote.map(|_| self.protection(&facts)).transpose()?;
        Ok(Required { view })
    }

    /// Requires nothing of a socket any more.
    ///
    /// # Errors
    /// A [`Failure`]
    pub fn forget(&self, socket: &Socket) -> Answer<Done> {
        self.requiring.forget(&socket.facts()?.cookie)?;
        Ok(Done {})
    }
}

impl Requiring {
    /// Nothing is required of anybody yet; what will be is put on this record.
    pub fn new(state: Arc<State>, ends: Arc<SocketsGone>, record: Record) -> Self {
        Self { state, ends, record, kept: Mutex::default() }
    }

    /// Requires what was on record of a gateway before this one, whatever the PAD says by now.
    ///
    /// # Errors
    /// It cannot be required. Whoever went on without it would let pass what must not.
    pub fn resume(&self, recorded: &[Recorded]) -> io::Result<()> {
        let mut kept = self.lock();
        if !recorded.is_empty() {
            self.ends.join()?;
        }
        for one in recorded {
            self.resume_one(&mut kept, one).map_err(|failure| io::Error::other(failure.to_string()))?;
        }
        Ok(())
    }

    fn resume_one(&self, kept: &mut Kept, one: &Recorded) -> Answer<()> {
        let (socket, constraints) = (Cookie::from(one.socket), wanted(&one.call)?);
        kept.last += 1;
        let id = RequirementId(kept.last);
        let known = self.state.keying.require(id, constraints.clone(), None);
        let constraint = known.map_err(stopped)?.map_err(failure)?;
        let on_conflict = one.call.on_conflict.map(on_conflict);
        let (protocol, port, shares) = (one.protocol, one.port, one.shares);
        let requirement = Requirement { id, constraint, on_conflict, protocol, port, shares };
        self.state.database.requirements().set(socket, requirement, since(self.state.started));
        kept.sockets.insert(socket, One { id, user: one.user, constraints });
        Ok(())
    }

    /// Whether something is required of a socket.
    pub fn holds(&self, socket: &Cookie) -> bool {
        self.lock().sockets.contains_key(socket)
    }

    /// Takes note of a socket that is gone, with the UDP port that it had.
    pub fn socket_gone(&self, socket: &Cookie, udp_port: Option<u16>) {
        // Its flows may be another's from now on, whatever was required of it.
        if udp_port.is_some() {
            self.state.database.requirements().owner_changed(udp_port, since(self.state.started));
        }
        let mut kept = self.lock();
        let Some(one) = kept.sockets.remove(socket) else { return };
        self.state.database.requirements().gone(socket, udp_port, since(self.state.started));
        self.rest(&kept);
        // The key manager that does not answer is at its end, and with it all of this.
        let _ = self.state.keying.unrequire(one.id);
    }

    /// Forgets what is over of sockets that are gone.
    pub fn expire(&self) {
        self.state.database.requirements().expire(since(self.state.started));
    }

    /// Takes note that sockets are gone of which nothing was told: any flow may be another's by now. What was required of them
    /// stays, which holds nobody to anything: no other socket is ever called as they were.
    pub fn lost_count(&self) {
        self.state.database.requirements().owner_changed(None, since(self.state.started));
    }

    fn require(
        &self,
        facts: &Facts,
        (user, constraints): (u32, Constraints),
        call: &Require,
        stage: impl Fn() -> Answer<Stage>,
    ) -> Answer<()> {
        let mut kept = self.lock();
        kept.admit(&facts.cookie, user, &constraints)?;
        if kept.sockets.is_empty() {
            self.ends.join().map_err(unheard)?;
        }
        kept.last += 1;
        let id = RequirementId(kept.last);
        let known = self.state.keying.require(id, constraints.clone(), Some(ends_of(facts)));
        let constraint = known.map_err(stopped)?.map_err(failure)?;
        let requirement = Requirement {
            id,
            constraint,
            on_conflict: call.on_conflict.map(on_conflict),
            protocol: facts.protocol,
            port: Some(facts.local.port()).filter(|&port| port != 0),
            shares: facts.shares,
        };
        let recorded = recorded(facts, user, call);
        let taken = self.record.note(&recorded).map_err(unrecorded).and_then(|before| {
            self.put(facts, requirement, stage).inspect_err(|_| self.take_back(&recorded, before.as_ref()))
        });
        if let Err(failure) = taken {
            let _ = self.state.keying.unrequire(id);
            self.rest(&kept);
            return Err(failure);
        }
        let before = kept.sockets.insert(facts.cookie, One { id, user, constraints });
        // The new one is in force, so that there is no moment without.
        before.map(|before| self.state.keying.unrequire(before.id)).transpose().map_err(stopped)?;
        Ok(())
    }

    /// Has on record what was there before. One that is on record in vain demands more than was asked, and never less.
    fn take_back(&self, recorded: &Recorded, before: Option<&Recorded>) {
        let _ = match before {
            Some(before) => self.record.note(before).map(drop),
            None => self.record.forget(recorded.socket),
        };
    }

    /// Has workers see it. A connection that is there must be what is required, and one that began meanwhile is one too many:
    /// nobody looked at its first packet.
    fn put(&self, facts: &Facts, requirement: Requirement, stage: impl Fn() -> Answer<Stage>) -> Answer<()> {
        if let Some(flow) = facts.flow() {
            self.check_connected(&flow, requirement.constraint)?;
        }
        let (requirements, now) = (self.state.database.requirements(), since(self.state.started));
        let before = requirements.set(facts.cookie, requirement, now);
        let begins = facts.protocol == protocol::TCP && facts.stage == Stage::Fresh;
        let began = begins && stage().is_ok_and(|now| matches!(now, Stage::Opening | Stage::Connected));
        if !began {
            return Ok(());
        }
        match before {
            Some(before) => requirements.set(facts.cookie, before, now),
            None => requirements.remove(&facts.cookie, now),
        };
        Err(connecting())
    }

    /// Whether a connection that is there is what is required.
    fn check_connected(&self, flow: &FlowKey, constraint: ConstraintId) -> Answer<()> {
        let database = &self.state.database;
        let latch = database.find(flow).and_then(|latch| database.inquire(latch));
        let is_met = latch.as_ref().is_some_and(|latch| {
            let accepted = latch.class.is_some_and(|class| database.peers().accepts(class, constraint));
            latch.state == LatchState::Established && accepted
        });
        // A datagram may be the first of its flow yet.
        if is_met || flow.protocol() == protocol::UDP && latch.is_none() {
            return Ok(());
        }
        let what = match latch {
            Some(_) => "the connection's latch does not hold it to what is required",
            None => "the connection has no latch, and is not given one in its middle",
        };
        Err(Failure::unsatisfied(what, "require it before the socket is connected, or ask what protects it"))
    }

    fn forget(&self, socket: &Cookie) -> Answer<()> {
        let mut kept = self.lock();
        let Some(one) = kept.sockets.remove(socket) else { return Ok(()) };
        self.state.database.requirements().remove(socket, since(self.state.started));
        // What stays on record of a socket that is there no more holds nobody to anything.
        let _ = self.record.forget((*socket).into());
        self.rest(&kept);
        self.state.keying.unrequire(one.id).map_err(stopped)?;
        Ok(())
    }

    /// Hears of no socket's end while nothing is required.
    fn rest(&self, kept: &Kept) {
        if kept.sockets.is_empty() {
            // What is heard all the same is of nobody.
            let _ = self.ends.leave();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Whether a user may require this of a socket, beside what it requires already.
    fn admit(&self, socket: &Cookie, user: u32, constraints: &Constraints) -> Answer<()> {
        let hint = "close sockets, or forget what is required of them";
        let others = || self.sockets.iter().filter(|(cookie, _)| *cookie != socket).map(|(_, one)| one);
        if !self.sockets.contains_key(socket) && self.sockets.len() >= MOST_SOCKETS {
            return Err(Failure::full(format!("{MOST_SOCKETS} sockets have requirements"), hint));
        }
        if user == 0 || user == nix::unistd::geteuid().as_raw() {
            return Ok(());
        }
        let mut of_user = 0;
        let mut different: Vec<&Constraints> = Vec::new();
        for one in others().filter(|one| one.user == user) {
            of_user += 1;
            if one.constraints != *constraints && !different.contains(&&one.constraints) {
                different.push(&one.constraints);
            }
        }
        if of_user >= MOST_OF_USER {
            return Err(Failure::full(format!("{MOST_OF_USER} sockets of the user have requirements"), hint));
        }
        if different.len() >= MOST_DIFFERENT {
            let text = format!("the user requires {MOST_DIFFERENT} different things already");
            return Err(Failure::full(text, "require one of these, or forget one everywhere"));
        }
        Ok(())
    }
}

/// Whether something can be required of such a socket.
fn check(facts: &Facts) -> Answer<()> {
    if facts.stage == Stage::Opening {
        return Err(connecting());
    }
    if facts.astray.is_some() {
        let hint = "bind it to no device, and let routes decide";
        let what = "the socket is bound to a device that leads around the gateway";
        return Err(Failure::wrong_socket(what, hint));
    }
    if facts.protocol == protocol::UDP && facts.shares && facts.local.port() == 0 {
        let hint = "bind it first: by its port all sockets are known that share it";
        return Err(Failure::wrong_socket("the socket may share a port that it does not have yet", hint));
    }
    Ok(())
}

/// What is asked for, in the words of latches.
fn wanted(call: &Require) -> Answer<Constraints> {
    let RequirementSpec {
        protection,
        mode,
        suites,
        key_bits,
        replay_checked,
        peer,
        identity,
        methods,
        key_sha256,
        anchor_sha256,
        options_protected,
    } = call.requirement.clone();
    if protection == Some(ProtectionSpec::Bypass) {
        let hint = "leave it to the policy whether the socket passes in the clear";
        return Err(Failure::bad_call("a requirement cannot be to go without protection", hint));
    }
    let spec = ConstraintsSpec {
        protection,
        mode,
        suites,
        key_bits,
        replay_checked,
        peer,
        identity,
        ..Default::default()
    };
    Ok(Constraints {
        methods: methods.into_iter().map(method).collect(),
        key: key_sha256.as_deref().map(hash).transpose()?,
        anchor: anchor_sha256.as_deref().map(hash).transpose()?,
        options_protected,
        ..constraints(&spec)?
    })
}

fn hash(text: &str) -> Answer<[u8; 32]> {
    let mut octets = [0; 32];
    let hint = "write its 32 octets as 64 hexadecimal digits";
    hex::decode_to_slice(text, &mut octets)
        .map(|()| octets)
        .map_err(|_| Failure::bad_call(format!("{text:?} is no SHA-256 hash"), hint))
}

/// What is to be on record of a requirement.
fn recorded(facts: &Facts, user: u32, call: &Require) -> Recorded {
    Recorded {
        socket: facts.cookie.into(),
        user,
        protocol: facts.protocol,
        port: Some(facts.local.port()).filter(|&port| port != 0),
        shares: facts.shares,
        call: call.clone(),
    }
}

fn unrecorded(error: io::Error) -> Failure {
    Failure::failed(format!("the requirement cannot be put on record: {error}"), "")
}

/// The ends that a socket has, and for those that it has not the unspecified.
fn ends_of(facts: &Facts) -> FlowKey {
    let nobody: IpAddr = match facts.local {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    FlowKey::new(facts.protocol, facts.local, facts.remote.unwrap_or(SocketAddr::new(nobody, 0)))
}

fn connecting() -> Failure {
    let hint = "require it before the socket is connected, or once it is";
    Failure::wrong_socket("the socket is being connected", hint)
}

fn unheard(error: io::Error) -> Failure {
    Failure::failed(format!("the kernel does not tell when sockets are gone: {error}"), "")
}

/// Sockets that something may be required of at a time; of one user; and how many different things by one user.
const MOST_SOCKETS: usize = 65_536;
const MOST_OF_USER: usize = 4096;
const MOST_DIFFERENT: usize = 8;
