//! The hands of a connection: a thread that takes calls off it, and the descriptors that come with them (T40).
//!
//! What closing a descriptor of a stranger's does is the stranger's choice: it may never end, and hold whatever is in the same
//! table of descriptors, although the process be killed. So hands have a table of their own, with their connection alone;
//! who answers has sockets only by asking the hands about them, and is not held up by hands that are.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded, select_biased, unbounded};
use latchway_control::app::{AppCall, MAX_APP_MESSAGE};
use latchway_control::{Failure, FrameError, Frames, Request};
use latchway_datapath::low::apart::spawn_apart;

use crate::gateway::app::Spaces;
use crate::gateway::app::descriptor::{Facts, bind_to, tell_of_pieces};
use crate::gateway::app::places::Place;
use crate::gateway::operator::Answer;
use crate::gateway::serve::passing::Passing;

/// The hands of one connection. They end with it.
pub struct Hands {
    spaces: Spaces,
    given: Receiver<Result<Given, FrameError>>,
}

/// What was taken off a connection.
pub struct Taken {
    /// The call.
    pub asked: Answer<Asked>,
    /// What came with it.
    pub passed: Passed,
}

/// A call as the hands give it.
struct Given {
    asked: Answer<Asked>,
    count: usize,
    questions: Sender<Question>,
}

/// A call, and whether it wants one answer, many or none.
pub struct Asked {
    pub call: AppCall,
    pub more: bool,
    pub silent: bool,
}

/// Descriptors that came with a call. They are closed once this and every [`Socket`] of it is dropped.
pub struct Passed {
    count: usize,
    questions: Sender<Question>,
    spaces: Spaces,
}

/// One of them.
pub struct Socket {
    number: usize,
    questions: Arc<Sender<Question>>,
    spaces: Spaces,
}

/// What is asked of the hands: what one of the descriptors is, that it tell of pieces, or be bound to a device.
enum Question {
    Facts { number: usize, answer: Sender<Answer<Facts>> },
    Pieces { number: usize, answer: Sender<Answer<()>> },
    Bind { number: usize, device: u32, answer: Sender<Answer<()>> },
}

impl Hands {
    /// Hands that take calls off a connection, for sockets in these spaces. The place is theirs, too: it is free again once
    /// they are.
    ///
    /// # Errors
    /// The system gives no thread, or no table of descriptors.
    pub fn start(stream: &UnixStream, spaces: Spaces, place: Place) -> io::Result<Self> {
        let (give, given) = bounded(0);
        // Not `spaces`, which has a descriptor of its own.
        let inner = spaces.inner();
        let work = move |stream: OwnedFd| take_all(stream.into(), inner, &place, &give);
        spawn_apart(thread::Builder::new().name("hands".into()), stream.try_clone()?.into(), work)?;
        Ok(Self { spaces, given })
    }

    /// The next call; `None` where the other side is done.
    ///
    /// # Errors
    /// The connection is of no use any more, or shut out.
    pub fn next(&self, gone: &Receiver<Infallible>) -> Result<Option<Taken>, FrameError> {
        let given = select_biased! {
            recv(gone) -> _ => return Err(FrameError::CutShort),
            recv(self.given) -> given => given.ok().transpose()?,
        };
        Ok(given.map(|Given { asked, count, questions }| Taken {
            asked,
            passed: Passed { count, questions, spaces: self.spaces.clone() },
        }))
    }
}

impl Passed {
    /// How many there are.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Each of them.
    pub fn sockets(self) -> Vec<Socket> {
        let questions = Arc::new(self.questions);
        (0..self.count)
            .map(|number| Socket { number, questions: Arc::clone(&questions), spaces: self.spaces.clone() })
            .collect()
    }
}

impl Socket {
    /// What it is by now.
    ///
    /// # Errors
    /// A [`Failure`] that says what it is instead.
    pub fn facts(&self) -> Answer<Facts> {
        let facts = self.ask(|number, answer| Question::Facts { number, answer })?;
        if !self.spaces.have(facts.local.ip()) {
            let hint = "ask the gateway of the host whose address it is";
            return Err(Failure::not_here("the socket's address is not one of this host", hint));
        }
        Ok(Facts { astray: facts.astray.filter(|&device| !self.spaces.is_on_the_way(device)), ..facts })
    }

    /// Has it say of each datagram whether it came in pieces.
    ///
    /// # Errors
    /// A [`Failure`]
    pub fn tell_of_pieces(&self) -> Answer<()> {
        self.ask(|number, answer| Question::Pieces { number, answer })
    }

    /// Lets it speak by way of the gateway alone, where its namespace has other ways.
    ///
    /// # Errors
    /// A [`Failure`]
    pub fn keep_from_other_ways(&self) -> Answer<()> {
        match self.spaces.only_way() {
            Some(device) => self.ask(|number, answer| Question::Bind { number, device, answer }),
            None => Ok(()),
        }
    }

    fn ask<T>(&self, question: impl FnOnce(usize, Sender<Answer<T>>) -> Question) -> Answer<T> {
        let (answer, answered) = bounded(1);
        // Hands that are gone answer nothing.
        let _ = self.questions.send(question(self.number, answer));
        answered.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            Err(Failure::not_a_socket("the descriptor cannot be looked at", "pass a TCP or UDP socket"))
        })
    }
}

/// Takes calls until the other side is done, or nobody wants them any more.
fn take_all(stream: UnixStream, inner: u64, place: &Place, give: &Sender<Result<Given, FrameError>>) {
    let mut frames = Frames::new(Passing::over(stream, |count| place.spare(count)), MAX_APP_MESSAGE);
    loop {
        let has_begun = !frames.is_drained();
        frames.connection().expect_call(has_begun);
        let asked = match frames.next_message() {
            Ok(Some(message)) => read(message),
            Ok(None) => return,
            Err(error) => {
                let _ = give.send(Err(error));
                return;
            }
        };
        // Once it is gone, so are they.
        let (passed, _spare) = frames.connection().take();
        // Whose call they came with cannot be told where several came at once.
        if !passed.is_empty() && !frames.is_drained() {
            let _ = give.send(Err(FrameError::CutShort));
            return;
        }
        let (ask, questions) = unbounded();
        let given = Given { asked, count: passed.len(), questions: ask };
        if give.send(Ok(given)).is_err() {
            return;
        }
        answer(&questions, &passed, inner);
    }
}

/// Answers what is asked of descriptors, until all is.
fn answer(questions: &Receiver<Question>, passed: &[OwnedFd], inner: u64) {
    for question in questions {
        // Who asked may have gone on.
        match question {
            Question::Facts { number, answer } => {
                let facts = passed.get(number).map(|socket| Facts::read(socket.as_fd(), inner));
                let _ = facts.map(|facts| answer.send(facts));
            }
            Question::Pieces { number, answer } => {
                let told = passed.get(number).map(|socket| tell_of_pieces(socket.as_fd()));
                let _ = told.map(|told| answer.send(told));
            }
            Question::Bind { number, device, answer } => {
                let bound = passed.get(number).map(|socket| bind_to(socket.as_fd(), device));
                let _ = bound.map(|bound| answer.send(bound));
            }
        }
    }
}

fn read(message: &[u8]) -> Answer<Asked> {
    let request = Request::read(message)?;
    if request.upgrade {
        let hint = "call it without `upgrade`";
        return Err(Failure::bad_call("no method here goes over to another protocol", hint));
    }
    Ok(Asked { call: request.app_call()?, more: request.more, silent: request.oneway })
}

/// How long it may take to look at a descriptor. A socket takes no time.
const PATIENCE: Duration = Duration::from_secs(5);
