//! Pairs that stay while something else is said of them (RFC 4301 section 4.4.2.1): where and how their packets travel, and how
//! long they last. Their keys, numbers, windows and class go on, and with the class every latch (C-17, L-37).

use std::sync::Arc;

use latchway_datapath::lifetime::Limits;
use latchway_datapath::sad::{Follow, Path, Peer, Role, Sad, SadEntry};

use crate::change::{Change, Fault, Problem, RevisedPair};
use crate::install::{InstallError, check_follow, check_path};
use crate::keying::Keying;
use crate::keying::entering::{Names, shape_around};
use crate::notice::Notice;
use crate::pair::{Pair, PairId};
use crate::transaction::CommitError;

impl Keying {
    /// Whether everything that a change says anew of pairs can be said of them. Where they lead then is among `names`.
    pub(super) fn check_revisions(&self, change: &Change, names: &mut Names, faults: &mut Vec<Fault>) {
        for revision in &change.revise {
            if let Err(problem) = self.check_revision(revision, names) {
                faults.push(Fault { element: self.element(revision.pair), problem });
            }
        }
    }

    fn check_revision(&self, revision: &RevisedPair, names: &mut Names) -> Result<(), Problem> {
        let unknown = CommitError::UnknownPair(revision.pair);
        let pair = self.pairs.get(&revision.pair).ok_or(unknown)?;
        let path = pair.led(revision);
        if path.carrier != pair.path.carrier {
            return Err(Problem::OtherCarrier);
        }
        check_follow(revision.follow, &pair.terms)?;
        check_path(&path, &pair.terms)?;
        if path.to == pair.path.to {
            return Ok(());
        }
        for name in pair.outbound_names_at(path.to) {
            if self.outbound_names.contains(&name) || !names.outbound.insert(name) {
                return Err(InstallError::DuplicateOutbound(name.1, name.2).into());
            }
        }
        Ok(())
    }

    /// Says it in a database. A pair that is gone meanwhile is passed over.
    pub(super) fn revise(&self, revision: &RevisedPair, sad: &mut Sad) {
        let Some(pair) = self.pairs.get(&revision.pair) else { return };
        let path = pair.led(revision);
        for sa in pair.sas() {
            let Some(slot) = sad.get(sa) else { continue };
            let entry = revised(SadEntry::clone(&slot.entry), path, revision);
            sad.revise(Arc::new(entry));
        }
    }

    /// Notes what was published of a pair.
    pub(super) fn note_revised(&mut self, revision: &RevisedPair) {
        let Some(pair) = self.pairs.get_mut(&revision.pair) else { return };
        let (path, peer, class) = (pair.led(revision), pair.terms.peer.clone(), pair.class);
        pair.said = revision.path.to;
        self.lead(revision.pair, path);
        self.notices.tell(Notice::PairRevised { pair: revision.pair, peer, class });
    }

    /// Notes where a pair leads.
    pub(super) fn lead(&mut self, id: PairId, path: Path) {
        let Some(pair) = self.pairs.get_mut(&id) else { return };
        for name in pair.outbound_names() {
            self.outbound_names.remove(&name);
        }
        pair.path = path;
        self.outbound_names.extend(pair.outbound_names());
    }
}

impl Pair {
    /// Where the pair leads by a revision: a peer that moved is still there, unless it is to be elsewhere (T34).
    fn led(&self, revision: &RevisedPair) -> Path {
        let stays = revision.follow == Follow::Follow && revision.path.to == self.said;
        Path { to: if stays { self.path.to } else { revision.path.to }, ..revision.path }
    }
}

/// An SA of a pair, as a revision has it. The AH of a bundle ends with what it goes around, and has no limits itself.
fn revised(entry: SadEntry, path: Path, revision: &RevisedPair) -> SadEntry {
    let RevisedPair { shape, follow, limits, .. } = revision;
    let around = entry.is_for_another();
    let role = match entry.role {
        Role::Inbound { sa, from, .. } => {
            let from = Peer { follow: *follow, translated: from.translated, ..path.peer() };
            Role::Inbound { sa, from, outer: shape.outer.clone() }
        }
        Role::Outbound { sa, .. } => {
            Role::Outbound { sa, path, shape: if around { shape_around(shape) } else { shape.clone() } }
        }
    };
    let limits = if around { Limits::default() } else { *limits };
    SadEntry { role, limits, ..entry }
}
