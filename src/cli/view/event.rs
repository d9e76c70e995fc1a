//! Events, one line each.

use latchway_control::{EventKind, EventView};

use crate::cli::table::{Tone, printable};
use crate::cli::view::moment;

/// When, what, and in which words: one line, whatever the event holds.
pub fn event_line(event: &EventView) -> String {
    let style = tone(event.event).style();
    let (time, text) = (moment(event.time), printable(&event.text));
    format!("{time}  {style}{:WIDTH$}{style:#}  {text}", event.event)
}

/// The longest name of an event.
const WIDTH: usize = 20;

const fn tone(kind: EventKind) -> Tone {
    match kind {
        EventKind::LatchBroken
        | EventKind::HardExpired
        | EventKind::TunDown
        | EventKind::GuardLost
        | EventKind::ReservationFailed
        | EventKind::ReloadRefused => Tone::Bad,
        EventKind::Lost
        | EventKind::Audit
        | EventKind::KeysShown
        | EventKind::CaptureBegun
        | EventKind::SoftExpired
        | EventKind::DropBurst
        | EventKind::Acquire
        | EventKind::Ending => Tone::Warn,
        EventKind::TunUp | EventKind::GuardRestored | EventKind::ReservationRestored => Tone::Good,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        let mut event = EventView::new(EventKind::LatchBroken, "the latch of tcp\n10.1.0.1:1\u{1b}[2J broke");
        event.time = 1_000_000_000_123;
        let line = anstream::adapter::strip_str(&event_line(&event)).to_string();
        assert_eq!(
            line,
            "2001-09-09T01:46:40.123Z  latch_broken          the latch of tcp\\n10.1.0.1:1\\u{1b}[2J broke"
        );
    }

    #[test]
    fn no_name_is_longer_than_its_column() {
        assert!(EventKind::ALL.iter().all(|kind| kind.name().len() <= WIDTH));
    }
}
