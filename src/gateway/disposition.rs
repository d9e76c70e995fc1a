//! What follows when a latch breaks: the connection ends at both its ends, so that its application learns of it (L-87,
//! L-100, L-103, L-109). And what precedes the end of the gateway: every latched connection is reset (L-40).
//!
//! Who cannot be reached by the kernel of this host is told by packets: the inner end as it is, the remote end under an SA
//! of the connection's own class or not at all.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use crossbeam::select;
use latchway_datapath::event::Event;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::injection::{InjectError, Injection, Injector};
use latchway_datapath::latching::{BreakReason, LatchId, LatchState};
use latchway_datapath::reset::ResetPacket;
use latchway_datapath::time::Time;
use latchway_ulp_shim::{DestroyError, Disposed, LatchDatabase, Resets, SocketDestroyer, resets, terminate};

use crate::gateway::clock::since;
use crate::gateway::state::{Disposition, State};

/// Ends connections.
pub struct Disposer {
    database: Arc<LatchDatabase>,
    sockets: SocketDestroyer,
    injector: Injector,
    started: Instant,
    /// Packets that the worker had no room for yet.
    waiting: VecDeque<Injection>,
}

/// A thread that ends connections.
pub struct Disposing {
    thread: JoinHandle<()>,
    asks: Sender<Ask>,
}

/// What it is asked to end, besides connections of latches that it hears of.
#[derive(Debug)]
pub enum Ask {
    /// The connection of a latch that was closed.
    One(LatchId),
    /// Those of all latches; the answer is how many there were.
    All(Sender<usize>),
}

/// How often it is tried to end a connection whose latch broke, and the pause between: the kernel may be short of
/// memory for a moment.
const ATTEMPTS: usize = 3;
const PAUSE: Duration = Duration::from_millis(20);

/// Packets that may wait for the worker before no event is read any more, and how often it is asked again.
const WAITING: usize = 4096;
const RETRY: Duration = Duration::from_millis(1);

/// Questions that may wait: whoever asks more has to.
const ASKS: usize = 64;

/// How long the end of the gateway is held up for the end of its connections, at most.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long inner hosts have to answer a reset that was not exact.
const LAST_WORDS: Duration = Duration::from_millis(50);

impl Disposer {
    /// Ends connections of these latches, whose sockets are there.
    pub const fn new(
        database: Arc<LatchDatabase>,
        sockets: SocketDestroyer,
        injector: Injector,
        started: Instant,
    ) -> Self {
        Self { database, sockets, injector, started, waiting: VecDeque::new() }
    }

    /// Ends connections whose latch broke, until the key manager forwards no more events.
    ///
    /// # Errors
    /// Where there is no thread to be had.
    pub fn start(self, events: Receiver<Event>, state: &Arc<State>) -> io::Result<Disposing> {
        let (asks, asked) = bounded(ASKS);
        state.ended_by(asks.clone());
        let state = Arc::downgrade(state);
        let run = move || self.run(&events, &asked, &state);
        let thread = thread::Builder::new().name("disposition".into()).spawn(run)?;
        Ok(Disposing { thread, asks })
    }

    fn run(mut self, events: &Receiver<Event>, asked: &Receiver<Ask>, state: &Weak<State>) {
        loop {
            let patience = if self.waiting.is_empty() { Duration::MAX } else { RETRY };
            select! {
                recv(events) -> event => match event {
                    Ok(event) => {
                        let Some(state) = state.upgrade() else { return };
                        self.take(&event, &state);
                    }
                    Err(_) => return,
                },
                recv(asked) -> ask => match ask {
                    Ok(Ask::One(latch)) => {
                        let Some(state) = state.upgrade() else { return };
                        self.end_one(latch, &state);
                    }
                    Ok(Ask::All(reply)) => {
                        // A failed send is an asker that waits no more.
                        let _ = reply.send(self.end_all());
                    }
                    Err(_) => return,
                },
                default(patience) => {}
            }
            self.flush();
            while self.waiting.len() >= WAITING {
                thread::sleep(RETRY);
                self.flush();
            }
        }
    }

    fn take(&mut self, event: &Event, state: &State) {
        state.tell(event);
        match *event {
            Event::LatchBroken { latch, .. } => self.end_one(latch, state),
            Event::LatchIdle { latch, flow } => self.answer_idle(latch, &flow, since(self.started)),
            _ => {}
        }
    }

    fn end_one(&mut self, latch: LatchId, state: &State) {
        if let Some(disposition) = self.dispose(latch) {
            state.disposed(latch, disposition);
        }
    }

    /// Whether the connection of an idle latch lives yet. A socket behind another host is not to be asked for, and where the
    /// kernel does not say, nothing is answered (L-104).
    fn answer_idle(&mut self, latch: LatchId, flow: &FlowKey, now: Time) {
        match self.sockets.is_held(flow) {
            Ok(true) => self.database.keep(latch, now),
            Ok(false) => self.database.forget(latch, now),
            Err(_) => false,
        };
    }

    /// Ends a connection whose latch is out of force. `None` where there is no such latch.
    fn dispose(&mut self, latch: LatchId) -> Option<Disposition> {
        let resets = resets(&self.database, latch);
        let mut outcome = self.terminate(latch);
        for _ in 1..ATTEMPTS {
            if !matches!(outcome, Err(DestroyError::Other(_))) {
                break;
            }
            thread::sleep(PAUSE);
            outcome = self.terminate(latch);
        }
        Some(match (outcome, resets) {
            (Ok(Disposed::NotBroken), _) => return None,
            (Ok(Disposed::Waits), _) => Disposition::Waits,
            (Ok(Disposed::Destroyed), resets) => {
                self.tell_remote(resets.as_ref());
                Disposition::Destroyed
            }
            (Ok(Disposed::NoSuchSocket), None) => Disposition::Nobody,
            (Err(error), None) => Disposition::Failed(error.to_string()),
            // What the kernel does not end, its TCP still believes.
            (Ok(Disposed::NoSuchSocket) | Err(_), Some(resets)) => {
                self.inject(Injection::ToInner { packet: boxed(&resets.to_local) });
                self.tell_remote(Some(&resets));
                Disposition::Reset
            }
        })
    }

    fn terminate(&mut self, latch: LatchId) -> Result<Disposed, DestroyError> {
        terminate(&self.database, &mut self.sockets, latch, since(self.started))
    }

    fn tell_remote(&mut self, resets: Option<&Resets>) {
        if let Some((packet, class)) = resets.and_then(|resets| resets.to_remote) {
            self.inject(Injection::ToPeer { packet: boxed(&packet), class });
        }
    }

    /// Hands a packet to the worker, after those that wait already.
    fn inject(&mut self, injection: Injection) {
        self.waiting.push_back(injection);
        self.flush();
    }

    /// Hands what waits to the worker, as far as it has room.
    fn flush(&mut self) {
        while let Some(injection) = self.waiting.pop_front() {
            match self.injector.inject(injection) {
                Ok(()) => {}
                Err(InjectError::Full(injection)) => return self.waiting.push_front(injection),
                Err(InjectError::Ended) => self.waiting.clear(),
            }
        }
    }

    /// Closes every latch, and ends its connection; in bounded time. Returns how many there were.
    fn end_all(&mut self) -> usize {
        let end = Instant::now() + FAREWELL;
        let (mut ended, mut by_packets) = (0, false);
        // What comes to be meanwhile is met by the next turn.
        loop {
            let database = Arc::clone(&self.database);
            let lives = |state| !matches!(state, LatchState::Listener | LatchState::Closed);
            let mut any = false;
            for latch in database.dump().filter(|latch| lives(latch.state)) {
                if Instant::now() >= end {
                    return ended;
                }
                if !database.close(latch.id, BreakReason::Administrative, since(self.started)) {
                    continue;
                }
                any = true;
                ended += 1;
                by_packets |= self.dispose(latch.id) == Some(Disposition::Reset);
            }
            if !any {
                break;
            }
        }
        while !self.waiting.is_empty() && Instant::now() < end {
            thread::sleep(RETRY);
            self.flush();
        }
        if by_packets {
            thread::sleep(LAST_WORDS);
        }
        ended
    }
}

impl Disposing {
    /// Ends the connections of all latches, and waits for that, but not for ever. Returns how many there were.
    pub fn end_all(&self) -> usize {
        let (reply, ended) = bounded(1);
        if self.asks.send(Ask::All(reply)).is_err() {
            return 0;
        }
        ended.recv_timeout(FAREWELL + LAST_WORDS * 2).unwrap_or(0)
    }

    /// Waits for the thread, which ends with the key manager's.
    pub fn join(self) {
        let _ = self.thread.join();
    }
}

fn boxed(packet: &ResetPacket) -> Box<[u8]> {
    packet.octets().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use latchway_datapath::drop::Direction;
    use latchway_datapath::event::event_queue;
    use latchway_datapath::flow::protocol;
    use latchway_datapath::injection::injection_queue;
    use latchway_datapath::latching::LatchTerms;
    use latchway_datapath::packet::IpPacket;
    use latchway_datapath::selector::{AddressRange, Selector};
    use latchway_datapath::snapshot::Snapshot;
    use latchway_datapath::spd::{Action, Latching, Protection, Rule, Spd};
    use latchway_datapath::ulp::{Context, Ulp};
    use latchway_netns::{Namespace, packet, testing};
    use latchway_tagging::{
        AuthMethod, ClassId, Credential, Feedback, Identity, IdentityLimit, IdentityRecord, IdentityTable,
        SaIndex, SaRef, StateClock, WorkerId,
    };
    use latchway_ulp_shim::{Limits, Seed, Shim};
    use std::net::UdpSocket;

    const CLASS: ClassId = ClassId::from_raw(1);

    /// A Latch Database that knows one class.
    fn database() -> Arc<LatchDatabase> {
        let clock = Arc::new(StateClock::new());
        let database = LatchDatabase::new(Limits::for_flows(64), clock, Seed::Fixed(7)).unwrap();
        let record = IdentityRecord {
            asserted: Identity::Fqdn("b.example".to_owned()),
            authorised: None,
            method: AuthMethod::PreSharedKey,
            credential: Credential::None,
        };
        let peer = IdentityTable::new(IdentityLimit::default()).acquire(&record).unwrap();
        database.peers().publish(CLASS, peer, record.method, 0).unwrap();
        Arc::new(database)
    }

    /// Has the tracker latch the UDP flow of a socket, on terms that keep it while the socket lives.
    fn latch(shim: &mut Shim, socket: &UdpSocket) -> FlowKey {
        let (local, remote) = (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
        let latching = Latching::On(LatchTerms { sticky: true, ..LatchTerms::default() });
        let any = Selector::between(AddressRange::ANY_V4, AddressRange::ANY_V4);
        let protect = Action::Protect(Protection { latching, ..Protection::LATCHED });
        let spd = Spd::new(vec![Rule::new(any, None, protect)]);
        let snapshot = Snapshot { spd, ..Snapshot::default() };
        let context = Context { snapshot: &snapshot, version: Default::default(), now: Time::default() };
        let octets = packet::udp(local, remote, b"hello").unwrap();
        let packet = IpPacket::parse(&octets, Direction::Outbound).unwrap();
        assert!(shim.outbound(&packet, &context).unwrap().feedback);
        let sa = SaRef { index: SaIndex::new(0), generation: 1 };
        let protected = Feedback::Protected { class: CLASS, sa, version: context.version };
        shim.feedback(packet.flow(), protected, &context).unwrap();
        FlowKey::new(protocol::UDP, local, remote)
    }

    /// L-104, D.7: an idle latch is asked about, kept while its socket lives, and forgotten when it is gone.
    #[test]
    fn l_104_an_idle_latch_stays_as_long_as_its_socket() {
        let name = "gateway::disposition::tests::l_104_an_idle_latch_stays_as_long_as_its_socket";
        testing::namespaced(name, || {
            Namespace::create("idle").unwrap().run(stays_as_long_as_its_socket).unwrap()
        });
    }

    fn stays_as_long_as_its_socket() {
        let (database, (events, asked)) = (database(), event_queue());
        let mut shim = Shim::new(Arc::clone(&database), WorkerId(0), events);
        let sockets = SocketDestroyer::open().unwrap();
        let (injector, _injections) = injection_queue().unwrap();
        let mut disposer = Disposer::new(Arc::clone(&database), sockets, injector, Instant::now());
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server.local_addr().unwrap()).unwrap();
        let flow = latch(&mut shim, &socket);
        let id = database.find(&flow).unwrap();
        let mut now = Time::default();
        let mut ask = || {
            now = now + database.limits().udp + Duration::from_secs(1);
            let _ = shim.sweep(now, 64);
            let Ok(Event::LatchIdle { latch, flow }) = asked.try_recv() else { return false };
            disposer.answer_idle(latch, &flow, now);
            true
        };
        for _ in 0..3 {
            assert!(ask());
            assert_eq!(database.find(&flow), Some(id), "the socket lives");
        }
        drop(socket);
        assert!(ask());
        assert_eq!(database.find(&flow), None);
        assert!(!ask());
    }
}
