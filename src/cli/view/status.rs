//! How a gateway is, as names and values.

use std::time::Duration;

use latchway_control::{LatchCounts, StateHealth, StatusView, StreetView, TunView};

use crate::cli::table::{Cell, Table, Tone, cell, toned};
use crate::cli::units::{count, octets, span};
use crate::cli::view::moment;

/// One row per thing to know. `now` is the time since 1970.
pub fn table(status: &StatusView, now: Duration) -> Table {
    let mut table = Table::pairs();
    let mut row = |name: &str, value: Cell| table.row([cell(name), value]);
    let up = span(now.saturating_sub(Duration::from_millis(status.started)));
    row(
        "gateway",
        cell(format!("{} (latchway {}, process {}, up {up})", status.name, status.version, status.pid)),
    );
    row("identity", cell(&status.identity));
    row("mode", cell(mode(status)));
    row("tun", tun(&status.tun));
    if let Some(bypass) = &status.bypass {
        row("bypass", cell(bypass));
    }
    let listen: Vec<_> = status.listen.iter().map(ToString::to_string).collect();
    row("listens", cell(listen.join(", ")));
    row("inbound", cell(street(&status.inbound)));
    row("outbound", cell(street(&status.outbound)));
    if let Some(sizes) = sizes(status) {
        row("too big", cell(sizes));
    }
    if let Some(told) = prohibited(status) {
        row("forbidden", cell(told));
    }
    if let Some(asked) = asked(status) {
        row("path mtu", cell(asked));
    }
    if let Some(done) = by_itself(status) {
        row("by itself", cell(done));
    }
    if status.peers_moved > 0 {
        row("peers", cell(format!("{} times found elsewhere", count(status.peers_moved))));
    }
    if status.ecn_unusual > 0 {
        row("ecn", cell(format!("{} unusual fields", count(status.ecn_unusual))));
    }
    row("latches", latches(&status.latches));
    row("sa pairs", cell(count(status.pairs)));
    if let Some(state) = &status.state {
        row("state", health(state));
    }
    if let Some(reload) = &status.reloads.last {
        let tone = if reload.applied { Tone::Plain } else { Tone::Bad };
        let text =
            format!("{}, last at {}: {}", count(status.reloads.count), moment(reload.time), reload.text);
        row("reloads", toned(text, tone));
    }
    if !status.hardening.is_empty() {
        row("hardening", cell(status.hardening.join(", ")));
    }
    for warning in &status.warnings {
        row("warning", toned(warning, Tone::Warn));
    }
    table
}

fn mode(status: &StatusView) -> String {
    let own = |path: &Option<String>| path.clone().unwrap_or_else(|| "its own".into());
    if status.inner.is_none() && status.outer.is_none() {
        return status.mode.to_string();
    }
    format!("{}: inner namespace {}, outer namespace {}", status.mode, own(&status.inner), own(&status.outer))
}

fn tun(tun: &TunView) -> Cell {
    let mtu = tun.mtu.map(|mtu| format!(", MTU {mtu}")).unwrap_or_default();
    let (up, tone) = match tun.up {
        Some(true) => (", up", Tone::Plain),
        Some(false) => (", down: nothing passes", Tone::Bad),
        None => ("", Tone::Plain),
    };
    toned(format!("{}, {}{mtu}{up}", tun.name, tun.backend), tone)
}

fn street(street: &StreetView) -> String {
    let wire = street
        .wire_datagrams
        .zip(street.wire_octets)
        .map(|(datagrams, sum)| format!("; on the wire {} datagrams, {}", count(datagrams), octets(sum)));
    let (packets, dropped) = (count(street.packets), count(street.dropped));
    format!("{packets} packets, {}, {dropped} dropped{}", octets(street.octets), wire.unwrap_or_default())
}

/// What became of packets that did not fit, where there were any.
fn sizes(status: &StatusView) -> Option<String> {
    let (told, fragmented) = (count(status.told_too_big), count(status.fragmented));
    let any = status.told_too_big > 0 || status.fragmented > 0;
    any.then(|| format!("{told} senders told, {fragmented} packets fragmented"))
}

/// Who was told that policy forbids something, where anybody was.
fn prohibited(status: &StatusView) -> Option<String> {
    (status.told_prohibited > 0).then(|| format!("{} senders told", count(status.told_prohibited)))
}

/// How often it was asked what paths take, if ever, and what others said of them.
fn asked(status: &StatusView) -> Option<String> {
    let StatusView { mtu_hints, mtu_probes, mtu_probes_answered, .. } = *status;
    let [hints, probes, answered] = [mtu_hints, mtu_probes, mtu_probes_answered].map(count);
    let any = mtu_hints > 0 || mtu_probes > 0;
    any.then(|| format!("{hints} hints, {probes} probes, {answered} answered"))
}

/// What was sent unasked, if anything.
fn by_itself(status: &StatusView) -> Option<String> {
    let any = status.keepalives > 0 || status.dummies > 0;
    any.then(|| format!("{} keepalives, {} dummies", count(status.keepalives), count(status.dummies)))
}

/// The states that there are latches in.
fn latches(counts: &LatchCounts) -> Cell {
    let states = [
        (counts.established, "established"),
        (counts.larval, "larval"),
        (counts.listener, "listening"),
        (counts.broken, "broken"),
        (counts.closed, "closed"),
    ];
    let states = states.iter().filter(|(number, _)| *number > 0);
    let states: Vec<_> = states.map(|(number, name)| format!("{} {name}", count(*number))).collect();
    let states = if states.is_empty() { "none".into() } else { states.join(", ") };
    let tone = if counts.broken > 0 { Tone::Warn } else { Tone::Plain };
    toned(format!("{states}; room for {}", count(counts.capacity.into())), tone)
}

fn health(state: &StateHealth) -> Cell {
    if state.healthy {
        return cell(format!("{}, healthy", state.path));
    }
    let message = state.message.as_deref().unwrap_or("numbers cannot be reserved");
    toned(format!("{}: {message}", state.path), Tone::Bad)
}

#[cfg(test)]
pub mod tests {
    use latchway_control::{Mode, ReloadHistory, ReloadOutcome};

    use super::*;
    use crate::cli::view::shown;

    /// A gateway with something to say in every row.
    pub fn sample() -> StatusView {
        StatusView {
            name: "branch".into(),
            version: "0.1.0".into(),
            pid: 4242,
            started: 1_000_000_000_000,
            mode: Mode::Split,
            inner: Some("/run/netns/branch".into()),
            outer: None,
            identity: "a.example".into(),
            tun: TunView {
                name: "latchway0".into(),
                backend: "offload (TSO4, TSO6)".into(),
                mtu: Some(1400),
                up: Some(true),
            },
            bypass: Some("latchway-clear".into()),
            exec: vec!["10.1.1.0/24".parse().unwrap()],
            listen: vec!["192.0.2.1:4500".parse().unwrap(), "[2001:db8::1]:4500".parse().unwrap()],
            inbound: StreetView {
                packets: 1234,
                octets: 1_500_000,
                dropped: 3,
                wire_datagrams: Some(1237),
                wire_octets: Some(1_600_000),
            },
            outbound: StreetView {
                packets: 5,
                octets: 420,
                dropped: 0,
                wire_datagrams: None,
                wire_octets: None,
            },
            told_too_big: 2,
            told_over: 0,
            told_prohibited: 4,
            fragmented: 7,
            ecn_unusual: 1,
            mtu_hints: 3,
            mtu_probes: 9,
            mtu_probes_answered: 8,
            peers_moved: 1,
            keepalives: 20,
            dummies: 6,
            latches: LatchCounts { capacity: 65_536, established: 12, broken: 1, ..LatchCounts::default() },
            pairs: 2,
            state: Some(StateHealth {
                path: "/var/lib/latchway/branch".into(),
                healthy: true,
                message: None,
            }),
            reloads: ReloadHistory {
                count: 2,
                last: Some(ReloadOutcome {
                    time: 1_000_000_060_000,
                    applied: true,
                    text: "1 peer added".into(),
                }),
            },
            hardening: vec!["no core dumps".into(), "seccomp".into()],
            warnings: vec!["the peer c.example has no SA".into()],
        }
    }

    #[test]
    fn a_status_reads_as_names_and_values() {
        let expected = "\
gateway    branch (latchway 0.1.0, process 4242, up 1 h 1 min)
identity   a.example
mode       split: inner namespace /run/netns/branch, outer namespace its own
tun        latchway0, offload (TSO4, TSO6), MTU 1400, up
bypass     latchway-clear
listens    192.0.2.1:4500, [2001:db8::1]:4500
inbound    1 234 packets, 1.50 MB, 3 dropped; on the wire 1 237 datagrams, 1.60 MB
outbound   5 packets, 420 B, 0 dropped
too big    2 senders told, 7 packets fragmented
forbidden  4 senders told
path mtu   3 hints, 9 probes, 8 answered
by itself  20 keepalives, 6 dummies
peers      1 times found elsewhere
ecn        1 unusual fields
latches    12 established, 1 broken; room for 65 536
sa pairs   2
state      /var/lib/latchway/branch, healthy
reloads    2, last at 2001-09-09T01:47:40.000Z: 1 peer added
hardening  no core dumps, seccomp
warning    the peer c.example has no SA
";
        assert_eq!(shown(&table(&sample(), Duration::from_secs(1_000_003_660)), None), expected);
    }

    #[test]
    fn a_status_fits_eighty_columns() {
        let text = shown(&table(&sample(), Duration::ZERO), Some(80));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn trouble_is_told() {
        let mut status = sample();
        status.state = Some(StateHealth {
            path: "/state".into(),
            healthy: false,
            message: Some("the disk is full; make room".into()),
        });
        status.tun.up = Some(false);
        let text = shown(&table(&status, Duration::ZERO), None);
        assert!(text.contains("/state: the disk is full; make room"), "{text}");
        assert!(text.contains("down: nothing passes"), "{text}");
    }
}
