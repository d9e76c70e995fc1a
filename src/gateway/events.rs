//! What happens in a gateway, told to whoever listens. Nobody waits for a listener.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use latchway_control::{EventKind, EventView};

use crate::gateway::rows::unix_milliseconds;

/// Where events are published and subscribed to.
#[derive(Debug)]
pub struct EventHub {
    /// How many events may wait for one subscriber.
    room: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last event.
    number: u64,
    /// How many events subscribers were too slow for.
    lost: u64,
    subscribers: Vec<Weak<Queue>>,
    ended: bool,
}

/// What one subscriber has not heard yet.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Arc<EventView>>,
    /// How many events came while there was no room. Until the subscriber has heard of that, nothing else is queued,
    /// so that it learns where the gap is.
    lost: u64,
    ended: bool,
}

/// A subscriber's end. Dropped, it is subscribed no more.
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<Queue>,
}

/// What a subscriber hears next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An event.
    Event(Arc<EventView>),
    /// So many events were lost here: the subscriber was too slow.
    Lost(u64),
    /// Nothing happened for as long as was waited.
    Quiet,
    /// The gateway ends: nothing follows.
    Ended,
}

/// How many events may wait for one subscriber: what a busy gateway says while a program is held up for a moment.
const ROOM: usize = 1024;

impl Default for EventHub {
    fn default() -> Self {
        Self::with_room(ROOM)
    }
}

impl EventHub {
    fn with_room(room: usize) -> Self {
        Self { room, state: Mutex::default() }
    }

    /// Tells everybody, without waiting for anybody. Time and number are set here.
    pub fn publish(&self, event: EventView) {
        let mut state = lock(&self.state);
        if !state.ended {
            self.tell(&mut state, event);
        }
    }

    /// Says that the gateway ends. Nothing is published any more.
    pub fn end(&self) {
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.ended, true) {
            return;
        }
        self.tell(&mut state, EventView::new(EventKind::Ending, "the gateway ends"));
        for queue in state.subscribers.drain(..).filter_map(|queue| queue.upgrade()) {
            lock(&queue.waiting).ended = true;
            queue.filled.notify_all();
        }
    }

    /// Begins to listen: everything published from here on is heard, or said to be lost.
    pub fn subscribe(&self) -> Subscription {
        let (mut state, queue) = (lock(&self.state), Arc::new(Queue::default()));
        lock(&queue.waiting).ended = state.ended;
        state.subscribers.push(Arc::downgrade(&queue));
        Subscription { queue }
    }

    /// How many events subscribers were too slow for, in all.
    pub fn lost(&self) -> u64 {
        lock(&self.state).lost
    }

    /// Whether the gateway ends, and nothing follows any more.
    pub fn has_ended(&self) -> bool {
        lock(&self.state).ended
    }

    fn tell(&self, state: &mut State, event: EventView) {
        state.number += 1;
        let event =
            Arc::new(EventView { time: unix_milliseconds(SystemTime::now()), number: state.number, ..event });
        let mut lost = 0;
        state.subscribers.retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            let mut waiting = lock(&queue.waiting);
            if waiting.lost > 0 || waiting.events.len() >= self.room {
                waiting.lost += 1;
                lost += 1;
            } else {
                waiting.events.push_back(Arc::clone(&event));
            }
            queue.filled.notify_all();
            true
        });
        state.lost += lost;
    }
}

impl Subscription {
    /// What comes next, after a while at most.
    pub fn next(&self, patience: Duration) -> Heard {
        let waiting = lock(&self.queue.waiting);
        let nothing =
            |waiting: &mut Waiting| waiting.events.is_empty() && waiting.lost == 0 && !waiting.ended;
        let waited = self.queue.filled.wait_timeout_while(waiting, patience, nothing);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(event) = waiting.events.pop_front() {
            return Heard::Event(event);
        }
        match std::mem::take(&mut waiting.lost) {
            0 if waiting.ended => Heard::Ended,
            0 => Heard::Quiet,
            lost => Heard::Lost(lost),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(hub: &EventHub, count: usize) {
        (0..count).for_each(|_| hub.publish(EventView::new(EventKind::Acquire, "")));
    }

    fn number(heard: Heard) -> u64 {
        let Heard::Event(event) = heard else { panic!("{heard:?}") };
        event.number
    }

    #[test]
    fn everybody_hears_everything_from_their_subscription_on_in_its_order() {
        let hub = EventHub::default();
        numbered(&hub, 2);
        let early = hub.subscribe();
        numbered(&hub, 1);
        let late = hub.subscribe();
        numbered(&hub, 1);
        assert_eq!([number(early.next(Duration::ZERO)), number(early.next(Duration::ZERO))], [3, 4]);
        assert_eq!(number(late.next(Duration::ZERO)), 4);
        assert_eq!(late.next(Duration::ZERO), Heard::Quiet);
    }

    #[test]
    fn who_is_too_slow_hears_once_how_much_was_lost_and_where_and_others_hear_all() {
        let hub = EventHub::with_room(2);
        let (slow, quick) = (hub.subscribe(), hub.subscribe());
        for expected in 1..=5 {
            numbered(&hub, 1);
            assert_eq!(number(quick.next(Duration::ZERO)), expected);
        }
        assert_eq!([number(slow.next(Duration::ZERO)), number(slow.next(Duration::ZERO))], [1, 2]);
        numbered(&hub, 1);
        assert_eq!(slow.next(Duration::ZERO), Heard::Lost(4));
        numbered(&hub, 1);
        assert_eq!(number(slow.next(Duration::ZERO)), 7);
    }

    #[test]
    fn the_end_is_the_last_that_is_heard() {
        let hub = EventHub::default();
        let early = hub.subscribe();
        hub.end();
        numbered(&hub, 1);
        assert!(
            matches!(early.next(Duration::ZERO), Heard::Event(event) if event.event == EventKind::Ending)
        );
        assert_eq!(early.next(Duration::MAX), Heard::Ended);
        assert_eq!(hub.subscribe().next(Duration::MAX), Heard::Ended);
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let hub = EventHub::default();
        drop(hub.subscribe());
        numbered(&hub, 1);
        assert!(lock(&hub.state).subscribers.is_empty());
    }
}
