//! What is wrong with words.

use std::fmt;

/// Why words are not understood, or not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// Words end where more are wanted.
    #[error("{after} wants {wanted} behind it")]
    Incomplete {
        /// The last word.
        after: Quoted,
        /// What is wanted.
        wanted: &'static str,
    },
    /// A word is not one of those that may stand there.
    #[error("{word} is not {wanted}")]
    Wrong {
        /// The word.
        word: Quoted,
        /// What may stand there.
        wanted: &'static str,
    },
    /// A word stands where none of its kind may.
    #[error("{0} is not known here, or comes twice; `man ip-xfrm` has the grammar")]
    Unknown(Quoted),
    /// What may be said once was said again.
    #[error("{0} is there twice; say it once")]
    Twice(&'static str),
    /// What must be said is not.
    #[error("{what} is missing; say `{usage}`")]
    Missing {
        /// What.
        what: &'static str,
        /// How it is said.
        usage: &'static str,
    },
    /// What is said does not go together.
    #[error("{0}")]
    Conflict(&'static str),
    /// The kernel would take it, and this gateway does not.
    #[error("{what} is not served: {why}")]
    Refused {
        /// Its name.
        what: &'static str,
        /// Why, and what to do instead.
        why: &'static str,
    },
}

/// A word as it is quoted in an error: one that may be a key is not (T40).
#[derive(Clone, PartialEq, Eq)]
pub struct Quoted(String);

impl Quoted {
    pub(crate) fn new(word: &str) -> Self {
        // A key may be text, too: of letters and digits alone, and at least as long as the shortest key, a word is none of
        // the grammar.
        let plain = word.bytes().all(|octet| octet.is_ascii_alphanumeric());
        let most = if plain { MOST_PLAIN } else { MOST_QUOTED };
        let shown = word.len() <= most && !word.bytes().any(|octet| octet.is_ascii_control());
        Self(if shown { format!("\"{word}\"") } else { format!("a word of {} octets", word.len()) })
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Shorter than any key.
const MOST_PLAIN: usize = 15;

/// Longer than any word of the grammar, shorter than the hexadecimal digits of any key.
const MOST_QUOTED: usize = 31;
