//! What a test needs from the machine, and how it says loudly that it could not run.

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use crate::{Namespace, user};

/// Something a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need<'a> {
    /// Network namespaces can be made and configured.
    NetAdmin,
    /// `/dev/net/tun` can be opened.
    Tun,
    /// A program of this name is in PATH.
    Program(&'a str),
}

/// Whether everything a test needs is there. If not, says so with [`report`], and the test has to return.
#[must_use]
pub fn require(test: &str, needs: &[Need<'_>]) -> bool {
    let missing: Vec<String> = needs.iter().filter_map(|need| need.missing()).collect();
    if !missing.is_empty() {
        report(test, &missing.join("; "));
    }
    missing.is_empty()
}

/// Says that a test did not run: on stderr (past the test harness's capture), and as a line in the file that
/// `LATCHWAY_SKIPPED` names. With `LATCHWAY_NO_SKIP=1` it panics instead, so that nothing is skipped unnoticed.
pub fn report(test: &str, reason: &str) {
    let line = format!("SKIPPED {test}: {reason}\n");
    let mut written = io::stderr().write_all(line.as_bytes());
    if let Some(file) = env::var_os("LATCHWAY_SKIPPED") {
        written = written.and(append(Path::new(&file), &line));
    }
    let forbidden = env::var_os("LATCHWAY_NO_SKIP").is_some_and(|value| value == "1");
    assert!(!forbidden, "{test} must not be skipped, but: {reason}");
    assert!(written.is_ok(), "{test} was skipped ({reason}), and saying so failed: {written:?}");
}

impl Need<'_> {
    /// Why the need is not met, if it is not.
    fn missing(&self) -> Option<String> {
        match self {
            Self::NetAdmin => {
                Namespace::create("probe").err().map(|error| format!("{error}. {}", user::advice()))
            }
            Self::Tun => OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/net/tun")
                .err()
                .map(|error| format!("/dev/net/tun: {error}")),
            Self::Program(name) => (!in_path(name)).then(|| format!("{name} is not in PATH")),
        }
    }
}

fn in_path(program: &str) -> bool {
    let executable = |file: &Path| {
        file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| executable(&folder.join(program))))
}

fn append(file: &Path, line: &str) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(file)?.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named() {
        assert_eq!(Need::Program("sh").missing(), None);
        let reason = Need::Program("no-such-program-here").missing();
        assert_eq!(reason.as_deref(), Some("no-such-program-here is not in PATH"));
    }
}
