//! The dictionary of drop reasons, `docs/drops.md`: made from the table alone, so that it says what the program does.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::{Direction, DropInfo, DropReason, Severity};

/// Every reason, as Markdown.
fn dictionary() -> String {
    let mut text = INTRODUCTION.to_owned();
    for reason in DropReason::ALL {
        let info = reason.info();
        let linux = if info.linux == NONE { info.linux.to_owned() } else { format!("`{}`", info.linux) };
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {linux} | {} | {} |",
            info.name,
            directions(&info),
            severity(info.severity),
            info.section,
            info.text,
            info.remedy,
        );
    }
    text
}

fn directions(info: &DropInfo) -> String {
    let word = |direction: &Direction| match direction {
        Direction::Inbound => "in",
        Direction::Outbound => "out",
    };
    info.directions.iter().map(word).collect::<Vec<_>>().join(", ")
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warn => "warn",
        Severity::Error => "error",
        Severity::Audit => "audit",
    }
}

/// What the table has where there is no section, and no counter.
const NONE: &str = "-";

const INTRODUCTION: &str = "\
<!-- Made from datapath/src/drop.rs by `LATCHWAY_REGENERATE=1 cargo test -p latchway-datapath`. -->
# Why packets are dropped

Nothing is dropped without one of these reasons, and each is counted in each direction: `in` is from the wire to the inner hosts,
`out` from the inner hosts to the wire. `latchway drops` shows the counts, `latchway_drops_total` is the same for Prometheus
([metrics.md](metrics.md)), `latchway events` tells of bursts, and `latchway explain` says beforehand what would become of a packet.

| Severity | Means |
|---|---|
| info | traffic that ends here by design |
| warn | expected now and then; in numbers a sign of loss, reordering or exhaustion |
| error | a defect of a packet, of its sender, or of a setting |
| audit | an auditable event in the words of RFC 4301 and RFC 4303 |

The Linux counter is the nearest one of `/proc/net/xfrm_stat`, for those who come from there. `latching-04` is
draft-ietf-btns-connection-latching-04.

| Reason | Direction | Severity | Section | Linux | What happened | What to do |
|---|---|---|---|---|---|---|
";

#[test]
fn the_dictionary_is_made_from_the_table() {
    let (file, made) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/drops.md"), dictionary());
    if std::env::var_os("LATCHWAY_REGENERATE").is_some() {
        fs::write(&file, &made).unwrap();
    }
    let held = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        held == made,
        "docs/drops.md is not what the table makes: LATCHWAY_REGENERATE=1 cargo test -p latchway-datapath"
    );
}

/// A cell with a bar in it would end before its end.
#[test]
fn every_reason_says_what_to_do_in_one_cell() {
    for reason in DropReason::ALL {
        let info = reason.info();
        assert!(info.remedy.ends_with('.') && !info.directions.is_empty(), "{reason}");
        assert!(
            [info.text, info.remedy, info.section, info.linux].iter().all(|cell| !cell.contains('|')),
            "{reason}"
        );
    }
}
