//! Puts a gateway together: namespaces, TUN, wire sockets, Latch Database, key manager, worker.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel::{Receiver, bounded};
use latchway_control::{GatewaySpec, TunBackendSpec};
use latchway_datapath::drop::Counters;
use latchway_datapath::event::{EVENT_QUEUE, Event, event_queue};
use latchway_datapath::gateway::{Datapath, Shared};
use latchway_datapath::low::tun::{BackendChoice, TunConfig, TunQueue};
use latchway_datapath::low::wire::WireSocket;
use latchway_datapath::worker::{Devices, MAX_WIRES, Stop, Worker};
use latchway_esp::Suite;
use latchway_keying::{ClassObserver, Inputs, KeyManager, Keying, Op, Settings, Transaction};
use latchway_netns::{Namespace, links::Links};
use latchway_tagging::{Class, ClassId, StateClock, WorkerId};
use latchway_ulp_shim::{LatchDatabase, Limits, Seed, Shim, SocketDestroyer};

use crate::gateway::clock::since;
use crate::gateway::state::State;
use crate::gateway::{GatewayError, convert};

/// A gateway whose parts stand and do not run yet.
pub struct Assembled {
    /// Moves packets.
    pub worker: Worker<Shim>,
    /// Ends the worker.
    pub stop: Stop,
    /// What control.sock shows and changes.
    pub state: Arc<State>,
    /// The key manager's thread; it ends when this is dropped.
    pub keying: KeyManager,
    /// What someone must act on.
    pub events: Receiver<Event>,
    /// Ends connections in the inner namespace.
    pub sockets: SocketDestroyer,
}

/// Makes everything that the description names.
pub fn assemble(spec: &GatewaySpec) -> Result<Assembled, GatewayError> {
    let (started, clock) = (Instant::now(), Arc::new(StateClock::new()));
    let pad = convert::pad(&spec.peers, &spec.identity)?;
    let policy = convert::spd(&spec.policy)?;
    let (inner, outer) = (namespace(spec.inner.as_deref())?, namespace(spec.outer.as_deref())?);
    if inner.is_same(&outer) && !spec.unguarded {
        return Err(GatewayError::OneNamespace);
    }
    let wires = bind(spec, &outer)?;
    let tun = open_tun(spec, &inner)?;
    let sockets = inner.run(SocketDestroyer::open)??;

    let database = LatchDatabase::new(Limits::default(), Arc::clone(&clock), Seed::Random)?;
    let database = Arc::new(database);
    let observer = Arc::new(Peers(Arc::clone(&database)));
    let keying = Keying::new(pad, Settings::default(), Arc::clone(&clock), observer);
    let snapshots = keying.publisher().reader();
    let (events, from_datapath) = event_queue();
    let (forward, forwarded) = bounded(EVENT_QUEUE);
    let inputs = Inputs { events: from_datapath, forward, clock: Box::new(move || since(started)) };
    let keying = KeyManager::spawn(keying, inputs)?;
    keying.client().commit(Transaction::new(vec![Op::SetSpd(policy)]))?.map_err(io::Error::other)?;

    let counters = Arc::new(Counters::new());
    let shim = Shim::new(Arc::clone(&database), WorkerId(0), events.clone());
    let shared = Shared { snapshots, clock, counters: Arc::clone(&counters), events };
    let state = State::new(spec, &tun, &wires, started, keying.client(), database, counters);
    let stop = Stop::new()?;
    let devices = Devices { tun, bypass: None, wires };
    let datapath = Datapath::new(WorkerId(0), shim, shared);
    let worker = Worker::new(datapath, devices, started, stop.clone());
    Ok(Assembled { worker, stop, state: Arc::new(state), keying, events: forwarded, sockets })
}

/// Tells the workers which class belongs to which peer, before there is an SA of it (C-19).
struct Peers(Arc<LatchDatabase>);

impl ClassObserver for Peers {
    fn class_interned(&self, id: ClassId, class: &Class) {
        // There is room for as many classes as the key manager keeps. Were one refused, its peer would be unknown and
        // count as another's: what does not fit is refused, not let through.
        let _ = self.0.peers().publish(id, class.peer);
    }

    fn is_latched(&self, id: ClassId) -> bool {
        self.0.dump().any(|latch| latch.class == id)
    }

    fn class_released(&self, id: ClassId) {
        self.0.peers().retire(id);
    }
}

fn namespace(path: Option<&std::path::Path>) -> Result<Namespace, latchway_netns::Error> {
    path.map_or_else(Namespace::current, Namespace::from_path)
}

fn bind(spec: &GatewaySpec, outer: &Namespace) -> Result<Vec<WireSocket>, GatewayError> {
    if spec.listen.len() > MAX_WIRES {
        return Err(GatewayError::TooManyWires(spec.listen.len()));
    }
    let bind = || spec.listen.iter().map(|&address| WireSocket::bind(address)).collect::<Result<Vec<_>, _>>();
    Ok(outer.run(bind)??)
}

/// Opens the TUN, and where addresses are given makes it ready for the inner hosts.
fn open_tun(spec: &GatewaySpec, inner: &Namespace) -> Result<TunQueue, GatewayError> {
    let backend = match spec.tun.backend {
        TunBackendSpec::Auto => BackendChoice::Auto,
        TunBackendSpec::Offload => BackendChoice::Offload,
        TunBackendSpec::Plain => BackendChoice::Plain,
    };
    let config = TunConfig { backend, ..TunConfig::new(spec.tun.name.clone()) };
    let tun = inner.run(|| TunQueue::open(&config))??;
    let (links, name) = (Links::of(inner)?, tun.name());
    links.set_gso_max_size(name, GSO_MAX_SIZE)?;
    if spec.tun.addresses.is_empty() {
        return Ok(tun);
    }
    links.quiet_ipv6(name)?;
    links.set_mtu(name, u32::from(spec.tun.mtu.unwrap_or_else(|| inner_mtu(spec))))?;
    links.set_up(name)?;
    for &address in &spec.tun.addresses {
        links.add_address(name, address)?;
    }
    for &route in &spec.tun.routes {
        links.add_route(route, None, name, 0)?;
    }
    Ok(tun)
}

/// The largest inner packet that every path takes, of any suite: outer IPv6, UDP, ESP.
fn inner_mtu(spec: &GatewaySpec) -> u16 {
    const OUTER_HEADERS: usize = 40 + 8;
    let outer = spec.sas.iter().map(|pair| pair.path.mtu).min().unwrap_or(1500);
    let room = usize::from(outer).saturating_sub(OUTER_HEADERS);
    let largest = Suite::ALL.iter().filter_map(|suite| suite.max_payload(room)).min().unwrap_or(0);
    u16::try_from(largest).unwrap_or(u16::MAX)
}

/// A super-packet of this size, sealed, still leaves in one send of at most 65507 octets: at an inner MTU of 1420 these
/// are 44 segments of 1458, and at 1280, 49 of 1318. What does not fit costs a second send, receive and TUN
/// write.
const GSO_MAX_SIZE: u32 = 60_000;
