//! Where an offset lies in a text: line and column.

use crate::model::Position;

/// The lines of a text, so that places are found fast however long the lines are.
pub struct Lines<'t> {
    text: &'t str,
    /// The offset at which each line begins.
    starts: Vec<usize>,
    /// How many characters lie in front of each block of [`BLOCK`] octets.
    characters: Vec<usize>,
}

impl<'t> Lines<'t> {
    /// Looks for the lines of `text`.
    pub fn new(text: &'t str) -> Self {
        let starts = text.match_indices('\n').map(|(offset, _)| offset + 1);
        let mut before = 0;
        let characters = text.as_bytes().chunks(BLOCK).map(|block| {
            let first = before;
            before += characters(block);
            first
        });
        Self { text, starts: std::iter::once(0).chain(starts).collect(), characters: characters.collect() }
    }

    /// The place of an offset; one behind the end is the end.
    pub fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|&start| start <= offset);
        let start = line.checked_sub(1).and_then(|line| self.starts.get(line)).copied().unwrap_or_default();
        Position { line, column: self.characters_before(offset) - self.characters_before(start) + 1 }
    }

    fn characters_before(&self, offset: usize) -> usize {
        // Only the end of a text that fills its last block has no block of its own.
        let block = (offset / BLOCK).min(self.characters.len().saturating_sub(1));
        let within = self.text.as_bytes().get(block * BLOCK..offset).unwrap_or_default();
        self.characters.get(block).copied().unwrap_or_default() + characters(within)
    }
}

/// How many characters begin in these octets of UTF-8.
fn characters(octets: &[u8]) -> usize {
    octets.iter().filter(|&octet| octet & 0xc0 != 0x80).count()
}

const BLOCK: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// Against counting from the start, at every offset of texts whose lines cross blocks.
    #[test]
    fn places_are_those_that_counting_finds() {
        for unit in ["", "\n", "a", "ä\n", "ab€\r\n", "🦀", "0123456789abcdef", &"x".repeat(255), "\n\n€"]
        {
            let text = unit.repeat(300);
            let lines = Lines::new(&text);
            for (offset, _) in text.char_indices().chain([(text.len(), ' ')]) {
                let before = &text[..offset];
                let line = before.matches('\n').count() + 1;
                let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
                assert_eq!(lines.position(offset), Position { line, column }, "{offset} of {unit:?}");
                if offset > 2000 {
                    break;
                }
            }
            assert_eq!(lines.position(usize::MAX), lines.position(text.len()));
        }
    }
}
