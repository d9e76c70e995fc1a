//! What would become of a packet, and why: for people who ask before they send one.

use std::fmt;

use latchway_datapath::drop::{Direction, DropReason};
use latchway_datapath::flow::FlowKey;
use latchway_datapath::sad::Usage;
use latchway_esp::{Spi, Suite};
use latchway_tagging::{ClassId, Identity, SaRef, SnapshotId};

use crate::pair::PairId;
use crate::policy::{RuleNumber, RuleView};
use crate::single::SingleId;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The flow.
    pub flow: FlowKey,
    /// Whether the packet would leave or arrive.
    pub direction: Direction,
    /// The class that the flow's latch demands, if it is latched: policy is not asked then (RFC 5660 section 2.4).
    pub required: Option<ClassId>,
}

/// What would become of a packet, by policy and SAs as they are published, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The snapshot that was looked at.
    pub snapshot: SnapshotId,
    /// The rule that decides; `None` where none matches, or where a latch decides.
    pub rule: Option<RuleView>,
    /// What becomes of the packet.
    pub verdict: Verdict,
    /// Rules before the deciding one, or all, each with what does not match; as many as a person reads.
    pub rules_passed_over: Vec<(RuleNumber, RuleMiss)>,
    /// SAs of the direction that would not carry the flow, each with the reason; as many as a person reads.
    pub sas_passed_over: Vec<(SaOwner, SaMiss)>,
    /// How many more of either were passed over.
    pub more: usize,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Protected by this SA; inbound, it must have been.
    Protected(Carrier),
    /// Passes in the clear, through the bypass port.
    Bypassed,
    /// Dropped.
    Dropped(DropReason),
}

/// An SA that carries a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// The SA.
    pub sa: SaRef,
    /// Its SPI.
    pub spi: Spi,
    /// Whose it is.
    pub owner: SaOwner,
    /// Its class; `None` where it is single and makes no pair with another.
    pub class: Option<ClassId>,
    /// Its peer.
    pub peer: Identity,
    /// How it protects.
    pub suite: Suite,
    /// The largest inner packet that fits the path as it is configured. Outbound only.
    pub max_inner: Option<usize>,
}

/// Whose an SA is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SaOwner {
    /// A pair's.
    Pair(PairId),
    /// Nobody's but its own, with this SPI.
    Single(SingleId, Spi),
}

/// Why a rule does not decide: the first of its selectors that does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleMiss {
    /// It speaks of the other direction.
    #[error("speaks of the other direction")]
    Direction,
    /// The local address is not in its range.
    #[error("does not cover the local address")]
    Local,
    /// The remote address is not in its range.
    #[error("does not cover the remote address")]
    Remote,
    /// It speaks of another protocol.
    #[error("speaks of another protocol")]
    Protocol,
    /// It speaks of other ports.
    #[error("speaks of other ports")]
    Ports,
}

/// Why an SA does not carry the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaMiss {
    /// It is not in force for this direction.
    #[error("is {} and not in force", usage_name(*.0))]
    NotInForce(Usage),
    /// Its hard lifetime is over.
    #[error("has expired")]
    Expired,
    /// The flow is latched to another class.
    #[error("is of another class than the flow's latch")]
    OtherClass,
    /// The rule wants SAs of another reqid.
    #[error("serves rules of another reqid")]
    OtherReqid,
    /// The rule's template asks for something else.
    #[error("is not what the rule's template asks for")]
    OtherTemplate,
    /// None of its selectors admits the flow.
    #[error("has no selector that covers the flow")]
    Selectors,
    /// It would do, and a newer one is used.
    #[error("would do, but a newer one is used")]
    Older,
}

impl SaOwner {
    /// The pair, where it is one's.
    #[must_use]
    pub const fn pair(self) -> Option<PairId> {
        match self {
            Self::Pair(pair) => Some(pair),
            Self::Single(..) => None,
        }
    }
}

impl fmt::Display for SaOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pair(pair) => write!(f, "the SA of pair {}", pair.raw()),
            Self::Single(_, spi) => write!(f, "the state with SPI {spi}"),
        }
    }
}

/// The name of a usage, as status output shows it.
const fn usage_name(usage: Usage) -> &'static str {
    match usage {
        Usage::Pending => "pending",
        Usage::Standby => "standby",
        Usage::Active => "active",
        Usage::Retired => "retired",
    }
}
