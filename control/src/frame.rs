//! Framing: a JSON object and a NUL octet.

use std::io::{self, ErrorKind, Read, Write};

use serde::Serialize;
use zeroize::{Zeroize, Zeroizing};

/// The largest call, in octets. A longer one is refused before it is held in memory.
pub const MAX_MESSAGE: u64 = 1 << 20;

/// The largest answer, in octets. Lists are told page by page, so that no answer comes near it.
pub const MAX_REPLY: u64 = 1 << 24;

/// Why no message could be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection failed.
    #[error("the control connection failed: {0}")]
    Io(#[from] io::Error),
    /// What is to be said is not JSON.
    #[error("cannot be said in JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The message is longer than it may be.
    #[error("the message is longer than {0} octets")]
    TooLong(u64),
    /// The connection ended inside a message.
    #[error("the connection ended in the middle of a message")]
    CutShort,
}

/// Takes messages off a connection. What was read is wiped from memory when the next message is asked for: it may hold
/// keys (T40).
#[derive(Debug)]
pub struct Frames<R> {
    from: R,
    most: u64,
    /// Storage, of which `start..end` was read and not taken yet, and `taken..start` was taken last.
    storage: Zeroizing<Vec<u8>>,
    taken: usize,
    start: usize,
    end: usize,
}

impl<R: Read> Frames<R> {
    /// Messages of at most `most` octets from `from`.
    pub fn new(from: R, most: u64) -> Self {
        Self { from, most, storage: Zeroizing::new(vec![0; FIRST_STORAGE]), taken: 0, start: 0, end: 0 }
    }

    /// The connection itself, to write to.
    pub const fn connection(&mut self) -> &mut R {
        &mut self.from
    }

    /// Whether nothing was read beyond the message that was taken last.
    #[must_use]
    pub const fn is_drained(&self) -> bool {
        self.start == self.end
    }

    /// The next message without its NUL; `None` where the other side has closed the connection between two messages.
    ///
    /// # Errors
    /// [`FrameError`]. After one of kind `WouldBlock` or `TimedOut` the same message can be asked for once more; after
    /// others the connection is of no use.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, FrameError> {
        self.wipe(self.taken, self.start);
        self.taken = self.start;
        let mut searched = self.start;
        loop {
            let unread = self.storage.get(searched..self.end).unwrap_or_default();
            if let Some(length) = unread.iter().position(|&octet| octet == 0) {
                let end = searched + length;
                self.start = end + 1;
                return Ok(self.storage.get(self.taken..end));
            }
            if (self.end - self.start) as u64 > self.most {
                return Err(FrameError::TooLong(self.most));
            }
            self.make_room();
            searched = self.end;
            let room = self.storage.get_mut(self.end..).unwrap_or_default();
            match self.from.read(room) {
                Ok(0) if self.end == self.start => return Ok(None),
                Ok(0) => return Err(FrameError::CutShort),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What is left goes to the front; where that makes no room, the storage grows, and the old one is wiped.
    fn make_room(&mut self) {
        let left = self.end - self.start;
        if self.start > 0 {
            self.storage.copy_within(self.start..self.end, 0);
            self.wipe(left, self.end);
            (self.taken, self.start, self.end) = (0, 0, left);
        }
        if left == self.storage.len() {
            let mut larger = Zeroizing::new(vec![0; left.saturating_mul(2)]);
            larger.iter_mut().zip(self.storage.iter()).for_each(|(to, from)| *to = *from);
            self.storage = larger;
        }
    }

    fn wipe(&mut self, from: usize, to: usize) {
        self.storage.get_mut(from..to).unwrap_or_default().zeroize();
    }
}

/// Writes one message.
///
/// # Errors
/// [`FrameError`]
pub fn write_message(to: &mut impl Write, message: &impl Serialize) -> Result<(), FrameError> {
    let mut octets = Wiped(Zeroizing::new(Vec::with_capacity(FIRST_STORAGE)));
    serde_json::to_writer(&mut octets, message)?;
    octets.write_all(&[0])?;
    to.write_all(&octets.0)?;
    Ok(to.flush()?)
}

/// Octets that leave no copy behind when they grow.
struct Wiped(Zeroizing<Vec<u8>>);

impl Write for Wiped {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let needed = self.0.len().saturating_add(octets.len());
        if needed > self.0.capacity() {
            let mut larger =
                Zeroizing::new(Vec::with_capacity(needed.max(self.0.capacity().saturating_mul(2))));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Most messages are shorter.
const FIRST_STORAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Gives one octet, or one failure, at a time.
    struct Drop<'a>(std::slice::Iter<'a, u8>, bool);

    impl Read for Drop<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::WouldBlock.into());
            }
            Ok(self.0.next().map_or(0, |octet| {
                to[0] = *octet;
                1
            }))
        }
    }

    #[test]
    fn messages_follow_each_other_and_the_end_is_clean() {
        let mut octets = Vec::new();
        write_message(&mut octets, &json!({"a": 1})).unwrap();
        write_message(&mut octets, &json!({"b": 2})).unwrap();
        let mut from = Frames::new(octets.as_slice(), MAX_MESSAGE);
        assert_eq!(from.next_message().unwrap(), Some(&br#"{"a":1}"#[..]));
        assert_eq!(from.next_message().unwrap(), Some(&br#"{"b":2}"#[..]));
        assert!(from.next_message().unwrap().is_none());
    }

    #[test]
    fn a_message_comes_octet_by_octet_and_after_pauses() {
        let octets = [&vec![b'x'; 3 * FIRST_STORAGE][..], &[0], b"second\0"].concat();
        let mut from = Frames::new(Drop(octets.iter(), false), MAX_MESSAGE);
        let mut lengths = Vec::new();
        loop {
            match from.next_message() {
                Ok(Some(message)) => lengths.push(message.len()),
                Ok(None) => break,
                Err(FrameError::Io(error)) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(lengths, [3 * FIRST_STORAGE, 6]);
    }

    #[test]
    fn a_message_cut_short_or_endless_is_an_error() {
        let next = |octets: &[u8]| Frames::new(octets, MAX_MESSAGE).next_message().map(|_| ()).unwrap_err();
        assert!(matches!(next(b"{\"a\":"), FrameError::CutShort));
        assert!(matches!(next(&vec![b' '; 2 << 20]), FrameError::TooLong(MAX_MESSAGE)));
    }

    /// T40: what was taken is not left in memory, nor is what the storage held before it grew.
    #[test]
    fn t40_a_message_is_wiped_once_the_next_is_asked_for() {
        let secret = [b"c0ffee".repeat(1000), vec![0], b"next\0".to_vec()].concat();
        let mut from = Frames::new(secret.as_slice(), MAX_MESSAGE);
        assert_eq!(from.next_message().unwrap().unwrap().len(), 6000);
        assert_eq!(from.next_message().unwrap().unwrap(), b"next");
        assert!(!from.storage.windows(6).any(|six| six == b"c0ffee"));
    }
}
