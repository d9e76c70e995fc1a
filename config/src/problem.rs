//! What is wrong with a configuration: where, what, and what to do.

use std::fmt;

use crate::model::Position;

/// One thing that is wrong, or questionable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the file.
    pub at: Position,
    /// Whether it keeps the configuration from being used.
    pub severity: Severity,
    /// The key that it is about, with the keys above it: `peer.sa.inbound.spi`. Empty where it is about no key.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// Whether a problem keeps the configuration from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// Every problem that was found, in the order of their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The problems.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Those that keep the configuration from being used.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error)
    }

    /// Whether there is nothing to report.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The report as people read it, each place in a form that editors jump to: `gateway.toml:7:9: error: ...`.
    #[must_use]
    pub fn render(&self, file: &str) -> String {
        self.problems.iter().map(|problem| format!("{file}:{problem}\n")).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problems.iter().try_for_each(|problem| writeln!(f, "{problem}"))
    }
}

impl std::error::Error for Report {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at: Position { line, column }, severity, key, message, hint } = self;
        write!(f, "{line}:{column}: {severity}: ")?;
        if !key.is_empty() {
            write!(f, "{key}: ")?;
        }
        write!(f, "{message}")?;
        if hint.is_empty() { Ok(()) } else { write!(f, "\n    hint: {hint}") }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Text of a file within a message: cut short, without control characters, and not at all where it looks like a key
/// that went to a wrong place (T40).
pub fn quote(text: &str) -> String {
    match text.char_indices().nth(LONGEST_QUOTE) {
        _ if looks_like_key(text) => "what looks like a key".to_owned(),
        None => format!("{text:?}"),
        Some((cut, _)) => format!("{:?}...", text.get(..cut).unwrap_or_default()),
    }
}

/// Whether a text may be a key in hexadecimal.
pub fn looks_like_key(text: &str) -> bool {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    digits.len() >= SHORTEST_KEY && digits.chars().all(|c| c.is_ascii_hexdigit() || c.is_whitespace())
}

/// Hexadecimal digits that may be a key: fewer than the shortest key has, more than an SPI.
const SHORTEST_KEY: usize = 16;
const LONGEST_QUOTE: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_by_people_and_by_editors() {
        let problem = |line, severity, key: &str, hint: &str| Problem {
            at: Position { line, column: 9 },
            severity,
            key: key.into(),
            message: "is wrong".into(),
            hint: hint.into(),
        };
        let problems = vec![
            problem(7, Severity::Error, "peer.inner", "right it"),
            problem(8, Severity::Warning, "", ""),
        ];
        let report = Report { problems };
        assert_eq!(
            report.render("gateway.toml"),
            "gateway.toml:7:9: error: peer.inner: is wrong\n    hint: right it\ngateway.toml:8:9: warning: is wrong\n"
        );
        assert_eq!(report.errors().count(), 1);
    }

    #[test]
    fn t40_what_looks_like_a_key_is_not_quoted() {
        for key in ["c0ffee00c0ffee00", "0xC0FFEE00C0FFEE00", "c0ffee00 c0ffee00\n"] {
            assert!(!quote(key).to_lowercase().contains("c0ffee"), "{key}");
        }
        assert_eq!(quote("rot\u{1b}13"), "\"rot\\u{1b}13\"");
        assert_eq!(quote(&"ä".repeat(100)), format!("\"{}\"...", "ä".repeat(60)));
        assert_eq!(quote("10.0.0.0/8"), "\"10.0.0.0/8\"");
    }
}
