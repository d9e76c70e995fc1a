//! What a call that fails leaves behind: errno, and a sentence for whoever asks (`SHIM_ERROR`).

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::c_int;

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
    #[cfg(test)]
    pub const fn errno(&self) -> c_int {
        self.errno
    }
}

impl From<latchway_socket::Error> for Failure {
    fn from(error: latchway_socket::Error) -> Self {
        Self::saying(error.errno(), error.to_string())
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::saying(errno.raw_os_error(), errno.to_string())
    }
}

/// Keeps the sentence and sets errno, last, for nothing that follows may change it.
pub fn tell(failure: Failure) {
    // A thread that is ending has no place for a sentence any more; errno it has.
    let _ = LAST.try_with(|last| last.replace(failure.sentence));
    errno::set_errno(errno::Errno(failure.errno));
}

/// The sentence of this thread's last failure.
pub fn last_sentence() -> String {
    LAST.try_with(|last| last.borrow().clone().into_owned()).unwrap_or_default()
}

thread_local! {
    static LAST: RefCell<Cow<'static, str>> = const { RefCell::new(Cow::Borrowed("")) };
}
