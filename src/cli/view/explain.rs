//! What would become of a packet, as names and values.

use latchway_control::{Explanation, Verdict};

use crate::cli::table::{Cell, Table, Tone, cell, toned};
use crate::cli::view::{direction, latch_state, policy, sa_named};

/// The verdict, what it rests on, and the steps to it.
pub fn table(explanation: &Explanation) -> Table {
    let mut table = Table::pairs();
    let mut row = |name: &str, value: Cell| table.row([cell(name), value]);
    let nothing = |text: &str| toned(text, Tone::Faint);
    row("packet", cell(format!("{}, {}", explanation.flow, direction(explanation.direction))));
    row("verdict", verdict(explanation));
    row(
        "policy",
        explanation.policy.as_ref().map_or_else(
            || nothing("none decides"),
            |rule| {
                let latched = if rule.latch { ", latched" } else { "" };
                let (action, selector) = (rule.action, policy::selector(&rule.selector));
                cell(format!("rule {}: {action}{latched}: {selector} (by {})", rule.number, rule.origin))
            },
        ),
    );
    row(
        "sa",
        explanation
            .sa
            .as_ref()
            .map_or_else(|| nothing("none"), |sa| cell(format!("{}, with {}", sa_named(sa), sa.peer))),
    );
    row("latch", explanation.latch.map_or_else(|| nothing("none"), latch_state));
    let mtu = |mtu| cell(format!("{mtu} octets of inner packet fit"));
    row("mtu", explanation.mtu.map_or_else(|| nothing("none"), mtu));
    for (at, step) in explanation.why.iter().enumerate() {
        row(if at == 0 { "why" } else { "" }, cell(format!("{}. {step}", at + 1)));
    }
    table
}

fn verdict(explanation: &Explanation) -> Cell {
    match (explanation.verdict, &explanation.drop) {
        (Verdict::Protect, _) => toned("protected", Tone::Good),
        (Verdict::Bypass, _) => toned("passes in the clear", Tone::Warn),
        (Verdict::Drop, Some(reason)) => toned(format!("dropped: {reason}"), Tone::Bad),
        (Verdict::Drop, None) => toned("dropped", Tone::Bad),
    }
}

#[cfg(test)]
mod tests {
    use latchway_control::{
        ActionSpec, ApplicationsSpec, DirectionSpec, LatchState, LatchTermsView, Origin, PolicyRow, SaUsed,
        SelectorView,
    };

    use super::*;
    use crate::cli::view::shown;

    fn sample() -> Explanation {
        Explanation {
            flow: "tcp 10.1.0.1:40000 10.2.0.1:80".into(),
            direction: DirectionSpec::Outbound,
            verdict: Verdict::Protect,
            policy: Some(PolicyRow {
                number: 1,
                name: None,
                origin: Origin::Configuration,
                selector: SelectorView {
                    local: "10.1.0.0/24".into(),
                    remote: "10.2.0.0/24".into(),
                    protocol: None,
                    icmp: None,
                    local_ports: None,
                    remote_ports: None,
                },
                direction: None,
                action: ActionSpec::Protect,
                latch: true,
                terms: Some(LatchTermsView::default()),
                applications: ApplicationsSpec::Nothing,
            }),
            sa: Some(SaUsed {
                pair: Some(1),
                spi: 0x1002,
                suite: "aes-128-gcm".into(),
                peer: "b.example".into(),
                class: Some(3),
            }),
            latch: Some(LatchState::Established),
            mtu: Some(1422),
            drop: None,
            why: vec!["the latch requires class 3".into(), "pair 1 is of class 3".into()],
        }
    }

    #[test]
    fn an_explanation_reads_as_names_and_values() {
        let expected = "\
packet   tcp 10.1.0.1:40000 10.2.0.1:80, out
verdict  protected
policy   rule 1: protect, latched: 10.1.0.0/24 to 10.2.0.0/24 (by configuration)
sa       pair 1, SPI 0x00001002, aes-128-gcm, with b.example
latch    established
mtu      1422 octets of inner packet fit
why      1. the latch requires class 3
         2. pair 1 is of class 3
";
        assert_eq!(shown(&table(&sample()), None), expected);
    }

    #[test]
    fn a_drop_names_its_reason() {
        let dropped = Explanation {
            verdict: Verdict::Drop,
            drop: Some("no_policy".into()),
            policy: None,
            sa: None,
            latch: None,
            mtu: None,
            why: vec![],
            ..sample()
        };
        let expected = "\
packet   tcp 10.1.0.1:40000 10.2.0.1:80, out
verdict  dropped: no_policy
policy   none decides
sa       none
latch    none
mtu      none
";
        assert_eq!(shown(&table(&dropped), None), expected);
    }
}
