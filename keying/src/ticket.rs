//! Tickets: what was offered to whom, until its keys come, its time is over, or its holder loses interest.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use latchway_datapath::time::Time;
use latchway_tagging::{ClassId, PadEntryId};

use crate::proposal::Proposal;

/// The right to install the pair of SAs that was offered: once, and before it expires. Dropped, it gives back what the
/// offer held.
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    alive: Arc<()>,
}

/// What was offered.
#[derive(Debug)]
pub(crate) struct Promise {
    /// The proposal as it was accepted, selectors narrowed.
    pub(crate) terms: Proposal,
    /// The entry of the PAD that authorised it.
    pub(crate) entry: PadEntryId,
    /// The class, of which the promise is a holder.
    pub(crate) class: ClassId,
    /// When the ticket is void.
    pub(crate) expires: Time,
}

/// The tickets that are out.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    open: HashMap<u64, (Weak<()>, Promise)>,
    issued: u64,
}

impl Ticket {
    /// The ticket's number, unique in a key manager's life, to be shown.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }
}

impl Tickets {
    /// A ticket for a promise.
    pub(crate) fn issue(&mut self, promise: Promise) -> Ticket {
        self.issued += 1;
        let ticket = Ticket { number: self.issued, alive: Arc::new(()) };
        self.open.insert(ticket.number, (Arc::downgrade(&ticket.alive), promise));
        ticket
    }

    /// What the ticket promises, if it is one of these.
    pub(crate) fn redeem(&mut self, ticket: &Ticket) -> Option<Promise> {
        let (alive, _) = self.open.get(&ticket.number)?;
        if alive.as_ptr() != Arc::as_ptr(&ticket.alive) {
            return None;
        }
        self.open.remove(&ticket.number).map(|(_, promise)| promise)
    }

    /// Takes out the promises whose time is over or whose ticket was dropped.
    pub(crate) fn expire(&mut self, now: Time) -> Vec<Promise> {
        let over =
            self.open.extract_if(|_, (alive, promise)| promise.expires <= now || alive.strong_count() == 0);
        over.map(|(_, (_, promise))| promise).collect()
    }

    /// How many are out.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}
