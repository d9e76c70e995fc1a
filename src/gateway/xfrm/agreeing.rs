//! After the key manager stopped while it was asked for something: whoever asked was told so, and not whether it was done.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use latchway_control::{Failure, XfrmEventKind};
use latchway_keying::{SingleChange, SingleId, Stopped};

use crate::gateway::operator::Answer;
use crate::gateway::xfrm::book::{Book, Change, Place};
use crate::gateway::xfrm::{Xfrm, stopped};

impl Xfrm {
    /// The book, which says what is in force.
    ///
    /// # Errors
    /// [`Failure`], where that cannot be found out, since the key manager does not run again yet.
    pub(super) fn agreed(&self) -> Answer<MutexGuard<'_, Book>> {
        let mut book = self.book();
        if self.unsure.load(Ordering::Relaxed) {
            self.agree(&mut book)?;
            self.unsure.store(false, Ordering::Relaxed);
        }
        Ok(book)
    }

    /// What whoever asked is told. The book is looked at before it is used again.
    pub(super) fn stopped_amid(&self, error: Stopped) -> Failure {
        self.unsure.store(true, Ordering::Relaxed);
        stopped(error)
    }

    /// Makes of book and key manager what was asked for last and answered. A state that the key manager no longer has is gone;
    /// one that only it has, which nobody was told of, goes; and of the others what the book says is said again.
    fn agree(&self, book: &mut Book) -> Answer<()> {
        // What was not answered is not in the book.
        book.undo();
        let there: HashSet<SingleId> = self.singles()?.into_keys().collect();
        let lost =
            book.states().filter(|(_, held)| held.single.is_none_or(|single| !there.contains(&single)));
        let lost: Vec<Place> = lost.map(|(place, _)| place).collect();
        lost.into_iter().for_each(|place| self.lose(book, place));
        self.say_again(book, &there)?;
        let rules = book.rules(&self.tun).map_err(|(_, failure)| failure)?;
        self.keying.replace_templated(rules.clone()).map_err(stopped)?;
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
        Ok(())
    }

    /// Has the key manager do without what is not in the book, and says of the rest what the book says. What it refuses then
    /// goes, too: it would carry what nobody asked for.
    fn say_again(&self, book: &mut Book, there: &HashSet<SingleId>) -> Answer<()> {
        loop {
            let (places, singles): (Vec<_>, Vec<_>) = book
                .states()
                .filter_map(|(place, held)| Some((place, (held.single?, held.spec.clone()))))
                .unzip();
            let kept: HashSet<SingleId> = singles.iter().map(|(single, _)| *single).collect();
            let revise = singles.iter().map(|(single, spec)| self.making().revision(*single, spec));
            let change = SingleChange {
                remove: there.difference(&kept).copied().collect(),
                revise: revise.collect::<Answer<_>>()?,
                ..SingleChange::default()
            };
            match self.keying.change_singles(change).map_err(stopped)? {
                Ok(_) => return Ok(()),
                Err(fault) => match fault.place.and_then(|place| places.get(place)) {
                    Some(place) => self.lose(book, *place),
                    None => return Err(Failure::failed(fault.to_string(), "try again")),
                },
            }
        }
    }

    fn lose(&self, book: &mut Book, place: Place) {
        if let Some(held) = book.state(place).cloned() {
            book.forget(place);
            self.told.publish(Change::state(XfrmEventKind::StateDeleted, &held.spec).event());
        }
    }
}
