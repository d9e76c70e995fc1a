//! What control.sock shows of a gateway, and what it changes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use latchway_control::{
    Commit, DirectionSpec, Drops, LatchCounts, LatchRow, Latches, Mode, PairSpec, ReloadHistory, Sas,
    StatusView, StreetView, TunView,
};
use latchway_datapath::drop::{Counters, Direction, DropReason};
use latchway_datapath::flow::FlowKey;
use latchway_datapath::low::tun::TunQueue;
use latchway_datapath::low::wire::WireSocket;
use latchway_datapath::spd::Spd;
use latchway_keying::{KeyManagerClient, Op, PairId, Stopped, Transaction};
use latchway_tagging::{Class, Identity};
use latchway_ulp_shim::{Disposed, LatchDatabase, LatchId, LatchView, SocketDestroyer, terminate};

use crate::gateway::clock::since;
use crate::gateway::configuration::Configuration;
use crate::gateway::convert;
use crate::gateway::plan::Plan;
use crate::gateway::rows::{
    drop_row, latch_state, milliseconds, protection, sa_row, tag_view, unix_milliseconds,
};

/// One gateway, as its operator sees it.
pub struct State {
    name: String,
    identity: Identity,
    mode: Mode,
    tun: TunView,
    listen: Vec<SocketAddr>,
    started: Instant,
    started_at: SystemTime,
    keying: KeyManagerClient,
    database: Arc<LatchDatabase>,
    counters: Arc<Counters>,
    dispositions: Mutex<Vec<(LatchId, String)>>,
    /// There where the gateway has a configuration file.
    pub(super) configuration: OnceLock<Configuration>,
    reloads: Mutex<ReloadHistory>,
}

/// How often it is tried to end a connection whose latch broke, and the pause between: the kernel may be short of
/// memory for a moment.
const ATTEMPTS: usize = 3;
const PAUSE: Duration = Duration::from_millis(20);

/// Dispositions remembered, to show what became of a broken connection.
const REMEMBERED: usize = 1024;

impl State {
    /// The state of a gateway whose parts these are.
    #[expect(clippy::too_many_arguments, reason = "called once, by the one place that makes the parts")]
    pub fn new(
        plan: &Plan,
        tun: &TunQueue,
        wires: &[WireSocket],
        started: Instant,
        keying: KeyManagerClient,
        database: Arc<LatchDatabase>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            name: plan.name.clone(),
            identity: plan.identity.clone(),
            mode: if plan.inner.is_same(&plan.outer) { Mode::Unguarded } else { Mode::Split },
            tun: TunView { name: tun.name().into(), backend: tun.backend().to_string(), mtu: None, up: None },
            listen: wires.iter().map(WireSocket::local_addr).collect(),
            started,
            started_at: SystemTime::now(),
            keying,
            database,
            counters,
            dispositions: Mutex::default(),
            configuration: OnceLock::new(),
            reloads: Mutex::default(),
        }
    }

    /// How the gateway is and what it moved.
    pub fn status(&self) -> Result<StatusView, Stopped> {
        let street = |direction| {
            let street = self.counters.street(direction);
            let dropped = DropReason::ALL.iter().map(|&reason| street.dropped(reason)).sum();
            StreetView {
                packets: street.packets.get(),
                octets: street.octets.get(),
                dropped,
                wire_datagrams: None,
                wire_octets: None,
            }
        };
        let latches = self.database.counts();
        Ok(StatusView {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started: unix_milliseconds(self.started_at),
            mode: self.mode,
            inner: None,
            outer: None,
            identity: self.identity.to_string(),
            tun: self.tun.clone(),
            bypass: None,
            listen: self.listen.clone(),
            inbound: street(Direction::Inbound),
            outbound: street(Direction::Outbound),
            latches: LatchCounts {
                capacity: latches.capacity,
                unlatched: latches.unlatched,
                half_open: latches.half_open,
                listener: latches.listener,
                larval: latches.larval,
                established: latches.established,
                broken: latches.broken,
                closed: latches.closed,
            },
            pairs: self.keying.pairs()?.len() as u64,
            state: None,
            reloads: self.reloads().clone(),
            hardening: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// What became of reloads.
    pub(super) fn reloads(&self) -> MutexGuard<'_, ReloadHistory> {
        self.reloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was dropped and why.
    pub fn drops(&self) -> Drops {
        let rows = [Direction::Inbound, Direction::Outbound].into_iter();
        let rows = rows.flat_map(|direction| {
            DropReason::ALL.iter().filter_map(move |&reason| {
                let packets = self.counters.street(direction).dropped(reason);
                (packets > 0).then(|| drop_row(direction, reason, packets))
            })
        });
        Drops { drops: rows.collect() }
    }

    /// Every latch.
    pub fn latches(&self) -> Result<Latches, Stopped> {
        let rows = self.database.dump().map(|latch| self.latch_row(&latch));
        Ok(rows.collect::<Result<Vec<_>, _>>()?.into())
    }

    /// Every SA.
    pub fn sas(&self) -> Result<Sas, Stopped> {
        let pairs = self.keying.pairs()?;
        let rows = pairs.iter().flat_map(|pair| {
            [(DirectionSpec::Inbound, &pair.inbound), (DirectionSpec::Outbound, &pair.outbound)]
                .map(|(direction, sa)| sa_row(pair, direction, sa, &self.listen))
        });
        Ok(rows.collect::<Vec<_>>().into())
    }

    /// Proposes and installs a pair of SAs. Returns its number, or why not and what to do.
    pub fn add_pair(&self, spec: &PairSpec) -> Result<u64, String> {
        let (proposal, keys) = convert::pair(spec, &self.identity, &self.listen).map_err(text)?;
        let offer = self.keying.propose(proposal).map_err(text)?.map_err(text)?;
        let pair = self.keying.install(offer.ticket, keys).map_err(text)?.map_err(text)?;
        Ok(pair.raw())
    }

    /// Changes which pairs are used, and the policy, all at once. Returns why not and what to do.
    pub fn commit(&self, commit: &Commit) -> Result<(), String> {
        let each = |pairs: &[u64], op: fn(PairId) -> Op| -> Vec<Op> {
            pairs.iter().map(|&pair| op(PairId::from_raw(pair))).collect()
        };
        let mut ops = each(&commit.activate, Op::Activate);
        ops.extend(each(&commit.retire, Op::Retire));
        ops.extend(each(&commit.remove, Op::Remove));
        if let Some(policy) = &commit.policy {
            ops.push(Op::SetSpd(Spd::new(convert::rules(policy).map_err(text)?)));
        }
        self.keying.commit(Transaction::new(ops)).map_err(text)?.map_err(text)?;
        Ok(())
    }

    /// Ends a connection whose latch broke, and remembers what became of it.
    pub fn terminate(&self, flow: &FlowKey, sockets: &mut SocketDestroyer) {
        let Some(latch) = self.database.find(flow) else { return };
        let mut outcome = terminate(&self.database, sockets, flow, since(self.started));
        for _ in 1..ATTEMPTS {
            if outcome.is_ok() {
                break;
            }
            thread::sleep(PAUSE);
            outcome = terminate(&self.database, sockets, flow, since(self.started));
        }
        let disposition = match outcome {
            Ok(Disposed::Destroyed) => "the connection was reset".into(),
            Ok(Disposed::NoSuchSocket) => "no socket was connected any more".into(),
            Ok(Disposed::NotBroken) => return,
            Err(error) => format!("the connection could not be reset: {error}"),
        };
        let mut noted = self.dispositions.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() >= REMEMBERED {
            noted.remove(0);
        }
        noted.push((latch, disposition));
    }

    fn latch_row(&self, latch: &LatchView) -> Result<LatchRow, Stopped> {
        let (class, now) = (self.keying.class(latch.class)?, since(self.started));
        Ok(LatchRow {
            flow: latch.flow.to_string(),
            local: latch.flow.local(),
            remote: latch.flow.remote(),
            state: latch_state(latch.state),
            peer: self.peer(class.as_ref())?,
            protection: class.as_ref().map_or_else(|| "unknown".into(), protection),
            class: latch.class.raw(),
            last_tag: latch.last_inbound.map(tag_view),
            reason: self.reason(latch)?,
            age: milliseconds(now.since(latch.opened)),
            idle: milliseconds(now.since(latch.seen)),
        })
    }

    fn peer(&self, class: Option<&Class>) -> Result<String, Stopped> {
        let Some(class) = class else { return Ok("unknown".into()) };
        let record = self.keying.identity(class.peer)?;
        Ok(record.map_or_else(|| "unknown".into(), |record| record.asserted.to_string()))
    }

    /// Why a latch is not established: the cause, whose packet it was, and what became of the connection.
    fn reason(&self, latch: &LatchView) -> Result<Option<String>, Stopped> {
        let Some(reason) = latch.reason else { return Ok(None) };
        let mut text = reason.name().to_owned();
        if let Some(offender) = latch.offender {
            let peer = self.peer(self.keying.class(offender.class)?.as_ref())?;
            text.push_str(&format!(" ({peer}, SA {})", offender.sa));
        }
        let noted = self.dispositions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, disposition)) = noted.iter().rev().find(|(id, _)| *id == latch.id) {
            text.push_str(&format!("; {disposition}"));
        }
        Ok(Some(text))
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
