//! The library as a C compiler sees it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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

/// What a program said, if it succeeded.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    output
}
