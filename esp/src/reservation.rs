//! Numbers set aside for an SA ahead of their use, so that a restart under the same key repeats none (T12, RFC 4303
//! section 3.3.3, RFC 8221 section 3).
//!
//! Whoever keeps the record raises a bound once it is stored; the sender takes no number above it. Neither waits for
//! the other: the sender reads the bound only where its copy is used up, and tells how far it came by one plain store.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::error::ConfigError;
use crate::number::SeqNum;

/// How far an SA may count, and how far it did; shared by the SA and the keeper of the record.
///
/// A reservation serves one SA in its life, so no number is taken by two. The SA holds it until it is dropped.
#[derive(Clone, Debug)]
pub struct Reservation(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bound: AtomicU64,
    taken: AtomicU64,
    claimed: AtomicBool,
}

impl Reservation {
    /// Every number up to `bound` may be taken.
    pub fn new(bound: SeqNum) -> Self {
        let (bound, taken, claimed) = (AtomicU64::new(bound.0), AtomicU64::new(0), AtomicBool::new(false));
        Self(Arc::new(Shared { bound, taken, claimed }))
    }

    /// Every number up to `to` may be taken; a bound that is higher already stays. Comes after `to` is on record.
    pub fn raise(&self, to: SeqNum) {
        // Release: a sender that sees the bound comes after the record was stored.
        self.0.bound.fetch_max(to.0, Ordering::Release);
    }

    /// The highest number that may be taken.
    pub fn bound(&self) -> SeqNum {
        SeqNum(self.0.bound.load(Ordering::Acquire))
    }

    /// The highest number the SA took, 0 where there is no SA yet. May lag behind while the SA is in use.
    pub fn taken(&self) -> SeqNum {
        SeqNum(self.0.taken.load(Ordering::Relaxed))
    }

    /// The highest number that was ever taken, 0 where there was no SA: known for good once nobody else holds the
    /// reservation.
    ///
    /// # Errors
    /// The reservation itself, where its SA still exists and may go on taking numbers.
    pub fn into_taken(self) -> Result<SeqNum, Self> {
        Arc::try_unwrap(self.0).map(|shared| SeqNum(shared.taken.into_inner())).map_err(Self)
    }

    /// Gives the reservation to the one SA it serves, which took every number up to `taken` already.
    pub(crate) fn claim(&self, taken: SeqNum) -> Result<(), ConfigError> {
        if self.0.claimed.swap(true, Ordering::AcqRel) {
            return Err(ConfigError::ReservationInUse);
        }
        self.publish(taken);
        Ok(())
    }

    /// Tells how far the SA took. Only the SA calls this.
    #[inline]
    pub(crate) fn publish(&self, taken: SeqNum) {
        self.0.taken.store(taken.0, Ordering::Relaxed);
    }
}

/// The highest number that an inbound SA verified, to be read from any thread (RFC 4303 section 3.4.3): what must be on
/// record for a receiver that goes on under the same key.
#[derive(Clone, Debug, Default)]
pub struct ReceivedTop(Arc<AtomicU64>);

impl ReceivedTop {
    /// Nothing was received.
    pub fn new() -> Self {
        Self::default()
    }

    /// The highest number verified so far, 0 before the first.
    pub fn seq(&self) -> SeqNum {
        SeqNum(self.0.load(Ordering::Relaxed))
    }

    /// The highest number that was ever verified: known for good once nobody else holds this.
    ///
    /// # Errors
    /// The top itself, where its SA still exists and may go on.
    pub fn into_seq(self) -> Result<SeqNum, Self> {
        Arc::try_unwrap(self.0).map(|seq| SeqNum(seq.into_inner())).map_err(Self)
    }

    /// The same for whoever only shows it: where the SA ends, the top is known for good all the same.
    pub fn show(&self) -> ShownTop {
        ShownTop(Arc::downgrade(&self.0))
    }

    /// Tells how far the window moved. Only the SA calls this.
    #[inline]
    pub(crate) fn publish(&self, top: SeqNum) {
        self.0.store(top.0, Ordering::Relaxed);
    }
}

/// Shows how far a [`ReceivedTop`] is, for as long as its SA is there, and keeps neither.
#[derive(Clone, Debug, Default)]
pub struct ShownTop(Weak<AtomicU64>);

impl ShownTop {
    /// The highest number verified so far, 0 before the first; `None` once the SA is gone.
    pub fn seq(&self) -> Option<SeqNum> {
        self.0.upgrade().map(|seq| SeqNum(seq.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T12: a bound never falls.
    #[test]
    fn a_bound_is_raised_and_never_lowered() {
        let reservation = Reservation::new(SeqNum(10));
        reservation.raise(SeqNum(20));
        reservation.raise(SeqNum(15));
        assert_eq!((reservation.bound(), reservation.taken()), (SeqNum(20), SeqNum(0)));
    }

    /// T11: two counters under one reservation would take each number twice.
    #[test]
    fn a_reservation_serves_one_sa_in_its_life() {
        let reservation = Reservation::new(SeqNum(10));
        assert_eq!(reservation.claim(SeqNum(4)), Ok(()));
        assert_eq!(reservation.claim(SeqNum(4)), Err(ConfigError::ReservationInUse));
        assert_eq!(reservation.clone().claim(SeqNum(0)), Err(ConfigError::ReservationInUse));
        assert_eq!(reservation.taken(), SeqNum(4));
    }

    /// T12: who looks on holds up nobody who asks where it ended.
    #[test]
    fn a_top_that_is_shown_is_nobodys_hold() {
        let top = ReceivedTop::new();
        let shown = top.show();
        top.publish(SeqNum(9));
        assert_eq!((shown.seq(), top.into_seq().unwrap()), (Some(SeqNum(9)), SeqNum(9)));
        assert_eq!(shown.seq(), None);
    }

    /// T12: where it ended is known only once nobody can go on.
    #[test]
    fn the_last_number_is_known_once_nobody_else_holds_the_reservation() {
        let reservation = Reservation::new(SeqNum(10));
        let held = reservation.clone();
        let reservation = reservation.into_taken().unwrap_err();
        held.publish(SeqNum(7));
        drop(held);
        assert_eq!(reservation.into_taken().unwrap(), SeqNum(7));
    }
}
