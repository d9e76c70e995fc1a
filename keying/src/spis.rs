//! SPIs of deleted inbound SAs, at rest: packets under way may still carry them (T31). ESP and AH have a space each.

use std::collections::HashSet;

use latchway_datapath::time::Time;
use latchway_esp::{Protocol, Spi};

use crate::resting::Resting;

/// The SPIs that no new SA may have yet.
#[derive(Debug)]
pub(crate) struct RestingSpis {
    spis: HashSet<(Protocol, Spi)>,
    queue: Resting<(Protocol, Spi)>,
}

impl RestingSpis {
    /// None rests.
    pub(crate) fn new() -> Self {
        Self { spis: HashSet::new(), queue: Resting::new() }
    }

    /// Lets an SPI rest until a moment.
    pub(crate) fn rest(&mut self, spi: (Protocol, Spi), until: Time) {
        if self.spis.insert(spi) {
            self.queue.push(until, spi);
        }
    }

    /// Frees those that rested long enough.
    pub(crate) fn wake(&mut self, now: Time) {
        while let Some(spi) = self.queue.pop(now, |_| true) {
            self.spis.remove(&spi);
        }
    }

    /// Whether this one rests.
    pub(crate) fn contains(&self, spi: (Protocol, Spi)) -> bool {
        self.spis.contains(&spi)
    }

    /// How many rest.
    pub(crate) fn len(&self) -> usize {
        self.spis.len()
    }
}
