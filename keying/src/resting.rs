//! Things that must rest before they are used again: names of deleted SAs may still be in packets under way (L-90).

use std::collections::VecDeque;

use latchway_datapath::time::Time;

/// A queue of things, each with the moment at which its rest is over. Moments are queued in their order.
#[derive(Debug)]
pub(crate) struct Resting<T> {
    queue: VecDeque<(Time, T)>,
}

impl<T> Resting<T> {
    /// Nothing rests.
    pub(crate) const fn new() -> Self {
        Self { queue: VecDeque::new() }
    }

    /// Lets `thing` rest until a moment.
    pub(crate) fn push(&mut self, until: Time, thing: T) {
        self.queue.push_back((until, thing));
    }

    /// The next thing whose rest is over at `now` and which is `ready`.
    pub(crate) fn pop(&mut self, now: Time, ready: impl FnOnce(&T) -> bool) -> Option<T> {
        let (until, thing) = self.queue.front()?;
        if *until > now || !ready(thing) {
            return None;
        }
        self.queue.pop_front().map(|(_, thing)| thing)
    }

    /// How many rest.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}
