//! What protects a socket.

use serde::{Deserialize, Serialize};

use crate::view::{HeldView, LatchState};
use crate::words::words;

/// What protects a socket, and who is on its other end (Q-46, L-12). Fields that say nothing about it are null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProtectionView {
    /// What can be said of the other end.
    pub answer: AnswerKind,
    /// The handle of the connection's latch; null where there is none.
    pub latch: Option<String>,
    /// The latch's state; null where there is none.
    pub state: Option<LatchState>,
    /// The congruence class: what a latch compares.
    pub class: Option<u32>,
    /// The group of classes that protect equally well with the same peer: what two protections are compared by (C-16).
    pub group: Option<u32>,
    /// The number of the rule of the policy that decides about the flow; null where none does.
    pub rule: Option<u64>,
    /// Mode, suites and both identities.
    pub held: Option<HeldView>,
    /// How strong is what protects what we receive.
    pub inbound: Option<StrengthView>,
    /// How strong is what protects what we send.
    pub outbound: Option<StrengthView>,
    /// Whether the IP header and its options are protected, too: by tunnel mode or by AH.
    pub options_protected: bool,
    /// What the rule is called.
    pub policy: Option<String>,
    /// How the connection is protected, in words; no key (C-28).
    pub information: Option<String>,
    /// One line for logs: who is there, and how that is known.
    pub audit: Option<String>,
    /// The end-point binding (RFC 5056 section 2.1); null where none can be made.
    pub binding: Option<String>,
    /// Why no channel can be bound; null where one can.
    pub unbindable: Option<Unbindable>,
    /// Why nothing passes.
    pub reason: Option<String>,
    /// Whether something is required for the socket.
    pub required: bool,
    /// The number of the gateway's start.
    pub boot: u64,
}

/// How strong the protection of one direction is (L-8, L-9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StrengthView {
    /// The length of the encryption key in bits; 0 where nothing is encrypted.
    pub key_bits: u16,
    /// The length of the integrity check value in bits.
    pub icv_bits: u16,
}

words! {
    /// What can be said of the other end of a socket.
    AnswerKind {
        /// A latch is in force: it is this peer and no other, for as long as the connection lives.
        Latched = "latched",
        /// Policy alone: it is protected now, and may be with another peer later.
        Protected = "protected",
        /// A latch is not in force: nothing passes.
        Suspended = "suspended",
        /// Nothing protects it, and anybody may be there.
        Clear = "clear",
        /// Nothing passes.
        Dropped = "dropped",
        /// The socket has no other end.
        Unconnected = "unconnected",
    }
}

words! {
    /// Why no channel can be bound (RFC 5056, Q-16, C-15).
    Unbindable {
        /// Nothing protects it.
        Clear = "clear",
        /// The operator's word stands for the peer: no key is proven.
        Manual = "manual",
        /// It has no latch that somebody asked for: one was only inferred from its packets, if at all (L-43, L-105).
        Inferred = "inferred",
        /// Our own key, or the peer's, is not known to the gateway.
        NoLocalKey = "no-local-key",
    }
}
