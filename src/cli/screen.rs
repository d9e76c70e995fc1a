//! Standard output: colours where someone sees them, the width of the terminal, and readers that leave early.

use std::io::{self, IsTerminal, StdoutLock, Write};

use anstream::AutoStream;
use clap::ColorChoice;
use serde::Serialize;
use terminal_size::{Width, terminal_size_of};

use crate::cli::table::{Table, steers};

/// Where verbs write what they found.
#[derive(Debug)]
pub struct Screen {
    out: AutoStream<StdoutLock<'static>>,
    width: Option<usize>,
}

/// Decides for the whole process whether there are colours: `Auto` looks at the terminal, NO_COLOR and CLICOLOR_FORCE.
pub fn choose_colours(choice: ColorChoice) {
    match choice {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}

impl Screen {
    /// Standard output, held until the end of the verb.
    pub fn take() -> Self {
        let stdout = io::stdout();
        let width = stdout.is_terminal().then(|| terminal_size_of(&stdout)).flatten();
        let width = width.map(|(Width(width), _)| usize::from(width));
        Self { out: AutoStream::auto(stdout.lock()), width }
    }

    /// Columns of the terminal, where there is one.
    pub const fn width(&self) -> Option<usize> {
        self.width
    }

    /// Writes a table, fitted to the terminal.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn table(&mut self, table: &Table) -> io::Result<()> {
        table.write(&mut self.out, self.width)
    }

    /// Writes a view as a program wants it.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn json(&mut self, view: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string_pretty(view).map_err(io::Error::from)?;
        self.line(&escaped(&text))
    }

    /// Writes a view on one line, as one of many.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn json_line(&mut self, view: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(view).map_err(io::Error::from)?;
        self.line(&escaped(&text))
    }

    /// Writes a line.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }
}

/// The same JSON, of which no character steers a terminal. Outside of strings, JSON has none but line ends.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for found in json.chars() {
        if steers(found) && found != '\n' {
            text.push_str(&format!("\\u{:04x}", u32::from(found)));
        } else {
            text.push(found);
        }
    }
    text
}

impl Write for Screen {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.out.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_meaning_and_steers_no_terminal() {
        let names = ["plain", "\u{1b}[2J", "\u{9b}2J", "\u{202e}", "\u{feff}", "\u{7f}", "a\nb", "ä🜁"];
        let text = escaped(&serde_json::to_string_pretty(&names).unwrap());
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), names);
        assert!(!text.chars().any(|found| steers(found) && found != '\n'), "{text:?}");
    }
}
