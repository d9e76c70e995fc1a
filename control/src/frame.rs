//! Framing: a JSON object and a NUL octet.

use std::io::{self, BufRead, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest call, in octets. A longer one is refused before it is held in memory.
pub const MAX_MESSAGE: u64 = 1 << 20;

/// The largest answer, in octets: a gateway lists all its latches in one.
pub const MAX_REPLY: u64 = 1 << 30;

/// Why no message could be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection failed.
    #[error("the control connection failed: {0}")]
    Io(#[from] io::Error),
    /// The message is not JSON, or not a known one.
    #[error("not a message of the control protocol: {0}")]
    Json(#[from] serde_json::Error),
    /// The message is longer than [`MAX_MESSAGE`] or [`MAX_REPLY`], or the connection ended inside it.
    #[error(
        "the message was cut short, or is longer than {MAX_MESSAGE} octets of a call or {MAX_REPLY} of an answer"
    )]
    Unfinished,
}

/// Reads one call; `None` where the other side has closed the connection between two messages.
///
/// # Errors
/// [`FrameError`]; the connection is of no use then, but for [`FrameError::Json`].
pub fn read_message<T: DeserializeOwned>(from: &mut impl BufRead) -> Result<Option<T>, FrameError> {
    read_at_most(from, MAX_MESSAGE)
}

/// Reads one answer of a gateway that is trusted to be brief where it can; `None` as in [`read_message`].
///
/// # Errors
/// As [`read_message`].
pub fn read_reply<T: DeserializeOwned>(from: &mut impl BufRead) -> Result<Option<T>, FrameError> {
    read_at_most(from, MAX_REPLY)
}

fn read_at_most<T: DeserializeOwned>(from: &mut impl BufRead, most: u64) -> Result<Option<T>, FrameError> {
    let mut message = zeroize::Zeroizing::new(Vec::new());
    from.by_ref().take(most).read_until(0, &mut message)?;
    match message.split_last() {
        None => Ok(None),
        Some((0, json)) => Ok(Some(serde_json::from_slice(json)?)),
        Some(_) => Err(FrameError::Unfinished),
    }
}

/// Writes one message.
///
/// # Errors
/// [`FrameError`]
pub fn write_message(to: &mut impl Write, message: &impl Serialize) -> Result<(), FrameError> {
    let mut octets = zeroize::Zeroizing::new(serde_json::to_vec(message)?);
    octets.push(0);
    to.write_all(&octets)?;
    Ok(to.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn messages_follow_each_other_and_the_end_is_clean() {
        let mut octets = Vec::new();
        write_message(&mut octets, &json!({"a": 1})).unwrap();
        write_message(&mut octets, &json!({"b": 2})).unwrap();
        let mut from = octets.as_slice();
        assert_eq!(read_message::<Value>(&mut from).unwrap(), Some(json!({"a": 1})));
        assert_eq!(read_message::<Value>(&mut from).unwrap(), Some(json!({"b": 2})));
        assert!(read_message::<Value>(&mut from).unwrap().is_none());
    }

    #[test]
    fn an_answer_may_be_longer_than_a_call() {
        let mut octets = Vec::new();
        write_message(&mut octets, &vec![7; 1 << 20]).unwrap();
        assert!(matches!(read_message::<Vec<u8>>(&mut octets.as_slice()), Err(FrameError::Unfinished)));
        assert_eq!(read_reply::<Vec<u8>>(&mut octets.as_slice()).unwrap().unwrap().len(), 1 << 20);
    }

    #[test]
    fn a_message_cut_short_or_endless_or_not_json_is_an_error() {
        assert!(matches!(read_message::<Value>(&mut &b"{\"a\":"[..]), Err(FrameError::Unfinished)));
        assert!(matches!(read_message::<Value>(&mut &b"nonsense\0"[..]), Err(FrameError::Json(_))));
        let endless = vec![b' '; 2 << 20];
        assert!(matches!(read_message::<Value>(&mut endless.as_slice()), Err(FrameError::Unfinished)));
    }
}
