//! Where the sources and the tests of the workspace cite a row, and which tests there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What the Rust sources of the workspace say of themselves.
#[derive(Default)]
pub struct Workspace {
    /// Every row that is cited anywhere.
    pub rows: BTreeMap<String, Cited>,
    /// Every test, as `file: name`.
    pub tests: BTreeSet<String>,
}

/// Who cites a row.
#[derive(Default)]
pub struct Cited {
    /// Files, without their tests.
    pub sources: BTreeSet<String>,
    /// Tests, by file and name.
    pub tests: BTreeSet<String>,
}

/// What is to be read in Rust sources below `root`.
pub fn workspace(root: &Path) -> Workspace {
    let mut all = Workspace::default();
    visit(root, root, &mut all);
    all
}

/// The rows that a text cites: `L-7`, `L-7 to L-9`, `l_7_to_l_9_...`, `T01 to T03`, `t01_...`.
pub fn rows_in(text: &str) -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    let mut open: Option<(char, u32)> = None;
    let mut rest = text;
    let mut before = None;
    while let Some(first) = rest.chars().next() {
        let found =
            (before.is_none_or(|letter: char| !letter.is_alphanumeric())).then(|| row_at(rest)).flatten();
        let Some((kind, number, len)) = found else {
            before = Some(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        };
        let from = open.filter(|(of, from)| *of == kind && *from < number).map_or(number, |(_, from)| from);
        rows.extend((from..=number).map(|number| match kind {
            'T' => format!("T{number:02}"),
            _ => format!("{kind}-{number}"),
        }));
        rest = rest.get(len..).unwrap_or_default();
        before = Some('0');
        open = ["_to_", " to "].iter().any(|to| rest.starts_with(to)).then_some((kind, number));
        if open.is_some() {
            rest = rest.get(4..).unwrap_or_default();
            before = None;
        }
    }
    rows
}

/// The row that a text begins with, and the length of its citation.
fn row_at(text: &str) -> Option<(char, u32, usize)> {
    let kind = text.chars().next()?;
    let joined = text.get(1..)?;
    let digits = match kind {
        'L' | 'R' | 'C' => joined.strip_prefix('-')?,
        'l' | 'r' | 'c' => joined.strip_prefix('_')?,
        'T' | 't' => joined,
        _ => return None,
    };
    let len = digits.bytes().take_while(u8::is_ascii_digit).count();
    let (number, after) = digits.split_at_checked(len)?;
    let fits = !kind.eq_ignore_ascii_case(&'t') || len == 2;
    let ends = !after.starts_with(|letter: char| letter.is_ascii_alphabetic());
    (fits && ends).then_some(())?;
    Some((kind.to_ascii_uppercase(), number.parse().ok()?, text.len() - after.len()))
}

fn visit(root: &Path, folder: &Path, all: &mut Workspace) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && !["target", "conformance", "docs"].contains(&&*name) {
            visit(root, &path, all);
        } else if name.ends_with(".rs") {
            let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            read(&shown, &fs::read_to_string(&path).unwrap(), all);
        }
    }
}

/// A test carries the rows of its name and of the comment before it; what is left before the first test is source.
fn read(file: &str, text: &str, all: &mut Workspace) {
    let in_tests = file.starts_with("tests/") || file.contains("/tests/") || file.ends_with("/tests.rs");
    let (mut comment, mut is_test) = (String::new(), false);
    let (mut for_tests, mut after_tests) = (false, false);
    for line in text.lines().map(str::trim) {
        // Of tests in a file of their own only the name is here, and sources follow.
        after_tests |= for_tests && line.ends_with('{');
        for_tests = line == "#[cfg(test)]" || (for_tests && line.starts_with("#["));
        if line.starts_with("///") || line.starts_with("//!") {
            comment.push_str(line);
            comment.push('\n');
        }
        is_test |= line == "#[test]";
        let function = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("fn ");
        if let Some(signature) = function.filter(|_| is_test) {
            let name = signature.split(['(', '<']).next().unwrap_or_default();
            all.tests.insert(format!("{file}: {name}"));
            for row in rows_in(&comment).into_iter().chain(rows_in(name)) {
                all.rows.entry(row).or_default().tests.insert(format!("{file}: {name}"));
            }
        } else if !in_tests && !after_tests {
            for row in
                line.find("//").map(|at| rows_in(line.get(at..).unwrap_or_default())).unwrap_or_default()
            {
                all.rows.entry(row).or_default().sources.insert(file.to_owned());
            }
        }
        if !line.starts_with("///") && !line.starts_with("#[") {
            comment.clear();
            is_test = false;
        }
    }
}
