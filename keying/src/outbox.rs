//! Breaks of latches on their way to whoever ends connections: never waited for, never lost (L-74, L-109).

use std::collections::{HashSet, VecDeque};

use latchway_datapath::event::Event;
use latchway_datapath::latching::LatchId;

/// What is to be told, oldest first, each latch once at a time: so there is no more of it than there are latches.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<(LatchId, Event)>,
    latches: HashSet<LatchId>,
}

impl Outbox {
    /// Adds what became of a latch. What is to be told of it already says enough.
    pub(crate) fn push(&mut self, latch: LatchId, event: Event) {
        if self.latches.insert(latch) {
            self.queue.push_back((latch, event));
        }
    }

    /// Forgets what is about latches that are not there any more. Whose slots were used again and again while nobody read
    /// would fill it otherwise.
    pub(crate) fn prune(&mut self, is_there: impl Fn(LatchId) -> bool) {
        self.queue.retain(|(latch, _)| is_there(*latch));
        self.latches = self.queue.iter().map(|(latch, _)| *latch).collect();
    }

    /// What is to be told first.
    pub(crate) fn first(&self) -> Option<Event> {
        self.queue.front().map(|(_, event)| *event)
    }

    /// It was told.
    pub(crate) fn drop_first(&mut self) {
        if let Some((latch, _)) = self.queue.pop_front() {
            self.latches.remove(&latch);
        }
    }

    /// How much is to be told.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}
