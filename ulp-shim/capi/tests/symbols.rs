//! What the shared library shows to the linker (N-13).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

#[expect(dead_code, reason = "there are no programs here")]
mod support;

use std::collections::BTreeSet;
use std::process::Command;

use support::{functions, library, run};

/// N-13: the functions begin with `ipsec_`, and nothing else of the library can be seen or stand in anybody's way. What is
/// there is what the header has, and nothing less.
#[test]
fn n_13_the_shared_library_exports_the_functions_of_the_header_alone() {
    let output =
        run(Command::new("nm").args(["-D", "--defined-only", "--format=just-symbols"]).arg(library()));
    let exported: BTreeSet<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect();
    let declared = functions();
    assert_eq!(exported, declared);
    assert!(declared.len() > 8 && declared.iter().all(|name| name.starts_with("ipsec_")), "{declared:?}");
}

#[test]
fn the_library_has_its_name_and_stays_loaded() {
    let output = run(Command::new("readelf").arg("-d").arg(library()));
    let dynamic = String::from_utf8(output.stdout).unwrap();
    assert!(dynamic.contains("soname: [liblatchway.so.0]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
}
