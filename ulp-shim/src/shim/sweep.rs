//! Reclaims entries whose time is over, a few at a time, between batches (L-104).

use latchway_datapath::flow::FlowKey;
use latchway_datapath::time::Time;

use crate::database::Known;
use crate::entry::Kind;
use crate::latch::LatchState;
use crate::shim::Shim;

impl Shim {
    /// Looks at the next `budget` entries and removes those whose idle time or tombstone is over. Returns how many it
    /// removed. Called by the worker between batches, never per packet.
    pub fn sweep(&mut self, now: Time, budget: u32) -> u32 {
        let flows = self.database.limits().flows;
        let mut removed = 0;
        for _ in 0..budget.min(flows) {
            let index = self.cursor;
            self.cursor = (index + 1) % flows.max(1);
            if let Some(known) = self.database.at(index) {
                removed += u32::from(self.expire(&known, now));
            }
        }
        removed
    }

    fn expire(&self, known: &Known<'_>, now: Time) -> bool {
        let flow = FlowKey::from_words(known.found.slot.key());
        if known.entry.kind == Kind::Latched(LatchState::Broken) {
            self.announce(known, &flow);
        }
        let idle = now.since(known.seen());
        idle >= self.database.limits().stay(&known.entry, flow.protocol()) && self.database.remove(known)
    }
}
