//! SAs, as a table.

use std::time::Duration;

use latchway_control::{DirectionSpec, EncapsulationSpec, Origin, PathView, SaRow, SaUsage};

use crate::cli::table::{Cell, Table, Tone, cell, left, right, text, toned};
use crate::cli::units::{count, octets, span};
use crate::cli::view::{direction, milliseconds, spi};

/// Two rows per pair, one per SA of one direction.
pub fn table(sas: &[SaRow]) -> Table {
    let mut columns = vec![
        right("PAIR"),
        left("DIR"),
        left("SPI"),
        left("FORM"),
        text("SUITE"),
        text("PEER"),
        left("USAGE"),
        left("BY"),
        right("PACKETS"),
        right("OCTETS"),
        right("IDLE"),
        text("ENDS"),
    ];
    // Mostly paths take what they are configured to.
    let narrows = sas.iter().any(|sa| path_mtu(sa).is_some());
    if narrows {
        columns.push(text("PATH MTU"));
    }
    let loses = sas.iter().any(|sa| sa.lost.is_some_and(|lost| lost > 0));
    if loses {
        columns.push(right("LOST"));
    }
    let mut table = Table::new(columns);
    for sa in sas {
        let mut row = vec![
            of_pair(sa.pair),
            cell(direction(sa.direction)),
            cell(spi(sa.spi)),
            cell(form(sa)),
            cell(suite(sa)),
            cell(&sa.peer),
            usage(sa),
            cell(by(sa.origin)),
            cell(count(sa.packets)),
            cell(octets(sa.octets)),
            milliseconds(sa.idle),
            ends(sa),
        ];
        if narrows {
            row.push(path_mtu(sa).unwrap_or_else(|| cell("")));
        }
        if loses {
            row.push(cell(sa.lost.map_or_else(String::new, count)));
        }
        table.row(row);
    }
    table
}

/// The pair. A state of `latchway xfrm` is of one direction.
fn of_pair(pair: Option<u64>) -> Cell {
    pair.map_or_else(|| toned("-", Tone::Faint), cell)
}

/// Mode and carrier, in a word.
fn form(sa: &SaRow) -> String {
    match sa.encapsulation {
        EncapsulationSpec::Udp => format!("{} udp", sa.mode),
        EncapsulationSpec::None => sa.mode.to_string(),
    }
}

/// The suite, and that of the AH around it.
fn suite(sa: &SaRow) -> String {
    let header = sa.header.as_ref().map(|header| format!(" in {}", header.suite));
    format!("{}{}", sa.suite, header.unwrap_or_default())
}

/// Whether it is in use. An SA whose lifetime is over is none, whatever it was used for.
fn usage(sa: &SaRow) -> Cell {
    match sa.usage {
        _ if sa.expired => toned("expired", Tone::Bad),
        SaUsage::Active if sa.soft_expired => toned("active", Tone::Warn),
        SaUsage::Active => toned("active", Tone::Good),
        other => cell(other),
    }
}

/// Who asked for it, which says whether a reload may change it.
const fn by(origin: Origin) -> &'static str {
    match origin {
        Origin::Configuration => "file",
        Origin::Hand => "hand",
        Origin::Latch => "latch",
        Origin::Xfrm => "xfrm",
    }
}

/// What its path was found to take, where that is less than it is configured to, or in doubt.
fn path_mtu(sa: &SaRow) -> Option<Cell> {
    let PathView { mtu, in_force, suspected, .. } = sa.path?;
    let outbound = sa.direction == DirectionSpec::Outbound;
    match (outbound, suspected) {
        (true, true) => Some(toned(format!("{in_force}, in doubt"), Tone::Warn)),
        (true, false) if in_force < mtu => Some(toned(format!("{in_force} of {mtu}"), Tone::Warn)),
        _ => None,
    }
}

/// What is left of its hard lifetime.
fn ends(sa: &SaRow) -> Cell {
    if sa.expired {
        return toned("over", Tone::Bad);
    }
    let left = |limit: Option<u64>, used: u64| limit.map(|limit| limit.saturating_sub(used));
    let parts = [
        sa.hard.left.map(|left| span(Duration::from_millis(left))),
        left(sa.hard.octets, sa.octets).map(octets),
        left(sa.hard.packets, sa.packets).map(|packets| format!("{} packets", count(packets))),
        sa.hard.from_first_use.map(|from| format!("{} of use", span(Duration::from_millis(from)))),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    match (parts.is_empty(), sa.soft_expired) {
        (true, _) => toned("never", Tone::Faint),
        (false, false) => cell(format!("in {}", parts.join(" or "))),
        (false, true) => toned(format!("in {}: renew it", parts.join(" or ")), Tone::Warn),
    }
}

#[cfg(test)]
pub mod tests {
    use latchway_control::{FormSpec, LifetimeView, ModeSpec};

    use super::*;
    use crate::cli::view::shown;

    pub fn sample() -> SaRow {
        SaRow {
            pair: Some(1),
            direction: DirectionSpec::Inbound,
            spi: 0x1001,
            mode: ModeSpec::Tunnel,
            encapsulation: EncapsulationSpec::Udp,
            suite: "aes-128-cbc-hmac-sha-256".into(),
            header: None,
            form: FormSpec::default(),
            peer: "b.example".into(),
            usage: SaUsage::Active,
            origin: Origin::Configuration,
            soft_expired: false,
            expired: false,
            packets: 1234,
            octets: 1_500_000,
            lost: Some(0),
            soft: LifetimeView::default(),
            hard: LifetimeView { octets: Some(10_000_000), left: Some(3_600_000), ..LifetimeView::default() },
            esn: true,
            replay_window: Some(4096),
            path: Some(PathView {
                from: "192.0.2.1".parse().unwrap(),
                to: "192.0.2.2:4500".parse().unwrap(),
                mtu: 1500,
                in_force: 1500,
                suspected: false,
            }),
            selectors: vec![],
            class: Some(1),
            age: 1000,
            idle: Some(20),
        }
    }

    #[test]
    fn sas_read_as_a_table() {
        let inbound = sample();
        let soft = SaRow { direction: DirectionSpec::Outbound, spi: 0x1002, soft_expired: true, ..sample() };
        let expired = SaRow { pair: Some(2), expired: true, idle: None, ..sample() };
        let unused = SaRow {
            hard: LifetimeView { from_first_use: Some(7_200_000), ..LifetimeView::default() },
            ..sample()
        };
        let endless = SaRow {
            pair: Some(3),
            usage: SaUsage::Standby,
            origin: Origin::Hand,
            hard: LifetimeView::default(),
            ..sample()
        };
        let alone = SaRow { pair: None, origin: Origin::Xfrm, path: None, class: None, ..endless.clone() };
        let expected = "\
PAIR  DIR  SPI         FORM        SUITE                     PEER       USAGE    BY    PACKETS   OCTETS   IDLE  ENDS
   1  in   0x00001001  tunnel udp  aes-128-cbc-hmac-sha-256  b.example  active   file    1 234  1.50 MB  20 ms  in 1 h or 8.50 MB
   1  out  0x00001002  tunnel udp  aes-128-cbc-hmac-sha-256  b.example  active   file    1 234  1.50 MB  20 ms  in 1 h or 8.50 MB: renew it
   2  in   0x00001001  tunnel udp  aes-128-cbc-hmac-sha-256  b.example  expired  file    1 234  1.50 MB      -  over
   1  in   0x00001001  tunnel udp  aes-128-cbc-hmac-sha-256  b.example  active   file    1 234  1.50 MB  20 ms  in 2 h of use
   3  in   0x00001001  tunnel udp  aes-128-cbc-hmac-sha-256  b.example  standby  hand    1 234  1.50 MB  20 ms  never
   -  in   0x00001001  tunnel udp  aes-128-cbc-hmac-sha-256  b.example  standby  xfrm    1 234  1.50 MB  20 ms  never
";
        assert_eq!(shown(&table(&[inbound, soft, expired, unused, endless, alone]), None), expected);
    }

    #[test]
    fn a_path_that_takes_less_shows() {
        let outbound = SaRow { direction: DirectionSpec::Outbound, ..sample() };
        let (mut narrow, mut doubted) = (outbound.clone(), outbound);
        narrow.path.iter_mut().for_each(|path| path.in_force = 1400);
        doubted.path.iter_mut().for_each(|path| path.suspected = true);
        let text = shown(&table(&[sample(), narrow, doubted]), None);
        let ends: Vec<_> = text.lines().map(|line| line.split("MB").last().unwrap().trim_end()).collect();
        assert!(ends[0].ends_with("PATH MTU") && ends[1].is_empty(), "{text}");
        assert!(ends[2].ends_with("1400 of 1500") && ends[3].ends_with("1500, in doubt"), "{text}");
    }

    /// RFC 4303 3.4.3.
    #[test]
    fn what_was_lost_shows() {
        let lossy = SaRow { lost: Some(1234), ..sample() };
        let outbound = SaRow { direction: DirectionSpec::Outbound, lost: None, ..sample() };
        let text = shown(&table(&[lossy, outbound]), None);
        let ends: Vec<_> = text.lines().map(|line| line.split_at(line.len().saturating_sub(5)).1).collect();
        assert!(ends[0].ends_with("LOST") && ends[1] == "1 234" && !ends[2].contains("234"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_wraps_the_suite() {
        let text = shown(&table(&[sample()]), Some(104));
        assert!(text.lines().all(|line| line.len() <= 104), "{text}");
    }
}
