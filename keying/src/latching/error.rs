//! Why a call about a latch fails, and what to do.

use std::fmt;

use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::LatchId;
use latchway_datapath::spd::Freedom;
use latchway_ulp_shim::Listening;

use crate::latching::Holder;
use crate::policy::RuleNumber;

/// Why a call about a latch fails. Nothing changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LatchError {
    /// The handle names nothing, or nothing any more (L-64).
    #[error("there is no latch {0}, or not any more; find or list latches to see those there are")]
    UnknownLatch(LatchId),
    /// The latch is another's (L-21).
    #[error("latch {0} is held by someone else; its holder releases it, an administrator closes it")]
    NotHolder(LatchId),
    /// The holder is gone, or never was.
    #[error("holder {0} is gone, with all that it held; become a holder anew")]
    UnknownHolder(Holder),
    /// A latch for the 5-tuple is there (L-56).
    #[error("{0} has a latch already; release or close that one first")]
    ConnectionExists(FlowKey),
    /// A listener latch for the 3-tuple is there (L-48).
    #[error("there is a listener latch for {} already; release or close that one first", .0.flow().local())]
    ListenerExists(Listening),
    /// The tuple names nothing that could be latched.
    #[error(transparent)]
    BadTuple(#[from] BadTuple),
    /// Nothing could ever be what was asked for.
    #[error("no connection can be what is asked for: {0}; ask for less")]
    Contradiction(&'static str),
    /// Policy lets no such packet pass (L-49).
    #[error("policy lets nothing of this pass{}; add a PROTECT rule for it", of_rule(*.0))]
    PolicyDiscards(Option<RuleNumber>),
    /// Policy has it in the clear, and no protection was asked for (L-49).
    #[error(
        "rule {0} has this in the clear, where nothing is to be latched; ask for protection, or make the rule protect"
    )]
    PolicyBypasses(RuleNumber),
    /// Policy gives no such freedom (L-34, L-36, L-114).
    #[error(
        "rule {rule} lets applications ask for {}, not for {asked}; leave it to policy, or extend `applications` of \
         the rule",
        freedom.name()
    )]
    PolicyForbids {
        /// The rule that speaks of the connection.
        rule: RuleNumber,
        /// What it lets applications ask for.
        freedom: Freedom,
        /// What was asked for.
        asked: &'static str,
    },
    /// Only a privileged application may ask that (L-35, L-112).
    #[error("rule {rule} lets only privileged applications ask for {asked}; ask with privilege")]
    PrivilegeNeeded {
        /// The rule that speaks of the connection.
        rule: RuleNumber,
        /// What was asked for.
        asked: &'static str,
    },
    /// The PAD lets no peer be what was asked for (L-34).
    #[error(
        "no PAD entry lets a peer at {remote} be {asked}; ask for another, or extend the PAD",
        remote = .flow.remote().ip()
    )]
    PadForbids {
        /// The connection, or where connections are awaited.
        flow: FlowKey,
        /// What was asked for.
        asked: String,
    },
    /// SAs of two kinds cover the connection (L-57, L-71).
    #[error(
        "SAs that differ in peer or quality cover {0}, so that no latch for it can be made; remove one kind, or use a \
         rule of the tag model"
    )]
    ConflictingSas(FlowKey),
    /// The Latch Database is full.
    #[error("the Latch Database is full; release latches, or enlarge `[latches] capacity`")]
    Full,
    /// Too many holders.
    #[error("there are {0} holders of latches already; let one go first")]
    TooManyHolders(usize),
    /// One holder has all that one may have.
    #[error(
        "one holder may have {0} latches, unread news of closed ones included; release some and read the alerts"
    )]
    TooManyLatches(usize),
    /// Listeners and requirements ask for too many different things.
    #[error(
        "listeners and sockets ask for {0} different things already; ask for one of these, or release some"
    )]
    TooManyConstraints(usize),
}

/// What is wrong with a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTuple {
    /// The two ends are of different families.
    #[error("one end is IPv4 and the other IPv6; give both one family")]
    MixedFamilies,
    /// An end of a connection without an address.
    #[error("an end of a connection has no address; only a listener may leave its address out")]
    Unspecified,
    /// Several hosts at one end (D.7: never latched).
    #[error(
        "a multicast or broadcast address is nobody's, and nothing with it is latched; give a host's address"
    )]
    Multicast,
    /// An address that means nothing beyond one link.
    #[error("a link-local address does not cross a gateway; give a routable one")]
    LinkLocal,
    /// A port that is none.
    #[error("port 0 is no port; give the ports of the connection")]
    NoPort,
    /// Ports of a protocol that has none.
    #[error("protocol {0} has no ports; leave them out")]
    NoPortsThere(u8),
    /// Nothing listens in such a protocol.
    #[error("nothing listens in protocol {0}; listener latches are for protocols with ports")]
    NoListeners(u8),
}

fn of_rule(rule: Option<RuleNumber>) -> impl fmt::Display {
    struct Of(Option<RuleNumber>);
    impl fmt::Display for Of {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.map_or(Ok(()), |rule| write!(f, " (rule {rule})"))
        }
    }
    Of(rule)
}
