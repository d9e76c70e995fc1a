//! C and C++ programs on the shared library: every standard compiles the header, and every function does what the draft says,
//! under the sanitizers and under valgrind as well.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{file, folder, library, run};

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
    everywhere("tokens", "--leak-check=full");
}

/// N-7, N-8: threads on one token, and fork().
#[test]
fn n_7_threads_and_forks_from_c() {
    // A child has what its parent's other threads had in hand, and nobody to free it: no leak of ours.
    everywhere("threads", "--leak-check=no");
}

/// As it is, with AddressSanitizer and UndefinedBehaviorSanitizer, and under valgrind: nothing leaks, nothing is read or
/// written that should not be.
fn everywhere(name: &str, leaks: &str) {
    let plain = program(name, "plain", &[]);
    run(&mut Command::new(&plain));
    let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    run(Command::new(program(name, "sanitized", &sanitizers)).env("ASAN_OPTIONS", "detect_leaks=1"));
    match Command::new("valgrind").arg("--version").output() {
        Ok(_) => {
            let flags = ["-q", "--error-exitcode=9", leaks, "--errors-for-leak-kinds=definite"];
            run(Command::new("valgrind").args(flags).arg(plain));
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "CI has valgrind: {error}");
            eprintln!("SKIPPED: {name} under valgrind: {error}");
        }
    }
}

/// Builds a program on the shared library.
fn program(name: &str, how: &str, flags: &[&str]) -> PathBuf {
    let folder = folder(name);
    let program = folder.join(how);
    let loaded = folder.join(format!("{how}-lib"));
    std::fs::create_dir_all(&loaded).unwrap();
    let link = loaded.join("liblatchway.so.0");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(library(), &link).unwrap();
    let mut command = Command::new("cc");
    command.args(["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-pthread"]).args(WARNINGS).args(flags);
    command.arg(include()).arg("-o").arg(&program).arg(file(&format!("tests/c/{name}.c")));
    run(command.arg(&link).arg(rpath(&loaded)));
    program
}

fn include() -> String {
    format!("-I{}", file("include").display())
}

fn rpath(folder: &Path) -> String {
    format!("-Wl,-rpath,{}", folder.display())
}

const WARNINGS: [&str; 3] = ["-Wall", "-Wextra", "-Werror"];
