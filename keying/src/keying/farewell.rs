//! Peers that are gone, or are no longer allowed: their latches break, and nothing is latched to them again.

use std::collections::{HashMap, HashSet};

use latchway_datapath::latching::{BreakReason, LatchState};
use latchway_datapath::selector::AddressRange;
use latchway_datapath::time::Time;
use latchway_tagging::{ClassId, Identity, IdentityId};
use latchway_ulp_shim::LatchView;

use crate::keying::Keying;
use crate::keying::conflicts::can_break;
use crate::pair::PairId;

/// How a peer is known to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerGone {
    /// It does not answer any more (RFC 7296 section 2.4).
    Dead,
    /// It said, protected, that it knows of no earlier SA (INITIAL_CONTACT, RFC 7296 section 2.4).
    InitialContact,
    /// It is not to be trusted any more.
    Withdrawn,
}

/// What went with a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// How many latches broke.
    pub latches: usize,
    /// Pairs that were removed.
    pub pairs: Vec<PairId>,
}

/// A look at latches that is due when every worker goes by a publication: one may have been born until then.
#[derive(Debug)]
pub(super) struct Farewell {
    publication: u64,
    whom: Whom,
}

#[derive(Debug)]
enum Whom {
    Peer(HashSet<IdentityId>, BreakReason),
    /// Whoever the PAD does not allow.
    Withdrawn,
}

impl Keying {
    /// A peer is gone: all its latches break, whatever their terms, and its pairs are removed. Whoever holds the
    /// latches is told as of any break.
    pub fn peer_gone(&mut self, peer: &Identity, why: PeerGone, now: Time) -> Gone {
        let reason = match why {
            PeerGone::Dead | PeerGone::InitialContact => BreakReason::PeerGone,
            PeerGone::Withdrawn => BreakReason::Withdrawn,
        };
        let of_peer = |(id, pair): (&PairId, &crate::pair::Pair)| (pair.terms.peer == *peer).then_some(*id);
        let pairs: Vec<PairId> = self.pairs.iter().filter_map(of_peer).collect();
        let mut sad = self.current.sad.clone();
        for id in &pairs {
            self.pairs.get(id).into_iter().for_each(|pair| pair.turn(&mut sad, None));
        }
        if !pairs.is_empty() {
            self.publish(sad, self.current.spd.clone());
        }
        pairs.iter().for_each(|id| self.bury(*id, now));
        let whom = self.interned.peers_named(peer);
        let latches = self.break_peers(&whom, reason, now);
        self.fence();
        self.farewells.push(Farewell { publication: self.publication, whom: Whom::Peer(whom, reason) });
        Gone { latches, pairs }
    }

    /// Breaks the latches of peers that the PAD does not allow any more, or not where the connection is.
    pub(super) fn break_withdrawn(&mut self, now: Time) {
        for latch in self.withdrawn(&self.pad) {
            self.break_latch(&latch, BreakReason::Withdrawn, None, now);
        }
    }

    /// The latches that a PAD does not allow.
    pub(super) fn withdrawn(&self, pad: &crate::pad::Pad) -> Vec<LatchView> {
        let mut known: HashMap<ClassId, Vec<AddressRange>> = HashMap::new();
        let mut withdrawn = |latch: &LatchView| {
            let Some(class) = latch.class.filter(|_| can_break(latch)) else { return false };
            let allowed = known.entry(class).or_insert_with(|| self.allowed(pad, class));
            !allowed.iter().any(|range| range.contains(latch.flow.remote_number()))
        };
        self.database.dump().filter(|latch| withdrawn(latch)).collect()
    }

    /// What does not wait for a look any more is looked at a last time.
    pub(super) fn say_farewell(&mut self, now: Time) {
        let publisher = &self.publisher;
        let due: Vec<Farewell> =
            self.farewells.extract_if(.., |farewell| publisher.is_settled(farewell.publication)).collect();
        for Farewell { whom, .. } in due {
            match whom {
                Whom::Peer(peers, reason) => drop(self.break_peers(&peers, reason, now)),
                Whom::Withdrawn => self.break_withdrawn(now),
            }
        }
        self.fence();
    }

    /// The PAD has changed: what was latched under the one before, until its SAs were gone, is looked at again.
    pub(super) fn part_with_withdrawn(&mut self) {
        self.farewells.push(Farewell { publication: self.publication, whom: Whom::Withdrawn });
    }

    /// Whether a look at latches is still due, or a break to be told.
    pub(super) fn is_parting(&self) -> bool {
        !self.farewells.is_empty() || !self.untold.is_empty() || self.recheck != 0
    }

    /// Closes the latches of which nobody knows any more whose they are.
    pub(super) fn close_lost(&mut self, now: Time) {
        let lost = |latch: &LatchView| {
            latch.state != LatchState::Closed && latch.class.is_some_and(|class| self.class(class).is_none())
        };
        let lost: Vec<LatchView> = self.database.dump().filter(lost).collect();
        for latch in lost {
            let closing = LatchView { state: LatchState::Broken, ..latch };
            self.break_latch(&closing, BreakReason::IdentityLost, None, now);
        }
        self.fence();
    }

    fn break_peers(&mut self, peers: &HashSet<IdentityId>, reason: BreakReason, now: Time) -> usize {
        let latches: Vec<LatchView> =
            peers.iter().flat_map(|peer| self.database.of_peer(*peer)).filter(can_break).collect();
        for latch in &latches {
            self.break_latch(latch, reason, None, now);
        }
        latches.len()
    }

    /// The inner ranges in which a PAD lets the peer of a class have connections.
    fn allowed(&self, pad: &crate::pad::Pad, class: ClassId) -> Vec<AddressRange> {
        let Some(class) = self.class(class) else { return Vec::new() };
        let (Some(peer), Some(local)) = (self.identity(class.peer), self.identity(class.local)) else {
            return Vec::new();
        };
        let entry = pad.authorise(&peer.asserted, peer.method).ok();
        let entry = entry.filter(|entry| Some(entry.id) == peer.authorised && entry.local == local.asserted);
        entry.map(|entry| entry.ranges.clone()).unwrap_or_default()
    }
}
