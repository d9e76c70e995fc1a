//! What happens in a gateway, as it happens.

use serde::{Deserialize, Serialize};

use crate::selector::SelectorView;
use crate::spec::DirectionSpec;
use crate::words::words;

/// Something that happened. Fields that say nothing about it are null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EventView {
    /// What happened.
    pub event: EventKind,
    /// When.
    pub time: u64,
    /// Its number in the gateway's life, from 1. What is said to one subscriber alone has the number of the last event
    /// before it.
    pub number: u64,
    /// One sentence for people.
    pub text: String,
    /// The flow: protocol, local, remote.
    pub flow: Option<String>,
    /// The peer's identity.
    pub peer: Option<String>,
    /// The pair of SAs.
    pub pair: Option<u64>,
    /// The SPI.
    pub spi: Option<u32>,
    /// The direction.
    pub direction: Option<DirectionSpec>,
    /// The rule of the policy, by its number.
    pub policy: Option<u64>,
    /// The selector of that rule: the widest that a pair for the flow may carry.
    pub selector: Option<SelectorView>,
    /// The congruence class that a latch demands.
    pub class: Option<u32>,
    /// What was asked with the latch that waits, beyond the policy, a demand each; null where nobody asked for it.
    pub demands: Option<Vec<String>>,
    /// Why: the name of a drop reason, or of what broke a latch.
    pub reason: Option<String>,
    /// How many: packets dropped, or events lost.
    pub count: Option<u64>,
}

words! {
    /// What can happen.
    EventKind {
        /// The subscription stands: everything from here on is told.
        Subscribed = "subscribed",
        /// The subscriber was too slow, and did not hear of `count` events.
        Lost = "lost",
        /// A flow needs protection that no SA offers (RFC 4301 5.1).
        Acquire = "acquire",
        /// An SA reached its soft lifetime: time for a new one (RFC 4301 4.4.2.1).
        SoftExpired = "soft_expired",
        /// An SA reached its hard lifetime, and its keys are gone (RFC 4301 4.4.2.1).
        HardExpired = "hard_expired",
        /// An auditable packet was dropped (RFC 4301 section 5.2, RFC 4303 section 4); `count` are those before it of which
        /// nothing was told.
        Audit = "audit",
        /// What the path to a peer takes was found to be another than it was, or came in doubt (RFC 4301 8.2).
        PathMtu = "path_mtu",
        /// Somebody was shown the keys of SAs.
        KeysShown = "keys_shown",
        /// Somebody begins to capture packets.
        CaptureBegun = "capture_begun",
        /// A latch broke, and its connection ends.
        LatchBroken = "latch_broken",
        /// A pair of SAs was installed.
        PairAdded = "pair_added",
        /// A pair of SAs sends from now on.
        PairActivated = "pair_activated",
        /// A pair of SAs only receives what is still under way.
        PairRetired = "pair_retired",
        /// The peer of a pair is at another address or port, as an authenticated packet said (T34).
        PeerMoved = "peer_moved",
        /// Something else is said of a pair of SAs, whose numbers, windows and latches go on.
        PairRevised = "pair_revised",
        /// A pair of SAs is gone.
        PairRemoved = "pair_removed",
        /// A provider did not use its ticket in time.
        OfferExpired = "offer_expired",
        /// The policy changed.
        PolicyChanged = "policy_changed",
        /// A reload was applied.
        Reloaded = "reloaded",
        /// A reload was refused, and nothing changed.
        ReloadRefused = "reload_refused",
        /// The TUN was set down: nothing passes.
        TunDown = "tun_down",
        /// The TUN is up again.
        TunUp = "tun_up",
        /// What guards the inner addresses is gone.
        GuardLost = "guard_lost",
        /// It is there again.
        GuardRestored = "guard_restored",
        /// Sequence numbers could not be reserved: sealing stops when the last ones are used (T12).
        ReservationFailed = "reservation_failed",
        /// Reservations succeed again.
        ReservationRestored = "reservation_restored",
        /// Many packets were dropped for one reason in a short time.
        DropBurst = "drop_burst",
        /// The gateway ends; nothing follows.
        Ending = "ending",
    }
}

impl EventView {
    /// An event of this kind, all else unsaid. Time and number are given where it is published.
    #[must_use]
    pub fn new(event: EventKind, text: impl Into<String>) -> Self {
        Self {
            event,
            time: 0,
            number: 0,
            text: text.into(),
            flow: None,
            peer: None,
            pair: None,
            spi: None,
            direction: None,
            policy: None,
            selector: None,
            class: None,
            demands: None,
            reason: None,
            count: None,
        }
    }
}
