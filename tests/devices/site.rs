//! A gateway with its inner and outer namespace and a worker that runs.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use latchway_datapath::drop::{Counters, Direction, DropReason};
use latchway_datapath::injection::{Injector, injection_queue};
use latchway_datapath::low::tun::{BackendChoice, TunConfig, TunCounters, TunQueue};
use latchway_datapath::low::wire::{WireCounters, WireSocket};
use latchway_datapath::spd::{Action, Protection, Rule, Spd};
use latchway_datapath::time::Time;
use latchway_datapath::worker::{Devices, Heartbeat, Stop, Worker};
use latchway_keying::{Keying, Op};
use latchway_netns::ping::{self, Echo, PingReport};
use latchway_netns::{Links, Namespace, links};
use latchway_ulp_shim::LatchDatabase;

use crate::support::gateway::{Gateway, Host, Terms};
use crate::support::net::{ALICE, BOB, join};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const TUN: &str = "lw0";
pub const BYPASS: &str = "lw-bypass";
pub const WIRE: &str = "wire";

/// What differs between tests.
#[derive(Clone)]
pub struct Options {
    /// The MTU of the TUNs.
    pub mtu: u32,
    /// How traffic between the two is protected.
    pub protection: Protection,
    /// Rules of both before that one.
    pub rules: Vec<Rule>,
    /// Whether there is a bypass port.
    pub bypass: bool,
    /// The backend of every TUN.
    pub backend: BackendChoice,
}

/// One gateway that runs.
pub struct Site {
    pub host: Host,
    pub inner: Namespace,
    pub outer: Namespace,
    pub counters: Arc<Counters>,
    pub tun: Arc<TunCounters>,
    pub wire: Arc<WireCounters>,
    pub heartbeat: Heartbeat,
    stop: Stop,
    worker: Option<JoinHandle<io::Result<()>>>,
    pub keying: Keying,
    pub database: Arc<LatchDatabase>,
    pub injector: Injector,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mtu: 1400,
            protection: Protection::UNLATCHED,
            rules: Vec::new(),
            bypass: false,
            backend: BackendChoice::Auto,
        }
    }
}

/// alice and bob, joined by a veth and a pair of SAs for paths of 1500 octets.
pub fn sites(options: &Options) -> (Site, Site) {
    let (mut alice, mut bob) =
        (Gateway::new(ALICE, &[BOB], options.protection), Gateway::new(BOB, &[ALICE], options.protection));
    for (gateway, peer) in [(&mut alice, BOB), (&mut bob, ALICE)] {
        let protect = |selector| Rule::new(selector, None, Action::Protect(options.protection));
        let between = gateway.host.selectors(peer).into_iter().map(protect);
        let spd = Spd::new(options.rules.iter().cloned().chain(between).collect());
        gateway.commit(vec![Op::SetSpd(spd)], Time::default());
    }
    join(&mut alice, &mut bob, &Terms::default(), Time::default());
    let outer = [ALICE, BOB].map(|host| Namespace::create(host.name).unwrap());
    let [a, b] = &outer;
    links::veth(a, WIRE, b, WIRE).unwrap();
    for (host, namespace) in [(ALICE, a), (BOB, b)] {
        let links = Links::of(namespace).unwrap();
        links.add_address(WIRE, format!("{}/24", host.address().ip()).parse().unwrap()).unwrap();
        links.set_up(WIRE).unwrap();
    }
    for namespace in &outer {
        Links::of(namespace).unwrap().wait_ready(WIRE, PATIENCE).unwrap();
    }
    let [a, b] = outer;
    (Site::start(alice, a, BOB, options), Site::start(bob, b, ALICE, options))
}

impl Site {
    fn start(gateway: Gateway, outer: Namespace, peer: Host, options: &Options) -> Self {
        let Gateway { host, keying, datapath, database, .. } = gateway;
        let inner = Namespace::create("inner").unwrap();
        let tun = open(&inner, TUN, options);
        let links = Links::of(&inner).unwrap();
        for address in [format!("10.0.{}.10/24", host.inner), format!("fd00:{}::10/32", host.inner)] {
            links.add_address(TUN, address.parse().unwrap()).unwrap();
        }
        for route in [format!("10.0.{}.0/24", peer.inner), format!("fd00:{}::/32", peer.inner)] {
            links.add_route(route.parse().unwrap(), None, TUN, 0).unwrap();
        }
        let bypass = options.bypass.then(|| open(&outer, BYPASS, options));
        let wire = outer.run(|| WireSocket::bind(host.address()).unwrap()).unwrap();
        let (injector, injections) = injection_queue().unwrap();
        let (stop, counters) = (Stop::new().unwrap(), Arc::clone(datapath.counters()));
        let (tun_counters, wire_counters) = (Arc::clone(tun.counters()), Arc::clone(wire.counters()));
        let devices = Devices { tun, bypass, wires: vec![wire.into()] };
        let worker = Worker::new(datapath, devices, Instant::now(), stop.clone()).injecting(injections);
        let heartbeat = worker.heartbeat().clone();
        let worker = Some(thread::spawn(|| worker.run()));
        let (tun, wire) = (tun_counters, wire_counters);
        Self { host, inner, outer, counters, tun, wire, heartbeat, stop, worker, keying, database, injector }
    }

    /// Its address behind the TUN.
    pub fn address(&self, v6: bool) -> IpAddr {
        let inner = self.host.inner;
        if v6 { format!("fd00:{inner}::10") } else { format!("10.0.{inner}.10") }.parse().unwrap()
    }

    /// How many packets were dropped for a reason.
    pub fn dropped(&self, direction: Direction, reason: DropReason) -> u64 {
        self.counters.street(direction).dropped(reason)
    }

    /// Pings another's inner host.
    pub fn ping(&self, to: &Self, v6: bool, count: u16, timeout: Duration) -> PingReport {
        let echo = Echo {
            source: Some(self.address(v6)),
            destination: to.address(v6),
            count,
            interval: Duration::from_millis(2),
            timeout,
            pattern: b"latchway",
            length: 64,
        };
        ping::echo(&self.inner, &echo).unwrap()
    }

    /// Ends the worker, or sees how it ended.
    pub fn end(mut self) -> io::Result<()> {
        self.stop.stop().unwrap();
        self.worker.take().unwrap().join().unwrap()
    }

    /// Waits for the worker to end by itself.
    pub fn await_end(mut self) -> io::Result<()> {
        eventually("the worker ends", || self.worker.as_ref().unwrap().is_finished());
        self.worker.take().unwrap().join().unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            let _ = self.stop.stop();
            let _ = worker.join();
        }
    }
}

fn open(namespace: &Namespace, name: &str, options: &Options) -> TunQueue {
    let config = TunConfig { backend: options.backend, ..TunConfig::new(name) };
    let tun = namespace.run(|| TunQueue::open(&config).unwrap()).unwrap();
    let links = Links::of(namespace).unwrap();
    links.quiet_ipv6(name).unwrap();
    links.set_mtu(name, options.mtu).unwrap();
    links.set_up(name).unwrap();
    tun
}

/// Waits for what must come.
pub fn eventually(what: &str, mut comes: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !comes() {
        assert!(Instant::now() < end, "it never came that {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Sends `len` octets over TCP and checks what arrives.
pub fn transfer(from: &Namespace, to: &Namespace, address: IpAddr, len: u32) {
    let listener = to.run(|| TcpListener::bind(SocketAddr::new(address, 0)).unwrap()).unwrap();
    let at = listener.local_addr().unwrap();
    let sent: Vec<u8> = (0..len).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let mut stream = accept(&listener);
            let mut received = Vec::new();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.read_to_end(&mut received).unwrap();
            received
        });
        let mut stream = from.run(|| TcpStream::connect_timeout(&at, PATIENCE).unwrap()).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&sent).unwrap();
        drop(stream);
        assert!(receiving.join().unwrap() == sent, "what arrived at {address} is not what was sent");
    });
}

/// Waits for a connection, but not for ever.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut stream = None;
    eventually("somebody connects", || {
        stream = listener.accept().ok();
        stream.is_some()
    });
    let (stream, _) = stream.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream
}
