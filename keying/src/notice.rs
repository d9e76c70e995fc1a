//! What the key manager tells of pairs, offers and policy, for whoever watches. Nothing depends on its being read.

use std::collections::VecDeque;
use std::net::SocketAddr;

use latchway_datapath::drop::Direction;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::pmtu::PathMtu;
use latchway_tagging::{ClassId, Identity};

use crate::latching::Constraints;
use crate::pair::PairId;
use crate::policy::RuleView;
use crate::single::SingleId;
use crate::transaction::SpdChange;

/// Something that became different. Never a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Nobody used the ticket of an offer in time, or the PAD does not allow any more what was offered.
    OfferExpired {
        /// The ticket's number.
        ticket: u64,
        /// To whom the SAs would have led.
        peer: Identity,
    },
    /// A pair is in force, to send and receive or, by its keys' wish, only to receive yet.
    PairAdded {
        /// The pair.
        pair: PairId,
        /// Its peer.
        peer: Identity,
        /// Its class.
        class: ClassId,
    },
    /// A pair sends now, and did not before.
    PairActivated {
        /// The pair.
        pair: PairId,
        /// Its peer.
        peer: Identity,
        /// Its class: latches of it that the pair serves have new keys.
        class: ClassId,
    },
    /// A pair only receives what is under way from now on.
    PairRetired {
        /// The pair.
        pair: PairId,
        /// Its peer.
        peer: Identity,
    },
    /// The peer of a pair is at another address or port, and what is sent goes there (T34).
    PeerMoved {
        /// The pair.
        pair: PairId,
        /// Its peer.
        peer: Identity,
        /// Its class.
        class: ClassId,
        /// Where it was.
        from: SocketAddr,
        /// Where it is.
        to: SocketAddr,
    },
    /// Something else is said of a pair that stays.
    PairRevised {
        /// The pair.
        pair: PairId,
        /// Its peer.
        peer: Identity,
        /// Its class.
        class: ClassId,
    },
    /// A pair is gone.
    PairRemoved {
        /// The pair.
        pair: PairId,
        /// Its peer.
        peer: Identity,
    },
    /// A flow needs protection that no SA offers (RFC 4301 5.1): a provider is asked for a pair.
    Acquire(Box<Wanted>),
    /// An SA reached its soft limit, and its pair wants a successor. Told once per SA (T36).
    SoftExpired {
        /// The pair.
        pair: PairId,
        /// Its peer.
        peer: Identity,
        /// Which of its SAs.
        direction: Direction,
    },
    /// An SA reached its hard limit, and its keys are gone. Told once per SA (T36).
    HardExpired {
        /// The pair.
        pair: PairId,
        /// Its peer.
        peer: Identity,
        /// Which of its SAs.
        direction: Direction,
    },
    /// What the path of a pair takes was found to be another than it was, or came in doubt (RFC 4301 8.2).
    PathMtu {
        /// The pair.
        pair: PairId,
        /// Its peer.
        peer: Identity,
        /// What was found.
        found: PathMtu,
    },
    /// A single SA reached its soft or hard limit. Each is told once (T36).
    SingleExpired {
        /// Which.
        single: SingleId,
        /// Whether it was the hard one, and its key is gone.
        hard: bool,
    },
    /// The policy is another.
    PolicyChanged(SpdChange),
    /// The PAD is another.
    PadChanged,
}

/// What pair of SAs a flow waits for: selectors from the packet and from the rule, for a provider to propose from
/// (RFC 4301 4.4.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The flow, whose addresses, protocol and ports are the narrowest that the pair must admit.
    pub flow: FlowKey,
    /// The rule that demands protection, whose selector is the widest that it may admit, and which may name the reqid
    /// that the pair must have. `None` where a latch demands it and policy is not asked.
    pub rule: Option<RuleView>,
    /// The class that the flow's latch demands, if it is latched.
    pub class: Option<ClassId>,
    /// Whose class that is, or who is asked for.
    pub peer: Option<Identity>,
    /// What was asked with the latch that waits, if somebody asked for one (L-60).
    pub constraints: Option<Box<Constraints>>,
}

/// Notices that nobody took yet. Where too many wait, the oldest are lost.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    queue: VecDeque<Notice>,
}

impl Notices {
    /// Tells something.
    pub(crate) fn tell(&mut self, notice: Notice) {
        if self.queue.len() >= MOST {
            self.queue.pop_front();
        }
        self.queue.push_back(notice);
    }

    /// Takes what was told, oldest first.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Notice> + use<> {
        std::mem::take(&mut self.queue).into_iter()
    }
}

/// How many notices wait for a reader. A reload of this many pairs is told in full.
const MOST: usize = 65_536;
