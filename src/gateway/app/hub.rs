//! Who watches which sockets, and what there is to look at. Nobody waits for a watcher (K-10, K-12).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use latchway_datapath::event::Event;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{BreakReason, LatchId};
use latchway_keying::Notice;
use latchway_tagging::ClassId;

/// Where watchers are told that there is something to look at.
#[derive(Debug, Default)]
pub struct Hub(Mutex<Watchers>);

#[derive(Debug, Default)]
struct Watchers {
    /// The number of the last.
    number: u64,
    queues: HashMap<u64, Arc<Queue>>,
    topics: HashMap<Topic, BTreeSet<Interest>>,
    ended: bool,
}

/// A watcher, and which of its sockets.
type Interest = (u64, usize);

/// What news are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Topic {
    Flow(FlowKey),
    Class(ClassId),
}

/// What there is to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The latch of the socket's flow broke.
    Broken(LatchId, BreakReason),
    /// SAs of its class are others, or lead elsewhere.
    Look,
}

/// A watcher's end. Dropped, it hears nothing more.
#[derive(Debug)]
pub struct Watching {
    hub: Arc<Hub>,
    number: u64,
    topics: Vec<(Topic, usize)>,
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Heard>,
    filled: Condvar,
}

/// What a watcher has not heard yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Oldest first, each with the number of its socket.
    pub signals: VecDeque<(usize, Signal)>,
    /// How many came while there was no room.
    pub lost: u64,
    /// The gateway ends.
    pub ended: bool,
}

/// How many signals may wait for one watcher.
const ROOM: usize = 64;

impl Hub {
    /// Begins to watch.
    pub fn watch(hub: &Arc<Self>) -> Watching {
        let (mut all, queue) = (hub.lock(), Arc::new(Queue::default()));
        all.number += 1;
        let number = all.number;
        all.queues.insert(number, Arc::clone(&queue));
        queue.lock().ended = all.ended;
        Watching { hub: Arc::clone(hub), number, topics: Vec::new(), queue }
    }

    /// Tells what the datapath found.
    pub fn note(&self, event: &Event) {
        if let Event::LatchBroken { latch, flow, reason, .. } = event {
            self.tell(Topic::Flow(*flow), Signal::Broken(*latch, *reason));
        }
    }

    /// Tells what the key manager tells of pairs: which latches it is about, their class says.
    pub fn hear(&self, notice: &Notice) {
        if let Notice::PairAdded { class, .. }
        | Notice::PairActivated { class, .. }
        | Notice::PeerMoved { class, .. }
        | Notice::PairRevised { class, .. } = notice
        {
            self.tell(Topic::Class(*class), Signal::Look);
        }
    }

    /// Says that the gateway ends.
    pub fn end(&self) {
        let mut all = self.lock();
        all.ended = true;
        all.queues.values().for_each(|queue| queue.fill(|heard| heard.ended = true));
    }

    fn tell(&self, topic: Topic, signal: Signal) {
        let all = self.lock();
        for (queue, socket) in all.interested(topic) {
            queue.fill(|heard| heard.take(socket, signal));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Watchers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watchers {
    fn interested(&self, topic: Topic) -> impl Iterator<Item = (&Arc<Queue>, usize)> {
        let interests = self.topics.get(&topic).into_iter().flatten();
        interests.filter_map(|(number, socket)| Some((self.queues.get(number)?, *socket)))
    }
}

impl Watching {
    /// Hears of a flow from here on, for this socket.
    pub fn flow(&mut self, socket: usize, flow: FlowKey) {
        self.about(Topic::Flow(flow), socket);
    }

    /// Hears of the SAs of a class from here on, for this socket.
    pub fn class(&mut self, socket: usize, class: ClassId) {
        self.about(Topic::Class(class), socket);
    }

    /// Waits for something to look at, and takes all there is; after a while at most.
    pub fn next(&self, patience: Duration) -> Heard {
        let waited =
            self.queue.filled.wait_timeout_while(self.queue.lock(), patience, |heard| heard.is_empty());
        let (mut heard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let ended = heard.ended;
        std::mem::replace(&mut *heard, Heard { ended, ..Heard::default() })
    }

    fn about(&mut self, topic: Topic, socket: usize) {
        if !self.topics.contains(&(topic, socket)) {
            self.topics.push((topic, socket));
            self.hub.lock().topics.entry(topic).or_default().insert((self.number, socket));
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut all = self.hub.lock();
        all.queues.remove(&self.number);
        for (topic, socket) in &self.topics {
            let Some(interests) = all.topics.get_mut(topic) else { continue };
            interests.remove(&(self.number, *socket));
            if interests.is_empty() {
                all.topics.remove(topic);
            }
        }
    }
}

impl Queue {
    fn fill(&self, fill: impl FnOnce(&mut Heard)) {
        fill(&mut self.lock());
        self.filled.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn is_empty(&self) -> bool {
        self.signals.is_empty() && self.lost == 0 && !self.ended
    }

    /// A look that is still to be taken sees what came since, too.
    fn take(&mut self, socket: usize, signal: Signal) {
        if signal == Signal::Look && self.signals.contains(&(socket, signal)) {
            return;
        }
        if self.lost > 0 || self.signals.len() >= ROOM {
            self.lost += 1;
        } else {
            self.signals.push_back((socket, signal));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> FlowKey {
        FlowKey::new(6, ([10, 0, 0, 1], port).into(), ([10, 0, 0, 2], 80).into())
    }

    const BROKEN: Signal = Signal::Broken(LatchId::new(1, 1), BreakReason::PeerGone);

    fn broken(hub: &Hub, port: u16) {
        let (latch, flow, reason) = (LatchId::new(1, 1), flow(port), BreakReason::PeerGone);
        hub.note(&Event::LatchBroken { latch, flow, latched: None, reason, offender: None });
    }

    fn rekeyed(hub: &Hub, class: u32) {
        let peer = "fqdn:b.example".parse().unwrap();
        let class = ClassId::from_raw(class);
        hub.hear(&Notice::PairActivated { pair: latchway_keying::PairId::from_raw(1), peer, class });
    }

    /// K-12: who watches a socket hears of it alone, and of another's never.
    #[test]
    fn k_12_a_watcher_hears_of_its_own_flows_and_classes() {
        let hub = Arc::new(Hub::default());
        let (mut one, mut other) = (Hub::watch(&hub), Hub::watch(&hub));
        one.flow(0, flow(1));
        one.flow(1, flow(2));
        other.flow(0, flow(3));
        one.class(1, ClassId::from_raw(7));
        other.class(0, ClassId::from_raw(8));
        broken(&hub, 2);
        rekeyed(&hub, 7);
        rekeyed(&hub, 7);
        assert_eq!(one.next(Duration::MAX).signals, [(1, BROKEN), (1, Signal::Look)]);
        assert_eq!(other.next(Duration::ZERO), Heard::default());
        rekeyed(&hub, 8);
        assert_eq!(other.next(Duration::MAX).signals, [(0, Signal::Look)]);
        drop((one, other));
        assert!(hub.lock().queues.is_empty() && hub.lock().topics.is_empty());
    }

    /// Who is too slow learns how much was lost, and nobody waits for it.
    #[test]
    fn k_12_what_waits_for_a_watcher_is_bounded() {
        let hub = Arc::new(Hub::default());
        let mut watching = Hub::watch(&hub);
        watching.flow(0, flow(1));
        (0..100).for_each(|_| broken(&hub, 1));
        let heard = watching.next(Duration::MAX);
        assert_eq!((heard.signals.len(), heard.lost), (ROOM, 36));
        broken(&hub, 1);
        assert_eq!(watching.next(Duration::MAX).signals, [(0, BROKEN)]);
        hub.end();
        assert!(watching.next(Duration::MAX).ended);
        assert!(Hub::watch(&hub).next(Duration::MAX).ended, "and whoever comes later");
    }
}
