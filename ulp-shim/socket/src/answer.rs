//! What is known of a socket: latched, not latched, or no gateway here (N-18, K-3).

use std::fmt;

use latchway_control::app::{AnswerKind, ProtectionView};

use crate::error::Result;
use crate::protection::Protection;

/// What protects a socket, and who is on its other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A latch is in force: it is this peer and no other, under this protection, for as long as the connection lives.
    Latched(Protection),
    /// A gateway carries the socket's traffic, and no latch is in force.
    Unlatched(Unlatched),
    /// No gateway is asked what becomes of the socket's traffic.
    NoGateway(NoGateway),
}

/// Why a socket that a gateway serves is not latched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unlatched {
    /// Policy alone protects it: so it is now, and it may be with another peer later.
    ProtectedOnly(Box<Protection>),
    /// Its latch is not in force: nothing passes.
    Suspended {
        /// Why, where the gateway says so.
        reason: Option<String>,
    },
    /// It passes in the clear, and anybody may be on the other end.
    Clear,
    /// Nothing passes, for this reason.
    Dropped(String),
    /// It has no other end yet.
    NotConnected,
}

/// Which way there is no gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoGateway {
    /// No gateway serves applications here.
    NoSocket,
    /// There are gateways, and none of them carries the traffic of the socket's network namespace.
    OtherNamespace,
    /// The gateway ends, or has just ended.
    Ending,
}

impl Answer {
    /// The protection, of a socket whose latch is in force; and of no other.
    #[must_use]
    pub const fn latched(&self) -> Option<&Protection> {
        match self {
            Self::Latched(protection) => Some(protection),
            Self::Unlatched(_) | Self::NoGateway(_) => None,
        }
    }

    /// Reads what a gateway says. What cannot be is an error, and never a better answer than what was said.
    pub(crate) fn read(view: &ProtectionView) -> Result<Self> {
        let unlatched = match view.answer {
            // A latch may hold a connection to passing in the clear; nobody is known to be there.
            AnswerKind::Latched if view.class.is_some() => return Ok(Self::Latched(Protection::read(view)?)),
            AnswerKind::Latched | AnswerKind::Clear => Unlatched::Clear,
            AnswerKind::Protected => Unlatched::ProtectedOnly(Box::new(Protection::read(view)?)),
            AnswerKind::Suspended => Unlatched::Suspended { reason: view.reason.clone() },
            AnswerKind::Dropped => {
                Unlatched::Dropped(view.reason.clone().unwrap_or_else(|| "the policy discards it".into()))
            }
            AnswerKind::Unconnected => Unlatched::NotConnected,
        };
        Ok(Self::Unlatched(unlatched))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latched(protection) => write!(f, "latched: {}", protection.audit()),
            Self::Unlatched(unlatched) => unlatched.fmt(f),
            Self::NoGateway(which) => write!(f, "no gateway: {which}"),
        }
    }
}

impl fmt::Display for Unlatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProtectedOnly(protection) => write!(f, "protected by policy alone: {}", protection.audit()),
            Self::Suspended { reason: Some(reason) } => write!(f, "suspended: {reason}"),
            Self::Suspended { reason: None } => f.write_str("suspended"),
            Self::Clear => f.write_str("in the clear"),
            Self::Dropped(reason) => write!(f, "dropped: {reason}"),
            Self::NotConnected => f.write_str("not connected"),
        }
    }
}

impl fmt::Display for NoGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSocket => "none serves applications here",
            Self::OtherNamespace => "none carries the traffic of the socket's network namespace",
            Self::Ending => "it ends",
        })
    }
}
