//! TCP and UDP on top of a datapath, without threads, clock or system calls of its own: time and datagrams are given to it.

mod connections;
mod datagrams;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use latchway_datapath::event::Event;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{BreakReason, LatchId};
use latchway_datapath::time::Time;
use latchway_keying::KeyManager;
use latchway_ulp_shim::LatchDatabase;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Address, Ipv6Address};

use self::connections::Listener;
use super::assembly::Assembled;
use super::device::Port;
use super::line::Line;
use crate::error::{Error, ErrorKind, Result};

/// What a stack is to do.
pub(super) struct Settings {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) mtu: u16,
    pub(super) buffers: usize,
}

/// The sockets of a program, and what carries them.
pub(super) struct Stack {
    port: Port,
    interface: Interface,
    sockets: SocketSet<'static>,
    database: Arc<LatchDatabase>,
    events: Receiver<Event>,
    addresses: Vec<IpAddr>,
    buffers: usize,
    mtu: usize,
    /// TCP connections, those that nobody holds any more included.
    connections: HashMap<FlowKey, SocketHandle>,
    fates: HashMap<SocketHandle, Fate>,
    listeners: HashMap<u16, Listener>,
    /// Sockets that nobody holds any more, which still say goodbye, and until when.
    leaving: Vec<(SocketHandle, Time)>,
    /// Ports of UDP sockets.
    taken: HashMap<u16, SocketHandle>,
    /// Latches whose connection has ended once what is said last was said.
    ended: Vec<LatchId>,
    next_port: u16,
}

/// Why a connection was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its latch broke (L-109).
    Broken(BreakReason),
    /// It would not have had what is required.
    Refused,
}

impl Stack {
    /// A stack without sockets. The key manager is handed on: it must live as long.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(super) fn new(
        settings: &Settings,
        assembled: Assembled,
        line: Box<dyn Line>,
    ) -> Result<(Self, KeyManager)> {
        let Assembled { datapath, database, events, keying, .. } = assembled;
        let random = getrandom::u64();
        let random =
            random.map_err(|error| Error::new(ErrorKind::Failed, format!("random numbers: {error}")))?;
        let mut port = Port::new(datapath, line, settings.mtu);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = random;
        let mut interface = Interface::new(config, &mut port, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            for &address in &settings.addresses {
                let host = if address.is_ipv4() { 32 } else { 128 };
                // There are no more than there is room for.
                let _ = addresses.push(IpCidr::new(address.into(), host));
            }
        });
        // Everything goes into the tunnels; what lies beyond has no address here.
        let routes = interface.routes_mut();
        let _ = routes.add_default_ipv4_route(Ipv4Address::UNSPECIFIED);
        let _ = routes.add_default_ipv6_route(Ipv6Address::UNSPECIFIED);
        let stack = Self {
            port,
            interface,
            sockets: SocketSet::new(Vec::new()),
            database,
            events,
            addresses: settings.addresses.clone(),
            buffers: settings.buffers,
            mtu: settings.mtu.into(),
            connections: HashMap::new(),
            fates: HashMap::new(),
            listeners: HashMap::new(),
            leaving: Vec::new(),
            taken: HashMap::new(),
            ended: Vec::new(),
            next_port: FIRST_PORT + (random % u64::from(u16::MAX - FIRST_PORT)) as u16,
        };
        Ok((stack, keying))
    }

    /// One turn: takes in what came, sends what is to be sent, and begins nothing that would have to wait. Returns whether
    /// anything came.
    pub(super) fn turn(&mut self, now: Time) -> bool {
        let at = instant(now);
        self.port.begin(now);
        let mut any = false;
        for _ in 0..BUDGET {
            let one = self.interface.poll_ingress_single(at, &mut self.port, &mut self.sockets);
            if one == PollIngressSingleResult::None {
                break;
            }
            any = true;
            if self.listeners.values().any(|listener| self.is_stale(listener)) {
                self.tend_listeners(now);
            }
        }
        any |= self.port.take_more();
        self.say(now) || any
    }

    /// The half of a turn that sends.
    pub(super) fn speak(&mut self, now: Time) {
        self.port.begin(now);
        self.say(now);
    }

    /// How long until the next turn is due, if nothing comes.
    pub(super) fn delay(&mut self, now: Time) -> Duration {
        let delay = self.interface.poll_delay(instant(now), &self.sockets).map(Duration::from);
        let tend = self.port.datapath().next_tend().map(|moment| moment.since(now));
        [delay, tend].into_iter().flatten().min().unwrap_or(Duration::MAX)
    }

    /// Why nothing can be received any more, once.
    pub(super) const fn take_failure(&mut self) -> Option<std::io::Error> {
        self.port.take_failure()
    }

    /// Takes note that errors wait to be read.
    pub(super) fn note_reports(&mut self) {
        self.port.line().note_reports();
    }

    /// Whether sockets that nobody holds still have something to say.
    pub(super) fn is_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    fn say(&mut self, now: Time) -> bool {
        let at = instant(now);
        let mut any = self.attend();
        for _ in 0..BUDGET {
            let sent = self.interface.poll_egress(at, &mut self.port, &mut self.sockets);
            if sent == PollResult::None {
                break;
            }
        }
        any |= self.refuse(now);
        self.let_go(now);
        self.port.end();
        any
    }

    /// Ends the connections whose latch broke (L-87, L-109). The reset that TCP makes of it meets the latch, and is dropped.
    fn attend(&mut self) -> bool {
        let mut any = false;
        while let Ok(event) = self.events.try_recv() {
            let Event::LatchBroken { latch, flow, reason, .. } = event else { continue };
            let view = self.database.inquire(latch);
            let waits = view.is_some_and(|view| view.waits());
            let Some(&socket) = self.connections.get(&flow).filter(|_| !waits) else { continue };
            self.sockets.get_mut::<tcp::Socket<'_>>(socket).abort();
            self.fates.insert(socket, Fate::Broken(reason));
            self.ended.push(latch);
            any = true;
        }
        any
    }

    /// Ends the connections that did not have what is required. Nothing of them left.
    fn refuse(&mut self, now: Time) -> bool {
        let mut any = false;
        for flow in self.port.datapath().ulp().take_refused() {
            if let Some(&socket) = self.connections.get(&flow) {
                self.sockets.get_mut::<tcp::Socket<'_>>(socket).abort();
                self.fates.insert(socket, Fate::Refused);
                any = true;
            }
        }
        if any {
            // Its reset is of no connection, and is dropped as well.
            let _ = self.interface.poll_egress(instant(now), &mut self.port, &mut self.sockets);
        }
        any
    }

    /// Forgets what is over.
    fn let_go(&mut self, now: Time) {
        for latch in self.ended.drain(..) {
            self.database.ended(latch, now);
        }
        let (sockets, fates, connections) = (&mut self.sockets, &mut self.fates, &mut self.connections);
        self.leaving.retain(|&(socket, until)| {
            let state = sockets.get_mut::<tcp::Socket<'_>>(socket).state();
            let over = matches!(state, tcp::State::Closed | tcp::State::TimeWait | tcp::State::Listen);
            if over || now >= until {
                sockets.remove(socket);
                fates.remove(&socket);
                connections.retain(|_, of| *of != socket);
            }
            !over && now < until
        });
    }

    fn address_towards(&self, remote: IpAddr) -> Result<IpAddr> {
        let ours = self.addresses.iter().find(|ours| ours.is_ipv4() == remote.is_ipv4());
        ours.copied().ok_or_else(|| {
            let said =
                format!("the gateway has no address of the family of {remote}; give it one by `address`");
            Error::new(ErrorKind::Invalid, said)
        })
    }

    fn check_ours(&self, address: IpAddr) -> Result<()> {
        if address.is_unspecified() || self.addresses.contains(&address) {
            return Ok(());
        }
        let said = format!("{address} is no address of this gateway; use one of {:?}", self.addresses);
        Err(Error::new(ErrorKind::Invalid, said))
    }

    fn free_port(&mut self, is_free: impl Fn(&Self, u16) -> bool) -> Result<u16> {
        for _ in FIRST_PORT..=u16::MAX {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if is_free(self, port) {
                return Ok(port);
            }
        }
        Err(Error::new(ErrorKind::Conflict, "no port is free; close sockets that are no longer needed"))
    }
}

fn taken(port: u16) -> Error {
    let said = format!("port {port} is taken already; use another, or close the socket that has it");
    Error::new(ErrorKind::Conflict, said)
}

fn instant(now: Time) -> Instant {
    Instant::from_micros(i64::try_from(now.as_nanos() / 1000).unwrap_or(i64::MAX))
}

/// Packets taken in before others have their turn.
const BUDGET: usize = 64;
/// The first of the ports that are chosen (RFC 6335 section 6).
const FIRST_PORT: u16 = 49_152;
