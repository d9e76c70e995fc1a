//! What becomes of latches, one line each.

use latchway_control::{AlertKind, AlertView, LatchState};

use crate::cli::table::{Tone, printable};
use crate::cli::view::moment;

/// When, what, and in which words: one line, whatever the alert holds.
pub fn alert_line(alert: &AlertView) -> String {
    let style = tone(alert).style();
    let (time, text) = (moment(alert.time), printable(&alert.text));
    format!("{time}  {style}{:WIDTH$}{style:#}  {text}", alert.alert)
}

/// The longest name of an alert.
const WIDTH: usize = 8;

const fn tone(alert: &AlertView) -> Tone {
    match (alert.alert, alert.state) {
        (AlertKind::Lost | AlertKind::Unserved | AlertKind::Ending, _) => Tone::Warn,
        (_, Some(LatchState::Broken | LatchState::Closed)) => Tone::Bad,
        (_, Some(LatchState::Established)) => Tone::Good,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_one_line_whatever_it_says() {
        let text = "latch 7.1 of tcp\n10.1.0.1:1\u{1b}[2J is broken";
        let alert = AlertView::new(AlertKind::Changed, 1_000_000_000_123, text);
        assert_eq!(
            anstream::adapter::strip_str(&alert_line(&alert)).to_string(),
            "2001-09-09T01:46:40.123Z  changed   latch 7.1 of tcp\\n10.1.0.1:1\\u{1b}[2J is broken"
        );
    }

    #[test]
    fn no_name_is_longer_than_its_column() {
        assert!(AlertKind::ALL.iter().all(|kind| kind.name().len() <= WIDTH));
    }
}
