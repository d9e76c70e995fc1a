//! Which latches an SA, a policy or a peer concerns (latching-04 section 2.1; L-45, L-70, L-72).

use latchway_datapath::latching::{LatchState, Model};
use latchway_datapath::selector::Selector;
use latchway_datapath::traffic::Traffic;
use latchway_tagging::{ClassId, IdentityId};

use crate::database::{LatchDatabase, LatchView};

impl LatchDatabase {
    /// Hands over every latch of a connection that any of the selectors admits.
    pub fn covered(&self, selectors: &[Selector], mut each: impl FnMut(LatchView)) {
        let admits = |view: &LatchView| {
            view.state != LatchState::Listener
                && selectors.iter().any(|selector| selector.admits(&Traffic::of(&view.flow)))
        };
        self.dump().filter(admits).for_each(&mut each);
    }

    /// The latches with which an SA of `class` and these selectors conflicts (L-72): strict, in force, of another class.
    #[must_use]
    pub fn conflicting(&self, selectors: &[Selector], class: ClassId) -> Vec<LatchView> {
        if !self.strict_others(class) {
            return Vec::new();
        }
        let mut found = Vec::new();
        self.covered(selectors, |view| {
            let in_force = view.state == LatchState::Established && view.terms.model == Model::Strict;
            if in_force && view.class.is_some_and(|latched| latched != class) {
                found.push(view);
            }
        });
        found
    }

    /// Whether a strict latch of another class is in force: where none is, no SA of this class conflicts (D.2).
    #[must_use]
    pub fn strict_others(&self, class: ClassId) -> bool {
        self.peers.strict_others(class)
    }

    /// The latches of a peer.
    pub fn of_peer(&self, peer: IdentityId) -> impl Iterator<Item = LatchView> {
        self.dump().filter(move |view| view.class.is_some_and(|class| self.peers.is_of(class, peer)))
    }
}
