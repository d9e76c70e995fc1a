//! Why a verb did not do what it was told, and what to do about it.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use crate::cli::table::printable;
use crate::client::{CallError, NoPlace};

/// One line about what happened, and mostly one about what to do.
#[derive(Debug)]
pub struct Failure {
    what: String,
    remedy: Option<String>,
    /// The reader of standard output went away, having seen enough.
    unread: bool,
}

impl Failure {
    /// What happened, and what to do.
    pub fn new(what: impl Display, remedy: impl Display) -> Self {
        Self { what: what.to_string(), remedy: Some(remedy.to_string()), unread: false }
    }

    /// A sentence of which the part behind the first semicolon says what to do.
    fn said(text: &str) -> Self {
        let (what, remedy) =
            text.split_once("; ").map_or((text, None), |(what, remedy)| (what, Some(remedy)));
        Self { what: what.into(), remedy: remedy.map(Into::into), unread: false }
    }

    /// Tells the user on standard error, and gives the exit code: 1, or 0 where nobody reads on.
    pub fn tell(&self) -> ExitCode {
        if self.unread {
            return ExitCode::SUCCESS;
        }
        let (bad, strong) = (AnsiColor::Red.on_default().bold(), Style::new().bold());
        anstream::eprintln!("{bad}latchway:{bad:#} {}", lines(&self.what));
        if let Some(remedy) = &self.remedy {
            anstream::eprintln!("{strong}help:{strong:#} {}", lines(remedy));
        }
        ExitCode::FAILURE
    }
}

/// A text of several lines, as a list of faults is. All but the first are indented, so that none passes for another message.
fn lines(text: &str) -> String {
    text.trim_end().lines().map(printable).collect::<Vec<_>>().join("\n    ")
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let what = format!("cannot write to standard output: {error}");
        let unread = error.kind() == io::ErrorKind::BrokenPipe;
        Self { what, remedy: Some("see where the output goes; a disk may be full".into()), unread }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match &error {
            CallError::Failed(failure) if failure.parameters.message.is_some() => {
                let what = failure.parameters.message.clone().unwrap_or_default();
                Self { what, remedy: failure.parameters.hint.clone(), unread: false }
            }
            _ => Self::said(&error.to_string()),
        }
    }
}

impl From<NoPlace> for Failure {
    fn from(error: NoPlace) -> Self {
        Self::said(&error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_line_of_its_own_and_none_steers_the_terminal() {
        assert_eq!(
            lines("nothing was changed\none\u{1b}[2J\nhelp: two\n"),
            "nothing was changed\n    one\\u{1b}[2J\n    help: two"
        );
    }
}
