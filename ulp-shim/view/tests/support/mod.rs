//! The library as a C compiler and the dynamic linker see it, and programs beneath it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use latchway_netns::skip::{Need, require};

/// The shared library that this test was built beside.
pub fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let library = test.parent().unwrap().join("liblatchway_shim.so");
    assert!(library.exists(), "{} is missing", library.display());
    library
}

/// Where what a test makes may lie; each has its own.
pub fn folder(of: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("view").join(of);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A file of this package.
pub fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What a program said, if it succeeded.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    output
}

/// With the library in LD_PRELOAD; linked with it, with AddressSanitizer and UndefinedBehaviorSanitizer; and preloaded under
/// valgrind: nothing leaks, nothing is read or written that should not be.
pub fn everywhere(prepare: impl Fn(&mut Command)) {
    let plain = program("plain", &[]);
    let prepared = |command: &mut Command| {
        prepare(command);
        run(command);
    };
    prepared(Command::new(&plain).env("LD_PRELOAD", library()));
    let folder = plain.parent().unwrap();
    let loaded = folder.join("liblatchway-shim.so.0");
    let _ = std::fs::remove_file(&loaded);
    std::os::unix::fs::symlink(library(), &loaded).unwrap();
    let flags = [
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-Wl,--no-as-needed",
        loaded.to_str().unwrap(),
        &format!("-Wl,-rpath,{}", folder.display()),
    ];
    prepared(Command::new(program("sanitized", &flags)).env("ASAN_OPTIONS", "detect_leaks=1"));
    if require("a program with PF_SHIM sockets under valgrind", &[Need::Program("valgrind")]) {
        let flags = ["-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"];
        prepared(Command::new("valgrind").args(flags).arg(plain).env("LD_PRELOAD", library()));
    }
}

/// Builds the program of the tests.
pub fn program(how: &str, flags: &[&str]) -> PathBuf {
    // Tests run side by side: each has a folder of its own, by its thread's name.
    let test = std::thread::current().name().unwrap_or("main").replace("::", "-");
    let program = folder(&test).join(how);
    let mut command = Command::new("cc");
    command.args(["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-pthread"]).args(WARNINGS);
    run(command.arg(include()).arg("-o").arg(&program).arg(file("tests/c/shim.c")).args(flags));
    program
}

/// Where the header is.
pub fn include() -> String {
    format!("-I{}", file("include").display())
}

/// Every one is an error.
pub const WARNINGS: [&str; 3] = ["-Wall", "-Wextra", "-Werror"];
