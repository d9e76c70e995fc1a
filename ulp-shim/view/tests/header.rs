//! The header, the names that the library shows, and the manual.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

#[expect(dead_code, reason = "there are no programs here")]
mod support;

use std::collections::BTreeSet;
use std::process::Command;

use latchway_netns::skip::{Need, require};
use support::{WARNINGS, file, folder, include, library, run};

/// K-1, C-12: each standard, without a warning; what the library writes is as long as what the header has.
#[test]
fn k_1_the_header_compiles_under_every_standard() {
    let folder = folder("standards");
    let c = ["c89", "c99", "c11", "c17", "c2x", "gnu17"].map(|standard| ("cc", standard, "c"));
    let cpp = ["c++98", "c++11", "c++17", "c++20"].map(|standard| ("c++", standard, "c++"));
    for (compiler, standard, language) in c.into_iter().chain(cpp) {
        let mut command = Command::new(compiler);
        // Resolvers are not of the bare standards.
        command.args(["-x", language, &format!("-std={standard}"), "-pedantic-errors", "-D_GNU_SOURCE"]);
        command.args(WARNINGS).arg("-c").arg("-o").arg(folder.join("names.o"));
        run(command.arg(file("tests/c/names.c")).arg(include()));
    }
}

/// What is stood in for is what has to be, and nothing else of the library stands in anybody's way.
#[test]
fn k_1_the_library_stands_in_for_what_it_must_and_nothing_else() {
    let output =
        run(Command::new("nm").args(["-D", "--defined-only", "--format=just-symbols"]).arg(library()));
    let text = String::from_utf8(output.stdout).unwrap();
    let shown: BTreeSet<&str> = text.lines().collect();
    let needed = [
        "socket",
        "connect",
        "bind",
        "accept",
        "accept4",
        "sendto",
        "sendmsg",
        "recvmsg",
        "getsockopt",
        "setsockopt",
        "getaddrinfo",
        "close",
    ];
    assert_eq!(shown, BTreeSet::from(needed));
    let output = run(Command::new("readelf").arg("-d").arg(library()));
    let dynamic = String::from_utf8(output.stdout).unwrap();
    assert!(dynamic.contains("soname: [liblatchway-shim.so.0]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
}

/// Every name of the header is explained.
#[test]
fn every_name_is_explained() {
    let header = std::fs::read_to_string(file("include/latchway/shim.h")).unwrap();
    let manual = std::fs::read_to_string(file("man/latchway_shim.7")).unwrap();
    let defined = header.lines().filter_map(|line| line.strip_prefix("#define ")?.split(' ').next());
    let fields = header.lines().filter_map(|line| {
        let name = line.strip_prefix("    ")?.split(';').next()?.rsplit([' ', '*']).next()?;
        name.split('[').next()
    });
    for name in defined.chain(fields).filter(|name| *name != "LATCHWAY_SHIM_H") {
        assert!(manual.split_whitespace().any(|word| word == name), "{name}");
    }
}

#[test]
fn mandoc_finds_nothing_wrong() {
    if require("mandoc_finds_nothing_wrong", &[Need::Program("mandoc")]) {
        run(Command::new("mandoc").args(["-Tlint", "-Wwarning"]).arg(file("man/latchway_shim.7")));
    }
}
