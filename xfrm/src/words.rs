//! A row of words that is read from its beginning to its end.

use crate::error::{GrammarError, Quoted};

/// The words, and how far they are read.
#[derive(Clone, Debug)]
pub(crate) struct Words<'w> {
    words: &'w [String],
    last: &'w str,
}

impl<'w> Words<'w> {
    /// Nothing of them read.
    pub(crate) const fn new(words: &'w [String]) -> Self {
        Self { words, last: "" }
    }

    /// The next word, which stays.
    pub(crate) fn peek(&self) -> Option<&'w str> {
        self.words.first().map(String::as_str)
    }

    /// The next word.
    pub(crate) fn next(&mut self) -> Option<&'w str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        self.last = first;
        Some(first)
    }

    /// The next word, which must be there.
    pub(crate) fn need(&mut self, wanted: &'static str) -> Result<&'w str, GrammarError> {
        let after = self.last;
        self.next().ok_or_else(|| GrammarError::Incomplete { after: Quoted::new(after), wanted })
    }

    /// The next word, made something of.
    pub(crate) fn value<T>(
        &mut self,
        wanted: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, GrammarError> {
        let word = self.need(wanted)?;
        read(word).ok_or_else(|| GrammarError::Wrong { word: Quoted::new(word), wanted })
    }

    /// Takes the next word if it is this one.
    pub(crate) fn take(&mut self, word: &str) -> bool {
        let is = self.peek() == Some(word);
        if is {
            self.next();
        }
        is
    }

    /// The next words as flags, for as long as they are.
    pub(crate) fn flags<T>(&mut self, read: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let mut flags = Vec::new();
        while let Some(flag) = self.peek().and_then(&read) {
            flags.push(flag);
            self.next();
        }
        flags
    }

    /// That nothing is left.
    pub(crate) fn end(&self) -> Result<(), GrammarError> {
        self.peek().map_or(Ok(()), |word| Err(GrammarError::Unknown(Quoted::new(word))))
    }
}

/// Whether a word abbreviates a keyword, as ip(8) lets it: from its beginning on.
pub(crate) fn abbreviates(word: &str, keyword: &str) -> bool {
    !word.is_empty() && keyword.starts_with(word)
}
