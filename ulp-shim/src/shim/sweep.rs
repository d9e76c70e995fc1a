//! Reclaims entries whose time is over, a few at a time, between batches (L-104).

use std::time::Duration;

use latchway_datapath::event::Event;
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::latching::{BreakReason, LatchState};
use latchway_datapath::time::Time;

use crate::database::{Known, flow_of};
use crate::entry::{Entry, Kind};
use crate::shim::Shim;
use crate::sync::Ordering;

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
        let flow = flow_of(known.found.slot.key());
        if known.entry.kind == Kind::Latched(LatchState::Broken) {
            self.announce(known, &flow);
        }
        let idle = now.since(known.seen());
        let stay = self.database.limits().stay(&known.entry, flow.protocol());
        if idle < stay {
            if known.entry.asked {
                self.database.change(known.found, |entry| Some(Entry { asked: false, ..entry }));
            }
            return false;
        }
        match known.entry.kind {
            Kind::Latched(LatchState::Larval) if known.entry.owned => {
                self.time_out(known, &flow, now);
                false
            }
            Kind::Latched(state) if known.entry.owned && state != LatchState::Closed => false,
            Kind::Latched(LatchState::Established) if may_live(&known.entry, flow.protocol()) => {
                self.question(known, &flow, (now, idle - stay)) && self.reclaim(known, &flow)
            }
            _ => self.reclaim(known, &flow),
        }
    }

    fn reclaim(&self, known: &Known<'_>, flow: &FlowKey) -> bool {
        let removed = self.database.remove(known);
        let was_latched = !matches!(known.entry.kind, Kind::Unlatched | Kind::Latched(LatchState::Closed));
        if removed && was_latched {
            self.tell(known.found.id, flow, LatchState::Closed, Some(BreakReason::TimedOut));
        }
        removed
    }

    /// C-20: a latch that was asked for and that nothing established is CLOSED, and its owner is told in any case.
    fn time_out(&self, known: &Known<'_>, flow: &FlowKey, now: Time) {
        let (latch, reason) = (known.found.id, BreakReason::TimedOut);
        if self.database.close(latch, reason, now) {
            let (state, reason) = (LatchState::Closed, Some(reason));
            self.events.send(Event::LatchChanged { latch, flow: *flow, state, reason });
        }
    }

    /// Asks whether the connection of an idle latch lives yet. Returns whether the latch may go because nobody answered: a
    /// sticky one never does, and is asked about again.
    fn question(&self, known: &Known<'_>, flow: &FlowKey, (now, over): (Time, Duration)) -> bool {
        let latch = known.found.id;
        let set = |asked: bool| {
            if self.database.change(known.found, |entry| Some(Entry { asked, ..entry })).is_some() {
                // As if it had become idle only now.
                let stay = self.database.limits().stay(&known.entry, flow.protocol());
                let since = now.as_nanos().saturating_sub(u64::try_from(stay.as_nanos()).unwrap_or(u64::MAX));
                known.found.slot.seen.fetch_max(since, Ordering::Relaxed);
            }
        };
        if !known.entry.asked {
            // Where there is no room for the question nobody could answer it, and it is asked later.
            if self.events.send(Event::LatchIdle { latch, flow: *flow }) {
                set(true);
            }
            return false;
        }
        let sticks = flow.protocol() == protocol::UDP;
        if over >= ANSWER && sticks {
            set(false);
        }
        over >= ANSWER && !sticks
    }
}

/// Whether a socket may have the idle connection yet (D.7).
fn may_live(entry: &Entry, of: u8) -> bool {
    match of {
        protocol::TCP => !entry.progress.is_half_open() && !entry.progress.is_over(),
        protocol::UDP => entry.terms.sticky,
        _ => false,
    }
}

/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(60);
