//! What becomes of sockets, told to who watches them: their latches and the SAs that carry those (K-10, K-12).
//!
//! A signal only says that there is something to look at; what is told is the difference between two looks. So a watcher
//! that is slow learns less of what was meanwhile, and always where things stand.

use std::net::SocketAddr;
use std::time::SystemTime;

use latchway_control::app::{AppEvent, AppEventKind, ProtectionView};
use latchway_control::{Failure, FrameError};
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::{BreakReason, LatchId, LatchState};
use latchway_keying::Inquiry;
use latchway_tagging::SaRef;
use latchway_ulp_shim::{LatchView, Progress};

use crate::gateway::app::Applications;
use crate::gateway::app::conversation::Back;
use crate::gateway::app::hands::Passed;
use crate::gateway::app::hub::{Heard, Hub, Signal, Watching};
use crate::gateway::operator::Answer;
use crate::gateway::rows::unix_milliseconds;
use crate::gateway::serve::conversation::{GLANCE, has_hung_up};

/// The sockets that a connection watches.
pub struct Sockets<'a> {
    applications: &'a Applications,
    watching: Watching,
    all: Vec<Watched>,
}

/// One of them. Its latch is the one that it had when the watch began: a later one of its flow may be another socket's.
struct Watched {
    flow: FlowKey,
    /// What was told last; `None` where nothing will be any more.
    told: Option<Told>,
    /// The SA that its packets were seen to leave under last.
    sends: Option<SaRef>,
}

/// What is told of a latch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    latch: LatchId,
    state: LatchState,
    /// The SA that carries it, and where that leads.
    sa: Option<SaRef>,
    to: Option<SocketAddr>,
}

/// Something to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Established,
    Broken,
    Closed,
    Rekeyed,
    Moved(SocketAddr, SocketAddr),
}

impl Back<'_> {
    /// Tells what becomes of the sockets that came with a call, until the other side or the gateway ends.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub fn watch(&mut self, passed: Passed, applications: &Applications) -> Result<(), FrameError> {
        if !self.more {
            return self.give::<AppEvent>(Err(Failure::expected_more()));
        }
        let Some(_place) = self.caller.listen() else {
            let hint = "end one of them, or ask for the protection now and then";
            return self.give::<AppEvent>(Err(Failure::busy("as many watch their sockets as may", hint)));
        };
        let mut sockets = match Sockets::of(passed, applications) {
            Ok(sockets) => sockets,
            Err(failure) => return self.give::<AppEvent>(Err(failure)),
        };
        // Who does not read for a while has told nobody that it will not.
        self.stream.set_write_timeout(None)?;
        self.continued(&event(AppEventKind::Watching, "what becomes of the sockets is told from here on"))?;
        self.tell(sockets.present()?)?;
        loop {
            let heard = sockets.watching.next(GLANCE);
            if heard.ended {
                return self.last(&event(AppEventKind::Ending, "the gateway ends"));
            }
            self.tell(sockets.news(&heard)?)?;
            if has_hung_up(self.stream) {
                return Err(FrameError::CutShort);
            }
        }
    }

    fn tell(&mut self, events: Vec<AppEvent>) -> Result<(), FrameError> {
        events.iter().try_for_each(|event| self.continued(event))
    }
}

impl<'a> Sockets<'a> {
    fn of(passed: Passed, applications: &'a Applications) -> Answer<Self> {
        if passed.count() == 0 {
            let hint = "pass them with the first octet of the call (SCM_RIGHTS)";
            return Err(Failure::not_a_socket("no socket came with the call", hint));
        }
        let mut watching = Hub::watch(applications.state.watched());
        let mut all = Vec::new();
        for (number, socket) in passed.sockets().into_iter().enumerate() {
            let facts = socket.facts()?;
            let Some(flow) = facts.flow() else {
                let hint = "connect it first";
                return Err(Failure::wrong_socket(format!("socket {number} has no other end"), hint));
            };
            // Before it is looked at, so that nothing is missed.
            watching.flow(number, flow);
            let told = applications.state.database.find(&flow).map(Told::unknown);
            all.push(Watched { flow, told, sends: None });
        }
        Ok(Self { applications, watching, all })
    }

    /// Where each stands.
    fn present(&mut self) -> Result<Vec<AppEvent>, FrameError> {
        let mut events = Vec::new();
        for number in 0..self.all.len() {
            if let Some(watched) = self.all.get_mut(number) {
                watched.told = watched.told.map(|told| Told::unknown(told.latch));
            }
            events.extend(self.look(number)?);
        }
        Ok(events)
    }

    /// What is new, by what was heard; where nothing was, by what the Latch Database shows.
    fn news(&mut self, heard: &Heard) -> Result<Vec<AppEvent>, FrameError> {
        let mut events = Vec::new();
        if heard.lost > 0 {
            let text = format!("{} events were lost here: they came faster than they were read", heard.lost);
            events.push(AppEvent { count: Some(heard.lost), ..event(AppEventKind::Lost, text) });
            events.extend(self.present()?);
            return Ok(events);
        }
        for (number, signal) in &heard.signals {
            if let Signal::Broken(latch, reason) = *signal {
                events.extend(self.broken(*number, latch, reason.name()));
            }
            events.extend(self.look(*number)?);
        }
        if heard.signals.is_empty() {
            for number in 0..self.all.len() {
                if self.all.get_mut(number).is_some_and(|watched| watched.changed(self.applications)) {
                    events.extend(self.look(number)?);
                }
            }
        }
        Ok(events)
    }

    /// That a latch broke, where it was not told yet: it may be closed by now.
    fn broken(&mut self, number: usize, latch: LatchId, why: &str) -> Option<AppEvent> {
        let watched = self.all.get_mut(number)?;
        let told = watched.told.as_mut().filter(|told| told.latch == latch)?;
        let was = std::mem::replace(&mut told.state, LatchState::Broken);
        (was == LatchState::Established).then(|| {
            let text = format!("the latch of {} broke: nothing passes", watched.flow);
            AppEvent { reason: Some(why.into()), ..of(number, event(AppEventKind::Broken, text)) }
        })
    }

    /// What is other than it was told to be.
    fn look(&mut self, number: usize) -> Result<Vec<AppEvent>, FrameError> {
        let Some(watched) = self.all.get_mut(number) else { return Ok(Vec::new()) };
        let Some(told) = watched.told else { return Ok(Vec::new()) };
        let state = &self.applications.state;
        // Without a key manager there is nothing to look at, and the gateway is ending.
        let inquiry = state.keying.inquire_flow(watched.flow).map_err(|_| FrameError::CutShort)?;
        let latch = inquiry.latch.as_deref().filter(|latch| latch.latch.id == told.latch);
        let now = latch.map(|latch| Told::by(latch).since(&told));
        if let Some(class) = latch.and_then(|latch| latch.latch.class) {
            self.watching.class(number, class);
        }
        let news = told.news(now.as_ref());
        watched.told = now.filter(|now| now.state != LatchState::Closed);
        let flow = watched.flow;
        let reason = latch.and_then(|latch| latch.latch.reason).unwrap_or(BreakReason::ConnectionEnded);
        let view = || Some(self.applications.said(None, &inquiry));
        let event = |news| of(number, told_of(&flow, news, reason, view));
        Ok(news.into_iter().map(event).collect())
    }
}

impl Watched {
    /// Whether the Latch Database shows something else than before.
    fn changed(&mut self, applications: &Applications) -> bool {
        let Some(told) = self.told else { return false };
        let database = &applications.state.database;
        let sends = database.flow(&self.flow).and_then(|flow| flow.outbound);
        let others = std::mem::replace(&mut self.sends, sends) != sends;
        others || database.inquire(told.latch).is_none_or(|latch| standing(&latch) != told.state)
    }
}

impl Told {
    /// Of a latch that nothing was told of.
    const fn unknown(latch: LatchId) -> Self {
        Self { latch, state: LatchState::Larval, sa: None, to: None }
    }

    fn by(inquiry: &Inquiry) -> Self {
        let latch = &inquiry.latch;
        Self { latch: latch.id, state: standing(latch), sa: inquiry.sa, to: inquiry.path.map(|path| path.to) }
    }

    /// The same, where what carries a latch is what it was last: between two SAs there may be a time without.
    fn since(self, told: &Self) -> Self {
        Self { sa: self.sa.or(told.sa), to: self.to.or(told.to), ..self }
    }

    /// What is to be told now that it is so; `None` where its latch is not there any more.
    fn news(&self, now: Option<&Self>) -> Vec<News> {
        let Some(now) = now.filter(|now| now.state != LatchState::Closed) else { return vec![News::Closed] };
        match (self.state, now.state) {
            (LatchState::Established, LatchState::Established) => {
                let rekeyed = self.sa.zip(now.sa).is_some_and(|(was, is)| was != is);
                let moved = self.to.zip(now.to).filter(|(was, is)| was != is);
                let rekeyed = rekeyed.then_some(News::Rekeyed);
                rekeyed.into_iter().chain(moved.map(|(from, to)| News::Moved(from, to))).collect()
            }
            (_, LatchState::Established) => vec![News::Established],
            (was, LatchState::Broken) if was != LatchState::Broken => vec![News::Broken],
            _ => Vec::new(),
        }
    }
}

/// One of the news of a flow.
fn told_of(
    flow: &FlowKey,
    news: News,
    reason: BreakReason,
    view: impl FnOnce() -> Option<ProtectionView>,
) -> AppEvent {
    let reason = Some(reason.name().to_owned());
    let (kind, text) = match news {
        News::Established => (AppEventKind::Established, format!("the latch of {flow} is in force")),
        News::Broken => (AppEventKind::Broken, format!("the latch of {flow} broke: nothing passes")),
        News::Closed => (AppEventKind::Closed, format!("the latch of {flow} is closed")),
        News::Rekeyed => (AppEventKind::Rekeyed, format!("{flow} has new keys")),
        News::Moved(_, to) => (AppEventKind::AddressChanged, format!("the peer of {flow} is at {to} now")),
    };
    let event = event(kind, text);
    match news {
        // Its flow may be another's by now.
        News::Closed => AppEvent { reason, ..event },
        News::Broken => AppEvent { reason, view: view(), ..event },
        News::Moved(from, to) => AppEvent { from: Some(from), to: Some(to), view: view(), ..event },
        News::Established | News::Rekeyed => AppEvent { view: view(), ..event },
    }
}

/// The state of a latch, which for its connection ends with both their FINs: what stays is for what comes late.
const fn standing(latch: &LatchView) -> LatchState {
    match latch.progress {
        Progress::TimeWait | Progress::Ended => LatchState::Closed,
        _ => latch.state,
    }
}

fn of(number: usize, event: AppEvent) -> AppEvent {
    AppEvent { socket: Some(number as u64), ..event }
}

fn event(kind: AppEventKind, text: impl Into<String>) -> AppEvent {
    AppEvent::new(kind, unix_milliseconds(SystemTime::now()), text)
}

#[cfg(test)]
mod tests {
    use latchway_tagging::SaIndex;

    use super::*;

    fn told(state: LatchState, sa: u32, port: u16) -> Told {
        let sa = SaRef { index: SaIndex::new(sa), generation: 1 };
        let to = SocketAddr::from(([192, 0, 2, 1], port));
        Told { latch: LatchId::new(1, 1), state, sa: Some(sa), to: Some(to) }
    }

    /// K-9, K-12, C-18: what is told is the difference between two looks.
    #[test]
    fn k_12_what_is_told_is_what_became_different() {
        use LatchState::{Broken, Closed, Established, Larval};
        let unknown = Told::unknown(LatchId::new(1, 1));
        let stands = told(Established, 1, 4500);
        let (from, to) = (stands.to.unwrap(), told(Established, 1, 4501).to.unwrap());
        for (was, is, news) in [
            (unknown, stands, vec![News::Established]),
            (unknown, told(Larval, 1, 4500), vec![]),
            (unknown, told(Broken, 1, 4500), vec![News::Broken]),
            (unknown, told(Closed, 1, 4500), vec![News::Closed]),
            (stands, stands, vec![]),
            (stands, told(Established, 2, 4500), vec![News::Rekeyed]),
            (stands, told(Established, 1, 4501), vec![News::Moved(from, to)]),
            (stands, told(Established, 2, 4501), vec![News::Rekeyed, News::Moved(from, to)]),
            (stands, Told { sa: None, to: None, ..stands }, vec![]),
            (stands, told(Broken, 2, 4501), vec![News::Broken]),
            (told(Broken, 1, 4500), told(Broken, 1, 4500), vec![]),
            (told(Broken, 1, 4500), stands, vec![News::Established]),
        ] {
            assert_eq!(was.news(Some(&is)), news, "{was:?} {is:?}");
        }
        assert_eq!(stands.news(None), [News::Closed]);
    }

    /// K-12: a look between the end of one SA and the beginning of the next does not hide that it is another.
    #[test]
    fn k_12_a_time_without_sa_is_no_end_of_what_is_compared() {
        let stands = told(LatchState::Established, 1, 4500);
        let without = Told { sa: None, to: None, ..stands }.since(&stands);
        assert_eq!((without, stands.news(Some(&without))), (stands, vec![]));
        let next = told(LatchState::Established, 2, 4500).since(&without);
        assert_eq!(without.news(Some(&next)), [News::Rekeyed]);
    }
}
