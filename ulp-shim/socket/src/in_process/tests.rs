//! Two stacks over two datapaths in memory, in virtual time: nothing is opened, and nothing waits.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use latchway_datapath::arrival::Arrival;
use latchway_datapath::drop::{Counters, Direction, DropReason};
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{BreakReason, LatchState};
use latchway_datapath::send_batch::SendBatch;
use latchway_datapath::time::Time;
use latchway_keying::KeyManager;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use super::assembly::assemble;
use super::builder::{Builder, Pair, Peer, Sa};
use super::classes::Classes;
use super::demands::Demands;
use super::line::Line;
use super::stack::{Fate, Stack};
use crate::{Answer, PeerIdentity, Requirement};

type Queue = Arc<Mutex<VecDeque<(SocketAddr, Vec<u8>)>>>;

/// Datagrams in memory, each to the host whose outer address it names.
struct Memory {
    own: SocketAddr,
    incoming: Queue,
    network: Network,
    current: Vec<u8>,
    /// Of so many datagrams, one is lost on its way; 0 is none.
    loss: Arc<AtomicU64>,
    seed: u64,
}

type Network = Arc<Mutex<Vec<(SocketAddr, Queue)>>>;

impl Line for Memory {
    fn next(&mut self) -> io::Result<Option<(&mut [u8], Arrival)>> {
        let Some((from, datagram)) = self.incoming.lock().unwrap().pop_front() else { return Ok(None) };
        self.current = datagram;
        let arrival = Arrival::udp(self.current.len(), from);
        Ok(Some((&mut self.current, arrival)))
    }

    fn send(&mut self, batch: &SendBatch) -> (u64, u64) {
        for run in batch.runs() {
            let network = self.network.lock().unwrap();
            let Some((_, queue)) = network.iter().find(|(at, _)| *at == run.to) else { continue };
            for datagram in run.datagrams() {
                // Which are lost comes from a seed (Marsaglia's xorshift64).
                self.seed ^= self.seed << 13;
                self.seed ^= self.seed >> 7;
                self.seed ^= self.seed << 17;
                let loss = self.loss.load(Ordering::Relaxed);
                if loss == 0 || !self.seed.is_multiple_of(loss) {
                    queue.lock().unwrap().push_back((self.own, datagram.to_vec()));
                }
            }
        }
        (0, 0)
    }
}

/// A gateway of which everything is in reach.
struct Host {
    stack: Stack,
    classes: Classes,
    counters: Arc<Counters>,
    incoming: Queue,
    builder: Builder,
    _keying: KeyManager,
}

/// Hosts that reach each other, and their time.
#[derive(Default)]
struct World {
    network: Network,
    now: Arc<AtomicU64>,
    loss: Arc<AtomicU64>,
}

impl World {
    fn host(&self, builder: Builder, own: SocketAddr) -> Host {
        let now = Arc::clone(&self.now);
        let clock = move || Time::from_nanos(now.load(Ordering::Relaxed));
        let assembled = assemble(builder.plan().unwrap(), Box::new(clock)).unwrap();
        let (classes, counters) = (assembled.classes.clone(), Arc::clone(&assembled.counters));
        let incoming = Queue::default();
        self.network.lock().unwrap().push((own, Arc::clone(&incoming)));
        let network = Arc::clone(&self.network);
        let (loss, current) = (Arc::clone(&self.loss), Vec::new());
        let line = Memory {
            own,
            incoming: Arc::clone(&incoming),
            network,
            current,
            loss,
            seed: 0x9e37_79b9_7f4a_7c15,
        };
        let (stack, keying) = builder.stack(assembled, Box::new(line)).unwrap();
        Host { stack, classes, counters, incoming, builder, _keying: keying }
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.now.load(Ordering::Relaxed))
    }

    /// Lets time pass until something is so, for at most a minute of it.
    fn until<R>(&self, hosts: &mut [&mut Host], mut done: impl FnMut(&mut [&mut Host]) -> Option<R>) -> R {
        let end = self.now() + Duration::from_secs(60);
        while self.now() < end {
            let now = self.now();
            let any = hosts.iter_mut().fold(false, |any, host| host.stack.turn(now) | any);
            if let Some(done) = done(hosts) {
                return done;
            }
            if !any {
                let delay = hosts.iter_mut().map(|host| host.stack.delay(now)).min().unwrap();
                let step = delay.clamp(Duration::from_micros(10), Duration::from_millis(100));
                self.now.fetch_add(step.as_nanos() as u64, Ordering::Relaxed);
            }
        }
        panic!("it did not come about within a minute");
    }

    /// Lets so much time pass.
    fn pass(&self, hosts: &mut [&mut Host], time: Duration) {
        let end = self.now() + time;
        self.until(hosts, |_| (self.now() >= end).then_some(()));
    }
}

fn outer(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 4500))
}

fn inner(host: u8) -> std::net::IpAddr {
    [10, host, 0, 1].into()
}

fn name(host: u8) -> String {
    format!("host{host}.example")
}

/// The pair of two hosts, as the first has it. Keys are whatever they are, and others for each direction.
fn pair(us: u8, them: u8) -> Pair {
    let sa = |from: u8, to: u8| {
        let key: Vec<u8> = (0..20).map(|octet| octet ^ (from << 4) ^ to).collect();
        Sa::new(0x1000 + u32::from(from) * 16 + u32::from(to), &key)
    };
    Pair::new("aes-128-gcm", sa(them, us), sa(us, them), outer(them)).ephemeral()
}

fn peer(them: u8) -> Peer {
    Peer::new(name(them).parse().unwrap()).inner(format!("10.{them}.0.0/24").parse().unwrap())
}

fn builder(us: u8) -> Builder {
    Builder::new(name(us).parse().unwrap(), outer(us)).address(inner(us)).buffers(16 * 1024)
}

/// Hosts 1 and 2, with SAs between them.
fn two(world: &World) -> (Host, Host) {
    let one = builder(1).peer(peer(2).pair(pair(1, 2)));
    let two = builder(2).peer(peer(1).pair(pair(2, 1)));
    (world.host(one, outer(1)), world.host(two, outer(2)))
}

fn is(host: u8) -> Demands {
    let peer = PeerIdentity::asserting(&name(host).parse().unwrap()).unwrap();
    Demands::of(&Requirement::new().peer(&peer)).unwrap()
}

fn anybody() -> Demands {
    Demands::of(&Requirement::new()).unwrap()
}

fn port(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(inner(host), port)
}

/// A connection from the first host to the second, which listens.
fn connected(
    world: &World,
    one: &mut Host,
    two: &mut Host,
    demands: (Demands, Demands),
) -> ((SocketHandle, FlowKey), (SocketHandle, FlowKey)) {
    two.stack.listen(port(2, 80), demands.1).unwrap();
    let here = one.stack.connect(port(2, 80), demands.0).unwrap();
    let there = world.until(&mut [one, two], |hosts| {
        let now = world.now();
        hosts[1].stack.accept(80, now)
    });
    (here, there)
}

/// L-4, L-5, L-80: connections are latched at both ends from the first segment on, and what is written arrives.
#[test]
fn l_80_what_is_written_arrives_under_a_latch_that_was_there_first() {
    let world = World::default();
    let (mut one, mut two) = two(&world);
    two.stack.listen(port(2, 80), is(1)).unwrap();
    let (here, flow) = one.stack.connect(port(2, 80), is(2)).unwrap();
    one.stack.turn(world.now());
    assert_eq!(one.stack.latch(&flow).map(|(state, _)| state), Some(LatchState::Established));
    assert_eq!(one.incoming.lock().unwrap().len(), 0);
    two.stack.turn(world.now());
    let back = FlowKey::new(6, flow.remote(), flow.local());
    let answered = one.incoming.lock().unwrap().len();
    assert_eq!((two.stack.latch(&back).unwrap().0, answered), (LatchState::Established, 1), "L-80");
    let there = world.until(&mut [&mut one, &mut two], |hosts| hosts[1].stack.accept(80, world.now())).0;

    let said: Vec<u8> = (0..200_000_u32).map(|octet| octet as u8).collect();
    let (mut sent, mut heard, mut echoed) = (0, Vec::new(), Vec::new());
    world.until(&mut [&mut one, &mut two], |hosts| {
        let mut room = [0; 4096];
        let (ours, theirs) = (here, there);
        sent += hosts[0].stack.tcp(ours).send_slice(&said[sent..]).unwrap();
        let len = hosts[1].stack.tcp(theirs).recv_slice(&mut room).unwrap();
        heard.extend_from_slice(&room[..len]);
        let back = hosts[1].stack.tcp(theirs).send_slice(&heard[..]).unwrap();
        heard.drain(..back);
        let len = hosts[0].stack.tcp(ours).recv_slice(&mut room).unwrap();
        echoed.extend_from_slice(&room[..len]);
        (echoed.len() >= said.len()).then_some(())
    });
    assert!(echoed == said, "what comes back is what was said");
    let Answer::Latched(protection) = one.classes.of_flow(&flow).unwrap() else { panic!("no latch") };
    assert_eq!(*protection.peer_identity().asserted(), name(2).parse().unwrap());
    assert_eq!((protection.outbound_suite(), protection.required()), ("aes-128-gcm", false));
}

/// L-13, L-63: nothing at all leaves towards a peer that is not the one that is required.
#[test]
fn l_13_a_connection_to_another_peer_does_not_begin() {
    let world = World::default();
    let (mut one, two) = two(&world);
    let (socket, flow) = one.stack.connect(port(2, 80), is(3)).unwrap();
    world.pass(&mut [&mut one], Duration::from_secs(5));
    assert_eq!(one.stack.fate(socket), Some(Fate::Refused));
    assert_eq!(one.stack.tcp(socket).state(), State::Closed);
    assert_eq!(one.stack.latch(&flow), None);
    assert_eq!(two.incoming.lock().unwrap().len(), 0, "nothing was sent");
    assert!(one.counters.street(Direction::Outbound).dropped(DropReason::LatchBarred) > 0);
}

/// L-46, L-54: the SYN of a peer that a listener does not want is not answered, and there is no latch of it.
#[test]
fn l_46_a_listener_does_not_answer_whom_it_does_not_want() {
    let world = World::default();
    let (mut one, mut two) = two(&world);
    two.stack.listen(port(2, 80), is(3)).unwrap();
    let (socket, flow) = one.stack.connect(port(2, 80), anybody()).unwrap();
    world.pass(&mut [&mut one, &mut two], Duration::from_secs(5));
    assert_eq!(one.stack.tcp(socket).state(), State::SynSent);
    assert_eq!(one.incoming.lock().unwrap().len(), 0);
    assert_eq!(two.stack.latch(&FlowKey::new(6, flow.remote(), flow.local())), None);
    assert!(two.counters.street(Direction::Inbound).dropped(DropReason::ListenerRefused) > 1);
    assert!(two.stack.accept(80, world.now()).is_none());
}

/// L-74, L-109: a connection whose latch breaks is ended, and nothing of it leaves any more, its reset included (D.8).
#[test]
fn l_74_l_109_a_connection_whose_latch_breaks_is_ended_and_silent() {
    let world = World::default();
    let mallory = Peer::new(name(3).parse().unwrap()).inner("10.2.0.0/24".parse().unwrap());
    let one = builder(1).peer(peer(2).pair(pair(1, 2))).peer(mallory);
    let mut one = world.host(one, outer(1));
    let mut two = world.host(builder(2).peer(peer(1).pair(pair(2, 1))), outer(2));
    let ((here, flow), _) = connected(&world, &mut one, &mut two, (is(2), anybody()));
    world.pass(&mut [&mut one, &mut two], Duration::from_secs(1));

    let conflicting = one.builder.pair_with(&name(3).parse().unwrap(), &pair(1, 3)).unwrap();
    let keying = one.classes.keying().clone();
    let offer = keying.propose(conflicting.proposal).unwrap().unwrap();
    assert_eq!(offer.latches_that_would_break.len(), 1);
    keying.install(offer.ticket, conflicting.keys).unwrap().unwrap();
    two.incoming.lock().unwrap().clear();
    let fate = world.until(&mut [&mut one], |hosts| hosts[0].stack.fate(here));
    assert_eq!(fate, Fate::Broken(BreakReason::Conflict));
    world.pass(&mut [&mut one], Duration::from_secs(5));
    assert_eq!(two.incoming.lock().unwrap().len(), 0, "nothing of it leaves any more");
    assert_eq!(one.stack.tcp(here).state(), State::Closed);
    assert_eq!(one.stack.latch(&flow).unwrap().0, LatchState::Closed);
}

/// L-80 of IPv6 inside, beside IPv4: each address has its own, and neither is taken for the other.
#[test]
fn l_80_ipv6_inside_is_as_good() {
    let world = World::default();
    let end = |us: u8, them: u8| {
        let inner = |host: u8| format!("fd00:{host}::1");
        let peer = peer(them).inner(format!("{}/128", inner(them)).parse().unwrap());
        builder(us).address(inner(us).parse().unwrap()).peer(peer.pair(pair(us, them)))
    };
    let (mut one, mut two) = (world.host(end(1, 2), outer(1)), world.host(end(2, 1), outer(2)));
    let at: SocketAddr = "[fd00:2::1]:80".parse().unwrap();
    two.stack.listen("[::]:80".parse().unwrap(), is(1)).unwrap();
    let (here, flow) = one.stack.connect(at, is(2)).unwrap();
    let (there, back) =
        world.until(&mut [&mut one, &mut two], |hosts| hosts[1].stack.accept(80, world.now()));
    assert_eq!((flow.local().ip().to_string(), back.remote()), ("fd00:1::1".into(), flow.local()));
    assert!(matches!(two.classes.of_flow(&back).unwrap(), Answer::Latched(_)));
    one.stack.tcp(here).send_slice(b"of six").unwrap();
    let heard = world.until(&mut [&mut one, &mut two], |hosts| {
        let mut room = [0; 6];
        (hosts[1].stack.tcp(there).recv_slice(&mut room).unwrap() == 6).then_some(room)
    });
    assert_eq!(&heard, b"of six");
    let elsewhere = one.stack.connect("[fd00:3::1]:80".parse().unwrap(), anybody()).unwrap().0;
    world.pass(&mut [&mut one], Duration::from_secs(2));
    assert_eq!(one.stack.tcp(elsewhere).state(), State::SynSent);
    assert!(one.counters.street(Direction::Outbound).dropped(DropReason::NoPolicy) > 0);
}

/// T03, T37: what is lost comes again, and a flood of octets that are nothing is dropped, counted, and holds up nobody.
#[test]
fn t03_t37_loss_and_a_flood_of_nothing_are_survived() {
    let world = World::default();
    let (mut one, mut two) = two(&world);
    let ((here, _), (there, _)) = connected(&world, &mut one, &mut two, (is(2), is(1)));
    world.loss.store(7, Ordering::Relaxed);
    let said: Vec<u8> = (0..100_000_u32).map(|octet| (octet / 3) as u8).collect();
    let (mut sent, mut heard, mut flood) = (0, Vec::new(), 0_u64);
    world.until(&mut [&mut one, &mut two], |hosts| {
        let nothing = (0..10_u8).map(|n| (outer(9), vec![n; usize::from(n) * 100]));
        hosts[1].incoming.lock().unwrap().extend(nothing);
        flood += 10;
        sent += hosts[0].stack.tcp(here).send_slice(&said[sent..]).unwrap();
        let mut room = [0; 8192];
        let len = hosts[1].stack.tcp(there).recv_slice(&mut room).unwrap();
        heard.extend_from_slice(&room[..len]);
        (heard.len() >= said.len()).then_some(())
    });
    assert!(heard == said);
    world.loss.store(0, Ordering::Relaxed);
    world.pass(&mut [&mut one, &mut two], Duration::from_millis(1));
    let street = two.counters.street(Direction::Inbound);
    let dropped: u64 = DropReason::ALL.iter().map(|&reason| street.dropped(reason)).sum();
    assert!(dropped >= flood, "{dropped} of {flood}");
    two.incoming.lock().unwrap().extend((0..1000).map(|_| (outer(9), vec![0xff; 50])));
    assert!(two.stack.turn(world.now()), "not all at once, and it is said that there is more");
    assert!(!two.incoming.lock().unwrap().is_empty());
}

/// L-22, T37: without SAs nothing leaves, and nothing is taken for an answer.
#[test]
fn l_22_nothing_leaves_where_there_are_no_sas() {
    let world = World::default();
    let mut one = world.host(builder(1).peer(peer(2)), outer(1));
    let two = world.host(builder(2).peer(peer(1)), outer(2));
    let (socket, _) = one.stack.connect(port(2, 80), anybody()).unwrap();
    let elsewhere = one.stack.connect("203.0.113.1:80".parse().unwrap(), anybody()).unwrap().0;
    world.pass(&mut [&mut one], Duration::from_secs(5));
    assert_eq!(one.stack.tcp(socket).state(), State::SynSent);
    assert_eq!(one.stack.tcp(elsewhere).state(), State::SynSent);
    assert_eq!(two.incoming.lock().unwrap().len(), 0);
    let street = one.counters.street(Direction::Outbound);
    assert_eq!((street.packets.get(), street.dropped(DropReason::NoPolicy) > 0), (0, true));
}

/// A half-open connection does not hold its place for ever, and as many as wait at once are bounded.
#[test]
fn those_who_wait_at_a_listener_are_bounded() {
    let world = World::default();
    let (mut one, mut two) = two(&world);
    two.stack.listen(port(2, 80), anybody()).unwrap();
    for _ in 0..80 {
        one.stack.connect(port(2, 80), anybody()).unwrap();
    }
    world.pass(&mut [&mut one, &mut two], Duration::from_secs(2));
    assert!(two.counters.street(Direction::Inbound).dropped(DropReason::ListenerRefused) >= 16);
    let accepted = std::iter::from_fn(|| two.stack.accept(80, world.now())).count();
    assert_eq!(accepted, 64);
    world.pass(&mut [&mut one, &mut two], Duration::from_secs(10));
    assert!(std::iter::from_fn(|| two.stack.accept(80, world.now())).count() >= 16, "the others come again");
}
