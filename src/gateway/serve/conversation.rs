//! One connection: calls are taken off it and answered, one after the other.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

use latchway_control::{
    Answering, Call, CaptureSpec, CapturedPackets, Done, EventKind, EventView, Failure, Flows, FrameError,
    Frames, INTERFACES, Latches, MAX_MESSAGE, Peers, Policies, Request, Sas, ServiceInfo, XfrmEvent,
    XfrmEventKind, XfrmPolicies, XfrmStates, write_message,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use crate::gateway::events::Heard;
use crate::gateway::operator::Answer;
use crate::gateway::rows::unix_milliseconds;
use crate::gateway::serve::Service;
use crate::gateway::serve::callers::{Caller, Doing};
use crate::gateway::serve::latches::Own;
use crate::gateway::serve::pages::pages;
use crate::gateway::xfrm;

/// The way back to a caller.
pub struct Back<'a> {
    pub stream: &'a UnixStream,
    pub caller: &'a Caller,
    /// What the connection holds.
    pub own: &'a mut Own,
    /// Whether there may be more than one reply.
    pub more: bool,
    /// Whether there shall be none.
    silent: bool,
}

/// How often it is looked whether a listener that hears nothing is still there.
pub const GLANCE: Duration = Duration::from_secs(1);

/// Answers calls until the other side is done.
///
/// # Errors
/// The connection is of no use any more.
pub fn converse(stream: &UnixStream, caller: &Caller, service: &Service) -> Result<(), FrameError> {
    let mut own = Own::default();
    let conversed = answer_all(stream, caller, service, &mut own);
    own.end(&*service.gateway);
    conversed
}

fn answer_all(
    stream: &UnixStream,
    caller: &Caller,
    service: &Service,
    own: &mut Own,
) -> Result<(), FrameError> {
    let mut frames = Frames::new(stream, MAX_MESSAGE);
    loop {
        caller.now(Doing::Waiting);
        let message = frames.next_message();
        caller.now(Doing::Answering);
        let mut back = Back { stream, caller, own, more: false, silent: false };
        match message {
            Ok(Some(message)) => back.answer_to(message, service)?,
            Ok(None) => return Ok(()),
            Err(FrameError::TooLong(most)) => {
                return back.fail(&Failure::bad_call(
                    format!("the call is longer than {most} octets"),
                    "say less at once",
                ));
            }
            Err(error) => return Err(error),
        }
    }
}

impl Back<'_> {
    fn answer_to(&mut self, message: &[u8], service: &Service) -> Result<(), FrameError> {
        let request = match Request::read(message) {
            Ok(request) => request,
            Err(failure) => return self.fail(&failure),
        };
        (self.more, self.silent) = (request.more, request.oneway);
        if request.upgrade {
            let hint = "call it without `upgrade`";
            return self.fail(&Failure::bad_call("no method here goes over to another protocol", hint));
        }
        match request.call() {
            Ok(call) => self.answer(&call, service),
            Err(failure) => self.fail(&failure),
        }
    }

    fn answer(&mut self, call: &Call, service: &Service) -> Result<(), FrameError> {
        let gateway = &*service.gateway;
        let done = |answer: Answer<()>| answer.map(|()| Done {});
        match call {
            Call::GetInfo(_) => self.last(&ServiceInfo::own(&INTERFACES)),
            Call::GetInterfaceDescription(which) => self.give(which.answer(&INTERFACES)),
            Call::Status(_) => self.give(gateway.status()),
            Call::Drops(_) => self.give(gateway.drops()),
            Call::Sas(list) => pages::<Sas>(self, list.limit, |rows| gateway.sas(rows)),
            Call::Policies(list) => pages::<Policies>(self, list.limit, |rows| gateway.policies(rows)),
            Call::Peers(list) => pages::<Peers>(self, list.limit, |rows| gateway.peers(rows)),
            Call::Latches(list) => pages::<Latches>(self, list.limit, |rows| gateway.latches(rows)),
            Call::Flows(list) => pages::<Flows>(self, list.limit, |rows| gateway.flows(rows)),
            Call::Explain(packet) => self.give(gateway.explain(packet)),
            Call::Mtu(peer) => self.give(gateway.mtu(peer)),
            Call::Events(_) => self.tell_events(service),
            Call::Reload(how) => self.give(gateway.reload(**how)),
            Call::AddPair(pair) => self.give(gateway.add_pair(pair)),
            Call::DeletePair(which) => self.give(done(gateway.delete_pair(which.pair))),
            Call::AddRule(rule) => self.give(gateway.add_rule(rule)),
            Call::DeleteRule(which) => self.give(done(gateway.delete_rule(which.number))),
            Call::Propose(proposal) => self.give(gateway.propose(proposal)),
            Call::Install(keys) => self.give(gateway.install(keys)),
            Call::Rekey(keys) => self.give(gateway.rekey(keys)),
            Call::Commit(transaction) => self.give(done(gateway.commit(transaction))),
            Call::ListenLatch(_)
            | Call::ConnectLatch(_)
            | Call::ReleaseLatch(_)
            | Call::InquireLatch(_)
            | Call::FindLatch(_)
            | Call::CloseLatch(_)
            | Call::WatchLatches(_) => self.answer_of_latches(call, service),
            Call::PeerGone(peer) => self.give(gateway.peer_gone(peer)),
            Call::Whois(ends) => self.give(gateway.whois(ends)),
            Call::ShowKeys(_) => self.give(gateway.show_keys()),
            Call::Capture(wanted) => self.show_packets(wanted, service),
            Call::XfrmApply(asked) => self.give(gateway.xfrm_apply(asked)),
            Call::XfrmStates(list) => {
                pages::<XfrmStates>(self, list.limit, |rows| gateway.xfrm_states(list.keys, rows))
            }
            Call::XfrmPolicies(list) => {
                pages::<XfrmPolicies>(self, list.limit, |rows| gateway.xfrm_policies(rows))
            }
            Call::XfrmMonitor(_) => self.tell_xfrm(service),
            Call::Stop(_) => {
                // Said before it is done: afterwards nobody may be there to say it.
                let said = self.last(&Done {});
                (service.stop)();
                said
            }
        }
    }

    fn tell_events(&mut self, service: &Service) -> Result<(), FrameError> {
        if !self.more {
            return self.fail(&Failure::expected_more());
        }
        let Some(_place) = self.caller.listen() else {
            let hint = "end one of them, or ask for the state now and then";
            return self.fail(&Failure::busy("as many listen to events as may", hint));
        };
        let subscription = service.events.subscribe();
        let mut number = 0;
        self.continued(&EventView::new(EventKind::Subscribed, "the subscription stands"))?;
        loop {
            match subscription.next(GLANCE) {
                Heard::Event(event) if event.event == EventKind::Ending => return self.last(&*event),
                Heard::Event(event) => {
                    number = event.number;
                    self.continued(&*event)?;
                }
                Heard::Lost(count) => {
                    let text = format!("{count} events were lost here: they came faster than they were read");
                    let count = Some(count);
                    self.continued(&EventView { number, count, ..EventView::new(EventKind::Lost, text) })?;
                }
                Heard::Quiet if has_hung_up(self.stream) => return Err(FrameError::CutShort),
                Heard::Quiet => {}
                Heard::Ended => return self.last(&EventView::new(EventKind::Ending, "the gateway ends")),
            }
        }
    }

    fn show_packets(&mut self, wanted: &CaptureSpec, service: &Service) -> Result<(), FrameError> {
        if !self.more {
            return self.fail(&Failure::expected_more());
        }
        let Some(_place) = self.caller.listen() else {
            let hint = "end one of them, or ask for the state now and then";
            return self.fail(&Failure::busy("as many listen to the gateway as may", hint));
        };
        let capturing = match service.gateway.capture(wanted) {
            Ok(capturing) => capturing,
            Err(failure) => return self.fail(&failure),
        };
        let begun = "packets are being captured, by order of an operator";
        service.events.publish(EventView::new(EventKind::CaptureBegun, begun));
        self.continued(&CapturedPackets::default())?;
        loop {
            // Said also where there is nothing to show, so that neither side waits for one that is gone.
            let page = capturing.next_page(GLANCE);
            if service.events.has_ended() {
                return self.last(&page);
            }
            self.continued(&page)?;
        }
    }

    fn tell_xfrm(&mut self, service: &Service) -> Result<(), FrameError> {
        if !self.more {
            return self.fail(&Failure::expected_more());
        }
        let Some(_place) = self.caller.listen() else {
            let hint = "end one of them, or list states and policies now and then";
            return self.fail(&Failure::busy("as many listen to the gateway as may", hint));
        };
        let watching = match service.gateway.xfrm_watch() {
            Ok(watching) => watching,
            Err(failure) => return self.fail(&failure),
        };
        let of = |kind| XfrmEvent::of(kind, unix_milliseconds(SystemTime::now()));
        self.continued(&of(XfrmEventKind::Begun))?;
        loop {
            match watching.next(GLANCE) {
                xfrm::Heard::Event(event) => self.continued(&*event)?,
                xfrm::Heard::Lost => return self.last(&of(XfrmEventKind::Lost)),
                xfrm::Heard::Quiet if has_hung_up(self.stream) || service.events.has_ended() => {
                    return Err(FrameError::CutShort);
                }
                xfrm::Heard::Quiet => {}
            }
        }
    }

    /// An answer, or why there is none.
    pub fn give<T: Serialize>(&mut self, answer: Answer<T>) -> Result<(), FrameError> {
        match answer {
            Ok(answer) => self.last(&answer),
            Err(failure) => self.fail(&failure),
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

    /// Why there is no answer.
    pub fn fail(&mut self, failure: &Failure) -> Result<(), FrameError> {
        self.say(&Answering::failure(failure))
    }

    fn say<T: Serialize>(&mut self, answering: &Answering<'_, T>) -> Result<(), FrameError> {
        if self.silent {
            return Ok(());
        }
        self.caller.now(Doing::Writing);
        let said = write_message(&mut self.stream, answering);
        self.caller.now(Doing::Answering);
        said
    }
}

/// Whether nobody is on the other end any more.
pub fn has_hung_up(stream: &UnixStream) -> bool {
    let mut watched = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
    poll(&mut watched, PollTimeout::ZERO).is_ok()
        && watched.iter().filter_map(PollFd::revents).any(|happened| happened.intersects(gone))
}
