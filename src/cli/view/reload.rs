//! What a reload changed, or would change.

use latchway_control::{ChangeKind, Reloaded};

use crate::cli::table::{Table, Tone, cell, left, text, toned};

/// One row per difference, then the warnings, then what was done.
pub fn table(reloaded: &Reloaded) -> Table {
    let mut table = Table::new([left(""), text("")]);
    for change in &reloaded.changes {
        let (sign, tone) = match change.kind {
            ChangeKind::Added => ("+", Tone::Good),
            ChangeKind::Removed => ("-", Tone::Bad),
            ChangeKind::Changed => ("~", Tone::Warn),
            ChangeKind::NeedsRestart => ("!", Tone::Bad),
        };
        table.row([toned(sign, tone), cell(&change.text)]);
    }
    for warning in &reloaded.warnings {
        table.row([toned("warning", Tone::Warn), cell(warning)]);
    }
    table.row([cell("result"), cell(outcome(reloaded))]);
    table
}

fn outcome(reloaded: &Reloaded) -> &'static str {
    let restart = reloaded.changes.iter().any(|change| change.kind == ChangeKind::NeedsRestart);
    match (reloaded.changes.is_empty(), reloaded.applied, restart) {
        (true, ..) => "nothing differs",
        (false, true, false) => "applied",
        (false, true, true) => "applied, but for what needs a restart (!)",
        (false, false, false) => "not applied, this was a dry run",
        (false, false, true) => "not applied; what is marked ! needs a restart",
    }
}

#[cfg(test)]
mod tests {
    use latchway_control::ChangeRow;

    use super::*;
    use crate::cli::view::shown;

    #[test]
    fn a_reload_reads_as_its_differences() {
        let change =
            |kind, text: &str| ChangeRow { kind, what: "peer".into(), name: "x".into(), text: text.into() };
        let reloaded = Reloaded {
            applied: true,
            changes: vec![
                change(ChangeKind::Added, "peer c.example"),
                change(ChangeKind::Removed, "SA 0x1001 with b.example"),
                change(ChangeKind::Changed, "policies: 3 instead of 2"),
            ],
            warnings: vec!["the peer c.example has no SA".into()],
        };
        let expected = "\
+        peer c.example
-        SA 0x1001 with b.example
~        policies: 3 instead of 2
warning  the peer c.example has no SA
result   applied
";
        assert_eq!(shown(&table(&reloaded), None), expected);
        let same = Reloaded { applied: true, changes: vec![], warnings: vec![] };
        assert_eq!(shown(&table(&same), None), "result  nothing differs\n");
        let dry = Reloaded { applied: false, ..reloaded };
        assert!(shown(&table(&dry), None).ends_with("not applied, this was a dry run\n"));
    }
}
