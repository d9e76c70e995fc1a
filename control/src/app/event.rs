//! What becomes of sockets, told to who watches them (K-10, K-12).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::app::ProtectionView;
use crate::words::words;

/// Parameters of [`AppCall::Watch`](crate::app::AppCall::Watch): none. The sockets come with the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Watch {}

/// Something that happened to a socket. Fields that say nothing about it are null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AppEvent {
    /// What happened.
    pub event: AppEventKind,
    /// Which of the sockets that came with the call it happened to, from 0 on; null where to none or to all.
    pub socket: Option<u64>,
    /// When: milliseconds since 1970-01-01T00:00Z.
    pub time: u64,
    /// One sentence for people.
    pub text: String,
    /// Why.
    pub reason: Option<String>,
    /// Where the peer was before, of one that moved.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub from: Option<SocketAddr>,
    /// Where the peer is now, of one that moved.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub to: Option<SocketAddr>,
    /// How many events were lost.
    pub count: Option<u64>,
    /// What protects the socket from here on.
    pub view: Option<ProtectionView>,
}

words! {
    /// What an event says.
    AppEventKind {
        /// The sockets are watched from here on: everything that follows is told.
        Watching = "watching",
        /// Its latch is in force.
        Established = "established",
        /// Its latch broke: nothing passes.
        Broken = "broken",
        /// Its latch was closed, or it was itself.
        Closed = "closed",
        /// The SAs that carry it have new keys.
        Rekeyed = "rekeyed",
        /// Its peer's outer address is another.
        AddressChanged = "address-changed",
        /// The watcher was too slow, and did not hear of `count` events. The last state of each socket is told all the same.
        Lost = "lost",
        /// The gateway ends; nothing follows.
        Ending = "ending",
    }
}

impl AppEvent {
    /// An event of this kind, all else unsaid.
    #[must_use]
    pub fn new(event: AppEventKind, time: u64, text: impl Into<String>) -> Self {
        Self {
            event,
            socket: None,
            time,
            text: text.into(),
            reason: None,
            from: None,
            to: None,
            count: None,
            view: None,
        }
    }
}
