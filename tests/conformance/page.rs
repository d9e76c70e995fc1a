//! The page.

use std::fmt::Write;

use crate::cited::Workspace;
use crate::musts::{Shown, musts};
use crate::rows::ROWS;
use crate::threats::THREATS;

/// All of `docs/conformance.md`.
pub fn page(workspace: &Workspace) -> String {
    [HEAD, IPSEC, &demands(), THREATS_HEAD, &threats(workspace), LATCHING, &latching(workspace)].concat()
}

fn demands() -> String {
    let mut rows = String::new();
    for must in musts() {
        let shown = match must.shown {
            Shown::By(tests) => list(tests.iter()),
            Shown::NotApplicable(reason) => format!("not applicable: {reason}"),
        };
        let _ = writeln!(rows, "| RFC {} | {} | {} | {shown} |", must.rfc, must.section, must.text);
    }
    rows
}

fn threats(workspace: &Workspace) -> String {
    let mut rows = String::new();
    for threat in THREATS {
        let tests = workspace.rows.get(threat.number).map(|found| &found.tests);
        let mut shown = list(tests.into_iter().flatten());
        if let Some(reason) = threat.not_applicable {
            shown = format!("not applicable: {reason}");
        }
        if let Some(rest) = threat.not_shown {
            let _ = write!(shown, "<br>Not shown by tests: {rest}");
        }
        let _ = writeln!(rows, "| {} | {} | {shown} |", threat.number, threat.text);
    }
    rows
}

fn latching(workspace: &Workspace) -> String {
    let mut rows = String::new();
    for row in ROWS {
        let found = workspace.rows.get(row.number);
        let (code, tests) = match row.not_applicable {
            Some(reason) => (format!("not applicable: {reason}"), String::new()),
            None => (
                list(found.into_iter().flat_map(|found| &found.sources)),
                list(found.into_iter().flat_map(|found| &found.tests)),
            ),
        };
        let section = if row.section.is_empty() { "decided" } else { row.section };
        let _ = writeln!(rows, "| {} | {section} | {} | {code} | {tests} |", row.number, row.text);
    }
    rows
}

fn list(names: impl Iterator<Item = impl std::fmt::Display>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join("<br>")
}

const HEAD: &str = "\
# Conformance

Three kinds of rows, each with the tests that show it. A test keeps this page in step: `tests/conformance/`.

* **What IPsec demands**: each MUST of RFC 4301, RFC 4302 and RFC 4303, in our words. A row names its tests, and each of
  them must be there. What does not apply to a gateway without a key exchange and without multicast says why.
* **What must not happen**: failures of other implementations, T01 to T41. Tests cite the number in their name or in the
  line above them, so `rg T12` finds them. What no test shows is said.
* **Connection latching**: each behaviour, with the sources that make it, too. Sources and tests cite the number.

";

const IPSEC: &str = "\
## What IPsec demands

| Document | Section | What must hold | Tests |
|---|---|---|---|
";

const THREATS_HEAD: &str = "
## What must not happen

| Row | What must hold, or not happen | Tests |
|---|---|---|
";

const LATCHING: &str = "
## Connection latching

Every behaviour that draft-ietf-btns-connection-latching-04 (rows L-) and RFC 5660 (rows R-) name, and what was decided
where they differ (rows C-).

| Row | Section | Behaviour | Sources | Tests |
|---|---|---|---|---|
";
