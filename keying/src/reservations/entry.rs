//! A key on record, while somebody may hold it.

use std::mem;

use latchway_esp::{ReceivedTop, Reservation, SeqNum};

use super::book::Record;

/// A key and who holds it.
pub(super) struct Entry {
    pub record: Record,
    pub holder: Holder,
}

/// Who may use a key now.
pub(super) enum Holder {
    /// It is free.
    Nobody,
    /// Whoever may take numbers behind `resumed`, which were taken before.
    Sender { reservation: Reservation, resumed: SeqNum, last: SeqNum },
    /// Whoever receives under it.
    Receiver(ReceivedTop),
}

impl Entry {
    /// Brings the record to what the holder did since, and says whether that changed it.
    pub fn follow(&mut self, block: u64) -> bool {
        let before = self.record.seq;
        self.holder = match mem::replace(&mut self.holder, Holder::Nobody) {
            Holder::Nobody => Holder::Nobody,
            Holder::Sender { reservation, resumed, last } => match reservation.into_taken() {
                // Nobody is left to take a number, so the rest of the block is free again.
                Ok(taken) => {
                    self.record.seq = taken.max(resumed);
                    Holder::Nobody
                }
                Err(reservation) => {
                    let taken = reservation.taken().max(resumed);
                    let left = self.record.seq.0.saturating_sub(taken.0);
                    if left <= block / 2 {
                        let next = SeqNum(taken.0.saturating_add(block)).min(last);
                        self.record.seq = self.record.seq.max(next);
                    }
                    Holder::Sender { reservation, resumed, last }
                }
            },
            Holder::Receiver(top) => match top.into_seq() {
                Ok(seq) => {
                    self.record.seq = self.record.seq.max(seq);
                    Holder::Nobody
                }
                Err(top) => {
                    self.record.seq = self.record.seq.max(top.seq());
                    Holder::Receiver(top)
                }
            },
        };
        self.record.seq != before
    }
}
