//! What becomes of PF_SHIM sockets, told to who asked for it by recvmsg() (K-9 to K-12).

use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use latchway_socket::{Event, EventKind, Events};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::net::sockopt::{Timeout, socket_timeout};

use crate::failure::Failure;
use crate::kept::{gateway, kept};
use crate::names::{
    SHIM_EVENT_ADDRESS_CHANGED, SHIM_EVENT_ALL, SHIM_EVENT_BROKEN, SHIM_EVENT_CLOSED, SHIM_EVENT_ENDING,
    SHIM_EVENT_ESTABLISHED, SHIM_EVENT_LOST, SHIM_EVENT_REKEYED,
};
use crate::property::state_of;
use crate::{descriptor, mark};

/// A socket that is watched.
#[derive(Debug)]
pub struct Watch {
    /// Which it is: its number may be another's by now.
    cookie: u64,
    /// What can be read from when there may be an event.
    descriptor: c_int,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    events: Events,
    /// Of `SHIM_EVENT_`.
    wanted: u32,
    /// What was looked at by MSG_PEEK.
    next: Option<Box<Notification>>,
}

/// A `struct shim_notification`.
pub type Notification = [u8; LENGTH];

/// What recvmsg() is to do.
#[derive(Debug)]
pub enum Step {
    /// Tell this.
    Tell(Box<Notification>),
    /// Receive data.
    Receive,
    /// Wait for data or for an event.
    Wait(Wait),
}

/// What to wait for besides the socket, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// The descriptor for events.
    pub events: c_int,
    /// Milliseconds, or as long as it takes where they are negative.
    pub left: c_int,
}

/// Has events of a socket told, or none any more.
pub fn register(fd: c_int, wanted: u32) -> Result<(), Failure> {
    if wanted & !SHIM_EVENT_ALL != 0 {
        return Err(NO_EVENT);
    }
    let cookie = mark::cookie(fd).ok_or(CLOSED)?;
    if wanted == 0 {
        forget(fd);
        return Ok(());
    }
    if let Some(watch) = of(fd) {
        watch.state().wanted = wanted;
        return Ok(());
    }
    let own = descriptor::own(fd)?;
    if rustix::net::getpeername(&own)?.is_none() {
        return Err(NOT_CONNECTED);
    }
    let events = gateway().watch([own.as_fd()])?;
    let descriptor = events.descriptor()?.as_raw_fd();
    let watch = Watch { cookie, descriptor, state: Mutex::new(State { events, wanted, next: None }) };
    let mut kept = kept();
    // Of those whose sockets were closed otherwise than by close().
    let mut gone: Vec<_> =
        kept.watches.extract_if(|fd, watch| mark::cookie(*fd) != Some(watch.cookie)).collect();
    gone.extend(kept.watches.insert(fd, Arc::new(watch)).map(|before| (fd, before)));
    drop(kept);
    drop(gone);
    Ok(())
}

/// Tells nothing more of a socket.
pub fn forget(fd: c_int) {
    let watch = kept().watches.remove(&fd);
    drop(watch);
}

/// Which events are told of a socket.
pub fn events(fd: c_int) -> u32 {
    of(fd).map_or(0, |watch| watch.state().wanted)
}

/// What can be read from when there may be an event of a socket.
pub fn descriptor(fd: c_int) -> Option<c_int> {
    of(fd).map(|watch| watch.descriptor)
}

/// What recvmsg() with these flags is to do now; one that waits has done so since `began`.
pub fn step(fd: c_int, flags: c_int, began: Instant) -> Result<Step, Failure> {
    let Some(watch) = of(fd) else { return Ok(Step::Receive) };
    let (next, over) = watch.next(flags & libc::MSG_PEEK != 0);
    if over {
        forget(fd);
    }
    if let Some(notification) = next {
        return Ok(Step::Tell(notification));
    }
    // What is to be whole is waited for by the kernel.
    if over || flags & (libc::MSG_DONTWAIT | libc::MSG_WAITALL) != 0 {
        return Ok(Step::Receive);
    }
    let waits = descriptor::borrowed(fd, |socket| {
        Some(fcntl_getfl(socket).and_then(|flags| Ok((flags, socket_timeout(socket, Timeout::Recv)?))))
    });
    let (status, timeout) = waits.ok_or(CLOSED)??;
    if status.contains(OFlags::NONBLOCK) {
        return Ok(Step::Receive);
    }
    let left = timeout.map_or(-1, |timeout| milliseconds(timeout.saturating_sub(began.elapsed())));
    Ok(Step::Wait(Wait { events: watch.descriptor, left }))
}

/// The watch of a socket.
fn of(fd: c_int) -> Option<Arc<Watch>> {
    let cookie = mark::cookie(fd)?;
    kept().watches.get(&fd).filter(|watch| watch.cookie == cookie).cloned()
}

impl Watch {
    /// The next notification, if there is one now, and whether none follows.
    fn next(&self, peek: bool) -> (Option<Box<Notification>>, bool) {
        let mut state = self.state();
        if state.next.is_none() {
            state.next = state.hear().map(Box::new);
        }
        let next = if peek { state.next.clone() } else { state.next.take() };
        (next, state.next.is_none() && state.events.is_over())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What has come and is wanted. That it is over is always wanted, however it ended.
    fn hear(&mut self) -> Option<Notification> {
        while !self.events.is_over() {
            match self.events.next_within(Duration::ZERO) {
                Ok(None) => return None,
                Ok(Some(event)) => {
                    if kind(&event) & (self.wanted | ALWAYS) != 0 {
                        return Some(notification(&event));
                    }
                }
                Err(error) => return Some(ending(&error.to_string())),
            }
        }
        None
    }
}

fn milliseconds(left: Duration) -> c_int {
    // Rounded up: what is left must have passed.
    c_int::try_from(left.as_micros().div_ceil(1000)).unwrap_or(c_int::MAX)
}

fn kind(event: &Event) -> u32 {
    match event.kind {
        EventKind::Established => SHIM_EVENT_ESTABLISHED,
        EventKind::Broken(_) => SHIM_EVENT_BROKEN,
        EventKind::Closed(_) => SHIM_EVENT_CLOSED,
        EventKind::Rekeyed => SHIM_EVENT_REKEYED,
        EventKind::AddressChanged { .. } => SHIM_EVENT_ADDRESS_CHANGED,
        EventKind::Lost(_) => SHIM_EVENT_LOST,
        EventKind::GatewayEnding => SHIM_EVENT_ENDING,
    }
}

fn notification(event: &Event) -> Notification {
    let lost = if let EventKind::Lost(lost) = event.kind { lost } else { 0 };
    let state = event.answer.as_ref().map_or(0, state_of);
    let (from, to) = match event.kind {
        EventKind::AddressChanged { from, to } => (from.to_string(), to.to_string()),
        _ => Default::default(),
    };
    written(kind(event), (event.time, lost, state), [&from, &to, &event.text])
}

/// That the connection to the gateway is gone.
fn ending(why: &str) -> Notification {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let time = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    written(SHIM_EVENT_ENDING, (time, 0, 0), ["", "", why])
}

/// The octets, field by field.
fn written(kind: u32, (time, lost, state): (u64, u64, u32), [from, to, words]: [&str; 3]) -> Notification {
    let mut octets = [0; LENGTH];
    let length = u32::try_from(LENGTH).unwrap_or_default();
    let numbers = [kind, length].into_iter().flat_map(u32::to_ne_bytes);
    let numbers = numbers.chain([time, lost].into_iter().flat_map(u64::to_ne_bytes));
    let numbers = numbers.chain([state, 0].into_iter().flat_map(u32::to_ne_bytes));
    let texts = text::<64>(from).into_iter().chain(text::<64>(to)).chain(text::<256>(words));
    octets.iter_mut().zip(numbers.chain(texts)).for_each(|(place, octet)| *place = octet);
    octets
}

/// A text in a place of so many octets, cut between two characters where it is longer; the last octet is NUL.
fn text<const N: usize>(text: &str) -> [u8; N] {
    let mut place = [0; N];
    let ends = text.char_indices().map(|(begin, character)| begin.saturating_add(character.len_utf8()));
    let end = ends.take_while(|end| *end < N).last().unwrap_or_default();
    let octets = text.bytes().take(end).take_while(|octet| *octet != 0);
    place.iter_mut().zip(octets).for_each(|(place, octet)| *place = octet);
    place
}

/// Of a `struct shim_notification`.
const LENGTH: usize = 416;
/// What is told whether it was asked for or not: without it, silence would be taken for nothing happening.
const ALWAYS: u32 = SHIM_EVENT_LOST | SHIM_EVENT_ENDING;

const NO_EVENT: Failure =
    Failure::new(libc::EINVAL, "there are more events in the set than SHIM_EVENT_ALL has");
const CLOSED: Failure = Failure::new(libc::EBADF, "the socket was closed meanwhile");
const NOT_CONNECTED: Failure =
    Failure::new(libc::ENOTCONN, "events are of a connection; set SHIM_EVENTS when the socket is connected");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_end_and_are_cut_between_characters() {
        assert_eq!(&text::<4>("abc"), b"abc\0");
        assert_eq!(&text::<4>("abcd"), b"abc\0");
        assert_eq!(&text::<4>("ab\u{e4}"), b"ab\0\0");
        assert_eq!(&text::<8>("a\0b"), b"a\0\0\0\0\0\0\0");
    }

    #[test]
    fn what_is_left_is_never_waited_for_too_short() {
        assert_eq!(milliseconds(Duration::ZERO), 0);
        assert_eq!(milliseconds(Duration::from_micros(1)), 1);
        assert_eq!(milliseconds(Duration::from_micros(1001)), 2);
        assert_eq!(milliseconds(Duration::MAX), c_int::MAX);
    }

    /// K-10: what there is not cannot be asked for.
    #[test]
    fn k_10_only_events_that_there_are_can_be_asked_for() {
        assert_eq!(register(0, 0x80).unwrap_err().errno(), libc::EINVAL);
        assert_eq!(register(-1, SHIM_EVENT_ALL).unwrap_err().errno(), libc::EBADF);
        assert_eq!((events(0), descriptor(0)), (0, None));
    }
}
