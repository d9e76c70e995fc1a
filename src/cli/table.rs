//! Tables for people: aligned columns, long text wrapped into its column, colours by meaning.

use std::fmt::Display;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Rows under a head, or pairs of name and value.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    head: &'static str,
    align: Align,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Align {
    Left,
    Right,
    /// To the left, and onto further lines where the terminal is too narrow.
    Wrapped,
}

/// What stands where a row meets a column.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Tone,
}

/// What a cell means, which decides its colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Neither good nor bad.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Not as it should be.
    Bad,
    /// Of little weight.
    Faint,
}

/// A column of names and words.
pub const fn left(head: &'static str) -> Column {
    Column { head, align: Align::Left }
}

/// A column of numbers.
pub const fn right(head: &'static str) -> Column {
    Column { head, align: Align::Right }
}

/// A column of text that may be long.
pub const fn text(head: &'static str) -> Column {
    Column { head, align: Align::Wrapped }
}

/// A cell without colour.
pub fn cell(text: impl Display) -> Cell {
    toned(text, Tone::Plain)
}

/// A cell with a colour.
pub fn toned(text: impl Display, tone: Tone) -> Cell {
    Cell { text: printable(&text.to_string()), tone }
}

/// The cell, or a dash.
pub fn or_dash<T: Display>(value: Option<T>) -> Cell {
    value.map_or_else(|| toned("-", Tone::Faint), cell)
}

/// The text without anything by which a peer's name could steer the terminal or hide in the line.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for found in text.chars() {
        if steers(found) {
            shown.extend(found.escape_default());
        } else {
            shown.push(found);
        }
    }
    shown
}

/// Whether a character does something else than to be shown: controls, and marks that turn or hide what follows.
pub fn steers(found: char) -> bool {
    found.is_control()
        || matches!(found, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

impl Tone {
    /// Its colour.
    pub const fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warn => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Faint => Style::new().dimmed(),
        }
    }
}

impl Table {
    /// A table with these columns and no row.
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    /// A table of names and values, which has no head.
    pub fn pairs() -> Self {
        Self::new([left(""), text("")])
    }

    /// Adds a row, one cell for each column.
    pub fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    /// Whether it has no row.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes the table, no wider than `width` where its text columns can give way.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write, width: Option<usize>) -> io::Result<()> {
        let widths = self.widths(width);
        if self.columns.iter().any(|column| !column.head.is_empty()) {
            let heads: Vec<_> = self.columns.iter().map(|column| cell(column.head)).collect();
            self.write_row(out, &heads, &widths, Some(Style::new().bold()))?;
        }
        self.rows.iter().try_for_each(|row| self.write_row(out, row, &widths, None))
    }

    /// The widest cell of each column, less what the text columns must give up.
    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let widest = |(at, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.text.width());
            cells.max().unwrap_or(0).max(column.head.width())
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(widest).collect();
        let Some(limit) = limit else { return widths };
        loop {
            let taken = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
            let wrapped = self.columns.iter().zip(&mut widths);
            let yielding =
                wrapped.filter(|(column, _)| column.align == Align::Wrapped).map(|(_, width)| width);
            match yielding.max() {
                Some(width) if taken > limit && *width > NARROWEST => *width -= 1,
                _ => return widths,
            }
        }
    }

    /// One row, on as many lines as its longest text needs.
    fn write_row(
        &self,
        out: &mut impl Write,
        row: &[Cell],
        widths: &[usize],
        style: Option<Style>,
    ) -> io::Result<()> {
        let cut = |((cell, column), &width): ((&Cell, &Column), &usize)| match column.align {
            Align::Wrapped => wrap(&cell.text, width),
            Align::Left | Align::Right => vec![cell.text.clone()],
        };
        let cut: Vec<Vec<String>> = row.iter().zip(&self.columns).zip(widths).map(cut).collect();
        for line in 0..cut.iter().map(Vec::len).max().unwrap_or(0) {
            let mut owed = 0;
            for (((lines, cell), column), &width) in cut.iter().zip(row).zip(&self.columns).zip(widths) {
                let text = lines.get(line).map_or("", String::as_str);
                let space = width.saturating_sub(text.width());
                let (before, after) = if column.align == Align::Right { (space, 0) } else { (0, space) };
                if !text.is_empty() {
                    let style = style.unwrap_or_else(|| cell.tone.style());
                    write!(out, "{:1$}{style}{text}{style:#}", "", owed + before)?;
                    owed = 0;
                } else {
                    owed += before;
                }
                owed += after + GAP.len();
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// The text on lines of this width, broken between words where there are any.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let (mut used, mut pending) = (0, false);
    for word in text.split(' ') {
        let wide = word.width();
        if pending && used + 1 + wide > width {
            lines.push(String::new());
            used = 0;
        } else if pending {
            push(&mut lines, " ");
            used += 1;
        }
        pending = true;
        for letter in word.chars() {
            let step = letter.width().unwrap_or(0);
            if used > 0 && used + step > width {
                lines.push(String::new());
                used = 0;
            }
            push(&mut lines, letter.encode_utf8(&mut [0; 4]));
            used += step;
        }
    }
    lines
}

fn push(lines: &mut [String], text: &str) {
    if let Some(line) = lines.last_mut() {
        line.push_str(text);
    }
}

/// Between columns.
const GAP: &str = "  ";

/// No text column becomes narrower than this.
const NARROWEST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(table: &Table, width: Option<usize>) -> String {
        let mut out = anstream::StripStream::new(Vec::new());
        table.write(&mut out, width).unwrap();
        String::from_utf8(out.into_inner()).unwrap()
    }

    fn sample() -> Table {
        let mut table = Table::new([left("NAME"), right("PACKETS"), text("MEANING")]);
        table.row([cell("a"), cell(7), cell("short")]);
        table.row([cell("wide cell"), cell(1234), cell("a sentence that is long enough to be wrapped")]);
        table
    }

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let expected = "NAME       PACKETS  MEANING\n\
                        a                7  short\n\
                        wide cell     1234  a sentence that is long enough to be wrapped\n";
        assert_eq!(shown(&sample(), None), expected);
    }

    #[test]
    fn text_gives_way_to_the_width_of_the_terminal() {
        let expected = "NAME       PACKETS  MEANING\n\
                        a                7  short\n\
                        wide cell     1234  a sentence that is\n\
                        \x20                   long enough to be\n\
                        \x20                   wrapped\n";
        let text = shown(&sample(), Some(38));
        assert_eq!(text, expected);
        for width in 33..80 {
            assert!(shown(&sample(), Some(width)).lines().all(|line| line.width() <= width), "{width}");
        }
        shown(&sample(), Some(0));
    }

    #[test]
    fn words_longer_than_a_line_are_cut() {
        assert_eq!(wrap("ab abcdefgh x", 3), ["ab", "abc", "def", "gh", "x"]);
        assert_eq!(wrap("", 3), [""]);
        assert_eq!(wrap("a  b", 9), ["a  b"]);
    }

    #[test]
    fn colours_mean_something_and_end_where_the_cell_ends() {
        let mut table = Table::pairs();
        table.row([cell("state"), toned("broken", Tone::Bad)]);
        let mut out = Vec::new();
        table.write(&mut out, None).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "state  \x1b[31mbroken\x1b[0m\n");
    }

    /// What a peer calls itself is shown, and steers nothing.
    #[test]
    fn control_characters_are_shown_as_such() {
        assert_eq!(cell("a\x1b[2J\n\u{202e}b").text, "a\\u{1b}[2J\\n\\u{202e}b");
    }
}
