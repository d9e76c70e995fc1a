//! The manual has every function that the header has, and is as mdoc(7) wants it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

#[expect(dead_code, reason = "there are no programs here")]
mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use latchway_netns::skip::{Need, require};
use support::{file, functions, run};

/// Each function has a page of its name, which is in the page's NAME and SYNOPSIS; and there is no page of anything else.
#[test]
fn every_function_has_its_page() {
    for function in functions() {
        let text = std::fs::read_to_string(file(&format!("man/{function}.3")))
            .unwrap_or_else(|error| panic!("{function}: {error}"));
        let text = match text.trim_end().strip_prefix(".so man3/") {
            Some(page) => std::fs::read_to_string(file(&format!("man/{page}"))).unwrap(),
            None => text,
        };
        let named = [format!(".Nm {function} ,"), format!(".Nm {function}")];
        assert!(text.lines().any(|line| named.iter().any(|name| name == line)), "{function}: NAME");
        assert!(
            text.lines().any(|line| line.starts_with(&format!(".Fn {function} "))),
            "{function}: SYNOPSIS"
        );
    }
    let pages: BTreeSet<String> =
        pages().iter().map(|page| page.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(pages, functions());
}

/// Every attribute and state that the header has is explained.
#[test]
fn every_enumerator_is_explained() {
    let header = std::fs::read_to_string(file("include/latchway/ipsec.h")).unwrap();
    let manual: String = pages().iter().map(|page| std::fs::read_to_string(page).unwrap()).collect();
    for name in header.lines().filter_map(|line| line.trim().strip_prefix("IPSEC_")?.split_once(" = ")) {
        let name = format!("IPSEC_{}", name.0);
        assert!(manual.split_whitespace().any(|word| word == name), "{name}");
    }
}

#[test]
fn mandoc_finds_nothing_wrong() {
    if !require("mandoc_finds_nothing_wrong", &[Need::Program("mandoc")]) {
        return;
    }
    for page in pages() {
        if !std::fs::read_to_string(&page).unwrap().starts_with(".so ") {
            run(Command::new("mandoc").args(["-Tlint", "-Wwarning"]).arg(page));
        }
    }
}

fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> =
        std::fs::read_dir(file("man")).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    pages
}
