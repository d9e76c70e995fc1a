//! `docs/conformance.md` shows, for every behaviour of connection latching, every demand of RFC 4301, 4302 and 4303 and
//! every threat, the tests that show it. Latching and threats are found by the row's number in comments and names, demands
//! name their tests, and each named test must be there; so that none can be forgotten.
//!
//! `LATCHWAY_REGENERATE=1 cargo test --test conformance` writes the page.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod cited;
mod musts;
mod page;
mod rows;
mod threats;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cited::{Workspace, workspace};
use musts::{Must, Shown, musts};
use rows::{ROWS, Row};
use threats::{THREATS, Threat};

#[test]
fn every_row_has_what_shows_it_and_the_page_says_so() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = workspace(root);
    let rows = ROWS.iter().filter_map(|row| lack_of_row(row, &workspace));
    let demands = musts().flat_map(|must| lacks_of_must(must, &workspace));
    let threats = THREATS.iter().filter_map(|threat| lack_of_threat(threat, &workspace));
    let missing: Vec<_> = rows.chain(demands).chain(threats).collect();
    assert!(missing.is_empty(), "{} things are missing:\n{}", missing.len(), missing.join("\n"));
    let page = page::page(&workspace);
    let path = root.join("docs/conformance.md");
    if std::env::var_os("LATCHWAY_REGENERATE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/conformance.md is not what the sources say: regenerate it (see the top of this file)"
    );
}

#[test]
fn a_row_is_cited_by_number_range_and_name() {
    for (text, rows) in [
        ("// L-74: before it is visible", vec!["L-74"]),
        ("/// L-16 to L-18, R-2", vec!["L-16", "L-17", "L-18", "R-2"]),
        ("fn l_24_l_26_policy_turned_bypass()", vec!["L-24", "L-26"]),
        ("fn r_2_t14_rekeying() c_19_other", vec!["C-19", "R-2", "T14"]),
        ("fn l_95_to_l_98_the_first_packet", vec!["L-95", "L-96", "L-97", "L-98"]),
        ("/// T01 to T03, T37 d", vec!["T01", "T02", "T03", "T37"]),
        ("all_1 ABL-2 L-x cell_3 L- T1 T123 AT12 t12x TT", vec![]),
    ] {
        assert_eq!(cited::rows_in(text).into_iter().collect::<Vec<_>>(), rows, "{text}");
    }
}

/// T01 to T41, one row each.
#[test]
fn every_threat_has_its_row() {
    let numbers: Vec<_> = THREATS.iter().map(|threat| threat.number.to_owned()).collect();
    assert_eq!(numbers, (1..=41).map(|number| format!("T{number:02}")).collect::<Vec<_>>());
}

fn lack_of_row(row: &Row, workspace: &Workspace) -> Option<String> {
    let found = workspace.rows.get(row.number);
    let code = found.is_some_and(|found| !found.sources.is_empty());
    let tests = found.is_some_and(|found| !found.tests.is_empty());
    match (row.not_applicable, code, tests) {
        (Some(_), _, _) | (None, true, true) => None,
        (None, false, true) => Some(format!("{}: no source cites it", row.number)),
        (None, true, false) => Some(format!("{}: no test carries it", row.number)),
        (None, false, false) => Some(format!("{}: neither source nor test", row.number)),
    }
}

fn lacks_of_must(must: &Must, workspace: &Workspace) -> Vec<String> {
    let name = format!("RFC {} {}, {:?}", must.rfc, must.section, must.text);
    match must.shown {
        Shown::By([]) => vec![format!("{name}: no test is named")],
        Shown::By(tests) if tests.iter().collect::<BTreeSet<_>>().len() < tests.len() => {
            vec![format!("{name}: names a test twice")]
        }
        Shown::By(tests) => {
            let gone = tests.iter().filter(|test| !workspace.tests.contains(**test));
            gone.map(|test| format!("{name}: there is no test {test}")).collect()
        }
        Shown::NotApplicable(_) => Vec::new(),
    }
}

fn lack_of_threat(threat: &Threat, workspace: &Workspace) -> Option<String> {
    let tests = workspace.rows.get(threat.number).is_some_and(|found| !found.tests.is_empty());
    match (threat.not_applicable, tests) {
        (None, false) => Some(format!("{}: no test carries it", threat.number)),
        (Some(_), true) => Some(format!("{}: a test carries what is said not to apply", threat.number)),
        _ => None,
    }
}
