//! One connection of an application: calls are taken off it and answered, one after the other.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use latchway_control::app::{APP_INTERFACES, AppCall, MAX_APP_REPLY};
use latchway_control::{Answering, Failure, FrameError, ServiceInfo, write_message};
use nix::sys::socket::{getsockopt, sockopt};
use serde::Serialize;

use crate::gateway::app::Applications;
use crate::gateway::app::hands::{Asked, Hands, Passed, Socket, Taken};
use crate::gateway::app::places::Place;
use crate::gateway::operator::Answer;
use crate::gateway::serve::callers::{Caller, Doing};

/// The way back to an application.
pub struct Back<'a> {
    pub stream: &'a UnixStream,
    pub caller: &'a Caller,
    /// Whether there may be more than one reply.
    pub more: bool,
    /// Whether there shall be none.
    silent: bool,
}

/// Answers calls until the other side is done.
///
/// # Errors
/// The connection is of no use any more: nothing more is read of it.
pub fn converse(
    stream: &UnixStream,
    caller: &Caller,
    place: &Place,
    applications: &Applications,
) -> Result<(), FrameError> {
    let hands = Hands::start(stream, applications.spaces.clone(), place.clone())?;
    loop {
        caller.now(Doing::Waiting);
        let Taken { asked, passed } = match hands.next(caller.gone()) {
            Ok(Some(taken)) => taken,
            Ok(None) => return Ok(()),
            Err(FrameError::TooLong(most)) => {
                let text = format!("the call is longer than {most} octets");
                return Back { stream, caller, more: false, silent: false }
                    .give::<()>(Err(Failure::bad_call(text, "say less at once")));
            }
            Err(error) => return Err(error),
        };
        caller.now(Doing::Answering);
        if asked.as_ref().is_ok_and(|asked| is_of_the_key_manager(&asked.call)) {
            thread::sleep(place.put_off(Instant::now()));
        }
        let (more, silent) = asked.as_ref().map_or((false, false), |asked| (asked.more, asked.silent));
        let mut back = Back { stream, caller, more, silent };
        match asked {
            Ok(Asked { call, .. }) => back.answer(&call, passed, applications)?,
            Err(failure) => back.give::<()>(Err(failure))?,
        }
    }
}

impl Back<'_> {
    fn answer(
        &mut self,
        call: &AppCall,
        passed: Passed,
        applications: &Applications,
    ) -> Result<(), FrameError> {
        match call {
            AppCall::GetInfo(_) => self.alone(passed, || Ok(ServiceInfo::own(&APP_INTERFACES))),
            AppCall::GetInterfaceDescription(which) => self.alone(passed, || which.answer(&APP_INTERFACES)),
            AppCall::Gateway(_) => self.alone(passed, || Ok(applications.gateway())),
            AppCall::Protection(_) => self.give(one(passed).and_then(|socket| {
                let facts = socket.facts()?;
                drop(socket);
                applications.protection(&facts)
            })),
            AppCall::Require(require) => self.give(
                one(passed).and_then(|socket| applications.require(&socket, user(self.stream), require)),
            ),
            AppCall::Forget(_) => self.give(one(passed).and_then(|socket| applications.forget(&socket))),
            AppCall::Pieces(_) => self.give(one(passed).and_then(|socket| applications.pieces(&socket))),
            AppCall::Datagram(datagram) => self.give(one(passed).and_then(|socket| {
                let facts = socket.facts()?;
                drop(socket);
                applications.datagram(&facts, datagram)
            })),
            AppCall::Watch(_) => self.watch(passed, applications),
        }
    }

    /// An answer to a call that no socket comes with.
    fn alone<T: Serialize>(
        &mut self,
        passed: Passed,
        answer: impl FnOnce() -> Answer<T>,
    ) -> Result<(), FrameError> {
        if passed.count() == 0 {
            return self.give(answer());
        }
        self.give::<T>(Err(Failure::bad_call("a descriptor came with a call that takes none", "pass none")))
    }

    /// An answer, or why there is none.
    pub fn give<T: Serialize>(&mut self, answer: Answer<T>) -> Result<(), FrameError> {
        match answer {
            Ok(answer) => self.last(&answer),
            Err(failure) => self.say(&Answering::failure(&failure.of_app())),
        }
    }

    /// The last or only answer.
    pub fn last<T: Serialize>(&mut self, answer: &T) -> Result<(), FrameError> {
        self.say(&Answering::last(answer))
    }

    /// An answer that others follow.
    pub fn continued<T: Serialize>(&mut self, answer: &T) -> Result<(), FrameError> {
        self.say(&Answering::continued(answer))
    }

    fn say<T: Serialize>(&mut self, answering: &Answering<'_, T>) -> Result<(), FrameError> {
        if self.silent {
            return Ok(());
        }
        let mut said = Vec::new();
        write_message(&mut said, answering)?;
        if said.len() as u64 > MAX_APP_REPLY {
            said.clear();
            let failure = Failure::failed(format!("the answer is longer than {MAX_APP_REPLY} octets"), "");
            write_message(&mut said, &Answering::failure(&failure.of_app()))?;
        }
        self.caller.now(Doing::Writing);
        let mut stream = self.stream;
        let written = stream.write_all(&said);
        self.caller.now(Doing::Answering);
        Ok(written?)
    }
}

/// Whether it takes time of the key manager's to answer.
const fn is_of_the_key_manager(call: &AppCall) -> bool {
    !matches!(call, AppCall::GetInfo(_) | AppCall::GetInterfaceDescription(_) | AppCall::Gateway(_))
}

/// Who is on the other side; the one of no name where that cannot be told.
fn user(stream: &UnixStream) -> u32 {
    getsockopt(stream, sockopt::PeerCredentials).map_or(u32::MAX, |credentials| credentials.uid())
}

/// The one socket that a call brings.
fn one(passed: Passed) -> Answer<Socket> {
    let mut passed = passed.sockets().into_iter();
    match (passed.next(), passed.next()) {
        (Some(socket), None) => Ok(socket),
        (None, _) => {
            let hint = "pass it with the first octet of the call (SCM_RIGHTS)";
            Err(Failure::not_a_socket("no socket came with the call", hint))
        }
        (Some(_), Some(_)) => {
            Err(Failure::bad_call("several sockets came with the call", "ask for one at a time"))
        }
    }
}
