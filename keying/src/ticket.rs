//! Tickets: what was offered to whom, until its keys come, its time is over, or its holder loses interest.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use latchway_datapath::time::Time;
use latchway_tagging::{ClassId, PadEntryId};

use crate::origin::Origin;
use crate::proposal::Proposal;

/// The right to install the pair of SAs that was offered: once, and before it expires. Dropped, it gives back what the
/// offer held, unless it was written down as a [`TicketText`].
pub struct Ticket {
    number: u64,
    secret: Secret,
    /// Set when the ticket is dropped; `None` where the ticket was read from its text.
    dropped: Option<Arc<AtomicBool>>,
}

/// A ticket as text, for a provider outside the process. Whoever has it may use it: it holds 128 random bits. An offer
/// whose ticket was written down stands until it is used, [withdrawn](crate::Keying::withdraw) or over.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketText(String);

/// The text is no ticket's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no ticket; give the text that the answer to the proposal contained")]
pub struct NoTicket;

/// What was offered.
#[derive(Debug)]
pub(crate) struct Promise {
    /// The proposal as it was accepted, selectors narrowed.
    pub(crate) terms: Proposal,
    /// The entry of the PAD that authorised it.
    pub(crate) entry: PadEntryId,
    /// The class, of which the promise is a holder.
    pub(crate) class: ClassId,
    /// Where the pair will come from.
    pub(crate) origin: Origin,
    /// When the ticket is void.
    pub(crate) expires: Time,
}

/// The tickets that are out.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    open: HashMap<u64, Open>,
    issued: u64,
}

/// A ticket that is out.
struct Open {
    secret: Secret,
    dropped: Arc<AtomicBool>,
    promise: Promise,
}

/// What makes a ticket unguessable.
#[derive(Clone, Copy)]
struct Secret(u128);

impl Ticket {
    /// The ticket's number, unique in a key manager's life, to be shown.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Writes the ticket down. Dropping it does not give the offer back any more.
    #[must_use]
    pub fn into_text(mut self) -> TicketText {
        self.dropped = None;
        TicketText(format!("{}-{:032x}", self.number, self.secret.0))
    }
}

impl FromStr for Ticket {
    type Err = NoTicket;

    fn from_str(text: &str) -> Result<Self, NoTicket> {
        let (number, secret) = text.split_once('-').ok_or(NoTicket)?;
        let is_hex = |text: &str| text.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'));
        let is_decimal = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
        if secret.len() != 32 || !is_hex(secret) || !is_decimal(number) {
            return Err(NoTicket);
        }
        let secret = u128::from_str_radix(secret, 16).map_err(|_| NoTicket)?;
        Ok(Self { number: number.parse().map_err(|_| NoTicket)?, secret: Secret(secret), dropped: None })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            dropped.store(true, Ordering::Release);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("number", &self.number).finish_non_exhaustive()
    }
}

impl TicketText {
    /// The text itself, which is as good as the ticket.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TicketText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketText(..)")
    }
}

impl Tickets {
    /// A ticket for a promise.
    ///
    /// # Errors
    /// The system's, where it gives no random numbers.
    pub(crate) fn issue(&mut self, promise: Promise) -> Result<Ticket, getrandom::Error> {
        let mut octets = [0; 16];
        getrandom::fill(&mut octets)?;
        self.issued += 1;
        let (number, secret) = (self.issued, Secret(u128::from_be_bytes(octets)));
        let dropped = Arc::new(AtomicBool::new(false));
        self.open.insert(number, Open { secret, dropped: Arc::clone(&dropped), promise });
        Ok(Ticket { number, secret, dropped: Some(dropped) })
    }

    /// What the ticket promises, if it is one of these.
    pub(crate) fn redeem(&mut self, ticket: &Ticket) -> Option<Promise> {
        let open = self.open.get(&ticket.number)?;
        if !open.secret.is(ticket.secret) {
            return None;
        }
        self.open.remove(&ticket.number).map(|open| open.promise)
    }

    /// Takes out the promises whose time is over or whose ticket was dropped, with their numbers.
    pub(crate) fn expire(&mut self, now: Time) -> Vec<(u64, Promise)> {
        let over = |open: &Open| open.promise.expires <= now || open.dropped.load(Ordering::Acquire);
        self.revoke(|open| over(open))
    }

    /// Takes out the promises that may not be kept any more, with their numbers.
    pub(crate) fn void(&mut self, is_void: impl Fn(&Promise) -> bool) -> Vec<(u64, Promise)> {
        self.revoke(|open| is_void(&open.promise))
    }

    /// What is promised.
    pub(crate) fn promises(&self) -> impl Iterator<Item = &Promise> {
        self.open.values().map(|open| &open.promise)
    }

    /// How many are out.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    fn revoke(&mut self, wanted: impl Fn(&Open) -> bool) -> Vec<(u64, Promise)> {
        let mut out: Vec<_> = self
            .open
            .extract_if(|_, open| wanted(open))
            .map(|(number, open)| (number, open.promise))
            .collect();
        out.sort_by_key(|(number, _)| *number);
        out
    }
}

impl Secret {
    /// Whether they are the same. Takes as long either way (T25's rule, for what is guessed at).
    const fn is(self, other: Self) -> bool {
        self.0 ^ other.0 == 0
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("promise", &self.promise).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_a_ticket_or_is_refused() {
        let text = "7-000102030405060708090a0b0c0d0e0f";
        let ticket: Ticket = text.parse().unwrap();
        assert_eq!((ticket.number(), ticket.secret.0), (7, 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f));
        assert_eq!(ticket.into_text().as_str(), text);
        for bad in [
            "",
            "-",
            "7",
            "7-",
            "-000102030405060708090a0b0c0d0e0f",
            "7-000102030405060708090a0b0c0d0e0",
            "7-000102030405060708090a0b0c0d0e0f0",
            "7-+00102030405060708090a0b0c0d0e0f",
            "+7-000102030405060708090a0b0c0d0e0f",
            "7-000102030405060708090A0B0C0D0E0F",
            "99999999999999999999-000102030405060708090a0b0c0d0e0f",
            "7-é00102030405060708090a0b0c0d0e0",
        ] {
            assert_eq!(bad.parse::<Ticket>().err(), Some(NoTicket), "{bad}");
        }
    }

    /// T40: whoever reads a log cannot use the tickets in it.
    #[test]
    fn t40_debug_output_shows_no_secret() {
        let ticket: Ticket = "7-000102030405060708090a0b0c0d0e0f".parse().unwrap();
        assert!(!format!("{ticket:?}").contains("0a0b"));
        assert!(!format!("{:?}", ticket.into_text()).contains("0a0b"));
    }
}
