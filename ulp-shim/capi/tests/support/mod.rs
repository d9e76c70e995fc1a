//! The library as a C compiler sees it, and programs on it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use latchway_netns::skip::{Need, require};

/// The shared library that this test was built beside.
pub fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let library = test.parent().unwrap().join("liblatchway.so");
    assert!(library.exists(), "{} is missing", library.display());
    library
}

/// Where what a test makes may lie; each has its own.
pub fn folder(of: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("capi").join(of);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A file of this package.
pub fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The functions that the header has.
pub fn functions() -> BTreeSet<String> {
    let header = std::fs::read_to_string(file("include/latchway/ipsec.h")).unwrap();
    let prototypes =
        header.lines().filter(|line| !line.starts_with([' ', '#', '/', '}'])).filter_map(|line| {
            let (before, _) = line.split_once('(')?;
            before.rsplit([' ', '*']).next().map(String::from)
        });
    prototypes.collect()
}

/// What a program said, if it succeeded.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    output
}

/// As it is, with AddressSanitizer and UndefinedBehaviorSanitizer, and under valgrind: nothing leaks, nothing is read or
/// written that should not be.
pub fn everywhere(name: &str, leaks: &str, prepare: impl Fn(&mut Command)) {
    let plain = program(name, "plain", &[]);
    let prepared = |command: &mut Command| {
        prepare(command);
        run(command);
    };
    prepared(&mut Command::new(&plain));
    let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let sanitized = program(name, "sanitized", &sanitizers);
    prepared(Command::new(sanitized).env("ASAN_OPTIONS", "detect_leaks=1"));
    if require(&format!("{name} under valgrind"), &[Need::Program("valgrind")]) {
        // Fair to threads: one that never waits would keep the others out for minutes.
        let flags =
            ["-q", "--fair-sched=try", "--error-exitcode=9", leaks, "--errors-for-leak-kinds=definite"];
        prepared(Command::new("valgrind").args(flags).arg(plain));
    }
}

/// Builds a program on the shared library.
pub fn program(name: &str, how: &str, flags: &[&str]) -> PathBuf {
    // Tests run side by side: each has a folder of its own, by its thread's name.
    let test = std::thread::current().name().unwrap_or("main").replace("::", "-");
    let folder = folder(&format!("{name}-{test}"));
    let program = folder.join(how);
    let loaded = folder.join(format!("{how}-lib"));
    std::fs::create_dir_all(&loaded).unwrap();
    let link = loaded.join("liblatchway.so.0");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(library(), &link).unwrap();
    let mut command = Command::new("cc");
    command.args(["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-pthread"]).args(WARNINGS).args(flags);
    command.arg(include()).arg("-o").arg(&program).arg(file(&format!("tests/c/{name}.c")));
    run(command.arg(&link).arg(format!("-Wl,-rpath,{}", loaded.display())));
    program
}

/// Where the header is.
pub fn include() -> String {
    format!("-I{}", file("include").display())
}

/// Every one is an error.
pub const WARNINGS: [&str; 3] = ["-Wall", "-Wextra", "-Werror"];
