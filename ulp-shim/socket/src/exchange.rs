//! One call and its replies, without a connection: what is to be sent, and what came (sans-IO).

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::marker::PhantomData;

use latchway_control::app::MAX_APP_REPLY;
use latchway_control::call::Method;
use latchway_control::{Asking, FrameError, Frames, Reply, write_message};

use crate::answer::NoGateway;
use crate::error::{Error, Result};

/// A call that is being said, and whose replies are being read.
#[derive(Debug)]
pub(crate) struct Exchange<M> {
    said: Vec<u8>,
    sent: usize,
    replies: Frames<Feed>,
    more: bool,
    of: PhantomData<fn(M)>,
}

/// Why an exchange failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The gateway answered that it does not do this; the connection can be used on.
    Refused(Error),
    /// The connection ended before a reply came.
    Dead,
    /// Anything else; the connection is of no use any more.
    Failed(Error),
}

impl Trouble {
    /// What is told of it where nothing can be made anew.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Dead => Error::absent(NoGateway::Ending),
            Self::Refused(error) | Self::Failed(error) => error,
        }
    }
}

impl<M: Method> Exchange<M> {
    /// A call that one reply answers.
    pub(crate) fn one(call: &M) -> Result<Self> {
        Self::saying(&Asking::one(call), false)
    }

    /// A call that any number of replies answers.
    pub(crate) fn more(call: &M) -> Result<Self> {
        Self::saying(&Asking::more(call), true)
    }

    fn saying(asking: &Asking<'_, M>, more: bool) -> Result<Self> {
        let mut said = Vec::new();
        write_message(&mut said, asking).map_err(Error::protocol)?;
        Ok(Self {
            said,
            sent: 0,
            replies: Frames::new(Feed::default(), MAX_APP_REPLY),
            more,
            of: PhantomData,
        })
    }

    /// What is left to send. Sockets go along with its first octet.
    pub(crate) fn to_send(&self) -> &[u8] {
        self.said.get(self.sent..).unwrap_or_default()
    }

    /// Whether nothing was sent yet, so that sockets must go along.
    pub(crate) const fn is_first(&self) -> bool {
        self.sent == 0
    }

    /// So many octets of that were sent.
    pub(crate) const fn sent(&mut self, octets: usize) {
        self.sent = self.sent.saturating_add(octets);
    }

    /// These octets came.
    pub(crate) fn received(&mut self, octets: &[u8]) {
        self.replies.connection().0.extend(octets);
    }

    /// The next reply, if all of it came.
    pub(crate) fn reply(&mut self) -> std::result::Result<Option<M::Reply>, Trouble> {
        let message = match self.replies.next_message() {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(None),
            Err(FrameError::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(Trouble::Failed(Error::protocol(error))),
        };
        let reply = Reply::read(message).map_err(wrong)?;
        if reply.continues && !self.more {
            return Err(Trouble::Failed(Error::protocol(
                "it says that more follows, and nobody asked for more",
            )));
        }
        let answer = reply.answer::<M::Reply>().map_err(wrong)?;
        answer.map(Some).map_err(|failure| Trouble::Refused(Error::refused(&failure)))
    }

    /// Whether nothing came that was not read: after the one reply, nothing may.
    pub(crate) fn is_over(&mut self) -> bool {
        let nothing = matches!(self.replies.next_message(), Err(FrameError::Io(_)));
        nothing && self.replies.is_drained()
    }

    /// The connection ended.
    pub(crate) fn ended(&mut self) -> Trouble {
        if self.replies.is_drained() {
            return Trouble::Dead;
        }
        Trouble::Failed(Error::protocol("the connection ended in the middle of a reply"))
    }
}

fn wrong(what: impl fmt::Display) -> Trouble {
    Trouble::Failed(Error::protocol(what))
}

/// Octets that came and were not framed yet.
#[derive(Debug, Default)]
struct Feed(std::collections::VecDeque<u8>);

impl Read for Feed {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { self.0.read(to) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error;
    use latchway_control::app::{Gateway, Watch};

    const ANSWER: &[u8] = b"{\"parameters\":{\"name\":\"g\",\"version\":\"1\",\"boot\":7}}\0";

    fn asking() -> Exchange<Gateway> {
        Exchange::one(&Gateway {}).unwrap()
    }

    fn failed(exchange: &mut Exchange<Gateway>) -> error::ErrorKind {
        match exchange.reply() {
            Err(Trouble::Failed(error)) => error.kind(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_call_is_sent_in_pieces_and_its_reply_comes_in_pieces() {
        let mut exchange = asking();
        assert!(exchange.is_first());
        let all = exchange.to_send().to_vec();
        assert_eq!(all, b"{\"method\":\"org.latchway.App.Gateway\",\"parameters\":{}}\0");
        exchange.sent(10);
        assert!(!exchange.is_first());
        assert_eq!(exchange.to_send(), &all[10..]);
        for octet in &ANSWER[..ANSWER.len() - 1] {
            exchange.received(&[*octet]);
            assert_eq!(exchange.reply(), Ok(None));
        }
        exchange.received(&[0]);
        assert_eq!(exchange.reply().unwrap().unwrap().boot, 7);
        assert!(exchange.is_over());
    }

    /// T39: a gateway that says anything else than one reply is none.
    #[test]
    fn t39_a_hostile_gateway_gets_nowhere() {
        for hostile in [
            &b"\0"[..],
            b"[]\0",
            b"\xff\xff\0",
            b"{\"parameters\":{\"name\":1}}\0",
            b"{\"parameters\":{}}\0",
            b"{\"parameters\":{\"name\":\"g\",\"version\":\"1\",\"boot\":7},\"continues\":true}\0",
        ] {
            let mut exchange = asking();
            exchange.received(hostile);
            assert_eq!(failed(&mut exchange), error::ErrorKind::Protocol);
        }
        let mut exchange = asking();
        exchange.received(&vec![b' '; 2 * MAX_APP_REPLY as usize]);
        assert_eq!(failed(&mut exchange), error::ErrorKind::Protocol);
        for behind in [ANSWER, b"{", b"\0"] {
            let mut exchange = asking();
            exchange.received(&[ANSWER, behind].concat());
            assert!(exchange.reply().unwrap().is_some());
            assert!(!exchange.is_over(), "what comes unasked is not taken for the next call's reply");
        }
    }

    #[test]
    fn an_end_is_clean_only_where_nothing_came() {
        let mut exchange = asking();
        assert_eq!(exchange.ended(), Trouble::Dead);
        exchange.received(b"{");
        assert_eq!(exchange.reply(), Ok(None));
        assert!(matches!(exchange.ended(), Trouble::Failed(_)));
    }

    #[test]
    fn an_error_is_an_answer_and_more_replies_follow_where_asked_for() {
        let mut exchange = asking();
        exchange.received(
            b"{\"error\":\"org.latchway.App.Busy\",\"parameters\":{\"message\":\"m\",\"hint\":\"h\"}}\0",
        );
        let Err(Trouble::Refused(error)) = exchange.reply() else { panic!() };
        assert_eq!((error.kind(), error.to_string()), (error::ErrorKind::Busy, "m; h".into()));
        let mut watching: Exchange<Watch> = Exchange::more(&Watch {}).unwrap();
        let event = b"{\"parameters\":{\"event\":\"ending\",\"time\":1,\"text\":\"t\"},\"continues\":true}\0";
        watching.received(&[&event[..], event].concat());
        assert!(watching.reply().unwrap().is_some());
        assert!(watching.reply().unwrap().is_some());
        assert_eq!(watching.reply(), Ok(None));
    }
}
