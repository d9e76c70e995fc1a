//! What is asked about latches (L-42): the normative interface of draft-ietf-btns-connection-latching 2.1, with FIND_LATCH, ALERT
//! and the administrative close of RFC 5660.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::words::words;

/// A listener's latch to be made (CREATE_LISTENER_LATCH, L-46).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ListenSpec {
    /// The number of the upper-layer protocol.
    pub protocol: u8,
    /// Our address and port; the unspecified address is any of its family.
    #[cfg_attr(test, schemars(with = "String"))]
    pub local: SocketAddr,
    /// What its connections must have.
    #[serde(default)]
    pub constraints: ConstraintsSpec,
    /// What becomes of its connections in a conflict; as the rule says where it is missing.
    #[serde(default)]
    pub on_conflict: Option<ConflictSpec>,
    /// Whose it is; the connection's that asks, where it is missing.
    #[serde(default)]
    pub owner: Option<OwnerSpec>,
    /// Ask as an application without privilege, to learn what the policy lets it have.
    #[serde(default)]
    pub unprivileged: bool,
}

/// A connection's latch to be made (CREATE_CONNECTION_LATCH, L-54).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ConnectSpec {
    /// The number of the upper-layer protocol.
    pub protocol: u8,
    /// Our address and port.
    #[cfg_attr(test, schemars(with = "String"))]
    pub local: SocketAddr,
    /// The peer's address and port.
    #[cfg_attr(test, schemars(with = "String"))]
    pub remote: SocketAddr,
    /// What the connection must have.
    #[serde(default)]
    pub constraints: ConstraintsSpec,
    /// What becomes of it in a conflict; as the rule says where it is missing.
    #[serde(default)]
    pub on_conflict: Option<ConflictSpec>,
    /// Alert when no SA serves it for so many milliseconds (L-39); never where it is missing: packets are lost then, and
    /// no more (L-38).
    #[serde(default)]
    pub report_after: Option<u64>,
    /// Whose it is; the connection's that asks, where it is missing.
    #[serde(default)]
    pub owner: Option<OwnerSpec>,
    /// Ask as an application without privilege, to learn what the policy lets it have.
    #[serde(default)]
    pub unprivileged: bool,
}

/// What a connection must have, beyond what the policy demands. What is missing is left to the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ConstraintsSpec {
    /// The type of protection (L-6).
    #[serde(default)]
    pub protection: Option<ProtectionSpec>,
    /// Tunnel or transport mode (L-7).
    #[serde(default)]
    pub mode: Option<ModeSpec>,
    /// The names of the suites of which each direction must use one (L-8); none is any.
    #[serde(default)]
    pub suites: Vec<String>,
    /// The least length of the encryption key in bits (L-9).
    #[serde(default)]
    pub key_bits: Option<u16>,
    /// Whether replays must be refused (L-10).
    #[serde(default)]
    pub replay_checked: bool,
    /// The identity of the peer (L-11).
    #[serde(default)]
    pub peer: Option<String>,
    /// Our own identity.
    #[serde(default)]
    pub identity: Option<String>,
    /// The least that must prove who the peer is: this method or one of better standing.
    #[serde(default)]
    pub method: Option<MethodSpec>,
    /// Whether its SAs shall be for it alone.
    #[serde(default)]
    pub narrow: bool,
}

words! {
    /// A type of protection (L-6, L-111, L-112).
    ProtectionSpec {
        /// Hidden from others, and authentic.
        Confidential = "confidential",
        /// Authentic, hidden or not.
        Authenticated = "authenticated",
        /// None: in the clear, where the policy would protect.
        Bypass = "bypass",
    }
}

words! {
    /// What becomes of a connection when another peer's SA, or another policy, comes for it (latching-04 2.4, D.6).
    #[derive(Default)]
    ConflictSpec {
        /// Its latch breaks, and the connection is reset.
        #[default]
        Terminate = "terminate",
        /// The latch stands; the newcomer's packets are dropped.
        DropNewcomer = "drop-newcomer",
        /// The latch stands; the newcomer's SA is refused.
        RejectNewcomer = "reject-newcomer",
        /// Nothing passes until the conflict is gone.
        Wait = "wait",
    }
}

words! {
    /// What is protected (RFC 4301 4.1).
    ModeSpec {
        /// The whole inner packet.
        Tunnel = "tunnel",
        /// Its payload.
        Transport = "transport",
    }
}

words! {
    /// How a peer proves who it is, the least first.
    MethodSpec {
        /// By any key: whoever it is (RFC 5386).
        Btns = "btns",
        /// By the key that was seen first and kept.
        LeapOfFaith = "leap-of-faith",
        /// Not at all: the operator's word stands for it.
        Manual = "manual",
        /// By a shared secret.
        PreSharedKey = "pre-shared-key",
        /// By a public key that is listed.
        PublicKey = "public-key",
        /// By a certificate validated to a trust anchor.
        Certificate = "certificate",
    }
}

/// A process that owns a latch: when it ends, by whatever means, the latch is released (L-21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OwnerSpec {
    /// Its number, as the gateway sees processes.
    pub pid: u32,
}

/// Declares parameters that name a latch.
macro_rules! of_latch {
    ($($(#[$doc:meta])* $name:ident)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The latch's handle.
            pub latch: String,
        }
    )+};
}

of_latch! {
    /// A latch to be released by its owner (RELEASE_LATCH, L-64).
    ReleaseLatch
    /// A latch to be told of (INQUIRE_LATCH, L-67).
    InquireLatch
    /// A latch to be closed by an operator, whoever owns it.
    CloseLatch
}

/// A connection of which the latch is looked for (FIND_LATCH, R-11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FindLatch {
    /// The number of the upper-layer protocol.
    pub protocol: u8,
    /// Our address and port.
    #[cfg_attr(test, schemars(with = "String"))]
    pub local: SocketAddr,
    /// The peer's address and port; a listener's latch is looked for where it is missing.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub remote: Option<SocketAddr>,
}

/// Whose alerts to tell (ALERT, R-11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WatchLatches {
    /// Those of every latch, not only of the connection's own.
    #[serde(default)]
    pub all: bool,
}

/// A peer that is gone: its latches break.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PeerGoneSpec {
    /// Its identity.
    pub peer: String,
    /// How that is known.
    pub reason: GoneSpec,
}

words! {
    /// How it is known that a peer is gone.
    GoneSpec {
        /// It does not answer any more (dead peer detection).
        Dead = "dead",
        /// It began anew: a protected INITIAL_CONTACT came (RFC 7296 2.4).
        InitialContact = "initial-contact",
        /// It is not trusted any more: its certificate was revoked, for example.
        Withdrawn = "withdrawn",
    }
}

/// A connection, or an end of connections, of which the other end is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Whois {
    /// An end, ours or the peer's.
    #[cfg_attr(test, schemars(with = "String"))]
    pub endpoint: SocketAddr,
    /// The other end, where one connection is meant.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub other: Option<SocketAddr>,
    /// The number of the upper-layer protocol; any where it is missing.
    #[serde(default)]
    pub protocol: Option<u8>,
}
