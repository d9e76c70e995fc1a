//! What listeners ask for, and what is required of sockets, interned: a worker compares one bit where a connection begins.

use std::collections::BTreeMap;

use latchway_ulp_shim::ConstraintId;

use crate::latching::{Constraints, LatchError};

/// Each different thing that is asked for, with how many do.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    places: BTreeMap<u8, (Constraints, usize)>,
    /// The place that was taken last: the next is another, so that a worker that has a number in hand yet does not find
    /// another meaning under it.
    last: u8,
}

impl Asking {
    /// The id of what is asked for, with one more who asks. `None` is nothing.
    ///
    /// # Errors
    /// [`LatchError::TooManyConstraints`]
    pub(crate) fn acquire(&mut self, constraints: &Constraints) -> Result<Option<ConstraintId>, LatchError> {
        if constraints.asks_nothing() {
            return Ok(None);
        }
        let known = self.places.iter_mut().find(|(_, (known, _))| known == constraints);
        if let Some((place, (_, askers))) = known {
            *askers += 1;
            return Ok(ConstraintId::new(*place));
        }
        let full = LatchError::TooManyConstraints(usize::from(MOST));
        let mut places = (self.last.saturating_add(1)..=MOST).chain(1..=MOST);
        let free = places.find(|place| !self.places.contains_key(place)).ok_or(full)?;
        self.last = free;
        self.places.insert(free, (constraints.clone(), 1));
        Ok(ConstraintId::new(free))
    }

    /// Gives back one who asks.
    pub(crate) fn release(&mut self, constraints: &Constraints) {
        let known = self.places.iter_mut().find(|(_, (known, _))| known == constraints);
        let Some((place, (_, askers))) = known else { return };
        *askers = askers.saturating_sub(1);
        let (place, unasked) = (*place, *askers == 0);
        if unasked {
            self.places.remove(&place);
        }
    }

    /// Counts anew who asks, after a panic left it uncertain.
    pub(crate) fn recount<'a>(&mut self, asked: impl Iterator<Item = &'a Constraints>) {
        self.places.values_mut().for_each(|(_, askers)| *askers = 0);
        for constraints in asked {
            let known = self.places.values_mut().find(|(known, _)| known == constraints);
            known.into_iter().for_each(|(_, askers)| *askers += 1);
        }
        self.places.retain(|_, (_, askers)| *askers > 0);
    }

    /// Bit by bit, which of the things that are asked for `satisfied` says yes to.
    pub(crate) fn mask(&self, satisfied: impl Fn(&Constraints) -> bool) -> u64 {
        let yes = self.places.iter().filter(|(_, (constraints, _))| satisfied(constraints));
        yes.fold(0, |mask, (place, _)| mask | 1 << place)
    }

    /// Whether nobody asks for anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

/// As many as there are bits beside the one of nothing.
const MOST: u8 = 63;
