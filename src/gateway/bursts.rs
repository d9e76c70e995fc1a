//! Bursts of drops: an operator who listens is told when many packets go for one reason in a short time.

use latchway_control::{EventKind, EventView};
use latchway_datapath::drop::{Counters, Direction, DropReason, Severity};

use crate::gateway::rows::direction_word;

/// What was dropped at the last look.
pub struct Bursts(Vec<Seen>);

/// One reason in one direction.
struct Seen {
    direction: Direction,
    reason: DropReason,
    packets: u64,
    /// Looks that pass before it is told of again.
    quiet: u32,
}

/// So many packets between two looks are a burst. Fewer are the daily life of a network.
const BURST: u64 = 1000;

/// Looks between two tellings of one reason: a flood that lasts is told of now and then, not at every look.
const QUIET: u32 = 60;

impl Bursts {
    /// Nothing was dropped yet.
    pub fn new() -> Self {
        let streets = [Direction::Inbound, Direction::Outbound];
        let reasons = |direction| {
            let seen = move |&reason| Seen { direction, reason, packets: 0, quiet: 0 };
            DropReason::ALL.iter().filter(|reason| reason.info().severity != Severity::Info).map(seen)
        };
        Self(streets.into_iter().flat_map(reasons).collect())
    }

    /// What began since the last look, a second ago.
    pub fn look(&mut self, counters: &Counters) -> Vec<EventView> {
        self.0.iter_mut().filter_map(|seen| seen.look(counters)).collect()
    }
}

impl Seen {
    fn look(&mut self, counters: &Counters) -> Option<EventView> {
        let now = counters.street(self.direction).dropped(self.reason);
        let more = now.saturating_sub(std::mem::replace(&mut self.packets, now));
        self.quiet = self.quiet.saturating_sub(1);
        if more < BURST || self.quiet > 0 {
            return None;
        }
        self.quiet = QUIET;
        let (info, direction) = (self.reason.info(), direction_word(self.direction));
        let text = format!(
            "{more} {direction} packets were dropped within a second as {}: {}",
            info.name, info.text
        );
        Some(EventView {
            direction: Some(direction),
            reason: Some(info.name.into()),
            count: Some(more),
            ..EventView::new(EventKind::DropBurst, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_told_once_a_minute_with_its_reason_and_a_trickle_never() {
        let (counters, mut bursts) = (Counters::new(), Bursts::new());
        let street = counters.street(Direction::Inbound);
        street.drop(DropReason::IcvMismatch, BURST);
        street.drop(DropReason::NoSa, BURST - 1);
        let [told] = &bursts.look(&counters)[..] else { panic!("one burst") };
        assert_eq!((told.event, told.count), (EventKind::DropBurst, Some(BURST)));
        assert_eq!(told.reason.as_deref(), Some("icv_mismatch"));
        assert!(told.text.starts_with("1000 inbound packets"), "{}", told.text);
        let mut looks = 0;
        while bursts.look(&counters).is_empty() {
            street.drop(DropReason::IcvMismatch, BURST);
            street.drop(DropReason::NoSa, BURST - 1);
            looks += 1;
            assert!(looks <= QUIET, "a flood that lasts is told of again");
        }
        assert_eq!(looks, QUIET - 1);
        assert!(bursts.look(&counters).is_empty());
    }

    #[test]
    fn directions_are_apart_and_what_is_no_trouble_is_no_burst() {
        let (counters, mut bursts) = (Counters::new(), Bursts::new());
        counters.street(Direction::Outbound).drop(DropReason::NoPolicy, BURST);
        counters.street(Direction::Inbound).drop(DropReason::NoPolicy, BURST / 2);
        counters.street(Direction::Inbound).drop(DropReason::Dummy, 10 * BURST);
        let told = bursts.look(&counters);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].direction, Some(direction_word(Direction::Outbound)));
    }
}
