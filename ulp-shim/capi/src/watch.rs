//! What becomes of sockets, as it happens (K-10, K-12). C waits for a descriptor, which is that of the connection itself: it is
//! closed as any other.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use latchway_socket::{Event, EventKind, Events};

use crate::descriptor;
use crate::failure::Failure;
use crate::kept::{hear_of_forks, kept};
use crate::names::{ipsec_latchway_event, ipsec_latchway_event_kind as kind};
use crate::socket::{gateway, state_of};

/// Some sockets that are watched.
#[derive(Debug)]
pub struct Watch(Mutex<Events>);

/// Watches sockets, and gives the descriptor.
pub fn watch(sockets: &[c_int]) -> Result<c_int, Failure> {
    hear_of_forks()?;
    let own = sockets.iter().map(|fd| descriptor::socket(*fd)).collect::<Result<Vec<OwnedFd>, _>>()?;
    let events = gateway().watch(own.iter().map(AsFd::as_fd))?;
    let fd = events.descriptor()?.as_raw_fd();
    let mut kept = kept();
    let mut gone: Vec<_> = kept.watches.extract_if(|_, watch| !watch.is_open()).collect();
    gone.extend(kept.watches.insert(fd, Arc::new(Watch(Mutex::new(events)))).map(|before| (fd, before)));
    drop(kept);
    drop(gone);
    Ok(fd)
}

/// The next event, waited for so many milliseconds, or as long as it takes where they are negative; `None` where none came.
pub fn next(fd: c_int, milliseconds: c_int) -> Result<Option<ipsec_latchway_event>, Failure> {
    let watch = kept().watches.get(&fd).cloned().ok_or(NO_WATCH)?;
    let mut events = watch.0.lock().unwrap_or_else(PoisonError::into_inner);
    if !events.is_open() {
        return Err(NO_WATCH);
    }
    if events.is_over() {
        return Err(OVER);
    }
    let event = match u64::try_from(milliseconds) {
        Ok(milliseconds) => events.next_within(Duration::from_millis(milliseconds)),
        Err(_) => events.next().transpose(),
    };
    if event.is_err() && !events.is_open() {
        // It was closed while this waited.
        return Err(NO_WATCH);
    }
    Ok(event?.as_ref().map(told))
}

impl Watch {
    /// Whether its descriptor was not closed; one that is being waited on was not.
    fn is_open(&self) -> bool {
        match self.0.try_lock() {
            Ok(mut events) => events.is_open(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().is_open(),
            Err(TryLockError::WouldBlock) => true,
        }
    }
}

/// An event as C has it.
fn told(event: &Event) -> ipsec_latchway_event {
    let kind = match event.kind {
        EventKind::Established => kind::IPSEC_LATCHWAY_EVENT_ESTABLISHED,
        EventKind::Broken(_) => kind::IPSEC_LATCHWAY_EVENT_BROKEN,
        EventKind::Closed(_) => kind::IPSEC_LATCHWAY_EVENT_CLOSED,
        EventKind::Rekeyed => kind::IPSEC_LATCHWAY_EVENT_REKEYED,
        EventKind::AddressChanged { .. } => kind::IPSEC_LATCHWAY_EVENT_ADDRESS_CHANGED,
        EventKind::Lost(_) => kind::IPSEC_LATCHWAY_EVENT_LOST,
        EventKind::GatewayEnding => kind::IPSEC_LATCHWAY_EVENT_ENDING,
    };
    let (from, to) = match event.kind {
        EventKind::AddressChanged { from, to } => (from.to_string(), to.to_string()),
        _ => Default::default(),
    };
    ipsec_latchway_event {
        kind: kind as u32,
        socket: event.socket.map_or(-1, |socket| i32::try_from(socket).unwrap_or(-1)),
        time: event.time,
        lost: if let EventKind::Lost(lost) = event.kind { lost } else { 0 },
        state: event.answer.as_ref().map_or(0, state_of),
        reserved: 0,
        from: text(&from),
        to: text(&to),
        text: text(&event.text),
    }
}

/// A text in a place of so many octets, cut between two characters where it is longer; the last octet is NUL.
fn text<const N: usize>(text: &str) -> [c_char; N] {
    let mut place = [0; N];
    let ends = text.char_indices().map(|(begin, character)| begin.saturating_add(character.len_utf8()));
    let end = ends.take_while(|end| *end < N).last().unwrap_or_default();
    let octets = text.bytes().take(end).take_while(|octet| *octet != 0);
    for (place, octet) in place.iter_mut().zip(octets) {
        *place = c_char::from_ne_bytes([octet]);
    }
    place
}

const NO_WATCH: Failure = Failure::new(
    libc::EBADF,
    "the descriptor is none that ipsec_latchway_watch() gave to this process, or is closed; watch anew",
);
const OVER: Failure = Failure::new(
    libc::ENONET,
    "the gateway has ended, or the connection to it has; close the descriptor, and watch anew when it is back",
);

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    /// Texts end, and are never cut inside a character.
    #[test]
    fn texts_are_cut_between_characters() {
        let read = |place: &[c_char]| {
            let octets: Vec<u8> = place.iter().flat_map(|octet| octet.to_ne_bytes()).collect();
            CStr::from_bytes_until_nul(&octets).unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(read(&text::<4>("abc")), "abc");
        assert_eq!(read(&text::<4>("abcd")), "abc");
        assert_eq!(read(&text::<4>("ab\u{e4}")), "ab");
        assert_eq!(read(&text::<8>("a\0b")), "a");
    }
}
