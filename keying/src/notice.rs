//! What the key manager tells of pairs, offers and policy, for whoever watches. Nothing depends on its being read.

use std::collections::VecDeque;

use latchway_tagging::Identity;

use crate::pair::PairId;
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
    },
    /// A pair sends now, and did not before.
    PairActivated {
        /// The pair.
        pair: PairId,
        /// Its peer.
        peer: Identity,
    },
    /// A pair only receives what is under way from now on.
    PairRetired {
        /// The pair.
        pair: PairId,
        /// Its peer.
        peer: Identity,
    },
    /// A pair is gone.
    PairRemoved {
        /// The pair.
        pair: PairId,
        /// Its peer.
        peer: Identity,
    },
    /// The policy is another.
    PolicyChanged(SpdChange),
    /// The PAD is another.
    PadChanged,
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
