//! What a call that fails leaves behind: errno and, for whoever wants to know more, a sentence.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    errno: c_int,
    sentence: Cow<'static, str>,
}

impl Failure {
    /// A failure with its number and what to do about it.
    pub const fn new(errno: c_int, sentence: &'static str) -> Self {
        Self { errno, sentence: Cow::Borrowed(sentence) }
    }

    /// The same, with words of the moment.
    pub fn saying(errno: c_int, sentence: impl Into<String>) -> Self {
        Self { errno, sentence: Cow::Owned(sentence.into()) }
    }

    /// Its number.
    pub const fn errno(&self) -> c_int {
        self.errno
    }
}

impl From<latchway_socket::Error> for Failure {
    fn from(error: latchway_socket::Error) -> Self {
        Self::saying(error.errno(), error.to_string())
    }
}

/// Turns a result into what C gets: 0, or -1 and errno.
pub fn answer(result: Result<(), Failure>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(failure) => {
            tell(failure);
            -1
        }
    }
}

/// Keeps the sentence and sets errno, last, for nothing that follows may change it.
pub fn tell(failure: Failure) {
    let sentence = CString::new(failure.sentence.into_owned()).unwrap_or_default();
    // A thread that is ending has no place for a sentence any more; errno it has.
    let _ = LAST.try_with(|last| last.replace(sentence));
    errno::set_errno(errno::Errno(failure.errno));
}

/// The sentence of this thread's last failure; it stays where it is until the next one.
pub fn last_sentence() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(NOTHING.as_ptr())
}

const NOTHING: &CStr = c"";

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}
