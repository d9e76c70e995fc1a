//! C and C++ programs on the shared library: every standard compiles the header, and every function does what the draft says,
//! under the sanitizers and under valgrind as well.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

#[expect(dead_code, reason = "functions of the header are other tests' matter")]
mod support;

use std::process::Command;

use support::{WARNINGS, everywhere, file, folder, include, run};

/// C-11, C-12: each standard, without a warning.
#[test]
fn c_11_the_header_compiles_under_every_standard() {
    let folder = folder("standards");
    let c = ["c89", "c99", "c11", "c17", "c2x", "gnu17"].map(|standard| ("cc", standard, "c"));
    let cpp = ["c++98", "c++11", "c++17", "c++20"].map(|standard| ("c++", standard, "c++"));
    for (compiler, standard, language) in c.into_iter().chain(cpp) {
        let mut command = Command::new(compiler);
        command.args(["-x", language, &format!("-std={standard}"), "-pedantic-errors"]).args(WARNINGS);
        run(command
            .args(["-c", "-o"])
            .arg(folder.join("names.o"))
            .arg(file("tests/c/names.c"))
            .arg(include()));
    }
}

/// on tokens alone: what the program checks is in its source.
#[test]
fn q_24_tokens_from_c() {
    everywhere("tokens", "--leak-check=full", |_| ());
}

/// N-7, N-8: threads on one token, and fork().
#[test]
fn n_7_threads_and_forks_from_c() {
    // A child has what its parent's other threads had in hand, and nobody to free it: no leak of ours.
    everywhere("threads", "--leak-check=no", |_| ());
}
