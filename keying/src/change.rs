//! One change of everything, as a reload of the configuration asks for it: PAD, policy and pairs, all of it or none.

use std::fmt;

use latchway_datapath::flow::FlowKey;
use latchway_datapath::lifetime::Limits;
use latchway_datapath::sad::{Follow, Path, Shape};
use latchway_datapath::spd::Rule;
use latchway_esp::Spi;
use latchway_tagging::{Identity, SnapshotId, StateVersion};

use crate::install::{InstallError, Keys};
use crate::pad::Pad;
use crate::pair::PairId;
use crate::policy::RuleNumber;
use crate::proposal::{Proposal, Refusal};
use crate::single::SingleId;
use crate::transaction::{CommitError, SpdChange};

/// What is to be different. What is not named stays as it is: pairs, their classes, and with them every latch.
#[derive(Debug, Default)]
pub struct Change {
    /// The new PAD. It judges the pairs to add, and every pair and single SA that stays.
    pub pad: Option<Pad>,
    /// The new configured rules. Rules made by hand stay, and stay before them.
    pub rules: Option<Vec<Rule>>,
    /// Pairs to add. They are of the configuration ([`Origin::Configuration`](crate::Origin)), and begin as their keys
    /// ask.
    pub add: Vec<NewPair>,
    /// Pairs of which something else is said. They stay, with their SPIs, numbers, windows and latches.
    pub revise: Vec<RevisedPair>,
    /// Pairs that shall send.
    pub activate: Vec<PairId>,
    /// Pairs that shall only receive what is under way, and stay.
    pub retire: Vec<PairId>,
    /// Pairs that shall go: they send no more, receive what is under way for
    /// [`Settings::drain`](crate::Settings::drain), and are gone then. Those that the PAD no longer allows, or that are
    /// not in force yet, are gone at once.
    pub remove: Vec<PairId>,
    /// Pairs that are gone at once, with whatever is under way.
    pub cut: Vec<PairId>,
}

/// A pair that a [`Change`] adds.
#[derive(Debug)]
pub struct NewPair {
    /// With whom, and for what.
    pub proposal: Proposal,
    /// What makes it real.
    pub keys: Keys,
}

/// What a [`Change`] says anew of a pair that stays: what its keys and its class do not depend on (RFC 4301 section 4.4.2.1,
/// C-17). Whether packets travel in UDP stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisedPair {
    /// Which.
    pub pair: PairId,
    /// Where it sends. A peer that is followed and has moved (T34) stays where it was found, unless this leads elsewhere than it
    /// was last said to.
    pub path: Path,
    /// What packets look like from outside, and what becomes of outer headers that arrive.
    pub shape: Shape,
    /// What becomes of packets from elsewhere than the path leads to.
    pub follow: Follow,
    /// The soft and hard lifetime of either direction. What was used stays used.
    pub limits: Limits,
}

/// What a [`Change`] would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// How many pairs it adds.
    pub added: usize,
    /// Pairs that stay, and of which something else will be said.
    pub revised: Vec<PairId>,
    /// Pairs that will send and do not now.
    pub activated: Vec<PairId>,
    /// Pairs that will only receive, and stay.
    pub retired: Vec<PairId>,
    /// Pairs that will go.
    pub removed: Vec<PairId>,
    /// How the policy changes, if it does.
    pub spd: Option<SpdChange>,
    /// How the PAD changes, if it does.
    pub pad: Option<PadChange>,
    /// How many latches would break by it, as things are now (L-45, L-76).
    pub breaks: usize,
    /// The connections of the first hundred of those.
    pub breaking: Vec<FlowKey>,
}

/// The entries of the PAD that differ, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PadChange {
    /// Entries that were not there before.
    pub added: Vec<String>,
    /// Entries that are no longer there.
    pub removed: Vec<String>,
    /// Entries that say something else now.
    pub changed: Vec<String>,
}

/// What a [`Change`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The snapshot that shows it.
    pub snapshot: SnapshotId,
    /// The state version counted before it was published (L-89).
    pub version: StateVersion,
    /// The pairs that were added, in the order of [`Change::add`]. One that somebody removed meanwhile is not among
    /// them.
    pub added: Vec<PairId>,
    /// What else came of it.
    pub outline: Outline,
}

/// Why a change is refused as a whole: every fault in it. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeError {
    /// All of them, in the order of the change. Never empty.
    pub faults: Vec<Fault>,
}

/// What is wrong with one element of a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{element}: {problem}")]
pub struct Fault {
    /// Which.
    pub element: Element,
    /// Why, and what to do.
    pub problem: Problem,
}

/// An element of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    /// A pair that the change adds.
    Added {
        /// Its place in [`Change::add`], from 0.
        index: usize,
        /// Its peer.
        peer: Identity,
        /// The SPI of its inbound SA.
        spi: Spi,
    },
    /// A pair that is there.
    Pair {
        /// Its number.
        pair: PairId,
        /// Its peer.
        peer: Identity,
        /// The SPI of its inbound SA.
        spi: Spi,
    },
    /// A single SA that is there.
    Single {
        /// Its number.
        single: SingleId,
        /// Its peer.
        peer: Identity,
        /// Its SPI.
        spi: Spi,
    },
    /// A pair that the change names and that is not there.
    Missing(PairId),
    /// The change itself.
    Whole,
}

/// What is wrong with an element, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The pair may not be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its keys or names cannot be used.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// A pair that stays may not be under the new PAD.
    #[error("the new PAD no longer allows this pair, and nothing removes it: {0}; or remove the pair")]
    NoLongerAllowed(Refusal),
    /// A single SA stays, since no change but its own removes it, and may not be under the new PAD.
    #[error(
        "the new PAD no longer allows all that this state of `latchway xfrm` carries: {0}; or delete the state there first"
    )]
    SingleNoLongerAllowed(Refusal),
    /// A pair that stays would be another peer's: its class, and with it its latches, say otherwise (L-11).
    #[error(
        "the new PAD puts this pair under entry \"{entry}\", another than allowed it; give the entry the id it had, or \
         remove the pair"
    )]
    OtherEntry {
        /// The name of the entry that speaks of its peer now.
        entry: String,
    },
    /// Anybody would serve a rule that stays, and tags do not tell one stranger from the next (RFC 5386 section 2).
    #[error(
        "rule {rule}, made by hand, latches by tag, but anybody may serve it, as the new peer {entry}; delete the rule, or \
         add it again with the model \"strict\""
    )]
    ByTag {
        /// The rule.
        rule: RuleNumber,
        /// The name of the entry for anybody.
        entry: String,
    },
    /// What is asked of a pair that is there cannot be.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A revision that takes another pair.
    #[error(
        "packets of a pair travel in UDP, or without it, for as long as it lives; add a new pair with new SPIs and keys"
    )]
    OtherCarrier,
    /// One pair, two wishes.
    #[error("the change names this pair more than once; say one thing of it")]
    NamedTwice,
    /// Another change waits for its grace.
    #[error("another change is being brought into force; try again when it is answered")]
    Busy,
}

impl Change {
    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pad.is_none()
            && self.rules.is_none()
            && self.add.is_empty()
            && self.revise.is_empty()
            && self.activate.is_empty()
            && self.retire.is_empty()
            && self.remove.is_empty()
            && self.cut.is_empty()
    }
}

impl Outline {
    /// Whether nothing would be different.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl PadChange {
    /// How `new` differs from `old`, if it does.
    pub(crate) fn between(old: &Pad, new: &Pad) -> Option<Self> {
        if old == new {
            return None;
        }
        let mut change = Self::default();
        for entry in new.entries() {
            match old.entries().iter().find(|before| before.name == entry.name) {
                None => change.added.push(entry.name.clone()),
                Some(before) if before != entry => change.changed.push(entry.name.clone()),
                Some(_) => {}
            }
        }
        let gone = |name: &str| new.entries().iter().all(|entry| entry.name != name);
        change.removed =
            old.entries().iter().map(|entry| &entry.name).filter(|name| gone(name)).cloned().collect();
        Some(change)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { index, peer, spi } => write!(f, "new pair {index} (peer {peer}, SPI {spi})"),
            Self::Pair { pair, peer, spi } => write!(f, "pair {pair} (peer {peer}, SPI {spi})"),
            Self::Single { peer, spi, .. } => write!(f, "state (peer {peer}, SPI {spi})"),
            Self::Missing(pair) => write!(f, "pair {pair}"),
            Self::Whole => f.write_str("the change"),
        }
    }
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing was changed")?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n{fault}"))
    }
}

impl std::error::Error for ChangeError {}
