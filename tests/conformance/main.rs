//! `docs/conformance.md` shows, for every behaviour of connection latching, the sources that make it and the tests that
//! show it. Both are found by the row's number in their comments and names, so that neither can be forgotten.
//!
//! `LATCHWAY_REGENERATE=1 cargo test --test conformance` writes the page.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod cited;
mod rows;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use cited::{Cited, cited};
use rows::ROWS;

#[test]
fn every_row_has_code_and_a_test_and_the_page_shows_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cited = cited(root);
    let missing: Vec<_> = ROWS.iter().filter_map(|row| lack(row, &cited)).collect();
    assert!(missing.is_empty(), "{} rows lack something:\n{}", missing.len(), missing.join("\n"));
    let page = page(&cited);
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
        ("fn r_2_t14_rekeying() c_19_other", vec!["C-19", "R-2"]),
        ("fn l_95_to_l_98_the_first_packet", vec!["L-95", "L-96", "L-97", "L-98"]),
        ("all_1 ABL-2 L-x cell_3 L-", vec![]),
    ] {
        assert_eq!(cited::rows_in(text).into_iter().collect::<Vec<_>>(), rows, "{text}");
    }
}

fn lack(row: &rows::Row, cited: &BTreeMap<String, Cited>) -> Option<String> {
    let found = cited.get(row.number);
    let code = found.is_some_and(|found| !found.sources.is_empty());
    let tests = found.is_some_and(|found| !found.tests.is_empty());
    match (row.not_applicable, code, tests) {
        (Some(_), _, _) | (None, true, true) => None,
        (None, false, true) => Some(format!("{}: no source cites it", row.number)),
        (None, true, false) => Some(format!("{}: no test carries it", row.number)),
        (None, false, false) => Some(format!("{}: neither source nor test", row.number)),
    }
}

fn page(cited: &BTreeMap<String, Cited>) -> String {
    let mut page = String::from(HEAD);
    for row in ROWS {
        let found = cited.get(row.number);
        let list = |names: Option<&std::collections::BTreeSet<String>>| {
            names.into_iter().flatten().map(|name| format!("`{name}`")).collect::<Vec<_>>().join("<br>")
        };
        let (code, tests) = match row.not_applicable {
            Some(reason) => (format!("not applicable: {reason}"), String::new()),
            None => (list(found.map(|found| &found.sources)), list(found.map(|found| &found.tests))),
        };
        let section = if row.section.is_empty() { "decided" } else { row.section };
        let _ = writeln!(page, "| {} | {section} | {} | {code} | {tests} |", row.number, row.text);
    }
    page
}

const HEAD: &str = "\
# Conformance: connection latching

Every behaviour that draft-ietf-btns-connection-latching-04 (rows L-) and RFC 5660 (rows R-) name, and what was decided
where they differ (rows C-), with the sources that make it and the tests that show it. The numbers are cited in the
sources, so `rg L-74` finds both. A test keeps this page in step: `tests/conformance/`.

| Row | Section | Behaviour | Sources | Tests |
|---|---|---|---|---|
";
