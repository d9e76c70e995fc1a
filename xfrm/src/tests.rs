//! The grammar of ip-xfrm(8), sentence by sentence; and what is printed is read back.

mod grammar;
mod refused;
mod round_trip;
mod suites;

use crate::{Command, GrammarError, Invocation};

/// Reads a line as a shell would cut it; it may begin with `ip xfrm`.
fn read(line: &str) -> Result<Command, GrammarError> {
    let line = format!("xfrm {}", line.trim_start_matches("xfrm "));
    let words = crate::lines(&line).next().map_or(Ok(Vec::new()), |(_, words)| words)?;
    let Invocation { options, words } = Invocation::read(words)?;
    Command::read(&words, options.family)
}
