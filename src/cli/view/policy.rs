//! The policy, as a table.

use latchway_control::{ActionSpec, PolicyRow, PortsView, SelectorView};

use crate::cli::packet::protocol_name;
use crate::cli::table::{Table, Tone, cell, left, right, text, toned};
use crate::cli::view::directions;

/// One row per rule, in the order in which they are asked.
pub fn table(policies: &[PolicyRow]) -> Table {
    let mut table = Table::new([
        right("NUMBER"),
        left("ACTION"),
        left("LATCH"),
        left("DIR"),
        text("LOCAL"),
        text("REMOTE"),
        left("PROTOCOL"),
        left("ASKED"),
        left("ORIGIN"),
    ]);
    for policy in policies {
        let latch = match (policy.action, policy.latch) {
            (ActionSpec::Protect, true) => {
                toned(policy.terms.map_or("yes", |terms| terms.model.name()), Tone::Good)
            }
            (ActionSpec::Protect, false) => toned("no", Tone::Warn),
            _ => toned("-", Tone::Faint),
        };
        table.row([
            cell(policy.number),
            toned(policy.action, tone(policy.action)),
            latch,
            directions(policy.direction),
            cell(side(&policy.selector.local, policy.selector.local_ports)),
            cell(side(&policy.selector.remote, policy.selector.remote_ports)),
            cell(protocol(&policy.selector).unwrap_or_else(|| "any".into())),
            cell(policy.applications),
            cell(policy.origin),
        ]);
    }
    table
}

/// A selector on one line.
pub fn selector(selector: &SelectorView) -> String {
    let protocol = protocol(selector).map(|protocol| format!(", {protocol}")).unwrap_or_default();
    let local = side(&selector.local, selector.local_ports);
    let remote = side(&selector.remote, selector.remote_ports);
    format!("{local} to {remote}{protocol}")
}

const fn tone(action: ActionSpec) -> Tone {
    match action {
        ActionSpec::Protect => Tone::Good,
        ActionSpec::Bypass => Tone::Warn,
        ActionSpec::Discard => Tone::Plain,
    }
}

/// The protocol and its messages; `None` is any.
fn protocol(selector: &SelectorView) -> Option<String> {
    let parts = [selector.protocol.map(protocol_name), selector.icmp.map(|icmp| icmp.to_string())];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

fn side(addresses: &str, ports: Option<PortsView>) -> String {
    ports.map_or_else(|| addresses.to_owned(), |ports| format!("{addresses} {ports}"))
}

#[cfg(test)]
mod tests {
    use latchway_control::{ApplicationsSpec, DirectionSpec, IcmpSpec, LatchTermsView, MessagesSpec, Origin};

    use super::*;
    use crate::cli::view::shown;

    fn sample() -> [PolicyRow; 2] {
        let selector = SelectorView {
            local: "10.1.0.0/24".into(),
            remote: "10.2.0.0/24".into(),
            protocol: None,
            icmp: None,
            local_ports: None,
            remote_ports: None,
        };
        [
            PolicyRow {
                number: 7,
                name: None,
                origin: Origin::Hand,
                selector: SelectorView {
                    protocol: Some(6),
                    remote_ports: Some(PortsView::Between(80, 80)),
                    local_ports: Some(PortsView::Between(1024, 65_535)),
                    ..selector.clone()
                },
                direction: Some(DirectionSpec::Outbound),
                action: ActionSpec::Discard,
                latch: false,
                terms: None,
                applications: ApplicationsSpec::Nothing,
            },
            PolicyRow {
                number: 1,
                name: None,
                origin: Origin::Configuration,
                selector,
                direction: None,
                action: ActionSpec::Protect,
                latch: true,
                terms: Some(LatchTermsView::default()),
                applications: ApplicationsSpec::More,
            },
        ]
    }

    #[test]
    fn policies_read_as_a_table() {
        let expected = "\
NUMBER  ACTION   LATCH   DIR   LOCAL                         REMOTE               PROTOCOL  ASKED    ORIGIN
     7  discard  -       out   10.1.0.0/24 ports 1024-65535  10.2.0.0/24 port 80  tcp       nothing  hand
     1  protect  strict  both  10.1.0.0/24                   10.2.0.0/24          any       more     configuration
";
        assert_eq!(shown(&table(&sample()), None), expected);
    }

    #[test]
    fn a_selector_reads_as_a_line() {
        assert_eq!(selector(&sample()[1].selector), "10.1.0.0/24 to 10.2.0.0/24");
        assert_eq!(
            selector(&sample()[0].selector),
            "10.1.0.0/24 ports 1024-65535 to 10.2.0.0/24 port 80, tcp"
        );
        let between = sample()[1].selector.clone();
        for (narrower, says) in [
            (SelectorView { icmp: Some(IcmpSpec::OPAQUE), ..between.clone() }, ", type opaque"),
            (SelectorView { remote_ports: Some(PortsView::OPAQUE), ..between.clone() }, " ports opaque"),
            (
                SelectorView {
                    protocol: Some(1),
                    icmp: Some(IcmpSpec::Messages(MessagesSpec { types: (3, 3), codes: (0, 3) })),
                    ..between
                },
                ", icmp type 3 code 0-3",
            ),
        ] {
            assert_eq!(selector(&narrower), format!("10.1.0.0/24 to 10.2.0.0/24{says}"));
        }
    }
}
